"""Define what a judge says of an answer, and read it from the judge's reply.

The answer that is judged is hostile: a policy in training learns whatever pays. So a reply counts
only where a verdict stands alone on a line, outside of everything that the judge quotes. A reply
with none, or with two that differ, is `unreadable`: an outcome of its own, which is never right.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from coa.records.protocol import THINK_CLOSE, THINK_OPEN


class JudgeVerdict(StrEnum):
    """What came of asking the judge."""

    CORRECT = "correct"
    """The answer says what an accepted one says; by a rubric: its score is high enough."""
    INCORRECT = "incorrect"
    """It says something else; by a rubric: its score is too low."""
    NOT_ATTEMPTED = "not_attempted"
    """It commits to nothing, or there is no answer; then the judge is not asked."""
    UNREADABLE = "unreadable"
    """The judge replied, and the reply holds no verdict, or two that differ."""
    FAILED = "failed"
    """The judge could not be asked: it is down, or refuses the request."""


RIGHT: dict[JudgeVerdict, bool | None] = {
    JudgeVerdict.CORRECT: True,
    JudgeVerdict.INCORRECT: False,
    JudgeVerdict.NOT_ATTEMPTED: False,
    JudgeVerdict.UNREADABLE: None,
    JudgeVerdict.FAILED: None,
}
"""Whether the answer is right by each verdict; None where the judge did not say."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a judge said of one answer."""

    verdict: JudgeVerdict
    is_right: bool | None
    """None where the judge failed or its reply cannot be read."""
    judge: str
    """The model that judged and a hash of all else that decides: `gpt-4o@1f0a9c3e`."""
    score: float | None = None
    """By a rubric: the weight of the criteria that are met, 0 to 1. None without a rubric, and
    where the judge did not tell."""
    criteria: tuple[JudgeVerdict, ...] = ()
    """The verdict on each criterion of the rubric, in its order."""
    detail: str = ""
    """The beginning of a reply that cannot be read, or why the judge could not be asked."""


_QUOTED = re.compile(
    rf"""
    \A(?:(?!{THINK_OPEN}).)*{THINK_CLOSE}
    | {THINK_OPEN}.*?(?:{THINK_CLOSE}|\Z)
    | ```.*?(?:```|\Z)
    | `[^`]*(?:`|\Z)
    | "(?:\\.|[^"\\])*(?:"|\\?\Z)
    | “[^”]*(?:”|\Z)
    | «[^»]*(?:»|\Z)
    | ‘[^’]*(?:’|\Z)
    | (?<!\w)'.*?'(?!\w)
    | ^[ \t]*>[^\n]*
    """,  # noqa: RUF001
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
"""What a judge thinks or quotes. A quotation that is never closed reaches to the end."""
_APOSTROPHE_END = re.compile(r"'(?!\w)")


def read_verdict(reply: str, words: Iterable[str]) -> str | None:
    """Return the one of `words` that the reply gives as its verdict; None where it gives none.

    A verdict is alone on its line, also after `Verdict:` and in bold print.
    """
    plain = _QUOTED.sub(" ", _without_open_apostrophes(reply))
    alternatives = "|".join(map(re.escape, words))
    alone = rf"^[^\w\n]*(?:(?i:verdict|grade)[^\w\n]+)?({alternatives})[^\w\n]*$"
    found = set(re.findall(alone, plain, re.MULTILINE))
    return found.pop() if len(found) == 1 else None


def _without_open_apostrophes(reply: str) -> str:
    """Replace the apostrophes after the last one that may end a quotation.

    They begin none. Looking for the end of each would take time that grows with the square.
    """
    end = 0
    for found in _APOSTROPHE_END.finditer(reply):
        end = found.end()
    return reply[:end] + reply[end:].replace("'", ",")
