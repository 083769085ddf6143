"""Let the policy write what a tool would have returned (AutoCoA's RL stage 1).

The runtime writes the observation's opening tag and the policy goes on to the closing tag, or to a
cap. What it wrote is then an observation like any other: neutralised, the environment's, outside
every loss. So no policy can hide tokens from training by writing tags: what it writes in its own
turn is its own, whatever it looks like.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from coa import protocol, rollout
from coa.pending import Call, Generate
from coa.policy import BatchPolicy, Completion, Finish, Request, control_tokens
from coa.rollout import State
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
        """Return `simulated/{policy}/{cap}tokens`, in place of a search engine's fingerprint."""
        return f"simulated/{self._policy.name}/{self._max_tokens}tokens"

    async def __call__(self, states: Sequence[State]) -> list[ToolReply]:
        """Write the observations of states that wait for a call, as one batch."""
        requests = [self._request(state) for state in states]
        completions = self._policy.complete_batch(requests)
        replies = []
        for state, completion in zip(states, completions, strict=True):
            replies.append(self._reply(state, completion))
        return replies

    def _request(self, state: State) -> Request:
        """Build the request to go on from the opening tag, as a world model learned to do.

        The tag is added as ids where the policy gives ids.
        """
        opening, closing = _edges(state)
        ids = self._policy.encode(opening)
        all_ids = None
        if state.ids is not None and ids is not None:
            all_ids = state.ids + ids
        opened = structs.replace(
            state,
            context=state.context + opening,
            ids=all_ids,
            pending=Generate((closing,), self._max_tokens),
        )
        request = rollout.request(opened)
        # The turn that follows has the same number: with the same seed it would repeat these
        # random draws.
        return replace(request, seed=request.seed ^ 1)

    def _reply(self, state: State, completion: Completion) -> ToolReply:
        _, closing = _edges(state)
        body = completion.text.removesuffix(closing).strip()
        harmless = protocol.neutralise(body, control_tokens(self._policy))
        body = self._cut(harmless)
        finish = completion.finish if body == harmless else Finish.LENGTH
        self.finishes[finish] += 1
        return ToolReply(Outcome.SIMULATED, body)

    def _cut(self, body: str) -> str:
        """Cut the body where it has more tokens than the cap.

        It may have more than were written: a tag made harmless is many tokens, not one.
        """
        num_tokens = self._policy.count_tokens(body)
        while num_tokens > self._max_tokens:
            body = body[: len(body) * self._max_tokens // num_tokens].rstrip()
            num_tokens = self._policy.count_tokens(body)
        return body


def _edges(state: State) -> tuple[str, str]:
    """Return what the runtime writes before the observation's body, and the tag that ends it."""
    assert isinstance(state.pending, Call), state.pending
    empty = protocol.observation(state.pending.tool, "", Outcome.SIMULATED)
    opening, body, _ = protocol.pieces("", (empty,))
    return opening.text, body.text.strip()
