"""Tell whether a wrong answer says the same as an accepted one, which a strict grader may miss.

Nothing here makes an answer right: the grade stays, and the row is put where people look first.
"""

import re
import unicodedata
from collections.abc import Iterable
from itertools import pairwise

from coa.records.grading import normalise
from curate.diagnosis.queries import content_words, spans_most, stems
from curate.diagnosis.same_names import date_of, in_one_way, with_countries

_CLOSED = {"yes": "yes", "no": "no", "true": "yes", "false": "no", "noanswer": "noanswer"}
_SUFFIXES = frozenset({"jr", "sr", "ii", "iii"})
_TITLES = re.compile(
    r"(?:(?:vice|former|first|prime) )?(?:president|king|queen|prince|princess|minister|emperor|"
    r"sir|dame|lord|lady|dr|professor|saint|senator|governor|general|captain) (?=\w)"
)
_POSSESSIVE = re.compile(r"['’]s\b")  # noqa: RUF001
_HEAD_END = re.compile(r",|\bin\b")
_AND = re.compile(r"\band\b")
_BEFORE_BRACKET = 120
"""The name that a bracket explains is among so many characters before it."""
_CALLED = "(?:known as|known simply as|short for|abbreviated as|nicknamed|also called)"
"""Words between two names of the same thing."""
_ROLES = (
    "member|singer|vocalist|frontman|frontwoman|guitarist|bassist|drummer|keyboardist|rapper|"
    "leader|founder|co founder|cofounder|half|brand|brands|trademark|trade name"
)
_BELONGS = f"(?:{_ROLES})(?: (?:of|for|in|from|with|by|owned by|made by|belonging to))+"
"""Words between somebody and the band, or a brand and the firm, that answers a question as well."""
_HAS = "(?:fronted by|led by|headed by|formed by|founded by|whose (?:brand|brands) (?:is|are))"
_MIN_WORDS = 2
"""The least number of words of a name with first and last part."""
_MAX_NAME = 5
"""The greatest number of words of a name; longer answers are descriptions."""
_SENTENCE = 2
"""An answer of so many times the accepted one's words may be a sentence around it."""
_MOST = 2 / 3
"""A sentence around an accepted answer holds such a share of its words."""
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


def says_the_same(
    answer: str, accepted: str, question: str = "", texts: Iterable[str] = ()
) -> bool:
    """Tell whether an answer is a form of an accepted one, a part of it, or a sentence around it.

    A sentence that names the accepted answer to compare with it or to rule it out says another
    thing, and so does one that gives no answer (`names_without_giving`). Nationalities count as
    countries, short first names, postal codes and numbers in words as what they stand for; accents
    and the order of a date are free.

    Words of the question count for nothing: `Karakoram` says `Karakoram mountain range` where a
    range is asked for, and `film` says nothing of `erotic thriller film` where it is asked whether
    it was a film. `texts` are the policy's thoughts and what it was shown: `answer (accepted)` or
    `answer, known as accepted` in them makes the two one. So does `answer, the singer of accepted`,
    or `accepted, a brand of answer`, where the question names neither, nor asks for a singer.
    """
    question = normalise(question)
    ours = normalise(_POSSESSIVE.sub("", answer))
    theirs = normalise(_POSSESSIVE.sub("", accepted))
    if ours in _CLOSED or theirs in _CLOSED:
        return _CLOSED.get(ours) == _CLOSED.get(theirs)
    if not ours or not theirs or names_without_giving(answer, accepted, question):
        return False
    if date_of(ours) is not None and date_of(theirs) is not None:
        return date_of(ours) == date_of(theirs)
    if _is_another_form(ours, theirs, question):
        return True
    our_countries = with_countries(ours)
    their_countries = with_countries(theirs)
    if (our_countries, their_countries) != (ours, theirs):
        question_countries = with_countries(question)
        if _is_another_form(our_countries, their_countries, question_countries):
            return True
    if _is_another_form(in_one_way(_plain(ours)), in_one_way(_plain(theirs)), question):
        return True
    if _TITLES.match(theirs) and _is_named(_TITLES.sub("", theirs, count=1), ours):
        return True
    if _head(answer) == _head(accepted) or _is_described(answer, accepted):
        return True
    if len(answer) > _BEFORE_BRACKET:
        return False
    for text in texts:
        if _is_bracketed(text, answer, accepted) or _is_called(text, ours, theirs, question):
            return True
    return False


def _is_another_form(ours: str, theirs: str, question: str) -> bool:
    """Tell whether one of two normalised answers is a form or a part of the other, or around it."""
    words = content_words(theirs)
    is_long = len(ours.split()) >= _SENTENCE * len(theirs.split())
    if is_long and len(words) >= _MIN_WORDS and spans_most(ours, words, _MOST):
        return True  # a longer answer holds most words of the accepted one, near each other
    return (
        _is_spelt_alike(ours, theirs)
        or _is_short_name(ours, theirs)
        or _has_same_numbers(ours, theirs)
        or _is_abbreviated(ours, theirs)
        or _is_item(ours, theirs)
        or _is_part(ours, theirs, question)
    )


def _is_part(answer: str, accepted: str, question: str) -> bool:
    """Tell whether the accepted answer has every word, in some form, that the answer adds.

    Words of the question are not added ones. An answer of several words that adds none is a name
    from the question: it may be a part of the same name.
    """
    own = content_words(answer)
    added = own - content_words(question)
    if not added:
        return len(own) >= _MIN_WORDS and own <= content_words(accepted)
    return stems(added) <= stems(content_words(accepted))


def _is_spelt_alike(answer: str, accepted: str) -> bool:
    """Tell whether only spaces and accents differ: acid house, acid-house."""
    ours = _letters_and_digits(answer)
    return bool(ours) and ours == _letters_and_digits(accepted)


def _letters_and_digits(text: str) -> str:
    return "".join(character for character in _plain(text) if character.isalnum())


def _plain(text: str) -> str:
    """Remove accents."""
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def _is_short_name(answer: str, accepted: str) -> bool:
    """Tell whether two names differ by a short first name and the words between.

    Ed Roland, Edgar Eugene Roland Jr.
    """
    ours = _name_words(answer)
    theirs = _name_words(accepted)
    if min(len(ours), len(theirs)) < _MIN_WORDS or max(len(ours), len(theirs)) > _MAX_NAME:
        return False
    short_first, long_first = sorted((ours[0], theirs[0]), key=len)
    short_last, long_last = sorted((ours[-1], theirs[-1]), key=len)
    if not short_first.isalpha() or not short_last.isalpha():
        return False
    return long_first.startswith(short_first) and long_last.endswith(short_last)


def _name_words(name: str) -> list[str]:
    return [word for word in name.split() if word not in _SUFFIXES]


def _has_same_numbers(answer: str, accepted: str) -> bool:
    """Tell whether numbers differ by left-out digits only: 1861-65, 1861-1865."""
    ours = answer.split()
    theirs = accepted.split()
    if len(ours) != len(theirs) or len(ours) < 2:
        return False
    for pair in zip(ours, theirs, strict=True):
        short, long = sorted(pair, key=len)
        is_number = short.isdigit() and long.isdigit() and len(short) > 1
        if not is_number or not long.endswith(short):
            return False
    return True


def _is_abbreviated(answer: str, accepted: str) -> bool:
    """Tell whether one has the first letters of words of the other: United States, US.

    Once these words are abbreviated, one must be the other or a part of it. Only the first
    abbreviation that fits is tried.
    """
    ours = answer.split()
    theirs = accepted.split()
    for long, short in ((ours, theirs), (theirs, ours)):
        for name in short:
            if not name.isalpha() or not _MIN_WORDS <= len(name) <= _MAX_NAME:
                continue
            shortened = _abbreviate(long, name)
            if shortened is not None:
                return shortened <= set(short) or set(short) <= shortened
    return False


def _abbreviate(words: list[str], name: str) -> set[str] | None:
    """Replace the first words whose first letters make a name by it; None where none do.

    Only the beginning of a long answer is searched.
    """
    num_letters = len(name)
    num_searched = min(len(words), 2 * _MAX_NAME)
    for start in range(num_searched - num_letters + 1):
        end = start + num_letters
        letters = "".join(word[0] for word in words[start:end])
        if letters == name:
            return {*words[:start], name, *words[end:]}
    return None


def _is_item(answer: str, accepted: str) -> bool:
    """Tell whether one answer names several things and the other one of them.

    Paul Stookey, Yarrow and Stookey; interest magazine and lifestyle magazine, women's interest
    magazine.
    """
    accepted_items = _AND.split(accepted)
    if len(accepted_items) > 1 and len(answer.split()) <= _MAX_NAME:
        ours = content_words(answer)
        for item in accepted_items:
            item_words = content_words(item)
            if item_words and item_words <= ours:
                return True
    our_items = _AND.split(answer)
    if len(our_items) == 1:
        return False
    theirs = content_words(accepted)
    for item in our_items:
        item_words = content_words(item)
        if len(item_words) >= _MIN_WORDS and item_words <= theirs:
            return True
    return False


def _is_described(answer: str, accepted: str) -> bool:
    """Tell whether the accepted answer is a part of the name given, and a description of it.

    Makoto Koshinaka; Makoto, born July 15, 1980.
    """
    name, comma, _ = accepted.partition(",")
    theirs = content_words(name)
    is_name = len(answer.split()) <= _MAX_NAME and name[:1].isupper()
    return bool(comma and theirs) and is_name and theirs <= content_words(answer)


def _head(text: str) -> str:
    """Cut off the place in which a place lies: Annonay, France; Annonay in Ardèche."""
    return normalise(_HEAD_END.split(text, maxsplit=1)[0])


def _is_bracketed(text: str, answer: str, accepted: str) -> bool:
    """Tell whether a text gives one as the other's name in brackets."""
    for inner, outer in ((accepted, answer), (answer, accepted)):
        if f"({inner})".lower() not in text.lower():
            continue
        before = text.lower().partition(f"({inner})".lower())[0]
        if normalise(before[-_BEFORE_BRACKET:]).endswith(normalise(outer)):
            return True
    return False


def _is_called(text: str, answer: str, accepted: str, question: str) -> bool:
    """Tell whether a line of a text says that one is called the other, or is a part of it.

    `OSRIC, short for Old School ...`; `Dave Grohl is the singer of the Foo Fighters`.
    """
    asks_for_part = re.search(rf"\b(?:{_ROLES})s?\b", question) is not None
    are_hidden = not _is_named(answer, question) and not _is_named(accepted, question)
    lowered = text.lower()
    if answer.split()[0] not in lowered or accepted.split()[0] not in lowered:
        return False
    for line in text.splitlines():
        norm = normalise(line)
        if answer not in norm or accepted not in norm:
            continue
        for one, other in ((answer, accepted), (accepted, answer)):
            called = rf"\b{re.escape(one)} (?:\S+ ){{0,8}}{_CALLED} {re.escape(other)}\b"
            if re.search(called, norm):
                return True
            if not are_hidden or asks_for_part:
                continue
            for words_between in (_BELONGS, _HAS):
                near = rf"\b{re.escape(one)} (?:\S+ ){{0,8}}{words_between}"
                if re.search(rf"{near} (?:\S+ ){{0,3}}{re.escape(other)}\b", norm):
                    return True
    return False


def _is_named(name: str, question: str) -> bool:
    """Tell whether a normalised question has a normalised name as whole words."""
    return f" {name} " in f" {question} "


def names_without_giving(answer: str, accepted: str, question: str = "") -> bool:
    """Tell whether an answer names an accepted one without giving it.

    It compares it, rules it out, or gives none: `Ian McEwan has more skills than Langston Hughes`
    is not a form of `Langston Hughes`, and neither is `I don't know whether it was Langston
    Hughes`. What such words do not decide is left to other rules.
    """
    said = _lowered(answer[:_MAX_CHARS])
    name = _lowered(accepted)
    if not name or said == name:
        return False
    around = re.split(rf"(?<!\w){re.escape(name)}(?!\w)", said)
    if _NO_ANSWER.search(" ".join(around)) and not _NO_ANSWER.search(name):
        return True
    if len(around) == 1:
        return False
    for before, after in pairwise(around):
        start = before.strip(" ,;:\"'()")
        is_possessive = re.match(r"'s? \w", after) is not None
        if not (is_possessive or _RULED_OUT.search(start) or _ANOTHER.search(start)):
            # It may compare by another word than the question: fewer instead of more.
            asked = set(_COMPARED.findall(_lowered(question)))
            compared = set(_COMPARATIVE.findall(" ".join(around)))
            return bool(asked and compared) and asked.isdisjoint(compared)
    return True


def _lowered(text: str) -> str:
    """Write a text in lower case with single spaces; apostrophes stay, they mark possessives."""
    return " ".join(text.translate(_APOSTROPHES).lower().split())
