"""Find the turns of a conversation in its text, by the marks that a chat template writes."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from jinja2 import TemplateError

from coa.records import protocol

_ASKED, _ANSWERED, _ASKED_AGAIN = "asked by user", "said by assistant", "asked once more"
OWN_OPENING = f"{protocol.THINK_OPEN}\n"
"""What this project's prompts end with."""


class TurnMarks(NamedTuple):
    """What a chat template writes around turns."""

    assistant: str
    """Before a turn of the assistant."""
    user: str
    """Before a turn of the user."""
    end: str
    """After a turn of the assistant."""


def turn_marks(tokenizer: Any, template: str) -> TurnMarks | None:
    """Read the marks of a template from a small conversation; None where it has no such marks."""
    asked = [{"role": "user", "content": _ASKED}]
    answered = [*asked, {"role": "assistant", "content": _ANSWERED}]
    again = [*answered, {"role": "user", "content": _ASKED_AGAIN}]
    try:
        before = tokenizer.apply_chat_template(asked, chat_template=template, tokenize=False)
        opened = tokenizer.apply_chat_template(
            asked, chat_template=template, tokenize=False, add_generation_prompt=True
        )
        whole = tokenizer.apply_chat_template(answered, chat_template=template, tokenize=False)
        longer = tokenizer.apply_chat_template(again, chat_template=template, tokenize=False)
    except TemplateError:
        return None
    if not opened.startswith(before) or _ANSWERED not in whole:
        return None
    assistant = opened[len(before) :].removesuffix(OWN_OPENING)
    if not assistant.strip() and whole.startswith(before):
        # A template for training alone may write no prompt for generation.
        assistant = whole[len(before) :].partition(_ANSWERED)[0]
    end = whole.rpartition(_ANSWERED)[2]
    between = longer.rpartition(_ANSWERED)[2].partition(_ASKED_AGAIN)[0]
    if not assistant.strip() or not end.strip() or not between.startswith(end):
        return None
    return TurnMarks(assistant, between[len(end) :], end)


class Turn(NamedTuple):
    """A turn of the policy: the characters `start` to `end` of the text."""

    opening: int
    """Where the template's mark before it begins; `start` where there is none."""
    start: int
    end: int
    after: int
    """Where the template's mark after it ends; `end` where there is none."""


def policy_turns(text: str, marks: TurnMarks | None, prompt_end: str) -> list[Turn]:
    """Find the policy's turns in a text; none where nothing shows where the prompt ends.

    Without a `prompt_end`, the marks or the opening of our thinking show it.
    """
    if not prompt_end and marks is not None and marks.assistant in text:
        return list(_marked_turns(text, marks))
    mark = prompt_end or OWN_OPENING
    found = text.find(mark)
    if found < 0:
        return []
    start = found + len(mark)
    return [Turn(start, start, len(text), len(text))]


def _marked_turns(text: str, marks: TurnMarks) -> Iterator[Turn]:
    mark = marks.end.strip()
    opening = text.find(marks.assistant)
    while opening >= 0:
        start = opening + len(marks.assistant)
        if text.startswith(OWN_OPENING, start):
            start += len(OWN_OPENING)
        end = text.find(mark, start)
        if end < 0:
            yield Turn(opening, start, len(text), len(text))
            return
        after = end + len(mark)
        if text.startswith(marks.end, end):
            after = end + len(marks.end)
        yield Turn(opening, start, end, after)
        opening = text.find(marks.assistant, after)
