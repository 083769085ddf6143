"""Read rows of `messages` as a trainer does that asks the chat template for the assistant's mask.

The template is rendered, and every message's texts are looked for in what it wrote, in order. So it
shows which texts the template drops or moves, and which tokens of its mask hold whose text.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from jinja2 import TemplateError

from coa.doctor.findings import AuthorSpan, Fault, Finding, MaskedRow, refused_row
from coa.doctor.messages import ASSISTANT, USER, Part, parts_of, plain_messages
from coa.doctor.tags import read_turn
from coa.doctor.turns import TurnMarks
from coa.records.tokens import PieceEncoder
from coa.records.trajectory import Author

_GENERATION = re.compile(r"\{%-?\s*generation\b")
_LONG_CHARS = 16
"""A text at least so long is taken to be itself wherever it stands; a shorter one may be chance."""


class ChatReader(NamedTuple):
    """A reader of rows of messages, for one tokenizer and template."""

    tokenizer: Any
    encoder: PieceEncoder
    marks: TurnMarks | None
    chat_template: str

    def read(self, row_id: str, values: Mapping[str, Any]) -> MaskedRow:
        """Render and encode a row with `messages` and perhaps `tools`."""
        messages = plain_messages(values.get("messages"))
        if messages is None:
            detail = "messages is not a list of objects with a role"
            return refused_row(row_id, Fault.UNREADABLE, detail)
        try:
            tools = values.get("tools")
            if isinstance(tools, str):
                tools = json.loads(tools)
            text, ids, mask = self._render(messages, tools or None)
        except (TemplateError, TypeError, ValueError) as error:
            return refused_row(row_id, Fault.TEMPLATE_FAILED, str(error)[:200])
        noticed: list[Finding] = []
        has_mask = _GENERATION.search(self.chat_template) is not None
        if not has_mask:
            noticed.append(Finding(Fault.TEMPLATE_HAS_NO_MASK))
        spans: list[AuthorSpan] = []
        if self.encoder.decode(ids) == text:
            placing = _Placing(text, self.marks)
            placing.place_all(messages)
            noticed += placing.findings
            spans = list(_without_gaps(placing.spans, len(text)))
        else:
            noticed.append(Finding(Fault.TEXT_CHANGED, detail="the text of the chat template"))
        is_answered = messages[-1]["role"] == ASSISTANT
        if not is_answered:
            detail = f"the last message has the role {messages[-1]['role']}"
            noticed.append(Finding(Fault.CUT_OFF, detail=detail))
        trained = tuple(bool(flag) for flag in mask)
        return MaskedRow(
            row_id, tuple(ids), trained, tuple(spans), tuple(noticed), is_answered, has_mask
        )

    def _render(
        self, messages: list[dict[str, Any]], tools: Any
    ) -> tuple[str, list[int], list[int]]:
        """Return the text of the template, its tokens, and the mask of the assistant's."""
        options = {"chat_template": self.chat_template, "tools": tools}
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, **options)
        encoded = self.tokenizer(text, add_special_tokens=False, verbose=False)
        if not _GENERATION.search(self.chat_template):
            return text, encoded["input_ids"], [0] * len(encoded["input_ids"])
        masked = self.tokenizer.apply_chat_template(
            messages, return_dict=True, return_assistant_tokens_mask=True, **options
        )
        return text, masked["input_ids"], masked["assistant_masks"]


class _Range(NamedTuple):
    """The characters `start` to `end` of the template's text."""

    start: int
    end: int


@dataclass(slots=True)
class _Placing:
    """A search for the texts of messages in what a template wrote."""

    text: str
    marks: TurnMarks | None
    spans: list[AuthorSpan] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    cursor: int = 0
    """The end of the last text that was found."""

    def place_all(self, messages: Sequence[Mapping[str, Any]]) -> None:
        """Look for every text of every message."""
        is_answered = False
        for message in messages:
            turn = self._turn_after_cursor(message["role"])
            for part in parts_of(message, is_answered=is_answered):
                self._place(part, turn)
            is_answered = is_answered or message["role"] == ASSISTANT

    def _turn_after_cursor(self, role: str) -> _Range:
        """Return where the next turn of a role begins and ends, as far as marks show it."""
        start = self.cursor
        if self.marks is None:
            return _Range(start, len(self.text))
        mark = {ASSISTANT: self.marks.assistant, USER: self.marks.user}.get(role, "")
        opened = self.text.find(mark, start) if mark else -1
        if opened >= 0:
            start = opened + len(mark)
        if role != ASSISTANT:
            return _Range(start, len(self.text))
        end = self.text.find(self.marks.end.strip(), start)
        return _Range(start, len(self.text) if end < 0 else end)

    def _place(self, part: Part, turn: _Range) -> None:
        for spelling in part.spellings:
            start = max(turn.start, self.cursor)
            if len(spelling) >= _LONG_CHARS:
                start = self.cursor
            found = self.text.find(spelling, start, turn.end)
            if found >= 0:
                self._add(part, found, spelling)
                return
        self.findings.append(Finding(self._fault_of(part, turn), detail=part.text[:80]))

    def _fault_of(self, part: Part, turn: _Range) -> Fault:
        """Tell a text that was moved from one that was dropped."""
        if len(part.text) >= _LONG_CHARS:
            if part.fault is Fault.REASONING_DROPPED and part.text in self.text:
                return Fault.REASONING_MOVED
            # The text is before the reasoning, which was found first.
            if self.text.find(part.text, turn.start, turn.end) >= 0:
                return Fault.REASONING_MOVED
        return part.fault

    def _add(self, part: Part, start: int, spelling: str) -> None:
        """Add who wrote a part; the assistant's may hold observations."""
        self.cursor = start + len(spelling)
        if part.author is not Author.POLICY:
            self.spans.append(AuthorSpan(start, self.cursor, part.author))
            return
        reading = read_turn(spelling, is_whole=False)
        self.findings += reading.noticed
        for span in reading.spans:
            moved = span._replace(start=start + span.start, end=start + span.end)
            self.spans.append(moved)


def _without_gaps(spans: Sequence[AuthorSpan], length: int) -> Iterator[AuthorSpan]:
    """Yield spans in order with the template's own text between them, whose author is None."""
    position = 0
    for span in spans:
        if span.start > position:
            yield AuthorSpan(position, span.start, None)
        yield span
        position = span.end
    if position < length:
        yield AuthorSpan(position, length, None)
