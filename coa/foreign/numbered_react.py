"""Read ReAct's turns with numbered labels: Reflexion's scratchpads and AutoAct's prompts.

The runtimes (Reflexion's hotpotqa_runs/agents.py, AutoAct's agent_arch.py) write
`Thought 1:`, `Action 1:` and `Observation 1:` at the beginning of a line, and the policy writes
the rest of the first two: these labels are the scaffold's. The answer is the last
`Finish[answer]`; AutoAct's policy then confirms it with `Reflect[right]`.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from coa import protocol
from coa.foreign.frames import NUMBERED_CALL
from coa.foreign.record import (
    UNKNOWN_SAMPLING,
    ForeignRow,
    Format,
    gold_answers,
    question_text,
)
from coa.foreign.step_makers import action_step, observation_step, thought_steps
from coa.foreign.unreadable import UnreadableError, UnreadableReason
from coa.trajectory import Mode, Step, StepKind

LABEL = re.compile(r"^(?P<kind>Thought|Action|Observation) (?P<number>\d{1,4}):", re.MULTILINE)
_FOLLOWERS = {
    "": ("Thought", "Action"),
    "Thought": ("Action",),
    "Action": ("Observation",),
    "Observation": ("Thought", "Action"),
}
"""The labels that may follow a label; at the start a thought or an action."""
_FINISH = "finish"
_BING = "unknown: AutoAct's Bing search, Wikipedia pages and their sentences"


def read_numbered_react(text: str) -> tuple[Step, ...]:
    """Read a text with numbered labels into steps; joined, they give `text` again.

    Raises:
        UnreadableError: a label is out of order, an action is no call, or there is no answer.
    """
    steps: list[Step] = []
    labels = list(LABEL.finditer(text))
    _check_order(text, labels)
    for i, label in enumerate(labels):
        # The line break before a label belongs to the label's author.
        start = label.start() - 1 if i else 0
        end = labels[i + 1].start() - 1 if i + 1 < len(labels) else len(text)
        if label["kind"] == "Observation":
            steps.append(observation_step(text[start:end], steps[-1].tool))
            continue
        steps.append(protocol.marker(text[start : label.end()]))
        written = text[label.end() : end]
        if label["kind"] == "Thought":
            steps += thought_steps(written)
        else:
            steps.append(_call(written, label.end()))
    return _with_answer(steps, len(text))


def _check_order(text: str, labels: Sequence[re.Match[str]]) -> None:
    """Check that the turns are numbered one after another, and each has its labels in order."""
    kind, number = "", 0
    for label in labels:
        if label["kind"] not in _FOLLOWERS[kind]:
            raise UnreadableError(UnreadableReason.MISPLACED_TAG, label.start(), label[0])
        if kind in ("", "Observation"):
            number += 1
        kind = label["kind"]
        if int(label["number"]) != number:
            raise UnreadableError(UnreadableReason.MISPLACED_TAG, label.start(), label[0])
    before = text[: labels[0].start()] if labels else text
    if before.strip():
        raise UnreadableError(UnreadableReason.NO_ACTION, 0, before[:80])
    if not labels:
        raise UnreadableError(UnreadableReason.NO_ANSWER, len(text))


def _call(written: str, offset: int) -> Step:
    """Read what the policy wrote after the label of an action."""
    call = NUMBERED_CALL.match(written)
    if call is None:
        reason = UnreadableReason.NO_ACTION
        if "[" in written and "]" in written:
            reason = UnreadableReason.TEXT_AFTER_ACTION
        raise UnreadableError(reason, offset, written[:80])
    argument = call["argument"].strip()
    if not argument:
        raise UnreadableError(UnreadableReason.EMPTY_TURN, offset, written[:80])
    return action_step(written, call["tool"].lower(), argument)


def _with_answer(steps: list[Step], end: int) -> tuple[Step, ...]:
    """Make the last call of `finish` the answer."""
    for i in reversed(range(len(steps))):
        step = steps[i]
        if step.kind is StepKind.ACTION and step.tool == _FINISH:
            steps[i] = replace(step, kind=StepKind.ANSWER, tool=None, argument=None)
            return tuple(steps)
    raise UnreadableError(UnreadableReason.NO_ANSWER, end)


def is_autoact(row: Mapping[str, Any]) -> bool:
    """Tell whether a row has the columns of AutoAct's released runs."""
    return isinstance(row.get("prompt"), str) and {"question", "reward", "halted"} <= row.keys()


def read_autoact_row(row: Mapping[str, Any]) -> ForeignRow:
    """Read a row of AutoAct: its `prompt` holds the instruction, the question and the turns.

    Raises:
        UnreadableError: the question is not in the prompt, or the turns cannot be read.
    """
    question = question_text(row.get("question"))
    head, asked, body = row["prompt"].rpartition(f"Question: {row['question']}")
    first = LABEL.search(body)
    if not asked or first is None:
        raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, "no question before the turns")
    prompt = head + asked + body[: first.start()]
    correct = row.get("correct")
    return ForeignRow(
        format=Format.AUTOACT,
        question_id="",
        question=question,
        gold_answers=gold_answers(row.get("answer")),
        prompt=prompt,
        steps=read_numbered_react(body[first.start() :]),
        mode=Mode.COA,
        sampling=UNKNOWN_SAMPLING,
        search_fingerprint=_BING,
        exact_match=correct if isinstance(correct, bool) else None,
    )
