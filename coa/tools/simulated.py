"""Simulated tools: the policy itself writes what a tool would have returned (AutoCoA's RL stage 1).

The runtime writes the observation's opening tag and the policy goes on to the closing tag, or to a
cap. What it wrote is then an observation like any other: neutralised, the environment's, outside
every loss. So no policy can hide tokens from training by writing tags: what it writes in its own
turn is its own, whatever it looks like.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from coa import protocol, rollout
from coa.policy import BatchPolicy, Completion, Finish, Request, control_tokens
from coa.rollout import Call, Generate, State
from coa.tools import ToolReply
from coa.trajectory import Outcome


class SimulatedTools:
    """An environment of `coa.drivers.roll_out_states` that asks the policy instead of any tool."""

    def __init__(self, policy: BatchPolicy, *, max_tokens: int) -> None:
        self._policy = policy
        self._max_tokens = max_tokens
        self.finishes: Counter[Finish] = Counter()
        """How the observations ended; all but `STOP` were cut: not closed, or too long once
        harmless."""

    @property
    def fingerprint(self) -> str:
        """Stands where a search engine's would: `simulated/{policy}/{cap}tokens`."""
        return f"simulated/{self._policy.name}/{self._max_tokens}tokens"

    async def __call__(self, states: Sequence[State]) -> list[ToolReply]:
        """The observations of states that wait for a call, written as one batch."""
        completions = self._policy.complete_batch([self._request(state) for state in states])
        return [
            self._reply(state, completion)
            for state, completion in zip(states, completions, strict=True)
        ]

    def _request(self, state: State) -> Request:
        """Go on from the opening tag, as ids where the policy gives ids: what a world model learned to continue."""
        opening, closing = _edges(state)
        ids = self._policy.encode(opening)
        request = rollout.request(
            replace(
                state,
                context=state.context + opening,
                ids=None if state.ids is None or ids is None else state.ids + ids,
                pending=Generate((closing,), self._max_tokens),
            )
        )
        # The turn that follows has the same number: without a seed of its own it would repeat these random draws.
        return replace(request, seed=request.seed ^ 1)

    def _reply(self, state: State, completion: Completion) -> ToolReply:
        _, closing = _edges(state)
        body = completion.text.removesuffix(closing).strip()
        harmless = protocol.neutralise(body, control_tokens(self._policy))
        body = self._within(harmless)
        self.finishes[completion.finish if body == harmless else Finish.LENGTH] += 1
        return ToolReply(Outcome.SIMULATED, body)

    def _within(self, body: str) -> str:
        """The body, cut where it costs more than the cap: a tag made harmless is many tokens, not one."""
        while (num_tokens := self._policy.count_tokens(body)) > self._max_tokens:
            body = body[: len(body) * self._max_tokens // num_tokens].rstrip()
        return body


def _edges(state: State) -> tuple[str, str]:
    """What the runtime writes before the observation's body, and the tag that ends it."""
    assert isinstance(state.pending, Call), state.pending
    empty = protocol.observation(state.pending.tool, "", Outcome.SIMULATED)
    opening, body, _ = protocol.pieces("", (empty,))
    return opening.text, body.text.strip()
