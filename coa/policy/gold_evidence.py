"""What the scripted teacher for gold titles is told, and what a rollout's text shows of it so far."""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass

from coa import protocol
from coa.grading import YES_NO, grade_prediction
from coa.plain_words import WORD
from coa.question import Question
from coa.trajectory import Step, StepKind

_MIN_TOPIC_CHARS = 4
_MAX_TOPIC_WORDS = 8
_MAX_TITLE_CHARS = 80
"""A longer text before a colon is no title."""
_RESULT = re.compile(r"result \d+: ")
_NAMELESS = "what the question leads to"
"""Stands for a title that would give the answer away, and that the question does not name."""


def harmless(text: str) -> str:
    """A title or answer in one line, as a person would write it, and unable to act."""
    return protocol.neutralise(" ".join(html.unescape(text).split()))


def key(text: str) -> str:
    """The form in which titles are compared."""
    return harmless(text).casefold()


def words_of(text: str) -> list[str]:
    """The words of a text."""
    return WORD.findall(text)


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the teacher is told of one question."""

    question_id: str
    titles: tuple[str, ...]
    """The gold titles, each once; the teacher looks them up in this order."""
    answers: tuple[str, ...]
    """The accepted answers, the canonical one first."""
    compares: bool
    """Whether an answer can be told only from all titles: yes or no, or one of those that the question names."""
    topic: tuple[str, ...]
    """Words of the question that no title has: what is asked of them."""
    nameless: tuple[str, ...]
    """Titles that are not called by their name, because they would give the answer away."""

    @classmethod
    def of(cls, question: Question) -> "Lookup":
        """What `question` tells."""
        titles = tuple(dict.fromkeys(harmless(title) for title in question.gold_titles))
        answers = tuple(harmless(answer) for answer in question.gold_answers)
        asked = key(question.question)
        is_closed = answers[0].lower() in YES_NO
        hidden = tuple(
            title for title in titles if key(title) not in asked and _covers(title, answers)
        )
        known = {word.casefold() for title in titles for word in words_of(title)}
        words = (
            word for word in words_of(harmless(question.question)) if len(word) >= _MIN_TOPIC_CHARS
        )
        topic = tuple(word for word in words if word.casefold() not in known)[:_MAX_TOPIC_WORDS]
        compares = is_closed or _covers(question.question, answers)
        return cls(question.question_id, titles, answers, compares, topic, hidden)

    def call(self, title: str) -> str:
        """The title, or words that do not give the answer away."""
        return _NAMELESS if title in self.nameless else title


def _covers(text: str, answers: tuple[str, ...]) -> bool:
    return grade_prediction(text, answers).cover_exact_match


class Evidence:
    """What a rollout has searched for and been shown."""

    def __init__(self, lookup: Lookup, steps: Sequence[Step], max_searches: int) -> None:
        self._lookup, self._max_searches = lookup, max_searches
        self.queries = [step.argument or "" for step in steps if step.kind is StepKind.ACTION]
        shown = [_lines(step.text) for step in steps if step.kind is StepKind.OBSERVATION]
        lines = [line for found in shown for line in found]
        self.last_lines = shown[-1] if shown else []
        """The results of the last search."""
        self.is_unread = bool(steps) and steps[-1].kind is StepKind.OBSERVATION
        """Whether nothing has been said about the last results."""
        self._shown = {
            title for title in lookup.titles if any(_is_under(line, title) for line in lines)
        }
        self.other_titles = [
            head for line in lines if (head := _head(line)) and head not in lookup.titles
        ]
        """Titles of the other passages."""
        covers = any(_covers(line, lookup.answers) for line in lines)
        self.is_enough = len(self._shown) == len(lookup.titles) if lookup.compares else covers
        """Whether the answer can be told from what was shown."""
        self._aims = [self._aim(query) for query in self.queries]

    def _aim(self, query: str) -> int:
        """The title that a query has most words of, the first one where it has none."""
        asked = {word.casefold() for word in words_of(query)}
        titles = self._lookup.titles
        return max(
            range(len(titles)), key=lambda i: (len(asked & set(words_of(titles[i].casefold()))), -i)
        )

    @property
    def may_search(self) -> bool:
        """Whether there have been fewer searches than all titles may take."""
        return len(self.queries) < self._max_searches * len(self._lookup.titles)

    @property
    def last_title(self) -> str | None:
        """The title of the last search."""
        return self._lookup.titles[self._aims[-1]] if self._aims else None

    def is_shown(self, title: str) -> bool:
        """Whether a passage under this title was shown."""
        return title in self._shown

    def num_searches_for(self, title: str) -> int:
        """How many queries were about this title."""
        return sum(self._lookup.titles[aim] == title for aim in self._aims)

    def target(self, *, gives_up: bool) -> str | None:
        """The title to search for next, None when none is left; `gives_up` passes over the one that was searched last.

        Never an earlier one than the last: a rollout that was cut must not go back to what it gave up before.
        """
        first = max(self._aims, default=0)
        left = (
            self._lookup.titles[first + 1 if gives_up and self._aims else first :]
            if self.may_search
            else ()
        )
        wanted = (title for title in left if not self.is_shown(title))
        return next(
            (title for title in wanted if self.num_searches_for(title) < self._max_searches), None
        )


def _lines(observation: str) -> list[str]:
    """The results of an observation, without their numbers."""
    parts = _RESULT.split(observation)[1:]
    return [" ".join(part.split()) for part in parts]


def _head(line: str) -> str:
    """The title that a result begins with; empty where there is none."""
    head, colon, _ = line.partition(": ")
    return head if colon and len(head) <= _MAX_TITLE_CHARS else ""


def _is_under(line: str, title: str) -> bool:
    return key(line).startswith(f"{title.casefold()}: ")
