r"""Read a trajectory that is one text with the tags of a family, in one pass from left to right.

A turn of the policy ends with a call or with the answer. The observation after a call belongs to
the environment, with the blanks and the chat template's turn tokens around it. Text between the
tags of thinking is not distinguished from other text of the policy. Joined, the steps give the text
again.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from coa.foreign.step_makers import action_step, answer_step, observation_step, thought_steps
from coa.foreign.tag_families import DETECTED, TAG_FAMILIES, TOOL_CALL_TEXT, TagFamily
from coa.foreign.tool_call_json import read_tool_call
from coa.policy.foreign_tags import hide_json
from coa.records import protocol
from coa.records.grading import boxed_answer
from coa.records.trajectory import Author, Outcome, Step, StepKind
from coa.records.unreadable import UnreadableError, UnreadableReason

_TURN_END = re.compile(r"\s*(?:<\|im_end\|>\s*<\|im_start\|>(?:user|tool)\s*)?")
"""The text between a call and its observation: blanks, or ChatML's border between two turns."""
_TURN_START = re.compile(r"\s*<\|im_end\|>\s*<\|im_start\|>assistant\n?")
"""ChatML's border between an observation and the policy's next turn."""
_BOX = r"\boxed{"


def read_tagged_text(text: str, family: TagFamily) -> tuple[Step, ...]:
    """Read a text with a family's tags into steps; joined, they give `text` again.

    Raises:
        UnreadableError: a tag is unclosed, nested or out of place, a call has no observation or
            cannot be read, or there is no answer.
    """
    return _Reading(text, family).read()


@lru_cache(maxsize=4)
def find_tags(text: str) -> frozenset[str]:
    """Return the opening and closing tags of all families in a text, those inside JSON left out."""
    without_calls = hide_json(text)
    return frozenset(_ANY_TAG.findall(hide_json(without_calls, *TOOL_CALL_TEXT.observation)))


def tell_family(text: str) -> TagFamily | None:
    """Recognise the family of a text by its tags; None where it has none of them.

    Families that know all tags of a text read it alike, and the first is returned.

    Raises:
        UnreadableError: no family knows all tags of the text.
    """
    found = find_tags(text)
    if not found:
        return None
    for family in DETECTED:
        if found <= _NAMES[family.format]:
            return family
    detail = "tags of several formats: " + " ".join(sorted(found))
    raise UnreadableError(UnreadableReason.WRONG_FORMAT, 0, detail)


@dataclass(slots=True)
class _Reading:
    """The reading of one text."""

    text: str
    family: TagFamily
    position: int = 0
    """The end of the last step."""
    steps: list[Step] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    """The tools of the calls without an observation so far, in order."""

    def read(self) -> tuple[Step, ...]:
        tags = _TAGS[self.family.format].finditer(self._without_json())
        openings = {tags.open: tool for tool, tags in self.family.calls}
        for tag in tags:
            self._expect_observation(tag, openings)
            if tag[0] in openings:
                self._add_call(openings[tag[0]], tag, tags)
            elif tag[0] == self.family.observation.open:
                self._add_observation(tag, tags)
            elif tag[0] in (self.family.answer.open, protocol.THINK_CLOSE):
                self._add_answer(tag, tags)
                return tuple(self.steps)
            elif tag[0] == self.family.retry:
                self._add_thought(tag.start())
                self._add(protocol.marker(tag[0]))
            else:
                raise _misplaced(tag)
        self._add_bare_answer()
        return tuple(self.steps)

    def _without_json(self) -> str:
        """Return the text to look for tags in: without JSON where the family's calls are JSON."""
        searched = self.text
        for tool, tags in self.family.calls:
            if not tool:
                searched = hide_json(searched, tags.open, tags.close)
                searched = hide_json(searched, *self.family.observation)
        return searched

    def _add(self, step: Step) -> None:
        self.steps.append(step)
        self.position += len(step.text)

    def _add_thought(self, end: int) -> None:
        for step in thought_steps(self.text[self.position : end]):
            self._add(step)

    def _expect_observation(self, tag: re.Match[str] | None, openings: Mapping[str, str]) -> None:
        """Check that a call is followed by its observation.

        Calls that name their tools themselves may follow one another before the first observation.
        """
        if not self.waiting or (tag and tag[0] == self.family.observation.open):
            return
        is_next_call = tag is not None and openings.get(tag[0]) == ""
        if is_next_call and self.steps[-1].kind is not StepKind.OBSERVATION:
            return
        raise UnreadableError(UnreadableReason.NO_OBSERVATION, self.position)

    def _add_call(self, tool: str, tag: re.Match[str], tags: Iterator[re.Match[str]]) -> None:
        if self.waiting and self.text[self.position : tag.start()].strip():
            raise UnreadableError(UnreadableReason.TEXT_AFTER_ACTION, self.position)
        self._add_thought(tag.start())
        closing = self._closing(tag, tags)
        argument = self.text[tag.end() : closing.start()].strip()
        arguments: str | None = None
        if not tool:
            call = read_tool_call(self.text[tag.end() : closing.start()], tag.end())
            tool, argument, arguments = call.tool, call.argument, call.arguments
        if not argument:
            raise UnreadableError(UnreadableReason.EMPTY_TURN, tag.start(), "an empty call")
        action = action_step(self.text[tag.start() : closing.end()], tool, argument)
        self._add(replace(action, transcribed=arguments))
        self.waiting.append(tool)

    def _add_observation(self, tag: re.Match[str], tags: Iterator[re.Match[str]]) -> None:
        if not self.waiting:
            raise _misplaced(tag)
        border = _TURN_END.match(self.text, self.position)
        if border is None or border.end() != tag.start():
            raise UnreadableError(UnreadableReason.NO_OBSERVATION, self.position)
        end = self._end_of_observation(self._closing(tag, tags).end())
        seen = self.text[self.position : end]
        step = observation_step(seen, self.waiting.pop(0), tuple(_titles(seen, self.family)))
        if self.family.is_simulated:
            step = replace(step, author=Author.POLICY, outcome=Outcome.SIMULATED)
        self._add(step)
        if self.family.next_turn and self.text.startswith(self.family.next_turn, self.position):
            self._add(protocol.marker(self.family.next_turn))

    def _end_of_observation(self, end: int) -> int:
        """Return where the runtime's text after an observation's closing tag ends."""
        turn = _TURN_START.match(self.text, end)
        if turn:
            return turn.end()
        after = self.text[end : end + self.family.line_breaks]
        return end + len(after) - len(after.lstrip("\n"))

    def _add_answer(self, tag: re.Match[str], tags: Iterator[re.Match[str]]) -> None:
        """Add the answer, which begins with `tag`: its own tag or the end of the thinking."""
        self._add_thought(tag.start())
        opening: re.Match[str] | None = tag
        if tag[0] == protocol.THINK_CLOSE:
            opening = next(tags, None)
        if opening is None:
            raise UnreadableError(UnreadableReason.NO_ANSWER, len(self.text))
        if opening[0] != self.family.answer.open:
            raise _misplaced(opening)
        closing = self._closing(opening, tags)
        if not self.text[opening.end() : closing.start()].strip():
            raise UnreadableError(UnreadableReason.NO_ANSWER, opening.start())
        extra = next(tags, None)
        if extra is not None:
            raise _misplaced(extra)
        self._add(answer_step(self.text[tag.start() :]))

    def _add_bare_answer(self) -> None:
        """Add the text after the last tag: a last thought and an answer without tags."""
        self._expect_observation(None, {})
        start = _bare_answer(self.text[self.position :])
        if start < 0 or not self.family.allows_bare_answer:
            raise UnreadableError(UnreadableReason.NO_ANSWER, len(self.text))
        self._add_thought(self.position + start)
        self._add(answer_step(self.text[self.position :]))

    def _closing(self, tag: re.Match[str], tags: Iterator[re.Match[str]]) -> re.Match[str]:
        """Return the next tag, which must close `tag`."""
        closing = next(tags, None)
        if closing is None:
            raise UnreadableError(UnreadableReason.UNCLOSED_TAG, tag.start(), tag[0])
        if closing[0] != _PARTNERS[tag[0]]:
            detail = f"{closing[0]} inside {tag[0]}"
            raise UnreadableError(UnreadableReason.NESTED_TAG, closing.start(), detail)
        return closing


def _bare_answer(text: str) -> int:
    """Return where an answer without tags begins, or a negative number where there is none.

    It is the text after the last end of the thinking, with that tag, or else the line of the last
    box and all that follows.
    """
    thinking_end = text.rfind(protocol.THINK_CLOSE)
    if thinking_end >= 0 and text[thinking_end + len(protocol.THINK_CLOSE) :].strip():
        return thinking_end
    start = text.rfind("\n", 0, max(text.rfind(_BOX), 0)) + 1
    return start if boxed_answer(text[start:]) else -1


def _titles(documents: str, family: TagFamily) -> Iterator[str]:
    """Find the titles of the documents shown."""
    if family.title is None:
        return
    for head in family.title.finditer(documents):
        groups = head.groupdict()
        title = groups.get("labelled") or groups["bare"] or ""
        if groups.get("quote"):
            title = title.replace('""', '"')
        if title.strip():
            yield title.strip()


def _misplaced(tag: re.Match[str]) -> UnreadableError:
    return UnreadableError(UnreadableReason.MISPLACED_TAG, tag.start(), tag[0])


def _names(family: TagFamily) -> frozenset[str]:
    return frozenset(name for tags in family.tags() for name in tags)


def _pattern(family: TagFamily) -> re.Pattern[str]:
    """Return the expression that finds a family's tags, and its runtime's sentence as a whole."""
    found = [family.retry] if family.retry else []
    found += sorted(_names(family))
    if family.thinks_once:
        found.append(protocol.THINK_CLOSE)
    return re.compile("|".join(map(re.escape, found)))


_PARTNERS = dict(tags for family in TAG_FAMILIES for tags in family.tags())
_NAMES = {family.format: _names(family) for family in TAG_FAMILIES}
_TAGS = {family.format: _pattern(family) for family in TAG_FAMILIES}
_ANY_TAG = re.compile("|".join(map(re.escape, sorted({*_PARTNERS, *_PARTNERS.values()}))))
