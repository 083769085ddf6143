"""Take the frames of foreign texts away: the tags and labels around observations and answers.

The frames of no two families begin alike, so a text itself shows whose frame it has.
"""

import re
from collections.abc import Iterable

from coa.trajectory import Step, StepKind

DOCUMENTS_OPEN, DOCUMENTS_CLOSE = "<|begin_of_documents|>", "<|end_of_documents|>"
ANSWER_OPEN, ANSWER_CLOSE = "<answer>", "</answer>"
THOUGHT_LABEL, OBSERVATION_LABEL = "Thought:", "Observation:"
REACT_CALL = re.compile(
    r"Action:[ \t]*(?P<tool>[A-Za-z][A-Za-z0-9]*)[ \t]*\[(?P<argument>[^\n]*)\]"
)
"""A call in ReAct; the answer is the argument of the call `finish`."""
_OBSERVATION_FRAMES = ((DOCUMENTS_OPEN, DOCUMENTS_CLOSE), (OBSERVATION_LABEL, ""))
_ANSWER_FRAMES = (re.compile(rf"{ANSWER_OPEN}(.*){ANSWER_CLOSE}", re.DOTALL), REACT_CALL)


def bare_observation(text: str) -> str:
    """Return an observation without its frame, stripped."""
    bare = text.strip()
    for opening, closing in _OBSERVATION_FRAMES:
        if bare.startswith(opening) and bare.endswith(closing):
            return bare.removeprefix(opening).removesuffix(closing).strip()
    return bare


def prediction(steps: Iterable[Step]) -> str | None:
    """Return the answer of a foreign trajectory without its frame; None when there is none."""
    for step in steps:
        if step.kind is StepKind.ANSWER:
            return _unframed_answer(step.text)
    return None


def _unframed_answer(text: str) -> str | None:
    for frame in _ANSWER_FRAMES:
        found = frame.search(text)
        if found:
            last_group: str = found[frame.groups]
            return last_group.strip() or None
    return None


def bare_thought(text: str) -> str:
    """Return a thought without the label that a chat's policy writes itself."""
    if not text.startswith(THOUGHT_LABEL):
        return text
    return text.removeprefix(THOUGHT_LABEL).lstrip(" ")
