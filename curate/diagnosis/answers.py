"""A wrong answer and an accepted one to whether they say the same in other words: what a strict grader may miss.

Nothing here makes an answer right: the grade stands, and the row is put where people look first.
"""

import re
import unicodedata
from collections.abc import Iterable

from coa.grading import normalise
from curate.diagnosis.denials import names_without_giving
from curate.diagnosis.queries import content_words, spans_most
from curate.diagnosis.same_names import date_of, with_countries

_CLOSED = {"yes": "yes", "no": "no", "true": "yes", "false": "no", "noanswer": "noanswer"}
_SUFFIXES = frozenset({"jr", "sr", "ii", "iii"})
_POSSESSIVE = re.compile(r"['’]s\b")  # noqa: RUF001
_HEAD_END = re.compile(r",|\bin\b")
_AND = re.compile(r"\band\b")
_BEFORE_BRACKET = 120
"""Characters before a bracket in which the name may stand that it explains."""
_CALLED = "(?:known as|known simply as|short for|abbreviated as|nicknamed|also called)"
"""Between a name and another one of the same."""
_STEM = 5
"""Letters by which forms of a word are alike: Australia, Australian."""
_MIN_WORDS, _MAX_NAME = 2, 5
"""Words of a name; longer answers are descriptions."""
_SENTENCE, _MOST = 2, 2 / 3
"""An answer of so many times the accepted one's words that holds most of them is a sentence around it."""


def says_the_same(
    answer: str, accepted: str, question: str = "", texts: Iterable[str] = ()
) -> bool:
    """Tell whether an answer is another form of an accepted one, a part of it, or a sentence around most of it.

    A sentence that names the accepted answer to compare with it or to rule it out says another thing, and so does one
    that gives no answer (`curate.diagnosis.denials`). Nationalities are countries; the order of a date is free.

    Words of the question count for nothing: `Karakoram` says `Karakoram mountain range` where a range is asked for,
    and `film` says nothing of `erotic thriller film` where it is asked whether it was a film. `texts` are the policy's
    thoughts and what it was shown: `answer (accepted)` or `answer, known as accepted` in them makes the two one.
    """
    question = normalise(question)
    ours, theirs = (normalise(_POSSESSIVE.sub("", text)) for text in (answer, accepted))
    if ours in _CLOSED or theirs in _CLOSED:
        return _CLOSED.get(ours) == _CLOSED.get(theirs)
    if not ours or not theirs or names_without_giving(answer, accepted, question):
        return False
    if date_of(ours) is not None and date_of(theirs) is not None:
        return date_of(ours) == date_of(theirs)
    if _is_another_form(ours, theirs, question):
        return True
    countries = with_countries(ours), with_countries(theirs)
    if countries != (ours, theirs) and _is_another_form(*countries, with_countries(question)):
        return True
    if _head(answer) == _head(accepted):
        return True
    if len(answer) > _BEFORE_BRACKET:
        return False
    return any(
        _is_bracketed(text, answer, accepted) or _is_called(text, ours, theirs) for text in texts
    )


def _is_another_form(ours: str, theirs: str, question: str) -> bool:
    """Whether two normalised answers are forms of one, or one is a part of the other or a sentence around it."""
    forms = (_is_spelt_alike, _is_short_name, _has_same_numbers, _is_abbreviated)
    if any(is_form(ours, theirs) for is_form in forms):
        return True
    is_around = _is_sentence_around(ours, theirs) or _is_item(ours, theirs)
    return is_around or _is_part(ours, theirs, question)


def _is_part(answer: str, accepted: str, question: str) -> bool:
    """Whether every word that the answer adds to the question stands in the accepted one, in some form."""
    added = content_words(answer) - content_words(question)
    return bool(added) and _stems(added) <= _stems(content_words(accepted))


def _stems(words: Iterable[str]) -> set[str]:
    return {word if any(map(str.isdigit, word)) else word[:_STEM] for word in words}


def _is_spelt_alike(answer: str, accepted: str) -> bool:
    """Whether only spaces and accents differ: acid house, acid-house."""
    return bool(_bare(answer)) and _bare(answer) == _bare(accepted)


def _bare(text: str) -> str:
    return "".join(sign for sign in unicodedata.normalize("NFKD", text) if sign.isalnum())


def _is_short_name(answer: str, accepted: str) -> bool:
    """Whether two names differ by a short first name and what stands between: Ed Roland, Edgar Eugene Roland Jr."""
    ours, theirs = (
        [word for word in name.split() if word not in _SUFFIXES] for name in (answer, accepted)
    )
    if min(len(ours), len(theirs)) < _MIN_WORDS or max(len(ours), len(theirs)) > _MAX_NAME:
        return False
    (short, long), (last, whole) = (sorted((ours[i], theirs[i]), key=len) for i in (0, -1))
    return long.startswith(short) and whole.endswith(last) and short.isalpha() and last.isalpha()


def _has_same_numbers(answer: str, accepted: str) -> bool:
    """Whether numbers differ by left-out digits only: 1861-65, 1861-1865."""
    ours, theirs = answer.split(), accepted.split()
    pairs = [sorted(pair, key=len) for pair in zip(ours, theirs, strict=False)]
    is_number = all(word.isdigit() and len(word) > 1 for word in (*ours, *theirs))
    return (
        is_number
        and 1 < len(ours) == len(theirs)
        and all(long.endswith(short) for short, long in pairs)
    )


def _is_abbreviated(answer: str, accepted: str) -> bool:
    """Whether one is the other or a part of it once the first letters of words stand for them: United States, US."""
    for long, short in ((answer.split(), accepted.split()), (accepted.split(), answer.split())):
        for name in (
            word for word in short if _MIN_WORDS <= len(word) <= _MAX_NAME and word.isalpha()
        ):
            size = len(name)
            for i in range(min(len(long), 2 * _MAX_NAME) - size + 1):
                if "".join(word[0] for word in long[i : i + size]) == name:
                    whole = {*long[:i], name, *long[i + size :]}
                    return whole <= set(short) or set(short) <= whole
    return False


def _is_sentence_around(answer: str, accepted: str) -> bool:
    """Whether a longer answer holds most words of the accepted one, near each other."""
    theirs = content_words(accepted)
    is_long = len(answer.split()) >= _SENTENCE * len(accepted.split())
    return is_long and len(theirs) >= _MIN_WORDS and spans_most(answer, theirs, _MOST)


def _is_item(answer: str, accepted: str) -> bool:
    """Whether the answer names one of several things that are accepted together, or names several with one of them.

    Paul Stookey, Yarrow and Stookey; interest magazine and lifestyle magazine, women's interest magazine.
    """
    items = [content_words(item) for item in _AND.split(accepted)]
    is_name = len(items) > 1 and len(answer.split()) <= _MAX_NAME
    if is_name and any(item and item <= content_words(answer) for item in items):
        return True
    ours = [content_words(item) for item in _AND.split(answer)]
    return len(ours) > 1 and any(
        len(item) >= _MIN_WORDS and item <= content_words(accepted) for item in ours
    )


def _head(text: str) -> str:
    """The place before the place that it lies in: Annonay, France; Annonay in Ardèche."""
    return normalise(_HEAD_END.split(text, maxsplit=1)[0])


def _is_bracketed(text: str, answer: str, accepted: str) -> bool:
    """Whether a text gives one as the other's name in brackets."""
    for inner, outer in ((accepted, answer), (answer, accepted)):
        if f"({inner})".lower() not in text.lower():
            continue
        before = text.lower().partition(f"({inner})".lower())[0]
        if normalise(before[-_BEFORE_BRACKET:]).endswith(normalise(outer)):
            return True
    return False


def _is_called(text: str, answer: str, accepted: str) -> bool:
    """Whether a line of a text says that one is called the other: `OSRIC, short for Old School ...`."""
    found = text.lower()
    if any(word not in found for word in (answer.split()[0], accepted.split()[0])):
        return False
    for line in text.splitlines():
        norm = normalise(line)
        if answer not in norm or accepted not in norm:
            continue
        for one, other in ((answer, accepted), (accepted, answer)):
            called = rf"\b{re.escape(one)} (?:\S+ ){{0,8}}{_CALLED} {re.escape(other)}\b"
            if re.search(called, norm):
                return True
    return False
