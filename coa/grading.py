r"""Answers into grades: the text after the thinking and the accepted answers become one `Grade`. The only grader.

The definitions are SQuAD's and HotpotQA's, so that numbers compare with published ones: on printable ASCII text without
digits `normalise` equals SQuAD's `normalize_answer` wherever that leaves anything. It departs where SQuAD's is wrong:

numbers     compare by value: 1,000 = 1000 = 1000.0, .5 = 0.50, -0 = 0; but 3.5 is not 35 and -5 is not 5. Commas group
            thousands as English does. Leading zeros are kept (007, 08540 are codes); units, words (`five`, `million`),
            fractions and exponents are not computed; `$` and `%` are dropped, as SQuAD does.
digits      any other sign between two digits separates them: 3-1, 10:30, 12/04 and 10² are not 31, 1030, 1204 and 102.
            A hyphen is a minus where a number begins: at the start, after a space, bracket or quote.
Unicode     is folded (NFKC, case folding): full-width forms, composed and decomposed accents, hyphens and dashes, curly
            and straight quotes are each one. Every punctuation sign goes, symbols (°, €, flags) stay. Accents count:
            Beyoncé is not Beyonce, in SQuAD as here.
nothing     is left of `The The`, `A` or `!!!` in SQuAD, so that they equal each other; here they stand for themselves.

tests/cases/answers.json holds every one of these decisions as a case.
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
"""Answers that say nothing but whether."""
CLOSED_ANSWERS = YES_NO | {"noanswer"}
_MINUS, _POINT = "\N{MINUS SIGN}", "\N{FULLWIDTH FULL STOP}"
# Folding leaves neither in a text, so they can mark what must outlive the deletion of punctuation.
_SIGN = re.compile(r"(?<![\w)\]}.,%-])-(?=[$€£¥]?\.?[0-9])")
_NUMERAL = re.compile(r"(?:(?<![\w.])\.)?[0-9]+(?:[.,][0-9]+)*")
_NUMBER = re.compile(r"(?P<whole>[0-9]{1,3}(?:,[0-9]{3})+|[0-9]*)(?:\.(?P<fraction>[0-9]+))?")
_BETWEEN_DIGITS = re.compile(rf"(?<=[0-9])(?:[^\w\s{_MINUS}{_POINT}]|_)+(?=[0-9])")
_DIGIT = re.compile(r"[0-9]")
_FOREIGN_DIGIT = re.compile(r"(?![0-9])\d")
_RAISED = re.compile(
    r"(?<=\d)[\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u208e\u2150-\u215f\u2189\u2460-\u249b]"
)
"""Raised digits and fractions after a digit: NFKC alone would make 102 of 10² and 101/2 of 10½."""

_HYPHENS = "\u2010\u2011\u2012\u2013\u2212"
_APOSTROPHES = "\u00b4\u02b9\u02bb\u02bc\u02bd\u02be\u02bf"
"""Marks that stand for an apostrophe but are letters or symbols to Unicode; quotes proper are punctuation and go."""
_LONG_DASHES = "\u2014\u2015"


class _Without(dict[int, int | None]):
    """A table for `str.translate` that deletes some characters; filled as they are met, for Unicode is large."""

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
    """The form in which answers are compared: tokens joined by single spaces; idempotent (see the module's head)."""
    folded = _fold(text)
    marked = _mark_numbers(folded) if _DIGIT.search(folded) else folded
    bare = marked.translate(_KEPT)
    # Deleting a sign can bring a letter and its accent together.
    words = (bare if bare.isascii() else unicodedata.normalize("NFKC", bare)).split()
    tokens = [word for word in words if word not in _ARTICLES] or words or folded.split()
    return " ".join(["0" if token == "-0" else token for token in tokens])


def _fold(text: str) -> str:
    """One spelling for what readers take for one: case, width, composition, dashes, apostrophes, digits."""
    if text.isascii():
        return text.lower()
    text = _RAISED.sub(r" \g<0>", text).translate(_FOLDED)
    text = unicodedata.normalize("NFKC", text).translate(_FOLDED).casefold()
    return _FOREIGN_DIGIT.sub(
        lambda digit: str(unicodedata.decimal(digit[0])), unicodedata.normalize("NFKC", text)
    )


def _mark_numbers(text: str) -> str:
    """Write numbers in one form, their sign and point as marks; separate digits that another sign divides."""
    text = _SIGN.sub(f" {_MINUS}", text)
    return _BETWEEN_DIGITS.sub(" ", _NUMERAL.sub(_by_value, text))


def _by_value(numeral: re.Match[str]) -> str:
    # As text: a float would lose digits, and int() refuses long ones.
    number = _NUMBER.fullmatch(numeral[0])
    if not number:
        return numeral[0].replace(".", " ").replace(",", " ")
    whole = number["whole"].replace(",", "") or "0"
    fraction = (number["fraction"] or "").rstrip("0")
    return f"{whole}{_POINT}{fraction}" if fraction else whole


_FONTS = "text|textbf|textit|textrm|textsf|texttt|textnormal|mathrm|mathbf|mathit|mathsf|mathtt|mbox|emph|operatorname"
# The first sign is tested once more behind each group, because a search for one of three characters is five times as
# fast as one for four alternatives. A doubled backslash is a line break, but not before `boxed`: models write it where
# they escape once too often.
_TEX = re.compile(
    rf"""[\\{{}}](?:
    (?<=\\)(?: (?P<box>(?:boxed|fbox)\s*\{{) | (?P<font>(?:{_FONTS})\s*\{{) | (?P<escape>\\(?!boxed|fbox)|[^A-Za-z\\]) )
    | (?P<open>(?<=\{{)) | (?P<close>(?<=\}})) )""",
    re.VERBOSE,
)
_TEX_SPACES = {"!": "", **dict.fromkeys("\\ ,:;>", " ")}
_TEX_SIGN = re.compile(r"[\\{$]")
_THOUSANDS = re.compile(r"(?<=[0-9])(?:\{,\}|,\\!|\\,)(?=[0-9]{3})")
_MATHS = re.compile(
    r"(?P<open>\$\$?)(?P<body>(?:[^$\\]|\\.)*)(?P=open)|\\\((?P<round>.*)\\\)|\\\[(?P<square>.*)\\\]",
    re.DOTALL,
)


def boxed_answer(text: str) -> str | None:
    r"""What stands in the last complete `\boxed{}` or `\fbox{}`, without TeX around it; None if there is nothing.

    Of nested boxes the inner one counts: a policy whose answer is forced often opens a box within the marker's. A box
    that is never closed does not count. Takes time linear in the text, whatever is in it.
    """
    opened: list[int] = []
    start, end = -1, -1
    for found in _TEX.finditer(text):
        sign = found.lastgroup
        if sign == "close":
            box = opened.pop() if opened else -1
            if box > start:
                start, end = box, found.start()
        elif sign != "escape":
            opened.append(found.end() if sign == "box" else -1)
    content = text[start:end] if end >= 0 else ""
    return (_plain_text(content) if _TEX_SIGN.search(content) else content.strip()) or None


def _plain_text(tex: str) -> str:
    r"""Unwrap `$...$` and font commands such as `\text{}`, and undo escapes; other commands stay as they are."""
    tex = _THOUSANDS.sub(",", tex).strip()
    if maths := _MATHS.fullmatch(tex):
        tex = maths["body"] or maths["round"] or maths["square"] or ""
    pieces: list[str] = []
    closings: list[str] = []
    position = 0
    for found in _TEX.finditer(tex):
        pieces += [tex[position : found.start()], _plain_sign(found, closings)]
        position = found.end()
    return "".join([*pieces, tex[position:]]).strip()


def _plain_sign(found: re.Match[str], closings: list[str]) -> str:
    """What one TeX sign reads as; `closings` remembers what the brace of each open group reads as."""
    if found.lastgroup == "escape":
        return _TEX_SPACES.get(found[0][1], found[0][1])
    if found.lastgroup == "close":
        return closings.pop() if closings else "}"
    is_font = found.lastgroup == "font"
    closings.append("" if is_font else "}")
    return "" if is_font else found[0]


class Verdict(StrEnum):
    """What became of an answer."""

    CORRECT = "correct"
    """The boxed answer equals an accepted answer exactly, after normalisation."""
    WRONG = "wrong"
    """There is a boxed answer, and it equals none; it may still cover one."""
    NO_ANSWER = "no_answer"
    """There is no complete box after the thinking, or there is nothing in it."""


@dataclass(frozen=True, slots=True)
class Grade:
    """The verdict of one answer against the accepted ones; each number is the best over these."""

    prediction: str | None
    """The boxed answer as it was written; None when there is none."""
    verdict: Verdict
    exact_match: bool
    """Equal after normalisation."""
    cover_exact_match: bool
    """An accepted answer's tokens stand in the prediction, side by side and in order."""
    f1: float
    """Harmonic mean of token precision and recall, 0 to 1; 0 if either is yes, no or noanswer and they differ."""
    matched_alias: int | None
    """Position of the first accepted answer that matches exactly; None when none does."""


def grade(answer_text: str, gold_answers: Sequence[str]) -> Grade:
    """Grade the text after the end of the thinking (`coa.protocol.answer_text`); only its boxed answer counts.

    Raises:
        InputError: there is no accepted answer.
    """
    return grade_prediction(boxed_answer(answer_text), gold_answers)


def grade_prediction(prediction: str | None, gold_answers: Sequence[str]) -> Grade:
    """Grade an answer that is out of its box already; None and blank are no answer.

    Raises:
        InputError: there is no accepted answer.
    """
    golds = _read_golds(_as_tuple(gold_answers))
    text = normalise(prediction) if prediction else ""
    if not text:
        return Grade(None, Verdict.NO_ANSWER, False, False, 0.0, None)
    matched = next((i for i, gold in enumerate(golds) if gold.text == text), None)
    if matched is not None:
        return Grade(prediction, Verdict.CORRECT, True, True, 1.0, matched)
    covers = any(gold.text and f" {gold.text} " in f" {text} " for gold in golds)
    return Grade(prediction, Verdict.WRONG, False, covers, _best_f1(text, golds), None)


class _Gold(NamedTuple):
    text: str
    """Normalised; empty for a blank alias, which nothing matches."""
    tokens: tuple[str, ...]
    vocabulary: frozenset[str]


def _as_tuple(gold_answers: Sequence[str]) -> tuple[str, ...]:
    if isinstance(gold_answers, str):
        raise InputError(
            "the accepted answers must be a sequence of texts",
            expected=f"({gold_answers!r},)",
            got=repr(gold_answers),
        )
    return tuple(gold_answers)


@lru_cache(
    maxsize=65_536
)  # every rollout of a question, and every turn of reinforcement learning, meets them again
def _read_golds(gold_answers: tuple[str, ...]) -> tuple[_Gold, ...]:
    texts = [normalise(gold) for gold in gold_answers]
    if not any(texts):
        raise InputError(
            "a question has no accepted answer",
            got=repr(gold_answers),
            fix="give it a gold answer, or leave it out",
        )
    return tuple(_Gold(text, tuple(text.split()), frozenset(text.split())) for text in texts)


def _best_f1(text: str, golds: Sequence[_Gold]) -> float:
    if text in CLOSED_ANSWERS:
        return 0.0  # no gold equals it, or there would be no need to compare tokens
    tokens = text.split()
    # Most wrong answers share no token with the gold: they are spared the counting.
    near = [
        gold.tokens
        for gold in golds
        if gold.text not in CLOSED_ANSWERS and not gold.vocabulary.isdisjoint(tokens)
    ]
    counts = Counter(tokens) if near else Counter()
    return max(
        (2 * (counts & Counter(gold)).total() / (len(tokens) + len(gold)) for gold in near),
        default=0.0,
    )
