r"""Grade a final answer against the accepted answers; the project has no other grader.

The definitions are those of SQuAD and HotpotQA, so that numbers can be compared with published
ones. On printable ASCII text without digits `normalise` equals SQuAD's `normalize_answer` wherever
that leaves anything. It departs where SQuAD's is wrong:

Numbers     They compare by value: 1,000 = 1000 = 1000.0, .5 = 0.50, -0 = 0; but 3.5 is not 35 and
            -5 is not 5. Commas group thousands as in English. Leading zeros are kept (007 and 08540
            are codes). Units, words (`five`, `million`), fractions and exponents are not computed.
            `$` and `%` are dropped, as in SQuAD.
Digits      Any other sign between two digits separates them: 3-1, 10:30, 12/04 and 10² are not 31,
            1030, 1204 and 102. A hyphen is a minus where a number begins: at the start of the text,
            after a space, a bracket or a quote.
Unicode     Text is folded (NFKC, case folding). Full-width and normal forms are the same; so are
            composed and decomposed accents, hyphens and dashes, curly and straight quotes. Every
            punctuation sign is dropped; symbols (°, €, flags) are kept. Accents count: Beyoncé
            is not Beyonce, in SQuAD as here.
Emptiness   SQuAD leaves nothing of `The The`, `A` or `!!!`, so that they equal each other. Here
            they are kept as they are.

tests/cases/answers.json holds each of these decisions as a case.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from coa.errors import InputError

_ARTICLES = frozenset({"a", "an", "the"})
YES_NO = frozenset({"yes", "no"})
"""The two answers to a question that asks whether something is so."""
CLOSED_ANSWERS = YES_NO | {"noanswer"}
# Folding leaves neither sign in a text. So they can mark the minus signs and decimal points that
# must survive when punctuation is deleted.
_MINUS = "\N{MINUS SIGN}"
_POINT = "\N{FULLWIDTH FULL STOP}"
_SIGN = re.compile(r"(?<![\w)\]}.,%-])-(?=[$€£¥]?\.?[0-9])")
_NUMERAL = re.compile(r"(?:(?<![\w.])\.)?[0-9]+(?:[.,][0-9]+)*")
_NUMBER = re.compile(r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]*)(?:\.(?P<fraction>[0-9]+))?")
_BETWEEN_DIGITS = re.compile(rf"(?<=[0-9])(?:[^\w\s{_MINUS}{_POINT}]|_)+(?=[0-9])")
_DIGIT = re.compile(r"[0-9]")
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")
_RAISED = re.compile(
    r"(?<=\d)[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u208e\u2150-\u215f\u2189\u2460-\u249b]"
)
"""Raised digits and fractions after a digit. NFKC alone would make 102 of 10², 101/2 of 10½."""

_HYPHENS = "\u2010\u2011\u2012\u2013\u2212"
_APOSTROPHES = "\u00b4\u02b9\u02bb\u02bc\u02bd\u02be\u02bf"
"""Marks that are used as apostrophes but that Unicode calls letters or symbols.

Real quotes are punctuation and are dropped with it.
"""
_LONG_DASHES = "\u2014\u2015"


class _Without(dict[int, int | None]):
    """A table for `str.translate` that deletes some characters.

    Unicode is large, so an entry is added when its character is first met.
    """

    def __init__(self, deletes: Callable[[str], bool], becomes: Mapping[str, str]) -> None:
        super().__init__({ord(char): ord(other) for char, other in becomes.items()})
        self._deletes = deletes

    def __missing__(self, code: int) -> int | None:
        self[code] = None if self._deletes(chr(code)) else code
        return self[code]


def _is_invisible(char: str) -> bool:
    return unicodedata.category(char) == "Cf" or "\ufe00" <= char <= "\ufe0f"


def _is_punctuation(char: str) -> bool:
    return char in string.punctuation or unicodedata.category(char).startswith("P")


_LOOK_ALIKES = (
    dict.fromkeys(_HYPHENS, "-")
    | dict.fromkeys(_APOSTROPHES, "'")
    | dict.fromkeys(_LONG_DASHES, " ")
)
_FOLDED = _Without(_is_invisible, becomes=_LOOK_ALIKES)
_KEPT = _Without(_is_punctuation, becomes={_MINUS: "-", _POINT: "."})


def normalise(text: str) -> str:
    """Return the form in which answers are compared: tokens joined by single spaces.

    The function is idempotent. The docstring of this module lists its rules.
    """
    folded = _fold(text)
    marked = _mark_numbers(folded) if _DIGIT.search(folded) else folded
    bare = marked.translate(_KEPT)
    if not bare.isascii():
        # Deleting a sign can bring a letter and its accent together.
        bare = unicodedata.normalize("NFKC", bare)
    words = bare.split()
    tokens = [word for word in words if word not in _ARTICLES]
    if not tokens:
        tokens = words or folded.split()
    return " ".join(["0" if token == "-0" else token for token in tokens])


def _fold(text: str) -> str:
    """Write in one way what readers take for the same.

    That is: case, width, composed accents, dashes, apostrophes and the digits of other scripts.
    """
    if text.isascii():
        return text.lower()
    text = _RAISED.sub(r" \g<0>", text).translate(_FOLDED)
    text = unicodedata.normalize("NFKC", text).translate(_FOLDED).casefold()
    text = unicodedata.normalize("NFKC", text)
    return _FOREIGN_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), text)


def _mark_numbers(text: str) -> str:
    """Write numbers in one form, with marks for minus and point; separate digits at other signs."""
    text = _SIGN.sub(f" {_MINUS}", text)
    text = _NUMERAL.sub(_number_by_value, text)
    return _BETWEEN_DIGITS.sub(" ", text)


def _number_by_value(numeral: re.Match[str]) -> str:
    """Write equal numbers alike: without thousands commas and without zeros at the end."""
    # The number stays text: a float would lose digits, and int() refuses long ones.
    number = _NUMBER.fullmatch(numeral[0])
    if not number:
        return numeral[0].replace(".", " ").replace(",", " ")
    whole = number["whole"].replace(",", "") or "0"
    fraction = (number["fraction"] or "").rstrip("0")
    return f"{whole}{_POINT}{fraction}" if fraction else whole


_FONTS = (
    "text|textbf|textit|textrm|textsf|texttt|textnormal"
    "|mathrm|mathbf|mathit|mathsf|mathtt|mbox|emph|operatorname"
)
# The first sign is tested once more by a look-behind in each group, because a search for one of
# three characters is five times as fast as one for four alternatives. A doubled backslash is a line
# break, but not before `boxed`: models that escape once too often write it there.
_TEX = re.compile(
    rf"""
    [\\{{}}]
    (?:
        (?<=\\)
        (?:
            (?P<box>(?:boxed|fbox)\s*\{{)
            | (?P<font>(?:{_FONTS})\s*\{{)
            | (?P<escape>\\(?!boxed|fbox)|[^A-Za-z\\])
        )
        | (?P<open>(?<=\{{))
        | (?P<close>(?<=\}}))
    )
    """,
    re.VERBOSE,
)
_NO_BOX = -1
_TEX_SPACES = {"!": "", **dict.fromkeys("\\ ,:;>", " ")}
_TEX_SIGN = re.compile(r"[\\{$]")
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|,\\!|\\,)(?=[0-9]{3})")
_MATHS = re.compile(
    r"(?P<open>\$\$?)(?P<body>(?:[^$\\]|\\.)*)(?P=open)"
    r"|\\\((?P<round>.*)\\\)"
    r"|\\\[(?P<square>.*)\\\]",
    re.DOTALL,
)


def boxed_answer(text: str) -> str | None:
    r"""Return the content of the last complete `\boxed{}` or `\fbox{}`, without TeX around it.

    Of nested boxes the inner one counts: a policy whose answer is forced often opens a box inside
    the marker's box. A box that is never closed does not count. The time is linear in the text.

    Returns:
        The answer; None where there is no box or nothing in it.
    """
    opened: list[int] = []  # for each open brace, where the content of its box starts, or _NO_BOX
    start = end = _NO_BOX
    for found in _TEX.finditer(text):
        sign = found.lastgroup
        if sign == "close":
            box = opened.pop() if opened else _NO_BOX
            if box > start:
                start, end = box, found.start()
        elif sign == "box":
            opened.append(found.end())
        elif sign != "escape":
            opened.append(_NO_BOX)
    if end == _NO_BOX:
        return None
    content = text[start:end]
    if _TEX_SIGN.search(content):
        content = _plain_text(content)
    return content.strip() or None


def _plain_text(tex: str) -> str:
    r"""Remove `$...$`, font commands such as `\text{}` and escapes; keep other commands."""
    tex = _THOUSANDS.sub(",", tex).strip()
    maths = _MATHS.fullmatch(tex)
    if maths:
        tex = maths["body"] or maths["round"] or maths["square"] or ""
    pieces: list[str] = []
    closings: list[str] = []
    position = 0
    for found in _TEX.finditer(tex):
        pieces.append(tex[position : found.start()])
        pieces.append(_plain_sign(found, closings))
        position = found.end()
    pieces.append(tex[position:])
    return "".join(pieces).strip()


def _plain_sign(found: re.Match[str], closings: list[str]) -> str:
    """Return the plain text of one TeX sign.

    Args:
        found: The sign.
        closings: The plain text of the closing brace of each open group; changed in place.
    """
    if found.lastgroup == "escape":
        escaped = found[0][1]
        return _TEX_SPACES.get(escaped, escaped)
    if found.lastgroup == "close":
        return closings.pop() if closings else "}"
    if found.lastgroup == "font":
        closings.append("")
        return ""
    closings.append("}")
    return found[0]


class Verdict(StrEnum):
    """The verdict on an answer."""

    CORRECT = "correct"
    """The boxed answer equals an accepted answer exactly, after normalisation."""
    WRONG = "wrong"
    """There is a boxed answer that equals no accepted one; it may still cover one."""
    NO_ANSWER = "no_answer"
    """There is no complete box after the thinking, or there is nothing in it."""
    OPEN = "open"
    """There is an answer, and none that is accepted to compare it with: a judge's matter."""


@dataclass(frozen=True, slots=True)
class Grade:
    """The grade of one answer; each number is the best over the accepted answers."""

    prediction: str | None
    """The boxed answer as it was written; None when there is none."""
    verdict: Verdict
    exact_match: bool | None
    """Equal after normalisation. Like the next two, it is None for an open-ended question."""
    cover_exact_match: bool | None
    """The prediction contains an accepted answer's tokens, side by side and in order."""
    f1: float | None
    """Harmonic mean of token precision and recall, 0 to 1. It is 0 where the two differ and one of
    them is yes, no or noanswer."""
    matched_alias: int | None
    """Position of the first accepted answer that matches exactly; None when none does."""


def grade(answer_text: str, gold_answers: Sequence[str]) -> Grade:
    """Grade the text after the thinking, of which only the boxed answer counts.

    Raises:
        InputError: There is no accepted answer.
    """
    return grade_prediction(boxed_answer(answer_text), gold_answers)


def grade_open(answer_text: str) -> Grade:
    """Read the answer to a question that has no accepted ones: nothing is compared."""
    prediction = boxed_answer(answer_text)
    verdict = Verdict.OPEN if prediction else Verdict.NO_ANSWER
    return Grade(prediction, verdict, None, None, None, None)


def grade_prediction(prediction: str | None, gold_answers: Sequence[str]) -> Grade:
    """Grade an answer that is taken out of its box already; None and blank count as no answer.

    Raises:
        InputError: There is no accepted answer.
    """
    golds = _read_golds(_as_tuple(gold_answers))
    text = normalise(prediction) if prediction else ""
    if not text:
        return Grade(
            prediction=None,
            verdict=Verdict.NO_ANSWER,
            exact_match=False,
            cover_exact_match=False,
            f1=0.0,
            matched_alias=None,
        )
    for alias, gold in enumerate(golds):
        if gold.text == text:
            return Grade(
                prediction=prediction,
                verdict=Verdict.CORRECT,
                exact_match=True,
                cover_exact_match=True,
                f1=1.0,
                matched_alias=alias,
            )
    return Grade(
        prediction=prediction,
        verdict=Verdict.WRONG,
        exact_match=False,
        cover_exact_match=any(_covers(text, gold) for gold in golds),
        f1=_best_f1(text, golds),
        matched_alias=None,
    )


class _Gold(NamedTuple):
    """An accepted answer in the forms that comparisons need."""

    text: str
    """The normalised answer; empty for a blank alias, which nothing matches."""
    tokens: tuple[str, ...]
    vocabulary: frozenset[str]


def _covers(text: str, gold: _Gold) -> bool:
    """Return whether an answer contains all tokens of an accepted one, side by side."""
    return bool(gold.text) and f" {gold.text} " in f" {text} "


def _as_tuple(gold_answers: Sequence[str]) -> tuple[str, ...]:
    if isinstance(gold_answers, str):
        raise InputError(
            "the accepted answers must be a sequence of texts",
            expected=f"({gold_answers!r},)",
            got=repr(gold_answers),
        )
    return tuple(gold_answers)


# Every rollout of a question, and every turn of reinforcement learning, reads the same answers.
@lru_cache(maxsize=65_536)
def _read_golds(gold_answers: tuple[str, ...]) -> tuple[_Gold, ...]:
    texts = [normalise(gold) for gold in gold_answers]
    if not any(texts):
        raise InputError(
            "a question has no accepted answer",
            got=repr(gold_answers),
            fix="give it a gold answer, or leave it out",
        )
    golds = []
    for text in texts:
        tokens = tuple(text.split())
        golds.append(_Gold(text, tokens, frozenset(tokens)))
    return tuple(golds)


def _best_f1(text: str, golds: Sequence[_Gold]) -> float:
    """Return the best token F1 of an answer that equals no accepted one."""
    if text in CLOSED_ANSWERS:
        return 0.0
    tokens = text.split()
    counts: Counter[str] | None = None
    best = 0.0
    for gold in golds:
        # Most wrong answers share no token with the gold: they are spared the counting.
        if gold.text in CLOSED_ANSWERS or gold.vocabulary.isdisjoint(tokens):
            continue
        if counts is None:
            counts = Counter(tokens)
        num_shared = (counts & Counter(gold.tokens)).total()
        best = max(best, 2 * num_shared / (len(tokens) + len(gold.tokens)))
    return best
