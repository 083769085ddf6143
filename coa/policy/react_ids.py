r"""Prompt a policy in ReAct's lines by token ids, for training.

The loop's text is that of `coa/policy/react.py`; its ids are those of the lines:

    Question: ...                          the prompt
    Thought:                               the scaffold's opening
     I need the director.\nAction: search[Iron Harbor]\n           sampled: the only policy's ids
    Observation: result 1: ...\n           the environment's
    Thought:                               and so on; `Answer:` where the loop forces one

So what is sampled next continues exactly the ids that are trained. A turn is sampled line by line
and ends with its first `Action:` or `Answer:` line. What `as_react` drops (a model that goes on
mostly invents the observation) is never sampled, so it is neither read nor trained.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from coa import protocol
from coa.policy import (
    AnyPolicy,
    BatchPolicy,
    Completion,
    Finish,
    Policy,
    Request,
    control_tokens,
    cut_at_stop,
)
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


class _ReactIds:
    """A policy under ReAct prompting, with ids, for rollouts from a question's beginning."""

    def __init__(self, policy: AnyPolicy, tools: Sequence[str]) -> None:
        self._encode = policy.encode
        self._edges = [_edges(tool) for tool in tools]
        self.name = f"{policy.name}+react"
        self.identity = policy.identity
        self.count_tokens = policy.count_tokens
        self.control_tokens = control_tokens(policy)

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...]:
        """Encode what the inner policy reads in place of a piece of the loop's text.

        The marker that forces an answer has no ids: the turn opens the answer's line.
        """
        if not is_prompt and author is Author.SCAFFOLD:
            return ()
        return self._ids(self._line(text), is_prompt=is_prompt, author=author)

    def _line(self, text: str) -> str:
        """Turn a prompt, or a piece of an observation (`coa.protocol.pieces`), into its lines."""
        for opening, closing in self._edges:
            if text == opening:
                return OBSERVATION
            if text.endswith(closing):
                return f" {text.removesuffix(closing).strip()}"
        return text.removesuffix(THINKING_OPENED)

    def _ids(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.SCAFFOLD
    ) -> tuple[int, ...]:
        ids = self._encode(text, is_prompt=is_prompt, author=author)
        assert ids is not None, "only a policy with ids can be trained"
        return ids

    def _start(self, request: Request) -> "_Turn":
        is_forced = to_react(request.context).is_forced
        return _Turn(request, is_forced, self._ids(ANSWER if is_forced else THOUGHT))

    def _completion(self, turn: "_Turn") -> Completion:
        done = to_loop(turn.request, turn.completion())
        # What follows must begin a line. A turn that ended otherwise than by a line's end has left
        # its last line open.
        is_open = done.finish is not Finish.END and not turn.text.endswith(_LINE_END)
        return replace(
            done,
            ids=turn.ids,
            opening_ids=turn.opening_ids,
            closing_ids=self._ids(_LINE_END) if is_open else (),
        )


class ReactIdsPolicy(_ReactIds):
    """An engine in this process that writes ReAct's lines."""

    def __init__(self, policy: BatchPolicy, tools: Sequence[str]) -> None:
        super().__init__(policy, tools)
        self._policy = policy

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request's context; the results come in the requests' order."""
        turns = [self._start(request) for request in requests]
        waiting = _unfinished(turns)
        while waiting:
            lines = self._policy.complete_batch([turn.next_line() for turn in waiting])
            for turn, line in zip(waiting, lines, strict=True):
                turn.take(line)
            waiting = _unfinished(turns)
        return [self._completion(turn) for turn in turns]


class ServedReactIdsPolicy(_ReactIds):
    """A server's model that writes ReAct's lines."""

    def __init__(self, policy: Policy, tools: Sequence[str]) -> None:
        super().__init__(policy, tools)
        self._policy = policy

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context.

        Raises:
            ServiceError: the server cannot be reached.
        """
        turn = self._start(request)
        while turn.finish is None:
            turn.take(await self._policy.complete(turn.next_line()))
        return self._completion(turn)


def in_react(policy: AnyPolicy, tools: Sequence[str]) -> AnyPolicy:
    """Let a policy with ids write ReAct's lines."""
    if isinstance(policy, BatchPolicy):
        return ReactIdsPolicy(policy, tools)
    return ServedReactIdsPolicy(policy, tools)


def _edges(tool: str) -> tuple[str, str]:
    """Return the piece that opens an observation of the tool, and the end of its body's piece."""
    opening, body, _ = protocol.pieces("", (protocol.observation(tool, "", Outcome.OK),))
    return opening.text, body.text.strip()


def _unfinished(turns: Sequence["_Turn"]) -> list["_Turn"]:
    return [turn for turn in turns if turn.finish is None]


@dataclass(slots=True)
class _Turn:
    """A turn that is being sampled line by line."""

    request: Request
    is_forced: bool
    """Whether the loop forces the answer: such a turn has one line."""
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
        """Make the request for the next line, with a seed of its own."""
        seed = self.request.seed
        if self.num_lines:
            seed = random.Random(f"{seed}/{self.num_lines}").getrandbits(31)
        return replace(
            self.request,
            context=to_react(self.request.context).text + self.text,
            context_ids=self._given_ids + self.opening_ids + self.ids,
            stop=(_LINE_END,),
            max_tokens=self.request.max_tokens - len(self.ids),
            seed=seed,
        )

    def take(self, line: Completion) -> None:
        """Append a line and end the turn where it is complete."""
        assert line.ids is not None, "only a policy with ids can be trained"
        self.text += line.text
        self.ids += line.ids
        self.num_lines += 1
        if line.finish is not Finish.STOP or self.is_forced or has_moved(self.text):
            self.finish = line.finish
        elif len(self.ids) >= self.request.max_tokens:
            self.finish = Finish.LENGTH

    def completion(self) -> Completion:
        """Return the turn as the inner policy of `as_react` would have written it."""
        assert self.finish is not None
        text, _ = cut_at_stop(self.text, STOP)
        return Completion(
            text=text,
            finish=self.finish,
            num_tokens=len(self.ids),
            num_context_tokens=len(self._given_ids),
            ids=self.ids,
        )
