"""Take the frames of foreign texts away: the tags and labels around thoughts and answers.

The frames of no two formats begin alike, so a text itself shows whose frame it has.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

from coa.foreign.tag_families import ANSWER_TAGS, TAG_FAMILIES
from coa.records import protocol
from coa.records.grading import boxed_answer
from coa.records.trajectory import Step, StepKind

THOUGHT_LABEL, OBSERVATION_LABEL = "Thought:", "Observation:"
REACT_CALL = re.compile(
    r"Action:[ \t]*(?P<tool>[A-Za-z][A-Za-z0-9]*)[ \t]*\[(?P<argument>[^\n]*)\]"
)
"""A call in ReAct; the answer is the argument of the call `finish`."""
NUMBERED_CALL = re.compile(r"\s*(?P<tool>[A-Za-z]\w*)[ \t]?\[(?P<argument>[^\n]*)\][ \t.]*\Z")
"""A call after a numbered label; the runtimes ignore a full stop."""
_NUMBERED_OBSERVATION = re.compile(r"Observation \d+:")
_OBSERVATION_TAGS = tuple({family.observation: None for family in TAG_FAMILIES})
_ANSWER = re.compile(f"{re.escape(ANSWER_TAGS.open)}(.*){re.escape(ANSWER_TAGS.close)}", re.DOTALL)
_TURN_END = "<|im_end|>"
_END_TOKENS = re.compile(r"(?:<\|im_end\|>|<\|endoftext\|>)\s*\Z")
_TURN_BORDER = re.compile(
    r"\A\s*<\|im_end\|>\s*<\|im_start\|>(?:user|tool)|<\|im_end\|>\s*<\|im_start\|>assistant\s*\Z"
)
"""ChatML's tokens at the two ends of an observation."""
_THINK_TAGS = re.compile(f"{protocol.THINK_OPEN}|{protocol.THINK_CLOSE}")
_EXACT_ANSWER = re.compile(r"^[* \t]*Exact Answer:(.*)$", re.MULTILINE)


def bare_observation(text: str, tool: str | None = None) -> str:
    """Return an observation of `tool` without its frame, stripped."""
    bare = text.strip()
    if _TURN_END in bare:
        bare = _TURN_BORDER.sub("", bare).strip()
    if bare.startswith("<"):
        for opening, closing in (*_OBSERVATION_TAGS, _own_observation_tags(tool or "")):
            if bare.startswith(opening) and bare.endswith(closing):
                return bare.removeprefix(opening).removesuffix(closing).strip()
    numbered = _NUMBERED_OBSERVATION.match(bare)
    label = numbered[0] if numbered else OBSERVATION_LABEL
    return bare.removeprefix(label).strip()


@lru_cache
def _own_observation_tags(tool: str) -> tuple[str, str]:
    opening, closing = protocol.observation_text(tool, "").split()
    return opening, closing


def prediction(steps: Iterable[Step]) -> str | None:
    """Return the answer of a foreign trajectory without its frame; None when there is none."""
    before = ""
    for step in steps:
        if step.kind is StepKind.ANSWER:
            if step.transcribed is not None:
                return _chat_answer(step.transcribed)
            return _unframed_answer(before + step.text)
        # An answer that was forced continues in the box that the scaffold opened.
        before = protocol.ANSWER_MARKER if step.text == protocol.ANSWER_MARKER else ""
    return None


def _chat_answer(text: str) -> str | None:
    r"""Return the answer in a chat's last message: in its tags, its box or its line, or all of it.

    BrowseComp asks for a line `Exact Answer: ...`, and OpenResearcher's policy writes one.
    """
    tagged = text.partition(ANSWER_TAGS.open)[2].partition(ANSWER_TAGS.close)[0].strip()
    lines = _EXACT_ANSWER.findall(text)
    line = lines[0].strip("* \t\r") if len(lines) == 1 else ""
    return boxed_answer(tagged or text) or tagged or line or text.strip() or None


def _unframed_answer(text: str) -> str | None:
    tagged = _ANSWER.search(text)
    if tagged:
        inner: str = tagged[1]
        return boxed_answer(inner) or inner.strip() or None
    call = REACT_CALL.search(text) or NUMBERED_CALL.match(text)
    if call:
        argument: str = call["argument"]
        return argument.strip() or None
    said = text.rpartition(protocol.THINK_CLOSE)[2]
    return boxed_answer(text) or _END_TOKENS.sub("", said).strip() or None


def bare_thought(text: str) -> str:
    """Return a thought without the tags of the thinking, or without ReAct's label at its start."""
    if text.startswith(THOUGHT_LABEL):
        text = text.removeprefix(THOUGHT_LABEL).lstrip(" ")
    return _THINK_TAGS.sub("", text)
