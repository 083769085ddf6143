r"""Prompt a policy in ReAct's lines (Yao et al., arXiv 2210.03629), while the loop uses tags.

    Thought: I need the director.          a thought
    Action: search[Iron Harbor]            an action
    Observation: result 1: ...             an observation
    Thought: It says Nora Brandt.          a thought
    Answer: Nora Brandt                    the end of the thinking, and \boxed{Nora Brandt}

`as_react` wraps any policy. What the policy writes counts only in these forms. Its first `Action:`
or `Answer:` line ends the turn, and the rest is dropped. Tags in it are neutralised, so it can act
in no other way. `Action: Finish[x]` is an answer too. A turn with neither, or with an action that
cannot be read, ends the rollout without an answer.

`in_react` does the same by token ids, for training. The ids are those of the lines:

    Question: ...                          the prompt
    Thought:                               the scaffold's opening
     I need the director.\nAction: search[Iron Harbor]\n           sampled: the only policy's ids
    Observation: result 1: ...\n           the environment's
    Thought:                               and so on; `Answer:` where the loop forces one

So what is sampled next continues exactly the ids that are trained. A turn is sampled line by line
and ends with its first `Action:` or `Answer:` line. What `as_react` drops (a model that writes
on mostly invents the observation) is never sampled, so it is neither read nor trained.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from coa.policy import (
    AnyPolicy,
    BatchPolicy,
    Completion,
    Encoder,
    Finish,
    Policy,
    Request,
    control_tokens,
    cut_at_stop,
    most_context_tokens,
)
from coa.records import protocol
from coa.records.grading import boxed_answer
from coa.records.trajectory import Author, Outcome, Step, StepKind

THOUGHT = "Thought:"
"""The beginning of a line, as are the three that follow."""
ACTION = "Action:"
OBSERVATION = "Observation:"
ANSWER = "Answer:"
SUFFIX = "+react"
"""Ends the name of a policy under ReAct prompting."""
STOP = (f"\n{OBSERVATION}", "\nQuestion:")
"""Stop strings of the inner policy.

Without them it would invent the observation, or the next question.
"""
THINKING_OPENED = f"{protocol.THINK_OPEN}\n"
"""The end of a prompt of the loop; the lines replace it."""
_MOVE = re.compile(
    rf"^[ \t]*(?P<head>{ACTION}|{ANSWER}|{OBSERVATION})(?P<rest>[^\n]*)", re.MULTILINE
)
_CALL = re.compile(r"\s*(?P<tool>[A-Za-z][A-Za-z0-9_]*)\s*\[(?P<argument>.*)\]\s*")


class ReactContext(NamedTuple):
    """A context of the loop, as the inner policy reads it."""

    text: str
    """Ends with the opening of the next line: a thought, or an answer that the loop forces."""
    is_forced: bool
    """Whether the loop forces the answer."""


def to_react(context: str) -> ReactContext:
    """Translate the loop's context into lines.

    Its prompt stays as it is, without the opening of the thinking.
    """
    prompt, _, written = context.rpartition(THINKING_OPENED)
    steps = protocol.parse(written)
    is_forced = any(protocol.closes_thinking(step) for step in steps)
    lines = [_line(step) for step in steps]
    shown = [line for line in lines if line]
    shown.append(ANSWER if is_forced else THOUGHT)
    return ReactContext(prompt + "\n".join(shown), is_forced)


def _line(step: Step) -> str:
    """Write the line of a step; empty for what ReAct does not show."""
    if step.kind is StepKind.THOUGHT and step.text.strip():
        return f"{THOUGHT} {step.text.strip()}"
    if step.kind is StepKind.ACTION:
        return f"{ACTION} {step.tool}[{step.argument}]"
    if step.kind is StepKind.OBSERVATION:
        return f"{OBSERVATION} {observation_body(step)}"
    return ""


def observation_body(step: Step) -> str:
    """Return what a tool answered, without the tags and blanks around it."""
    opening, closing = protocol.observation_text(step.tool or "", "|").split("|")
    return step.text.removeprefix(opening).removesuffix(closing).strip()


def from_react(written: str) -> tuple[str, bool]:
    """Translate what the inner policy wrote after `Thought:` into the loop's text.

    Returns:
        The text, and whether the policy acted or answered.
    """
    move = _MOVE.search(written)
    thought = _harmless(written[: move.start()] if move else written)
    if move is None or move["head"] == OBSERVATION:
        return thought, False
    if move["head"] == ANSWER:
        return thought + _boxed(move["rest"]), True
    before = f"{thought} " if thought else ""
    call = _CALL.fullmatch(move["rest"])
    if call is None:
        return f"{before}{_harmless(move[0])}", False
    tool = call["tool"].lower()
    if tool == "finish":
        return thought + _boxed(call["argument"]), True
    argument = _harmless(call["argument"])
    action = f"{protocol.open_tag(tool)} {argument} {protocol.close_tag(tool)}"
    return f"{before}{action}", True


def has_moved(written: str) -> bool:
    """Tell whether what the inner policy wrote after `Thought:` has ended its turn."""
    return _MOVE.search(written) is not None or any(stop in written for stop in STOP)


def to_loop(request: Request, completion: Completion) -> Completion:
    """Translate a completion in lines into one of the loop's request, without ids."""
    if to_react(request.context).is_forced:
        first_line = completion.text.strip().partition("\n")[0]
        return replace(completion, text=f"{for_a_box(first_line)}}}", finish=Finish.END, ids=None)
    text, is_over = from_react(completion.text)
    if completion.finish is Finish.LENGTH and not is_over:
        finish = Finish.LENGTH
    elif any(text.endswith(tag) for tag in request.stop):
        finish = Finish.STOP
    else:
        finish = Finish.END
    return replace(completion, text=text, finish=finish, ids=None)


def _harmless(text: str) -> str:
    return protocol.neutralise(text).strip()


def _boxed(answer: str) -> str:
    """End the thinking and box the answer."""
    return f"\n{protocol.THINK_CLOSE}\n\n\\boxed{{{for_a_box(answer)}}}"


def for_a_box(written: str) -> str:
    """Escape an answer for a box, without the box that it may have already."""
    plain = _harmless(boxed_answer(written) or written)
    return plain.rstrip("\\").replace("{", "\\{").replace("}", "\\}")


class _Named:
    """The name under which a wrapped policy's calls are recorded, and how it counts."""

    def __init__(self, policy: Encoder) -> None:
        self.name = policy.name + SUFFIX
        self.identity = policy.identity
        self.count_tokens = policy.count_tokens
        self.control_tokens = control_tokens(policy)


class _Translator(_Named):
    """The part that both wrappers without ids share."""

    def __init__(self, policy: Encoder) -> None:
        super().__init__(policy)
        self.traffic = getattr(policy, "traffic", None)

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> None:
        """Return None: the loop's text has no ids, because the policy does not read it."""

    @staticmethod
    def _inner(request: Request) -> Request:
        context = to_react(request.context)
        stop = ("\n",) if context.is_forced else STOP
        return replace(request, context=context.text, stop=stop, context_ids=None)


class ReactPolicy(_Translator):
    """A server's policy under ReAct prompting."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._policy = policy

    def most_context_tokens(self, request: Request) -> int:
        """Return the most tokens that the inner policy may read, for caps."""
        return most_context_tokens(self._policy, self._inner(request))

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context."""
        return to_loop(request, await self._policy.complete(self._inner(request)))


class ReactBatchPolicy(_Translator):
    """An engine in this process under ReAct prompting."""

    def __init__(self, policy: BatchPolicy) -> None:
        super().__init__(policy)
        self._policy = policy

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Continue each request's context; the results come in the requests' order."""
        completions = self._policy.complete_batch([self._inner(request) for request in requests])
        return [to_loop(request, done) for request, done in zip(requests, completions, strict=True)]


def react_encoder(encoder: Encoder) -> Encoder:
    """Return how a policy under ReAct prompting is named and counts, to find its calls."""
    return _Translator(encoder)


def as_react(policy: Policy | BatchPolicy) -> ReactPolicy | ReactBatchPolicy:
    """Put a policy under ReAct prompting; its prompt should describe the lines, or show some."""
    return ReactBatchPolicy(policy) if isinstance(policy, BatchPolicy) else ReactPolicy(policy)


_LINE_END = "\n"


class _ReactIds(_Named):
    """A policy under ReAct prompting, with ids, for rollouts from a question's beginning."""

    def __init__(self, policy: AnyPolicy, tools: Sequence[str]) -> None:
        super().__init__(policy)
        self._encode = policy.encode
        self._edges = [_edges(tool) for tool in tools]

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
        """Turn a prompt, or a piece of an observation (`protocol.pieces`), into its lines."""
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
        """Continue the request's context."""
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
