r"""ReAct prompting in ids, for training: the loop's text stays that of `coa/policy/react.py`, its ids are the lines'.

    Question: ...                          the prompt
    Thought:                               the scaffold's opening
     I need the director.\nAction: search[Iron Harbor]\n           sampled: the only ids that are the policy's
    Observation: result 1: ...\n           the environment's
    Thought:                               and so on; `Answer:` where the loop forces one

So what is sampled next continues exactly the ids that are trained. A turn is sampled line by line and is over with its
first `Action:` or `Answer:` line: what `as_react` drops (a model that writes on invents the observation, mostly) is
never sampled, so it is neither read nor trained.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from coa import protocol
from coa.policy import BatchPolicy, Completion, Finish, Request, control_tokens, cut_at_stop
from coa.policy.react import (
    ANSWER,
    OBSERVATION,
    STOP,
    THINKING_OPENED,
    THOUGHT,
    has_moved,
    to_loop,
    to_react,
)
from coa.trajectory import Author, Outcome

_LINE_END = "\n"


class ReactIdsPolicy:
    """An engine in this process under ReAct prompting, with ids; for rollouts from a question's beginning."""

    def __init__(self, policy: BatchPolicy, tools: Sequence[str] = ("search",)) -> None:
        self._policy = policy
        self._edges = [_edges(tool) for tool in tools]
        self.name = f"{policy.name}+react"
        self.identity = policy.identity
        self.count_tokens = policy.count_tokens
        self.control_tokens = control_tokens(policy)

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...]:
        """The ids of what the inner policy reads in place of a piece of the loop's text.

        The marker that forces an answer has none: the answer's line is opened with the turn.
        """
        if not is_prompt and author is Author.SCAFFOLD:
            return ()
        return self._ids(self._line(text), is_prompt=is_prompt, author=author)

    def _line(self, text: str) -> str:
        """A prompt, or a piece of an observation (`coa.protocol.pieces`), as it stands among the lines."""
        for opening, closing in self._edges:
            if text == opening:
                return OBSERVATION
            if text.endswith(closing):
                return f" {text.removesuffix(closing).strip()}"
        return text.removesuffix(THINKING_OPENED)

    def _ids(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.SCAFFOLD
    ) -> tuple[int, ...]:
        ids = self._policy.encode(text, is_prompt=is_prompt, author=author)
        assert ids is not None, "only a policy with ids can be trained"
        return ids

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request's context; the results come in the requests' order."""
        turns = [self._start(request) for request in requests]
        while waiting := [turn for turn in turns if turn.finish is None]:
            lines = self._policy.complete_batch([turn.next_line() for turn in waiting])
            for turn, line in zip(waiting, lines, strict=True):
                turn.take(line)
        return [self._completion(turn) for turn in turns]

    def _start(self, request: Request) -> "_Turn":
        is_forced = to_react(request.context).is_forced
        return _Turn(request, is_forced, self._ids(ANSWER if is_forced else THOUGHT))

    def _completion(self, turn: "_Turn") -> Completion:
        done = to_loop(turn.request, turn.completion())
        # What follows must begin a line; a turn that its end-of-turn token or its budget ended has not ended its own.
        is_open = done.finish is not Finish.END and not turn.text.endswith(_LINE_END)
        return replace(
            done,
            ids=turn.ids,
            opening_ids=turn.opening_ids,
            closing_ids=self._ids(_LINE_END) if is_open else (),
        )


def _edges(tool: str) -> tuple[str, str]:
    """The piece that opens an observation of the tool, and how its body's piece ends."""
    opening, body, _ = protocol.pieces("", (protocol.observation(tool, "", Outcome.OK),))
    return opening.text, body.text.strip()


@dataclass(slots=True)
class _Turn:
    """A turn on its way, line by line."""

    request: Request
    is_forced: bool
    """Whether the loop forces the answer: a turn of one line."""
    opening_ids: tuple[int, ...]
    text: str = ""
    ids: tuple[int, ...] = ()
    finish: Finish | None = None
    num_lines: int = 0

    @property
    def _given_ids(self) -> tuple[int, ...]:
        assert self.request.context_ids is not None, "only a policy with ids can be trained"
        return self.request.context_ids

    def next_line(self) -> Request:
        """The request for the next line, with random draws of its own."""
        seed = self.request.seed
        return replace(
            self.request,
            context=to_react(self.request.context).text + self.text,
            context_ids=self._given_ids + self.opening_ids + self.ids,
            stop=(_LINE_END,),
            max_tokens=self.request.max_tokens - len(self.ids),
            seed=random.Random(f"{seed}/{self.num_lines}").getrandbits(31)
            if self.num_lines
            else seed,
        )

    def take(self, line: Completion) -> None:
        """Append a line and find out whether the turn is over."""
        assert line.ids is not None, "only a policy with ids can be trained"
        self.text, self.ids, self.num_lines = (
            self.text + line.text,
            self.ids + line.ids,
            self.num_lines + 1,
        )
        if line.finish is not Finish.STOP or self.is_forced or has_moved(self.text):
            self.finish = line.finish
        elif len(self.ids) >= self.request.max_tokens:
            self.finish = Finish.LENGTH

    def completion(self) -> Completion:
        """The turn as `as_react` would have been given it."""
        assert self.finish is not None
        text, _ = cut_at_stop(self.text, STOP)
        return Completion(text, self.finish, len(self.ids), len(self._given_ids), self.ids)
