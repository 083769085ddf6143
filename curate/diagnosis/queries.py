"""A query to whether it was a good one, judged by its words against those of the passage it should have found."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from coa.plain_words import WORD
from curate.diagnosis.gold import GoldPassage

_STOP_WORDS_TEXT = """
a an the of in on at to by for from with as and or but is are was were be been being do does did has have had
he she it its they we i you his her their our my this that these those there here what which who whom whose
when where why how name tell can could would should will shall may might must need find know let me so then
not no yes if also about into than same first s
"""
_STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())
_MIN_DESCRIBING = 2
"""Words of the passage that a query needs which cannot name the entity, because the entity is what it looks for."""
_STEM = 5
"""Letters by which forms of a word are alike: director, directed."""
NAMED_SHARE = 2 / 3
"""Of a title's words that name it: `Collier Transit` is Collier Area Transit, half of a person's name is nobody."""

_MIN_ADDED, _MOST_ADDED = 3, 0.8
"""Words of a long value, and the part of them that is no accident."""
_STRETCH = 2
"""Words of a text for each word that is looked for in it: little words and a few others stand between."""


class Query(NamedTuple):
    """One search."""

    step: int
    text: str


class Wanted(NamedTuple):
    """What a query should have found."""

    items: tuple[str, ...]
    """What was to be told, normalised."""
    passages: tuple[GoldPassage, ...]
    """That tell it."""
    others: tuple[GoldPassage, ...]
    """Other passages under gold titles."""
    topic: frozenset[str]
    """The words of the question and of the thoughts around the query."""


@lru_cache(
    maxsize=4_096
)  # passages return again and again; thoughts do not, and must not fill the memory
def content_words(text: str) -> frozenset[str]:
    """The words that carry a text's meaning, plurals as singulars."""
    return frozenset(_singular(word) for word in WORD.findall(text.lower())) - _STOP_WORDS


def _singular(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def holds_most(text: str, value: str, question: str) -> bool:
    """Whether a text holds most of what a long value adds to the question, in whatever order, near each other."""
    added = content_words(value) - content_words(question)
    return len(added) >= _MIN_ADDED and spans_most(text, added, _MOST_ADDED)


def spans_most(text: str, wanted: frozenset[str], share: float) -> bool:
    """Whether a share of the wanted words stands in a stretch of text hardly longer than they are.

    Words that stand far from each other were not said together: they are there by accident.
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
    """The words by which questions ask for things: what they hold beside names."""
    words = (word for text in questions for word in WORD.findall(text)[1:] if word.islower())
    return frozenset(map(_singular, words)) - _STOP_WORDS


def is_good(query: str, wanted: Wanted, asking: frozenset[str]) -> bool:
    """Whether a query names the entity and something that is asked of it.

    Without passages the query is judged by the topic alone. A word that stands nowhere near counts as a paraphrase,
    unless another passage about the entity has it, or other questions ask by it (`asking`): then it asks for theirs.
    """
    words = content_words(query)
    if not wanted.passages:
        return len(words & wanted.topic) >= _MIN_DESCRIBING
    return any(_would_find(words, passage, wanted, asking) for passage in wanted.passages)


def _would_find(
    words: frozenset[str], passage: GoldPassage, wanted: Wanted, asking: frozenset[str]
) -> bool:
    told = content_words(passage.norm)
    entity = content_words(passage.title)
    if passage.title in wanted.items or not entity <= wanted.topic:
        named = (
            content_words(other.title) for other in wanted.others if other.title not in wanted.items
        )
        by_name = any(
            name <= words and not (words - name).isdisjoint(wanted.topic) for name in named
        )
        return by_name or len(words & told & wanted.topic) >= _MIN_DESCRIBING
    asked = words - entity
    if len(words & entity) < NAMED_SHARE * len(entity) or not asked:
        return False
    if not asked.isdisjoint(wanted.topic | told):
        return True
    elsewhere = (other for other in wanted.others if other.title == passage.title)
    return asked.isdisjoint(asking) and not any(
        _speaks_of(content_words(other.norm), asked) for other in elsewhere
    )


def _speaks_of(told: frozenset[str], asked: frozenset[str]) -> bool:
    stems = {word[:_STEM] for word in told}
    return any(word[:_STEM] in stems for word in asked)
