"""Read rows in which a trajectory is one text, in columns that many projects use."""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from coa.foreign.autocoa import has_own_tags
from coa.foreign.chats import find_single_turn
from coa.foreign.react import NUMBERED_LABEL
from coa.foreign.record import (
    ID_COLUMNS,
    UNKNOWN_SAMPLING,
    ForeignRow,
    Format,
    first_identifier,
    gold_answers_of,
    mode_of,
    optional_text,
    question_text,
)
from coa.foreign.tagged_text import find_tags
from coa.records import protocol
from coa.records.trajectory import Step
from coa.records.unreadable import UnreadableError, UnreadableReason

TEXT_COLUMNS = (
    "response",
    "output",
    "Output",
    "completion",
    "text",
    "trajectory",
    "generated_text",
    "gen_text_store",
    "scratchpad",
    "sequences_str",
    "solution_str",
    "traj",
)
"""The columns that may hold the text of a trajectory."""
QUESTION_COLUMNS = ("question", "Question", "query", "problem")
_PROMPT_COLUMNS = ("prompt", "input")
"""The columns of the prompt as text. verl's dumps of rollouts have `input`, `output` and `gts`."""
_ID_COLUMNS = (*ID_COLUMNS, "id", "idx")
_QUESTION_LABEL = "Question:"
_USER_TURN, _TURN_END = "<|im_start|>user\n", "<|im_end|>"
_OPENED_TURN = re.compile(rf"\nassistant\n(?:{protocol.THINK_OPEN}\n)?\Z")
"""The end of a prompt whose special tokens were left out, as in verl's dumps."""
_INSTRUCTION, _RESPONSE = "### Instruction:\n", "\n\n### Response:\n"
"""What stands before the question and before the answer in Alpaca's template."""
_FIRST_TURN, _POLICY_TURN = "<|im_start|>", "<|im_start|>assistant\n"


class FoundText(NamedTuple):
    """The text of a row, cut into what the policy was given and what follows."""

    prompt: str
    body: str


def find_text(row: Mapping[str, Any]) -> FoundText | None:
    """Find a row's trajectory as one text; None where no column holds one.

    It may be the only message of the policy in a chat. A prompt at its start is cut off: that of a
    column of its own, or ChatML's turns before the policy's first one.

    Raises:
        UnreadableError: several columns hold a text, and not just one of them has tags.
    """
    only_turn = find_single_turn(row)
    if only_turn:
        return FoundText(only_turn.asked, only_turn.text)
    found = [name for name in TEXT_COLUMNS if optional_text(row.get(name))]
    if not found:
        return _after_question(row)
    if len(found) > 1:
        # A short answer may stand beside the trajectory; tags show which is which.
        tagged = [name for name in found if find_tags(row[name]) or has_own_tags(row[name])]
        found = tagged if len(tagged) == 1 else found
    if len(found) > 1:
        detail = f"the text may be that of {' or '.join(found)}"
        raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, detail)
    text: str = row[found[0]]
    given = [optional_text(row.get("instruction")), optional_text(_first(row, _PROMPT_COLUMNS))]
    asked = "\n".join(part for part in given if part)
    if asked and text.startswith(asked):
        return FoundText(asked, text[len(asked) :])
    head, turn, body = text.partition(_POLICY_TURN)
    if turn and text.startswith(_FIRST_TURN):
        return FoundText(head + turn, body)
    head, turn, body = text.partition(_RESPONSE)
    if turn and _INSTRUCTION in head:
        return FoundText(head + turn, body)
    return FoundText(asked, text)


def _after_question(row: Mapping[str, Any]) -> FoundText | None:
    """Find numbered turns in the prompt, after the question, where AutoAct has them."""
    asked, question = optional_text(row.get("prompt")), optional_text(row.get("question"))
    if asked is None or question is None:
        return None
    head, mark, body = asked.rpartition(f"Question: {question}")
    first = NUMBERED_LABEL.search(body) if mark else None
    if first is None:
        return None
    return FoundText(head + mark + body[: first.start()], body[first.start() :])


def read_text_row(
    row: Mapping[str, Any], form: Format, read: Callable[[str], tuple[Step, ...]]
) -> ForeignRow:
    """Read a row whose trajectory is one text, with `read`.

    Raises:
        UnreadableError: no column holds a text or several do, there is no question, or the text
            cannot be read.
    """
    found = find_text(row)
    if found is None:
        columns = ", ".join(sorted(row))[:200]
        raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, f"no text; columns {columns}")
    asked = _question(row, found.prompt)
    steps = read(found.body)
    return ForeignRow(
        format=form,
        question_id=first_identifier(row, _ID_COLUMNS),
        question=asked,
        gold_answers=gold_answers_of(row),
        prompt=found.prompt,
        steps=steps,
        mode=mode_of(row, steps),
        sampling=UNKNOWN_SAMPLING,
        search_fingerprint=f"unknown: the search of a row of {form}",
    )


def _question(row: Mapping[str, Any], prompt: str) -> str:
    """Return the question: its own column, or what the prompt asks.

    A prompt that has the label `Question:` once asks what follows it; any other prompt is the
    question as a whole.
    """
    given = _first(row, QUESTION_COLUMNS)
    if given is not None:
        return question_text(given)
    asked = _asked(prompt) or _only_user_message(row.get("prompt"))
    if asked and asked.count(_QUESTION_LABEL) == 1:
        return question_text(asked.partition(_QUESTION_LABEL)[2])
    return question_text(asked)


def _asked(prompt: str) -> str:
    """Return what a prompt asks: ChatML's only user turn, or all but the policy's opened turn.

    Of Alpaca's template it is the instruction.
    """
    if prompt.count(_USER_TURN) == 1:
        return prompt.partition(_USER_TURN)[2].partition(_TURN_END)[0]
    if prompt.endswith(_RESPONSE):
        return prompt.removesuffix(_RESPONSE).partition(_INSTRUCTION)[2]
    return _OPENED_TURN.sub("", prompt)


def _only_user_message(messages: Any) -> str | None:
    """Return the content of the one user message of a prompt that is a list of messages."""
    if not isinstance(messages, list):
        return None
    asked = []
    for item in messages:
        if isinstance(item, dict) and item.get("role") == "user":
            asked.append(item.get("content"))
    return optional_text(asked[0]) if len(asked) == 1 else None


def _first(row: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    """Return the value of the first of the columns that is there; None where none is."""
    for name in names:
        if row.get(name) is not None:
            return row[name]
    return None
