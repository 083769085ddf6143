"""Recognise answers that name an accepted one without giving it.

Such an answer compares it, rules it out, or gives none.

`Ian McEwan has more skills than Langston Hughes` is not a form of `Langston Hughes`. Neither is
`I don't know whether it was Langston Hughes`. What cannot be told from such words is left to other
rules.
"""

import re
from itertools import pairwise

_UNABLE = "know|say|tell|find|determine|answer|confirm|verify"
_LACKING = "sure|certain|clear|known|specified|mentioned|found|enough|possible"
_NO_ANSWER = re.compile(
    rf"""\b(?:
    (?:do\ not|don't|does\ not|did\ not|cannot|can't|could\ not|couldn't)\ (?:{_UNABLE})
  | not\ (?:{_LACKING}) | unsure | unclear | unable\ to | unknown | insufficient | whether
  | no\ (?:information|answer|evidence|results?) | more\ information
  | i\ (?:need|will|must|should)
    )\b""",
    re.VERBOSE,
)
_LITTLE = "(?: (?:the|a|an|by|in|with|for|from|of|that|to))*"
_RULING_OUT = (
    "than|unlike|versus|vs|not|nor|neither|except|without|isn't|wasn't|aren't|weren't|"
    "instead of|compared (?:to|with)|as opposed to"
)
_RULED_OUT = re.compile(rf"\b(?:{_RULING_OUT}){_LITTLE}$")
"""Words before an accepted answer that is ruled out."""
_RELATIVES = (
    "son|daughter|child|father|mother|parent|wife|husband|spouse|widow|brother|sister|sibling|"
    "uncle|aunt|cousin|nephew|niece|friend|teacher|student|rival|predecessor|successor"
)
_ANOTHER = re.compile(rf"\b(?:{_RELATIVES})s? (?:of|to)(?: (?:the|a|an))*$")
"""Words before an accepted answer that only tells who somebody else is."""
_COMPARATIVE = re.compile(r"\b(?:more|less|fewer|\w{2,}er)\b(?=.*\bthan\b)")
_COMPARED = re.compile(r"\b(?:more|less|fewer|older|younger|\w{3,}er)\b")
_MAX_CHARS = 2_000
"""So many characters of an answer are read: longer ones are whole trains of thought."""
_APOSTROPHES = str.maketrans("\u2019\u2018", "''")


def names_without_giving(answer: str, accepted: str, question: str = "") -> bool:
    """Tell whether an answer holds an accepted one, and gives none or another one."""
    said = _plain(answer[:_MAX_CHARS])
    name = _plain(accepted)
    if not name or said == name:
        return False
    around = re.split(rf"(?<!\w){re.escape(name)}(?!\w)", said)
    if _NO_ANSWER.search(" ".join(around)) and not _NO_ANSWER.search(name):
        return True
    if len(around) == 1:
        return False
    places = pairwise(around)
    if all(_gives_another(before, after) for before, after in places):
        return True
    return _compares_the_other_way(around, question)


def _gives_another(before: str, after: str) -> bool:
    """Tell whether the words around the accepted answer say that another one is meant."""
    start = before.strip(" ,;:\"'()")
    is_possessive = re.match(r"'s? \w", after) is not None
    return is_possessive or bool(_RULED_OUT.search(start) or _ANOTHER.search(start))


def _compares_the_other_way(around: list[str], question: str) -> bool:
    """Tell whether the answer compares by another word than the question: fewer instead of more."""
    asked = set(_COMPARED.findall(_plain(question)))
    found = set(_COMPARATIVE.findall(" ".join(around)))
    return bool(asked and found) and asked.isdisjoint(found)


def _plain(text: str) -> str:
    """Write a text in lower case with single spaces; apostrophes stay, they mark possessives."""
    return " ".join(text.translate(_APOSTROPHES).lower().split())
