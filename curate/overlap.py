"""Texts against evaluation questions: which question is one of theirs, and which text holds a telling part of one.

Two questions are equal when `question_key` is, and near as `coa.near_questions` says.

A text overlaps with an evaluation question when they share a run of words that holds a whole name. Runs of eight words
are the custom (s1, Open-R1 and Tulu 3 screen so); the name is ours: multi-hop questions share boilerplate of any length
("what is the name of the director of the film that"), and that two texts ask in the same way about different things
leaks nothing. Nearness is asked of questions only: a sentence that a policy wrote is compared by its runs.

A name is a row of capitalised words, of which the first one does not begin a sentence unless it is in capitals. A name
that the run cuts does not count ("of the seat of the workplace of Orson" of two people called Orson), nor does a number
alone ("what was the population in 2010 of the"). A question in which no word is capitalised does not show its names, as
in Natural Questions: there every run counts. Questions with fewer words than a run are found by equality only.

Memory: the evaluation questions, their words and 24 bytes for each of their runs; nothing is kept of the texts, but the
last 65,536 questions.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coa.near_questions import NearQuestions, question_key
from coa.plain_words import WORD, fold_look_alikes, words
from curate.shingles import Hashes, Rows, hash_words, runs

_QUESTIONS_AT_ONCE = 10_000
_ABBREVIATION = 3
"""Words of up to so many letters before a full stop abbreviate (Mr., St., J.) rather than end a sentence."""
_WITHIN_NAMES = " .-'\N{RIGHT SINGLE QUOTATION MARK}"


class EvaluationQuestion(NamedTuple):
    """A question that a model will be evaluated on."""

    set_name: str
    question_id: str
    question: str


class SharedRun(NamedTuple):
    """Words that stand in a text and in an evaluation question."""

    question: EvaluationQuestion
    words: str


class NearQuestion(NamedTuple):
    """An evaluation question that a question nearly asks."""

    question: EvaluationQuestion
    similarity: float


class Span(NamedTuple):
    """A row of words of a question."""

    first: int
    end: int
    """The word after the last one."""


def names(question: str) -> list[Span]:
    """The names in a question, by the positions of their words in `coa.plain_words.words`; see the module's head."""
    text = fold_look_alikes(question)
    found: list[Span] = []
    end, last = 0, ""
    for i, word in enumerate(WORD.finditer(text)):
        gap = text[end : word.start()]
        begins = not last or "?" in gap or "!" in gap or ("." in gap and len(last) > _ABBREVIATION)
        if _is_capitalised(word[0], begins):
            goes_on = found and found[-1].end == i and not gap.strip(_WITHIN_NAMES)
            first = found.pop().first if goes_on else i
            found.append(Span(first, i + 1))
        end, last = word.end(), word[0]
    return found


def _is_capitalised(word: str, begins: bool) -> bool:
    return word[0].isupper() and word != "I" and (not begins or (len(word) > 1 and word.isupper()))


class EvaluationSets:
    """Evaluation questions, ready to be looked for."""

    def __init__(self, questions: Iterable[EvaluationQuestion], *, run_words: int) -> None:
        """Look for runs of `run_words` words; of equal questions and runs the first one given is named."""
        self._questions = list(questions)
        self._run_words = run_words
        self._by_key: dict[str, int] = {}
        for i, question in enumerate(self._questions):
            if key := question_key(question.question):
                self._by_key.setdefault(key, i)
        self._runs, self._owners, self._starts = self._telling_runs()
        self._near = NearQuestions(
            [question.question for question in self._questions],
            [question.set_name for question in self._questions],
        )
        # Several trajectories ask the same question.
        self._nearest = lru_cache(maxsize=65_536)(self._near.nearest)

    def __len__(self) -> int:
        return len(self._questions)

    @property
    def num_runs(self) -> int:
        """How many different runs with a name the questions have."""
        return len(self._runs)

    def equal(self, question: str) -> EvaluationQuestion | None:
        """The evaluation question that asks the same in the same words."""
        found = self._by_key.get(question_key(question))
        return None if found is None else self._questions[found]

    @property
    def min_similarity(self) -> dict[str, float]:
        """For each set the similarity from which on a question is near one of it."""
        return self._near.min_similarity

    def near(self, question: str) -> NearQuestion | None:
        """Find the evaluation question that is asked with a few words changed, moved, more or less."""
        found = self._nearest(question)
        if found is None:
            return None
        return NearQuestion(self._questions[found.place], found.similarity)

    def shared(self, texts: Sequence[Sequence[str]], single: Rows) -> list[SharedRun | None]:
        """For each text the first run that it shares with an evaluation question.

        `texts` are the words (`coa.plain_words.words`) and `single` their hashes; words are compared where these agree.
        """
        found: list[SharedRun | None] = [None] * len(texts)
        own = runs(single, self._run_words)
        if not len(self._runs) or not len(own.hashes):
            return found
        places = np.minimum(np.searchsorted(self._runs, own.hashes), len(self._runs) - 1)
        for hit in np.flatnonzero(self._runs[places] == own.hashes).tolist():
            row = int(np.searchsorted(own.offsets, hit, side="right")) - 1
            start = hit - int(own.offsets[row])
            run = list(texts[row][start : start + self._run_words])
            if found[row] is None and run == self._run_at(places[hit]):
                found[row] = SharedRun(self._questions[self._owners[places[hit]]], " ".join(run))
        return found

    def _run_at(self, place: int) -> list[str]:
        start = self._starts[place]
        return words(self._questions[self._owners[place]].question)[start : start + self._run_words]

    def _telling_runs(self) -> tuple[Hashes, NDArray[np.int64], NDArray[np.int64]]:
        """The hashes of the telling runs, each once, in ascending order; for each its question and first word."""
        parts = [(np.empty(0, np.uint64), np.empty(0, np.int64), np.empty(0, np.int64))]
        for first in range(0, len(self._questions), _QUESTIONS_AT_ONCE):
            chunk = [
                question.question
                for question in self._questions[first : first + _QUESTIONS_AT_ONCE]
            ]
            own = runs(hash_words([words(text) for text in chunk]), self._run_words)
            owners = own.row_of_each()
            starts = np.arange(len(owners)) - own.offsets[owners]
            is_telling = np.concatenate([self._is_telling(text) for text in chunk])
            parts.append((own.hashes[is_telling], owners[is_telling] + first, starts[is_telling]))
        hashes, owners, starts = (np.concatenate(column) for column in zip(*parts, strict=True))
        unique, place = np.unique(hashes, return_index=True)
        return unique, owners[place], starts[place]

    def _is_telling(self, question: str) -> NDArray[np.bool_]:
        """For each run of a question, whether it holds a whole name, or lies within one."""
        count = max(len(words(question)) - self._run_words + 1, 0)
        if not any(char.isupper() for char in question):
            return np.ones(count, dtype=np.bool_)
        is_telling = np.zeros(count, dtype=np.bool_)
        for first, end in names(question):
            low, high = sorted((first, end - self._run_words))
            is_telling[max(low, 0) : max(high + 1, 0)] = True
        return is_telling
