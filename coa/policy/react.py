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

This module works on text; `coa/policy/react_ids.py` does the same in ids, for training.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from coa import protocol
from coa.grading import boxed_answer
from coa.policy import (
    BatchPolicy,
    Completion,
    Encoder,
    Finish,
    Policy,
    Request,
    control_tokens,
    most_context_tokens,
)
from coa.trajectory import Author, Step, StepKind

THOUGHT = "Thought:"
"""The beginning of a line, as are the three that follow."""
ACTION = "Action:"
OBSERVATION = "Observation:"
ANSWER = "Answer:"
SUFFIX = "+react"
"""Ends the name of a policy under ReAct prompting."""
STOP = (f"\n{OBSERVATION}", "\nQuestion:")
"""Stop strings of the inner policy.

Without them it would go on to invent the observation, or the next question.
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


class _Translator:
    """The part that both wrappers share."""

    def __init__(self, policy: Encoder) -> None:
        self.name = policy.name + SUFFIX
        self.identity = policy.identity
        self.traffic = getattr(policy, "traffic", None)
        self.count_tokens = policy.count_tokens
        self.control_tokens = control_tokens(policy)

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
        """Continue the request's context.

        Raises:
            RequestError: this request cannot be answered; others can.
            ServiceError: the policy cannot be reached at all.
        """
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
