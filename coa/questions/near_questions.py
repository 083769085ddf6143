"""Find the evaluation question that asks nearly the same as a given one, with edited words.

Two questions are near when they share most of their words, in any order, and most of the weight of
these words. A word is the heavier, the fewer questions have it. Questions that share only their
form ("are both directors from the same country") differ in their names, and names are rare.
A long word that no question has counts as one from which it differs by one typing mistake. A
question that holds all words of another one, and hardly any others, is near it whatever they weigh.

The limit depends on the set of questions. Real questions seldom resemble each other, and sharing
70% is enough. Questions made by templates differ in one word and mean another thing. So each set is
measured by itself: its limit is the smallest step at which at most one in fifty of its questions is
near another one of the set. docs/pipeline.md says which edited questions are found.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from sys import intern
from typing import NamedTuple

from coa.records.grading import normalise
from coa.records.plain_words import fold_look_alikes, words

_SPACE = re.compile(r"(?<![0-9]) | (?![0-9])")
_MIN_SHARED_WORDS = 0.75
"""The smallest share of common words of two near questions (Dice). It keeps questions apart that
share only one very rare name."""
_STEPS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
"""Limits of the similarity; at 1 only the order of the words may differ."""
_MAX_SHARE_ALIKE = 0.02
_MAX_SAMPLE = 1000
"""Questions of a set that are compared with all of it."""
_ADDED_PER_WORD = 1 / 6
"""A question that holds another one adds so many words for each of its words, or one."""
_MIN_TYPED = 5
"""In words of so many letters typing mistakes are looked for; shorter ones would be others."""


class Near(NamedTuple):
    """The question that is nearest to another one."""

    place: int
    """Its position among the questions that were given."""
    similarity: float
    """The common share of the words' weight (Dice); 1 where only the order of the words differs."""


def question_key(question: str) -> str:
    """Return a question without case, articles, punctuation, accents and spaces.

    Spaces between digits stay. Numbers compare by value and Unicode is folded, as
    `coa.records.grading.normalise` and `coa.records.plain_words` do. Empty where nothing is asked.
    """
    # Folding may bring to light an article that was spelt with a look-alike letter.
    plain = normalise(fold_look_alikes(normalise(question)))
    return _SPACE.sub("", plain)


class _Asked(NamedTuple):
    """The words of a question that is looked for."""

    num_words: int
    known: tuple[str, ...]
    """Words that some question has, or, of one of the index, all its words."""
    mistyped: tuple[tuple[str, ...], ...] = ()
    """For each other word those that it may have been mistyped for."""


class NearQuestions:
    """An index of questions of one or more sets, which finds the nearest one.

    Memory is linear in the questions. For each question its words are kept, and an index of its few
    rarest words, of which every near question must share one (prefix filtering).
    """

    def __init__(self, questions: Sequence[str], set_names: Sequence[str]) -> None:
        """Index the questions; `set_names` names the set of each."""
        self._sets = list(set_names)
        self._words = [_numbered_words(question) for question in questions]
        self._counts: Counter[str] = Counter()
        for own in self._words:
            self._counts.update(own)
        self._words = [self._by_rarity(own) for own in self._words]
        self._totals = [self._weight(own) for own in self._words]
        self.min_similarity = dict.fromkeys(self._sets, _STEPS[0])
        """For each set, the least similarity of a question that is near one of the set."""
        self._index = self._rare_words()
        for name in self.min_similarity:
            self.min_similarity[name] = self._measure(name)
        self._index = self._rare_words()
        self._by_rarest: dict[str, list[int]] = {}
        for place, words_of_place in enumerate(self._words):
            if words_of_place:
                self._by_rarest.setdefault(words_of_place[0], []).append(place)
        self._mistyped: dict[str, list[str]] = {}
        for word in self._counts:
            if _may_be_mistyped(word):
                for less in _one_letter_less(word):
                    self._mistyped.setdefault(less, []).append(word)

    def nearest(self, question: str) -> Near | None:
        """Return the nearest question, or None where none is near enough."""
        asked = self._read(question)
        best: Near | None = self._held(asked)
        for near in self._near(asked):
            if near.similarity < self._limit(near.place):
                continue
            # Of equally near questions the first one counts: they come in order.
            if best is None or near.similarity > best.similarity:
                best = near
        return best

    def _read(self, question: str) -> _Asked:
        """Split a question into words, and find what unknown ones were mistyped for."""
        numbered = _numbered_words(question)
        known: list[str] = []
        mistyped: list[tuple[str, ...]] = []
        for word in numbered:
            if word in self._counts:
                known.append(word)
                continue
            meant: set[str] = set()
            if _may_be_mistyped(word, _MIN_TYPED - 1):
                for less in _one_letter_less(word):
                    meant.update(self._mistyped.get(less, ()))
            mistyped.append(tuple(sorted(meant)))
        return _Asked(len(numbered), tuple(known), tuple(mistyped))

    def _held(self, asked: _Asked) -> Near | None:
        """Find the longest question whose words the asked one holds, with hardly any others."""
        mine = set(asked.known).union(*asked.mistyped)
        longest = -1
        for word in sorted(mine):
            for place in self._by_rarest.get(word, ()):
                theirs = self._words[place]
                most_added = max(1, int(_ADDED_PER_WORD * len(theirs)))
                is_short = asked.num_words - len(theirs) > most_added
                if is_short or not mine.issuperset(theirs):
                    continue
                if longest < 0 or len(theirs) > len(self._words[longest]):
                    longest = place
        if longest < 0:
            return None
        theirs = self._words[longest]
        return Near(longest, 2 * len(theirs) / (asked.num_words + len(theirs)))

    def _limit(self, place: int) -> float:
        return self.min_similarity[self._sets[place]]

    def _near(self, asked: _Asked) -> Iterator[Near]:
        """Find the questions that share most words with one, and how similar each is."""
        mine = set(asked.known)
        own = self._by_rarity(tuple(mine.union(*asked.mistyped)))
        if not own:
            return
        unknown = self._weight_of("")
        known_total = self._weight(asked.known)
        least = known_total
        for meant in asked.mistyped:
            least += min(map(self._weight_of, meant), default=unknown)
        smallest = min(self.min_similarity.values(), default=1.0)
        places: set[int] = set()
        for word in self._prefix(own, least, smallest):
            places.update(self._index.get(word, ()))
        for place in sorted(places):
            theirs = self._words[place]
            shared = mine.intersection(theirs)
            total = known_total
            for meant in asked.mistyped:
                found = [word for word in meant if word in theirs and word not in shared]
                shared.update(found[:1])
                total += self._weight_of(found[0]) if found else unknown
            num_words = asked.num_words + len(theirs)
            if 2 * len(shared) >= _MIN_SHARED_WORDS * num_words:
                weight = total + self._totals[place]
                yield Near(place, 2 * self._weight(shared) / weight)

    def _rare_words(self) -> dict[str, list[int]]:
        """Map each word to the questions among whose rarest words it is."""
        index: dict[str, list[int]] = {}
        first: dict[tuple[str, tuple[str, ...]], int] = {}
        for place, own in enumerate(self._words):
            # Of equal questions in a set only the first is indexed: others would only cost time.
            if first.setdefault((self._sets[place], own), place) != place:
                continue
            for word in self._prefix(own, self._totals[place], self._limit(place)):
                index.setdefault(word, []).append(place)
        return index

    def _prefix(self, own: Sequence[str], total: float, limit: float) -> Sequence[str]:
        """Return the rarest words of which every near question must share one.

        Without them the other words weigh too little for the limit. `total` is the least weight of
        the question; `own` may weigh more, where several words may have been meant.

        Of two questions with weights A and B that share W, 2W >= limit (A + B) and B >= W give
        W >= limit A / (2 - limit).
        """
        needed = limit * total / (2 - limit) - 1e-9
        left = self._weight(own)
        for k, word in enumerate(own):
            if left < needed:
                return own[:k]
            left -= self._weight_of(word)
        return own

    def _by_rarity(self, own: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(own, key=lambda word: (self._counts.get(word, 0), word)))

    def _weight(self, own: Iterable[str]) -> float:
        return math.fsum(self._weight_of(word) for word in own)

    def _weight_of(self, word: str) -> float:
        # A word that no question has weighs as much as one that one question has.
        count = max(self._counts.get(word, 0), 1)
        return math.log((len(self._sets) + 1) / (count + 0.5))

    def _measure(self, name: str) -> float:
        """Find the smallest step at which hardly any question of a set is near another of it."""
        places = [place for place, own in enumerate(self._sets) if own == name]
        sample = places[:: math.ceil(len(places) / _MAX_SAMPLE)]
        nearest = [self._nearest_sibling(place) for place in sample]
        # Two questions may always be alike: one pair of copies says nothing about a whole set.
        allowed = max(_MAX_SHARE_ALIKE * len(sample), 2)
        for step in _STEPS:
            if sum(similarity >= step for similarity in nearest) <= allowed:
                return step
        return _STEPS[-1]

    def _nearest_sibling(self, place: int) -> float:
        """Return the similarity to the nearest question of the set that has other words."""
        own = self._words[place]
        nearest = 0.0
        for near in self._near(_Asked(len(own), own)):
            is_in_set = self._sets[near.place] == self._sets[place]
            if is_in_set and self._words[near.place] != own:
                nearest = max(nearest, near.similarity)
        return nearest


def _may_be_mistyped(word: str, least: int = _MIN_TYPED) -> bool:
    """Tell whether a word is long and has letters alone: one other digit makes another year."""
    return len(word) >= least and word.isalpha()


def _one_letter_less(word: str) -> set[str]:
    """List a word and what is left of it without one letter: two forms of a word share one."""
    return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


def _numbered_words(question: str) -> tuple[str, ...]:
    """Split a question into words, and number repeated ones: its second `of` counts as `of 2`."""
    seen: Counter[str] = Counter()
    numbered = []
    for word in words(question):
        seen[word] += 1
        numbered.append(intern(word if seen[word] == 1 else f"{word} {seen[word]}"))
    return tuple(numbered)
