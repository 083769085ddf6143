"""A scripted teacher for questions with gold titles: a request -> the text that follows. It is no language model.

It is told the answer and where it stands, so that the line can be run over real questions and a real index where no
model is to be had; what it writes shows how the line behaves and nothing about any model. It searches for the gold
titles one after the other and answers rightly after a search only when the answer was shown, so its yields depend on
what search finds; it errs on purpose, at the rates of `GoldSettings`. A request's text and seed decide all, so a call
can be replayed and a rollout continued from wherever its text was cut.
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
from coa.policy.gold_evidence import Evidence, Lookup, harmless, words_of
from coa.policy.gold_phrases import COPIED, PHRASES, GoldPhraseKind
from coa.policy.scripted import ScriptedPolicy, scripted_name
from coa.question import Question

_TOOL = "search"
_SEARCH_OPEN, _SEARCH_CLOSE = protocol.open_tag(_TOOL), protocol.close_tag(_TOOL)
_BOX_OPEN = "\\boxed{"
_RESPONSE_START = f"{protocol.THINK_OPEN}\n"
_QUESTION = "Question: "
_COPIED_WORDS = 30
_CONCLUSION = re.compile(r"So the answer is (?P<answer>[^\n]+)\.\s*\Z")
_CLOSED_ANSWERS = {"yes": "no", "no": "yes"}
_NUM_DRAWS = 20
"""Tries to draw a wrong answer of another question; a pool whose answers are all right is a pool of one."""


@dataclass(frozen=True, slots=True)
class GoldSettings:
    """What the teacher is told, and how good it is; all from `remembers` on but the limit are probabilities."""

    questions: str = QUESTIONS.as_posix()
    """The table with the gold titles and answers of all that it may be asked."""
    seed: int = 0
    """Which questions' answers it remembers."""
    remembers: float = 0.3
    """Of the questions: knows the answer without a search."""
    never_searches: float = 0.08
    """Of the rollouts that are offered the tool: goes by memory."""
    poor_query: float = 0.15
    """Of the first queries for a title: one word of it."""
    searches_again: float = 0.6
    """After results without the title: asks in other words."""
    max_searches: int = 2
    """For one title."""
    repeated_search: float = 0.03
    """After any results: asks the same again."""
    needless_search: float = 0.05
    """With the answer in sight: asks once more for what was shown."""
    ignores_evidence: float = 0.04
    """With the answer in sight: goes by a wrong memory."""
    wrong_answer: float = 0.06
    """With the answer in sight: reads another from the results."""
    guesses_wrong: float = 0.8
    """After searches that did not show the answer: guesses, remembered or not."""
    wrong_recall: float = 0.12
    """Before a search: states something wrong from memory."""
    hedges: float = 0.5
    """Of what is stated wrongly from memory: says that it may be wrong."""
    copied_observation: float = 0.02
    """Of the results: copies a long run of words from them."""
    unboxed: float = 0.02
    """Ends without boxing the answer."""


def gold_teacher(settings: GoldSettings) -> ScriptedPolicy:
    """The policy over the questions in `settings.questions`; of these it keeps text, titles and answers in memory.

    Raises:
        InputError: the table is missing or broken, or no question has gold titles.
    """
    from coa import tables  # loads pyarrow, which other policies need not wait for

    teacher = GoldTeacher(tables.read_table(Path(settings.questions), Question), settings)
    return ScriptedPolicy(teacher.write, scripted_name("gold", settings, *teacher.lookups.values()))


class GoldTeacher:
    """Writes trajectories; `write` is the script."""

    def __init__(self, questions: Iterable[Question], settings: GoldSettings | None = None) -> None:
        self.settings = settings or GoldSettings()
        self.lookups: dict[str, Lookup] = {}
        """What it is told, by the question as a prompt shows it; of equal questions the first."""
        self._pools: dict[bool, list[str]] = {True: [], False: []}
        for question in questions:
            if question.gold_titles:
                self.lookups.setdefault(
                    " ".join(protocol.neutralise(question.question).split()), Lookup.of(question)
                )
                answer = harmless(question.gold_answers[0])
                self._pools[_has_digit(answer)].append(answer)
        if not self.lookups:
            fix = "map the column in params.yaml: questions.columns.gold_titles, or choose another teacher.policy"
            raise InputError("no question has gold titles", where=self.settings.questions, fix=fix)

    def write(self, request: Request) -> str:
        """Continue the request's context up to the end of the next action or of the answer.

        Raises:
            InputError: the context holds none of the teacher's questions, or its thinking is not opened.
        """
        prompt, _, response = request.context.rpartition(_RESPONSE_START)
        question = prompt.rpartition(_QUESTION)[2].split("\n", 1)[0].strip()
        lookup = self.lookups.get(question)
        if lookup is None:
            fix = "ask one of its questions, or choose another teacher.policy"
            raise InputError(
                "the scripted teacher does not know the question", got=repr(question), fix=fix
            )
        return _Turn(
            self, lookup, request.seed, response, is_offered=_SEARCH_OPEN in prompt
        ).write()

    def remembers(self, lookup: Lookup) -> bool:
        """Whether the teacher knows the answer without a search."""
        return (
            random.Random(f"{self.settings.seed}/{lookup.question_id}").random()
            < self.settings.remembers
        )

    def invent(self, lookup: Lookup, rng: random.Random) -> str:
        """A wrong answer that looks right: the other one of two, or another question's of the same form."""
        right = lookup.answers[0]
        others = [
            title for title in lookup.titles if lookup.compares and not _is_accepted(title, lookup)
        ]
        if closed := _CLOSED_ANSWERS.get(right.lower()):
            return closed
        if others:
            return rng.choice(others)
        pool = self._pools[_has_digit(right)]
        drawn = (rng.choice(pool) for _ in range(_NUM_DRAWS))
        return next((answer for answer in drawn if not _is_accepted(answer, lookup)), "unknown")


def _has_digit(text: str) -> bool:
    return any(char.isdigit() for char in text)


def _is_accepted(answer: str, lookup: Lookup) -> bool:
    return grade_prediction(answer, lookup.answers).cover_exact_match


class _Turn:
    """One call: what is written from the end of the context to the end of the turn."""

    def __init__(
        self, teacher: GoldTeacher, lookup: Lookup, seed: int, response: str, *, is_offered: bool
    ) -> None:
        self._teacher, self._settings, self._lookup = teacher, teacher.settings, lookup
        self._response, self._is_offered = response, is_offered
        self._rng = random.Random(seed << 32 | zlib.crc32(response.encode()))
        self._evidence = Evidence(lookup, protocol.parse(response), self._settings.max_searches)
        self._written = ""

    def write(self) -> str:
        if protocol.THINK_CLOSE in self._response:
            return self._answer_after_close()
        if self._response.rfind(_SEARCH_OPEN) > self._response.rfind(_SEARCH_CLOSE):
            return f" {self._query(self._evidence.target(gives_up=False))} {_SEARCH_CLOSE}"
        if concluded := _CONCLUSION.search(self._response):
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
        before = self._written or self._response
        self._written += (
            text if not before or before[-1].isspace() or text[0].isspace() else f" {text}"
        )

    def _say(self, said: GoldPhraseKind, what: str = "") -> None:
        phrase = self._rng.choice(PHRASES[said])
        self._append(phrase.format(what.removesuffix(".") if phrase.endswith("{}.") else what))

    # Searching

    def _search_or_answer(self) -> None:
        evidence, settings = self._evidence, self._settings
        if not evidence.queries and self._happens(settings.never_searches):
            self._reason()
        elif evidence.queries and self._happens(settings.repeated_search):
            self._search(evidence.queries[-1])
        elif (
            title := evidence.target(gives_up=not self._happens(settings.searches_again))
        ) is not None:
            self._need(title)
            self._search(self._query(title))
        elif evidence.is_enough and evidence.may_search and self._happens(settings.needless_search):
            self._need(self._lookup.titles[-1])
            self._search(self._other_query(self._lookup.titles[-1]))
        else:
            self._answer()

    def _need(self, title: str) -> None:
        self._say(GoldPhraseKind.NEED, self._lookup.call(title))
        if self._happens(self._settings.wrong_recall):
            is_hedged = self._happens(self._settings.hedges)
            self._say(
                GoldPhraseKind.VAGUE if is_hedged else GoldPhraseKind.CONFIDENT,
                self._teacher.invent(self._lookup, self._rng),
            )

    def _query(self, title: str | None) -> str:
        """A query for a title, for the last one where none is left; a second query has other words than the first."""
        if title is None or self._evidence.num_searches_for(title):
            return self._other_query(title or self._lookup.titles[-1])
        words = words_of(title)
        return (
            self._rng.choice(words) if words and self._happens(self._settings.poor_query) else title
        )

    def _other_query(self, title: str) -> str:
        return " ".join([title, *self._lookup.topic])

    def _search(self, query: str) -> None:
        self._append(f"{_SEARCH_OPEN} {query} {_SEARCH_CLOSE}")

    def _read(self) -> None:
        """Say what the last results were worth."""
        evidence = self._evidence
        if evidence.last_lines and self._happens(self._settings.copied_observation):
            self._append(
                COPIED.format(" ".join(" ".join(evidence.last_lines).split()[:_COPIED_WORDS]))
            )
        if (title := evidence.last_title) is not None:
            self._say(
                GoldPhraseKind.FOUND if evidence.is_shown(title) else GoldPhraseKind.NOT_FOUND,
                self._lookup.call(title),
            )

    # Answering

    def _reason(self) -> None:
        """Go on without a search: over what is still missing, to an answer."""
        for title in self._lookup.titles:
            if (
                not self._evidence.is_shown(title)
                and self._lookup.call(title) not in self._response
            ):
                self._say(GoldPhraseKind.NEED, self._lookup.call(title))
        if not self._evidence.is_enough:
            self._say(GoldPhraseKind.NO_SEARCH)
        self._answer()

    def _answer(self) -> None:
        said, answer = self._believe()
        self._say(said, answer)
        self._say(GoldPhraseKind.ANSWER, answer)
        self._written += self._close(answer)

    def _believe(self) -> tuple[GoldPhraseKind, str]:
        """The answer, and the sentence that tells where it is from."""
        evidence, settings, right = self._evidence, self._settings, self._lookup.answers[0]
        if evidence.is_enough:
            if self._happens(settings.ignores_evidence):
                return GoldPhraseKind.DISTRUST, self._invent()
            return GoldPhraseKind.READ, self._misread() if self._happens(
                settings.wrong_answer
            ) else right
        has_failed = bool(evidence.queries) and self._happens(settings.guesses_wrong)
        if self._teacher.remembers(self._lookup) and not has_failed:
            return GoldPhraseKind.RECALL, right
        return (
            GoldPhraseKind.GUESS if self._happens(settings.hedges) else GoldPhraseKind.CONFIDENT
        ), self._invent()

    def _invent(self) -> str:
        return self._teacher.invent(self._lookup, self._rng)

    def _misread(self) -> str:
        """Another passage's title, where results show one, in place of an answer that is a name."""
        others = [
            title for title in self._evidence.other_titles if not _is_accepted(title, self._lookup)
        ]
        is_name = not self._lookup.compares and not _has_digit(self._lookup.answers[0])
        return self._rng.choice(others) if others and is_name else self._invent()

    def _close(self, answer: str) -> str:
        """The end of the thinking and the answer."""
        shown = answer if self._happens(self._settings.unboxed) else _boxed(answer)
        return f"\n{protocol.THINK_CLOSE}\n\n{shown}"

    def _answer_after_close(self) -> str:
        """The answer where the thinking is already closed, as after the marker that forces one."""
        given = self._response.rpartition(protocol.THINK_CLOSE)[2]
        box = _boxed(self._believe()[1])
        if given.endswith(_BOX_OPEN):
            return box.removeprefix(_BOX_OPEN)
        return "" if _BOX_OPEN in given else box


def _boxed(answer: str) -> str:
    escaped = answer.replace("{", "\\{").replace("}", "\\}")
    return f"{_BOX_OPEN}{escaped}}}"
