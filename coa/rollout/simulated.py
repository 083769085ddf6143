"""Let a model write what a tool would have returned (AutoCoA's RL stage 1).

The runtime writes the observation's opening tag and the model continues to the closing tag, or to a
cap. What it wrote is then an observation like any other: neutralised, the environment's, outside
every loss. So no policy can hide tokens from training by writing tags: what it writes in its own
turn is its own, whatever it looks like. The model is the policy of the rollouts, as in the paper,
or another one (`simulator.kind`).
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from msgspec import structs

from coa.policy import (
    AnyPolicy,
    BatchPolicy,
    Completion,
    Finish,
    Request,
    control_tokens,
)
from coa.records import protocol
from coa.records.trajectory import Author, Outcome, StepKind
from coa.rollout import loop as rollout
from coa.rollout.loop import State
from coa.store.pending import Call, Generate
from coa.tools import ToolReply


class SimulatedTools:
    """An environment of `drivers.roll_out_states` that asks a model instead of any tool."""

    def __init__(self, policy: AnyPolicy, *, max_tokens: int) -> None:
        self._policy = policy
        self._max_tokens = max_tokens
        self.finishes: Counter[Finish] = Counter()
        """How the observations ended; all but `STOP` were cut: not closed, or too long once
        harmless."""
        self.last_whole: list[bool] = []
        """For each observation of the last batch whether it was closed in time, without tags."""

    @property
    def fingerprint(self) -> str:
        """Return `simulated/{policy}/{cap}tokens`, in place of a search engine's fingerprint."""
        return f"simulated/{self._policy.name}/{self._max_tokens}tokens"

    @property
    def is_in_process(self) -> bool:
        """Return whether a model in this process writes, which is fastest in batches."""
        return isinstance(self._policy, BatchPolicy)

    async def __call__(self, states: Sequence[State]) -> list[ToolReply]:
        """Write the observations of states that wait for a call, as one batch."""
        requests = [self._request(state) for state in states]
        completions: Sequence[Completion]
        if isinstance(self._policy, BatchPolicy):
            completions = self._policy.complete_batch(requests)
        else:
            asked = [self._policy.complete(request) for request in requests]
            completions = await asyncio.gather(*asked)
        self.last_whole = []
        replies = []
        for state, completion in zip(states, completions, strict=True):
            replies.append(self._reply(state, completion))
        return replies

    def _request(self, state: State) -> Request:
        """Build the request that continues from the opening tag, as a world model learned to do."""
        opening, closing = _edges(state)
        opened = structs.replace(
            state,
            context=state.context + opening,
            ids=self._encode(state, opening),
            pending=Generate((closing,), self._max_tokens),
        )
        request = rollout.request(opened)
        # The turn that follows has the same number: with the same seed it would repeat these
        # random draws.
        return replace(request, seed=request.seed ^ 1)

    def _encode(self, state: State, opening: str) -> tuple[int, ...] | None:
        """Return the context as ids of the model that writes; None where it gives none.

        Another model than the policy may have another tokenizer, so it encodes the text again,
        piece by piece, as in its training.
        """
        new = [protocol.Piece(opening, Author.ENVIRONMENT, StepKind.OBSERVATION)]
        if state.ids is not None and state.run.encoder is self._policy:
            own = self._encode_pieces(new)
            return None if own is None else state.ids + own
        return self._encode_pieces([*protocol.pieces(state.task.prompt, state.steps), *new])

    def _encode_pieces(self, pieces: Sequence[protocol.Piece]) -> tuple[int, ...] | None:
        ids: list[int] = []
        for text, author, kind, _ in pieces:
            encoded = self._policy.encode(text, is_prompt=kind is None, author=author)
            if encoded is None:
                return None
            ids.extend(encoded)
        return tuple(ids)

    def _reply(self, state: State, completion: Completion) -> ToolReply:
        _, closing = _edges(state)
        written = completion.text.removesuffix(closing).strip()
        harmless = protocol.neutralise(written, control_tokens(self._policy))
        body = self._cut(harmless)
        finish = completion.finish if body == harmless else Finish.LENGTH
        self.finishes[finish] += 1
        self.last_whole.append(finish is Finish.STOP and harmless == written)
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


def observation_body(text: str, tool: str) -> str:
    """Return what stands between an observation's tags."""
    opening, closing = protocol.observation_text(tool, "|").split("|")
    return text.strip().removeprefix(opening.strip()).removesuffix(closing.strip()).strip()
