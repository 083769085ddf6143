"""Judge whether a query was good, by its words and those of the passage it should have found."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

from coa.records.plain_words import WORD
from curate.diagnosis.gold import GoldPassage

_STOP_WORDS_TEXT = """
a an the of in on at to by for from with as and or but is are was were be been being do does did
has have had he she it its they we i you his her their our my this that these those there here what
which who whom whose when where why how name tell can could would should will shall may might must
need find know let me so then not no yes if also about into than same first s
"""
_STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())
_MIN_DESCRIBING = 2
"""A query that cannot name the entity, because it looks for it, needs so many words of the
passage."""
_STEM = 5
"""Forms of a word have so many letters in common: director, directed."""
NAMED_SHARE = 2 / 3
"""Share of a title's words that names it: `Collier Transit` is Collier Area Transit, while half of
a person's name names nobody."""

_OFTEN = 3
"""A query that was asked so many times will find nothing else."""

_MIN_ADDED = 3
"""Number of words from which on a value is long."""
_MOST_ADDED = 0.8
"""Share of a long value's words that a text does not hold by accident."""
_STRETCH = 2
"""Number of words of a text for each word that is looked for in it: little words and a few others
are between them."""


class Query(NamedTuple):
    """One search."""

    step: int
    text: str


class Wanted(NamedTuple):
    """The fact that a query should have found."""

    items: tuple[str, ...]
    """Normalised names of what was to be found."""
    passages: tuple[GoldPassage, ...]
    """The passages that state it."""
    others: tuple[GoldPassage, ...]
    """Other passages under gold titles."""
    topic: frozenset[str]
    """The words of the question and of the thoughts around the query."""


# Passages return again and again; thoughts do not, and must not fill the memory.
@lru_cache(maxsize=4_096)
def content_words(text: str) -> frozenset[str]:
    """List the words that carry a text's meaning, plurals as singulars."""
    return frozenset(_singular(word) for word in WORD.findall(text.lower())) - _STOP_WORDS


def _singular(word: str) -> str:
    is_plural = len(word) > 3 and word.endswith("s") and not word.endswith("ss")
    return word[:-1] if is_plural else word


def stems(words: Iterable[str]) -> set[str]:
    """Shorten words to their stems; those with a digit stay whole."""
    found: set[str] = set()
    for word in words:
        has_digit = any(character.isdigit() for character in word)
        found.add(word if has_digit else word[:_STEM])
    return found


def holds_most(text: str, value: str, question: str) -> bool:
    """Tell whether a text holds most of the words that a long value adds to the question.

    Their order is free, but they must be near each other.
    """
    added = content_words(value) - content_words(question)
    return len(added) >= _MIN_ADDED and spans_most(text, added, _MOST_ADDED)


def spans_most(text: str, wanted: frozenset[str], share: float) -> bool:
    """Tell whether a stretch of text, hardly longer than the wanted words, holds a share of them.

    Words that are far from each other were not said together: they are there by accident.
    """
    needed = share * len(wanted)
    if len(wanted & content_words(text)) < needed:
        return False
    own = [_singular(word) for word in WORD.findall(text.lower())]
    places = [i for i, word in enumerate(own) if word in wanted]
    longest = _STRETCH * len(wanted) + 1
    within: Counter[str] = Counter()
    start = 0
    for place in places:
        within[own[place]] += 1
        while place - places[start] >= longest:
            within[own[places[start]]] -= 1
            start += 1
        if len(+within) >= needed:
            return True
    return False


def asking_words(questions: Iterable[str]) -> frozenset[str]:
    """List the words by which questions ask for things: those that are not names."""
    words: set[str] = set()
    for question in questions:
        for word in WORD.findall(question)[1:]:
            if word.islower():
                words.add(_singular(word))
    return frozenset(words) - _STOP_WORDS


def repeated_in_vain(queries: Sequence[Query]) -> Query | None:
    """Find the first repetition of a query that was repeated, in place of others.

    The repetitions are at least half of all searches. Only case and punctuation may differ: with
    other words a query is another attempt.
    """
    asked: dict[tuple[str, ...], list[Query]] = {}
    for query in queries:
        asked.setdefault(tuple(WORD.findall(query.text.lower())), []).append(query)
    for same in asked.values():
        if len(same) >= _OFTEN and 2 * len(same) >= len(queries):
            return same[1]
    return None


def is_good(query: str, wanted: Wanted, asking: frozenset[str]) -> bool:
    """Tell whether a query names the entity and something that is asked about it.

    Without passages the query is judged by the topic alone. A word that neither the topic nor the
    passage has counts as a paraphrase, unless another passage about the entity has it, or other
    questions ask by it (`asking`): then it asks for something else.
    """
    words = content_words(query)
    if not wanted.passages:
        return len(words & wanted.topic) >= _MIN_DESCRIBING
    return any(_would_find(words, passage, wanted, asking) for passage in wanted.passages)


def _would_find(
    words: frozenset[str], passage: GoldPassage, wanted: Wanted, asking: frozenset[str]
) -> bool:
    """Tell whether a query with these words would find a passage."""
    stated = content_words(passage.norm)
    entity = content_words(passage.title)
    if passage.title in wanted.items or not entity <= wanted.topic:
        # The query looks for the entity, so it cannot name it.
        describes = len(words & stated & wanted.topic) >= _MIN_DESCRIBING
        return describes or _asks_about_another(words, wanted)
    asked = words - entity
    if len(words & entity) < NAMED_SHARE * len(entity) or not asked:
        return False
    if not asked.isdisjoint(wanted.topic | stated):
        return True
    if not asked.isdisjoint(asking):
        return False
    for other in wanted.others:
        # Some form of an asked word is stated in another passage about the entity.
        shared = stems(content_words(other.norm)) & stems(asked)
        if other.title == passage.title and shared:
            return False
    return True


def _asks_about_another(words: frozenset[str], wanted: Wanted) -> bool:
    """Tell whether a query names another gold title, and asks something of the topic about it."""
    for other in wanted.others:
        if other.title in wanted.items:
            continue
        name = content_words(other.title)
        if name <= words and not (words - name).isdisjoint(wanted.topic):
            return True
    return False
