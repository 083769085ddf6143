"""Answer questions with gold titles by a script, as a teacher that is not a language model.

The script is given the answer and the titles of the passages with it, so that the pipeline can run
over real questions and a real index where no model is available. What it writes shows how the
pipeline behaves and nothing about any model. It searches for the gold titles one after the other,
or for the question itself where no gold titles are known. After a search it answers rightly only if
the answer was shown, so its yields depend on what search finds. It errs on purpose, at the rates of
`GoldSettings`. A request's text and seed decide what it writes, so a call can be replayed, and a
rollout continued wherever its text was cut.
"""

import random
import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coa import protocol
from coa.errors import InputError
from coa.files import QUESTIONS
from coa.grading import grade_prediction
from coa.policy import Request
from coa.policy.gold.evidence import Evidence, Lookup, harmless, words_of
from coa.policy.gold.phrases import COPIED, PHRASES, GoldPhraseKind
from coa.policy.react import speaks_react
from coa.policy.scripted import ScriptedPolicy, asked_question, scripted_name
from coa.question import Question, told_answers

_TOOL = "search"
_SEARCH_OPEN = protocol.open_tag(_TOOL)
_SEARCH_CLOSE = protocol.close_tag(_TOOL)
_BOX_OPEN = "\\boxed{"
_RESPONSE_START = f"{protocol.THINK_OPEN}\n"
_COPIED_WORDS = 30
_CONCLUSION = re.compile(r"So the answer is (?P<answer>[^\n]+)\.\s*\Z")
_CLOSED_ANSWERS = {"yes": "no", "no": "yes"}
_NUM_DRAWS = 20
"""Tries to draw a wrong answer of another question.

All answers of a pool are right ones only if the pool has a single answer.
"""


@dataclass(frozen=True, slots=True)
class GoldSettings:
    """Settings of the teacher: what it knows, and how good it is.

    All settings from `remembers` on, except the limit, are probabilities.
    """

    questions: str = QUESTIONS.as_posix()
    """The table with the gold titles and answers of all questions that it may get."""
    seed: int = 0
    """Decides which questions' answers it remembers."""
    remembers: float = 0.3
    """Share of the questions whose answer it knows without a search."""
    never_searches: float = 0.08
    """Share of the rollouts with the tool in which it relies on memory all the same."""
    poor_query: float = 0.15
    """Share of the first queries for a title that are only one word of it."""
    searches_again: float = 0.6
    """Probability that it asks in other words after results without the title."""
    max_searches: int = 2
    """Most searches for one title."""
    repeated_search: float = 0.03
    """Probability that it repeats its query after any results."""
    needless_search: float = 0.05
    """Probability that it searches again for what was shown, when the answer was shown."""
    ignores_evidence: float = 0.04
    """Probability that it states a wrong memory instead, when the answer was shown."""
    wrong_answer: float = 0.06
    """Probability that it reads another answer from the results, when the answer was shown."""
    guesses_wrong: float = 0.8
    """Probability that it guesses after searches that did not show the answer, whether it remembers
    the answer or not."""
    wrong_recall: float = 0.12
    """Probability that it states something wrong from memory before a search."""
    hedges: float = 0.5
    """Share of the wrong statements from memory that say that they may be wrong."""
    copied_observation: float = 0.02
    """Share of the results from which it copies a long run of words."""
    unboxed: float = 0.02
    """Probability that it ends without boxing the answer."""


def gold_teacher(settings: GoldSettings) -> ScriptedPolicy:
    """Make the policy that answers the questions in `settings.questions`.

    It keeps their texts, titles and answers in memory.

    Raises:
        InputError: the table is missing or broken, or no question has gold titles.
    """
    from coa import tables  # loads pyarrow, which other policies need not wait for

    teacher = GoldTeacher(tables.read_table(Path(settings.questions), Question), settings)
    name = scripted_name("gold", settings, *teacher.lookups.values())
    return ScriptedPolicy(speaks_react(teacher.write), name)


class GoldTeacher:
    """A teacher that writes trajectories; `write` is the script."""

    def __init__(self, questions: Iterable[Question], settings: GoldSettings | None = None) -> None:
        self.settings = settings or GoldSettings()
        self.lookups: dict[str, Lookup] = {}
        """What it knows, by the question as a prompt shows it; of equal questions the first, or the
        first with gold titles."""
        self._answers_with_digits: list[str] = []
        self._answers_without_digits: list[str] = []
        for question in questions:
            self._add(question)
        if not any(lookup.has_titles for lookup in self.lookups.values()):
            raise InputError(
                "no question has gold titles",
                where=self.settings.questions,
                fix=(
                    "name the column in the file's entry of questions.files: "
                    "columns: {gold_titles: ...}, "
                    "or choose another teacher.policy"
                ),
            )

    def _add(self, question: Question) -> None:
        asked = " ".join(protocol.neutralise(question.question).split())
        known = self.lookups.get(asked)
        if known is None or (question.gold_titles and not known.has_titles):
            self.lookups[asked] = Lookup.of(question)
        answer = harmless(told_answers(question)[0])
        self._pool_like(answer).append(answer)

    def _pool_like(self, answer: str) -> list[str]:
        """Return the answers of all questions that have the form of this one."""
        return self._answers_with_digits if _has_digit(answer) else self._answers_without_digits

    def write(self, request: Request) -> str:
        """Continue the request's context up to the end of the next action or of the answer.

        Raises:
            InputError: the context holds none of the teacher's questions, or does not open the
                thinking.
        """
        prompt, _, response = request.context.rpartition(_RESPONSE_START)
        question = asked_question(prompt)
        lookup = self.lookups.get(question)
        if lookup is None:
            raise InputError(
                "the scripted teacher does not know the question",
                got=repr(question),
                fix="ask one of its questions, or choose another teacher.policy",
            )
        is_offered = _SEARCH_OPEN in prompt
        return _Turn(self, lookup, request.seed, response, is_offered=is_offered).write()

    def remembers(self, lookup: Lookup) -> bool:
        """Tell whether the teacher knows the answer without a search."""
        rng = random.Random(f"{self.settings.seed}/{lookup.question_id}")
        return rng.random() < self.settings.remembers

    def invent(self, lookup: Lookup, rng: random.Random) -> str:
        """Choose a wrong answer that looks right.

        It is the other one of two, or the answer to another question, of the same form.
        """
        right = lookup.answers[0]
        opposite = _CLOSED_ANSWERS.get(right.lower())
        if opposite:
            return opposite
        if lookup.compares:
            others = [title for title in lookup.titles if not _is_accepted(title, lookup)]
            if others:
                return rng.choice(others)
        pool = self._pool_like(right)
        for _ in range(_NUM_DRAWS):
            answer = rng.choice(pool)
            if not _is_accepted(answer, lookup):
                return answer
        return "unknown"


def _has_digit(text: str) -> bool:
    return any(char.isdigit() for char in text)


def _is_accepted(answer: str, lookup: Lookup) -> bool:
    return bool(grade_prediction(answer, lookup.answers).cover_exact_match)


class _Turn:
    """The writing of one call, from the end of the context to the end of the turn."""

    def __init__(
        self, teacher: GoldTeacher, lookup: Lookup, seed: int, response: str, *, is_offered: bool
    ) -> None:
        self._teacher = teacher
        self._settings = teacher.settings
        self._lookup = lookup
        self._response = response
        self._is_offered = is_offered
        self._rng = random.Random(seed << 32 | zlib.crc32(response.encode()))
        self._evidence = Evidence(lookup, protocol.parse(response), self._settings.max_searches)
        self._written = ""

    def write(self) -> str:
        if protocol.THINK_CLOSE in self._response:
            return self._answer_after_close()
        if self._response.rfind(_SEARCH_OPEN) > self._response.rfind(_SEARCH_CLOSE):
            title = self._evidence.target(gives_up=False)
            return f" {self._query(title)} {_SEARCH_CLOSE}"
        concluded = _CONCLUSION.search(self._response)
        if concluded:
            return self._close(concluded["answer"])
        if self._evidence.is_unread:
            self._read()
        if self._is_offered:
            self._search_or_answer()
        else:
            self._reason()
        return self._written

    def _happens(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _append(self, text: str) -> None:
        """Append a text, with a space before it where there is no blank."""
        before = self._written or self._response
        if before and not before[-1].isspace() and not text[0].isspace():
            self._written += " "
        self._written += text

    def _say(self, said: GoldPhraseKind, what: str = "") -> None:
        phrase = self._rng.choice(PHRASES[said])
        if phrase.endswith("{}."):
            what = what.removesuffix(".")
        self._append(phrase.format(what))

    # Searching

    def _search_or_answer(self) -> None:
        evidence = self._evidence
        settings = self._settings
        if not evidence.queries and self._happens(settings.never_searches):
            self._reason()
            return
        if evidence.queries and self._happens(settings.repeated_search):
            self._search(evidence.queries[-1])
            return
        gives_up = not self._happens(settings.searches_again)
        title = evidence.target(gives_up=gives_up)
        if title is not None:
            self._need(title)
            self._search(self._query(title))
            return
        could_answer = evidence.is_enough and evidence.may_search
        if could_answer and self._happens(settings.needless_search):
            last_title = self._lookup.titles[-1]
            self._need(last_title)
            self._search(self._other_query(last_title))
            return
        self._answer()

    def _need(self, title: str) -> None:
        """Say that a title has to be looked up; now and then add something wrong from memory."""
        self._say(GoldPhraseKind.NEED, self._lookup.call(title))
        if self._happens(self._settings.wrong_recall):
            is_hedged = self._happens(self._settings.hedges)
            said = GoldPhraseKind.VAGUE if is_hedged else GoldPhraseKind.CONFIDENT
            self._say(said, self._invent())

    def _query(self, title: str | None) -> str:
        """Write a query for a title, or for the last title where none is left.

        A second query has other words than the first.
        """
        if title is None or self._evidence.num_searches_for(title):
            return self._other_query(title or self._lookup.titles[-1])
        words = words_of(title)
        if words and self._happens(self._settings.poor_query):
            return self._rng.choice(words)
        return title

    def _other_query(self, title: str) -> str:
        return " ".join([title, *self._lookup.topic])

    def _search(self, query: str) -> None:
        self._append(f"{_SEARCH_OPEN} {query} {_SEARCH_CLOSE}")

    def _read(self) -> None:
        """Say whether the last results show what was searched for."""
        evidence = self._evidence
        if evidence.last_lines and self._happens(self._settings.copied_observation):
            words = " ".join(evidence.last_lines).split()
            self._append(COPIED.format(" ".join(words[:_COPIED_WORDS])))
        title = evidence.last_title
        if title is not None:
            is_shown = evidence.is_shown(title)
            said = GoldPhraseKind.FOUND if is_shown else GoldPhraseKind.NOT_FOUND
            self._say(said, self._lookup.call(title))

    # Answering

    def _reason(self) -> None:
        """Name what is still missing and answer without a search."""
        for title in self._lookup.titles:
            called = self._lookup.call(title)
            if not self._evidence.is_shown(title) and called not in self._response:
                self._say(GoldPhraseKind.NEED, called)
        if not self._evidence.is_enough:
            self._say(GoldPhraseKind.NO_SEARCH)
        self._answer()

    def _answer(self) -> None:
        said, answer = self._believe()
        self._say(said, answer)
        self._say(GoldPhraseKind.ANSWER, answer)
        self._written += self._close(answer)

    def _believe(self) -> tuple[GoldPhraseKind, str]:
        """Choose the answer, and the kind of sentence that says where it is from."""
        settings = self._settings
        right = self._lookup.answers[0]
        if self._evidence.is_enough:
            if self._happens(settings.ignores_evidence):
                return GoldPhraseKind.DISTRUST, self._invent()
            if self._happens(settings.wrong_answer):
                return GoldPhraseKind.READ, self._misread()
            return GoldPhraseKind.READ, right
        has_failed = bool(self._evidence.queries) and self._happens(settings.guesses_wrong)
        if self._teacher.remembers(self._lookup) and not has_failed:
            return GoldPhraseKind.RECALL, right
        if self._happens(settings.hedges):
            return GoldPhraseKind.GUESS, self._invent()
        return GoldPhraseKind.CONFIDENT, self._invent()

    def _invent(self) -> str:
        return self._teacher.invent(self._lookup, self._rng)

    def _misread(self) -> str:
        """Choose a wrong answer from the results.

        For an answer that is a name, that is the title of another passage that was shown.
        """
        lookup = self._lookup
        is_name = not lookup.compares and not _has_digit(lookup.answers[0])
        if is_name:
            titles = self._evidence.other_titles
            others = [title for title in titles if not _is_accepted(title, lookup)]
            if others:
                return self._rng.choice(others)
        return self._invent()

    def _close(self, answer: str) -> str:
        """End the thinking and give the answer."""
        shown = answer if self._happens(self._settings.unboxed) else _boxed(answer)
        return f"\n{protocol.THINK_CLOSE}\n\n{shown}"

    def _answer_after_close(self) -> str:
        """Answer where the thinking is already closed, as after the marker that forces it."""
        given = self._response.rpartition(protocol.THINK_CLOSE)[2]
        _, answer = self._believe()
        box = _boxed(answer)
        if given.endswith(_BOX_OPEN):
            return box.removeprefix(_BOX_OPEN)
        if _BOX_OPEN in given:
            return ""
        return box


def _boxed(answer: str) -> str:
    escaped = answer.replace("{", "\\{").replace("}", "\\}")
    return f"{_BOX_OPEN}{escaped}}}"
