"""Compare texts with evaluation questions: find the runs of words that they share.

A text overlaps with an evaluation question when they share a run of words that holds a whole name;
such a run is called telling. Runs of eight words are usual (s1, Open-R1 and Tulu 3 screen this
way). The name is our addition: multi-hop questions share boilerplate of any length ("what is the
name of the director of the film that"), and two texts that ask in the same way about different
things leak nothing. Only questions are tested for nearness; what a policy wrote is compared by its
runs.

A name is a sequence of capitalised words, of which the first one does not begin a sentence unless
it is in capitals. A name that the run cuts does not count ("of the seat of the workplace of Orson"
of two people called Orson), nor does a number alone ("what was the population in 2010 of the"). A
question in which no word is capitalised does not show its names, as in Natural Questions: there
every run counts. Questions with fewer words than a run are found by equality only.

Memory holds the evaluation questions, their words and 24 bytes for each of their runs; of the texts
it holds only the last 65,536 questions.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from coa.questions.evaluation_questions import EvaluationQuestion, EvaluationQuestions
from coa.records.plain_words import WORD, fold_look_alikes, words
from curate.screening.shingles import Hashes, Rows, hash_words, runs

_QUESTIONS_AT_ONCE = 10_000
_ABBREVIATION = 3
"""A word of up to so many letters before a full stop is an abbreviation (Mr., St., J.): it does not
end a sentence."""
_WITHIN_NAMES = " .-'\N{RIGHT SINGLE QUOTATION MARK}"


class SharedRun(NamedTuple):
    """Words that a text shares with an evaluation question."""

    question: EvaluationQuestion
    words: str


class Span(NamedTuple):
    """A sequence of words of a question."""

    first: int
    end: int
    """Index of the word after the last one."""


def names(question: str) -> list[Span]:
    """Find the names in a question; the docstring of the module says what a name is.

    Returns:
        For each name the positions of its words in `coa.records.plain_words.words`.
    """
    text = fold_look_alikes(question)
    found: list[Span] = []
    last_end = 0
    last_word = ""
    for i, word in enumerate(WORD.finditer(text)):
        gap = text[last_end : word.start()]
        ends = "?" in gap or "!" in gap or ("." in gap and len(last_word) > _ABBREVIATION)
        begins_sentence = not last_word or ends
        is_capitalised = word[0][0].isupper() and word[0] != "I"
        is_in_capitals = len(word[0]) > 1 and word[0].isupper()
        if is_capitalised and (is_in_capitals or not begins_sentence):
            continues = found and found[-1].end == i and not gap.strip(_WITHIN_NAMES)
            first = found.pop().first if continues else i
            found.append(Span(first, i + 1))
        last_end = word.end()
        last_word = word[0]
    return found


class EvaluationSets(EvaluationQuestions):
    """Evaluation questions, which are found by the runs of words in a text, too."""

    def __init__(self, questions: Iterable[EvaluationQuestion], *, run_words: int) -> None:
        """Index the questions, and their runs of `run_words` words.

        Of equal questions, and of equal runs, the first one given is found.
        """
        super().__init__(questions)
        self._run_words = run_words
        self._runs, self._owners, self._starts = self._telling_runs()

    @property
    def num_runs(self) -> int:
        """Count the different runs with a name that the questions have."""
        return len(self._runs)

    def shared(self, texts: Sequence[Sequence[str]], single: Rows) -> list[SharedRun | None]:
        """Find for each text the first run that it shares with an evaluation question.

        `texts` are the words (`coa.records.plain_words.words`) and `single` their hashes; words are
        compared where these agree.
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
            place = places[hit]
            question = self._questions[self._owners[place]]
            first = self._starts[place]
            same = words(question.question)[first : first + self._run_words]
            if found[row] is None and run == same:
                found[row] = SharedRun(question, " ".join(run))
        return found

    def _telling_runs(self) -> tuple[Hashes, NDArray[np.int64], NDArray[np.int64]]:
        """Index the telling runs.

        Returns:
            The hashes of the runs, each once, in ascending order; for each its question; and for
            each its first word.
        """
        hash_parts: list[Hashes] = [np.empty(0, np.uint64)]
        owner_parts: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        start_parts: list[NDArray[np.int64]] = [np.empty(0, np.int64)]
        for first in range(0, len(self._questions), _QUESTIONS_AT_ONCE):
            words_of_each: list[list[str]] = []
            telling_parts: list[NDArray[np.bool_]] = []
            for question in self._questions[first : first + _QUESTIONS_AT_ONCE]:
                words_of_each.append(words(question.question))
                telling_parts.append(self._is_telling(question.question))
            own = runs(hash_words(words_of_each), self._run_words)
            owners = own.row_of_each()
            starts = np.arange(len(owners)) - own.offsets[owners]
            is_telling = np.concatenate(telling_parts)
            hash_parts.append(own.hashes[is_telling])
            owner_parts.append(owners[is_telling] + first)
            start_parts.append(starts[is_telling])
        hashes, places = np.unique(np.concatenate(hash_parts), return_index=True)
        return hashes, np.concatenate(owner_parts)[places], np.concatenate(start_parts)[places]

    def _is_telling(self, question: str) -> NDArray[np.bool_]:
        """Tell for each run of a question whether it holds a whole name, or lies within one."""
        count = max(len(words(question)) - self._run_words + 1, 0)
        if not any(char.isupper() for char in question):
            return np.ones(count, dtype=np.bool_)
        is_telling = np.zeros(count, dtype=np.bool_)
        for first, end in names(question):
            low, high = sorted((first, end - self._run_words))
            is_telling[max(low, 0) : max(high + 1, 0)] = True
        return is_telling
