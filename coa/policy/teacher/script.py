"""Continue a request's text as a scripted, imperfect teacher: the script of a `ScriptedPolicy`.

The teacher names a fact that it needs, searches for it or not, says what it found, and turns to
the next fact. A query holds only what the question or an earlier result has shown. So a further
name is searched for only once a result has shown it, and where the evidence never comes the rollout
ends wrong. It errs on purpose, at the rates of its settings, so that all later stages have real
errors to find.

What it writes depends on the request's text and seed alone: a call can be replayed, and a rollout
may be cut after any sentence and continued, with or without a trigger.
"""

import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from coa.policy import Request
from coa.policy.scripted import asked_question
from coa.policy.teacher import sentences
from coa.policy.teacher.sentences import (
    CALCULATE_CLOSE,
    CALCULATE_OPEN,
    SEARCH_CLOSE,
    SEARCH_OPEN,
    PhraseKind,
    Sentences,
    Utterance,
)
from coa.policy.teacher.settings import TeacherDecision, TeacherEvent, TeacherSettings
from coa.records.plain_words import words
from coa.records.protocol import THINK_CLOSE, THINK_OPEN

_RESPONSE_START = f"{THINK_OPEN}\n"
_VALUE_KINDS = frozenset({PhraseKind.RECALL, PhraseKind.GUESS, PhraseKind.READ})
_MISCALCULATIONS = (-10, -1, 1, 10)
"""By how much a calculation in one's head can be wrong."""


@dataclass(slots=True)
class Shown:
    """What a policy has seen so far: the question, and what its searches returned."""

    question: str
    observations: list[str] = field(default_factory=list)
    queries: list[str] = field(default_factory=list)

    def holds(self, name: str) -> bool:
        """Tell whether the question or a result has the words of a name, in this order."""
        wanted = f" {' '.join(words(name))} "
        for text in (self.question, *self.observations):
            if wanted in f" {' '.join(words(text))} ":
                return True
        return False


class Knowledge(Protocol):
    """What the teacher knows of one question: the facts that its answer takes.

    A fact is named by its index. `values` are those that the rollout has stated for the facts
    before it, right or wrong.
    """

    question_id: str
    num_facts: int
    sentences: Sentences

    def need(self, index: int, values: Sequence[str], shown: Shown) -> str:
        """Say which fact is missing, for the sentence of the kind `NEED`."""

    def is_settled(self, values: Sequence[str]) -> bool:
        """Tell whether the answer follows before all facts are known."""

    def can_search(self, index: int, values: Sequence[str], shown: Shown) -> bool:
        """Tell whether the fact can be asked for with what was shown."""

    def query(
        self, index: int, values: Sequence[str], shown: Shown, queries: Sequence[str]
    ) -> Sequence[str]:
        """Write good queries for the fact, of which one is taken.

        `queries` are those that were made for it and did not show it.
        """

    def bad_query(self, index: int, values: Sequence[str], shown: Shown, rng: random.Random) -> str:
        """Write a poor query for the fact."""

    def read(
        self, index: int, values: Sequence[str], shown: Shown, observations: Sequence[str]
    ) -> str:
        """Read the value of the fact from results; empty where they do not state it."""

    def quote(self, value: str, shown: Shown) -> str:
        """Choose the words of a result from which a value is read; empty to state it alone."""

    def distractors(self, index: int, observation: str, right: str) -> list[str]:
        """List other values that a result shows."""

    def copied(self, index: int, values: Sequence[str], observation: str) -> str:
        """Choose a run of words of a result to copy."""

    def recall(self, index: int, values: Sequence[str]) -> str:
        """Return the value that the teacher remembers; empty where it does not."""

    def invent(self, index: int, values: Sequence[str], rng: random.Random) -> str:
        """Make up a value."""

    def compare(self, values: Sequence[str]) -> str:
        """Compare the values, where the question asks for it; else empty."""

    def expression(self, values: Sequence[str]) -> str:
        """Write the calculation that leads to the answer, where there is one; else empty."""

    def conclude(self, values: Sequence[str], shown: Shown) -> str:
        """Conclude the answer from the values."""

    def slip(self, values: Sequence[str], answer: str, rng: random.Random) -> str:
        """Conclude another answer."""


class Progress:
    """The facts that a rollout has found so far, and the one that it is looking for.

    It is read from the rollout's own text.
    """

    def __init__(self, knowledge: Knowledge, question: str, text: str = "") -> None:
        self.knowledge = knowledge
        self.shown = Shown(question)
        self.index = -1
        """Index of the fact that the text has reached; -1 before the first."""
        self.values: list[str] = []
        """The values that the text states, up to this fact; its own is missing while it is
        open."""
        self.queries: list[str] = []
        """The queries for this fact."""
        self.unread: str | None = None
        """The body of the last observation, until the text says something about it."""
        self.answer = ""
        self.has_compared = False
        self.calculated = ""
        """What the calculator showed for the values; empty before it was called."""
        self.result = ""
        """The result that the text states of a calculation."""
        self._was_read = False
        for utterance in knowledge.sentences.read_back(text):
            self.follow(utterance)

    @property
    def is_open(self) -> bool:
        """Tell whether this fact's value is still missing."""
        return self.index >= 0 and len(self.values) == self.index

    @property
    def has_next(self) -> bool:
        """Tell whether another fact is needed after this one."""
        is_last = self.index + 1 >= self.knowledge.num_facts
        return not is_last and not self.knowledge.is_settled(self.values)

    @property
    def can_search(self) -> bool:
        """Tell whether this fact can be asked for with what was shown."""
        return self.knowledge.can_search(self.index, self.values, self.shown)

    def follow(self, utterance: Utterance) -> None:
        """Take in the next piece of the text."""
        said, text = utterance
        if said is PhraseKind.NEED and not self.is_open and self.has_next:
            self.next_fact()
        elif said in _VALUE_KINDS:
            self._take_value(said, text)
        elif said is PhraseKind.NOT_FOUND:
            self.unread = None
        elif said is PhraseKind.SEARCH:
            self.aim_search()
            self.queries.append(text)
            self.shown.queries.append(text)
        elif said is PhraseKind.OBSERVATION:
            if self.index < 0:
                self.next_fact()
            self.shown.observations.append(text)
            self.unread = text
        elif said is PhraseKind.CALCULATED:
            self.calculated = text
        elif said is PhraseKind.COMPARE:
            self.has_compared = True
            self.result = text.split()[-1]
        elif said is PhraseKind.ANSWER:
            self.answer = text

    def _take_value(self, said: PhraseKind, value: str) -> None:
        if self.index < 0:
            self.next_fact()
        self.values[self.index :] = [value]
        self.unread = None
        self._was_read = said is PhraseKind.READ
        # A value found after the conclusion opens it again.
        self.has_compared = False
        self.calculated = ""
        self.answer = ""

    def next_fact(self) -> None:
        """Go on to the next fact."""
        self.index += 1
        self.queries = []

    def aim_search(self) -> None:
        """Decide which fact a search serves now.

        That is the open one. Where none is open, it is the current one if its value was not read
        from a result, else the next. A fact about a name that was recalled or guessed cannot be
        asked for: then the search is for the fact that leads to the name.
        """
        if not self.is_open:
            if self.index < 0 or (self._was_read and self.has_next):
                self.next_fact()
            else:
                self.values.pop()
        while self.index > 0 and not self.can_search:
            self.index -= 1
            self.queries = []
            del self.values[self.index :]


FindKnowledge = Callable[[str], Knowledge]
"""Finds what the teacher knows of a question, by the question's text."""


class Script:
    """The script of a teacher; `write` continues a request."""

    def __init__(
        self,
        find: FindKnowledge,
        settings: TeacherSettings,
        on_event: Callable[[TeacherEvent], None] | None = None,
    ) -> None:
        self.find = find
        self.settings = settings
        self.on_event = on_event

    def write(self, request: Request) -> str:
        """Continue the request's context up to the end of the next action or of the answer.

        Raises:
            InputError: The context holds no question that the teacher knows.
        """
        prompt, _, response = request.context.rpartition(_RESPONSE_START)
        question = asked_question(prompt)
        turn = _Turn(self, self.find(question), question, request.seed, response)
        turn.is_offered = SEARCH_OPEN in prompt
        turn.has_calculator = CALCULATE_OPEN in prompt
        return turn.write()


class _Turn:
    """The writing of one call, from the end of the context to the end of the turn."""

    def __init__(
        self, script: Script, knowledge: Knowledge, question: str, seed: int, response: str
    ) -> None:
        self._script = script
        self._settings = script.settings
        self._knowledge = knowledge
        self._seed = seed
        self._response = response
        self._rng = random.Random(seed << 32 | zlib.crc32(response.encode()))
        self._progress = Progress(knowledge, question, response)
        self._written = ""
        self._is_over = False
        self.is_offered = False
        self.has_calculator = False

    def write(self) -> str:
        response = self._response
        if THINK_CLOSE in response:
            return self._answer_after_close()
        if response.rfind(SEARCH_OPEN) > response.rfind(SEARCH_CLOSE):
            self._progress.aim_search()
            return f" {self._query()} {SEARCH_CLOSE}"
        if response.rfind(CALCULATE_OPEN) > response.rfind(CALCULATE_CLOSE):
            return f" {self._expression() or 0} {CALCULATE_CLOSE}"
        if self._progress.unread is not None:
            self._read(self._progress.unread)
        while not self._is_over:
            if self._progress.is_open:
                self._decide()
            elif self._progress.has_next and not self._progress.answer:
                self._progress.next_fact()
                progress = self._progress
                needed = self._knowledge.need(progress.index, progress.values, progress.shown)
                self._say(PhraseKind.NEED, needed)
            else:
                self._finish()
        return self._written

    def _note(self, what: TeacherDecision) -> None:
        if self._script.on_event:
            hop = max(self._progress.index, 0)
            event = TeacherEvent(self._knowledge.question_id, hop, what, self._seed)
            self._script.on_event(event)

    def _happens(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _append(self, text: str) -> None:
        """Append a text, with a space before it where there is no blank."""
        before = self._written or self._response
        if before and not before[-1].isspace() and not text[0].isspace():
            self._written += " "
        self._written += text

    def _say(self, said: PhraseKind, what: str = "") -> None:
        self._append(self._knowledge.sentences.say(said, what, self._rng))
        self._progress.follow(Utterance(said, what))

    def _say_read(self, value: str) -> None:
        quoted = self._knowledge.quote(value, self._progress.shown)
        if quoted:
            self._say(PhraseKind.QUOTE, quoted)
        self._say(PhraseKind.READ, value)

    # Searching or not

    def _decide(self) -> None:
        """Read this fact's value from earlier results, search for it, or state it from memory."""
        progress = self._progress
        shown = progress.shown
        if not progress.queries and shown.observations:
            value = self._knowledge.read(progress.index, progress.values, shown, shown.observations)
            if value:
                self._note(TeacherDecision.READ)
                self._say_read(value)
                return
        remembered = self._knowledge.recall(progress.index, progress.values)
        if self._wants_search(is_remembered=bool(remembered)):
            self._search(self._query())
            return
        if progress.queries:
            self._note(TeacherDecision.GAVE_UP)
        self._state_from_memory()

    def _state_from_memory(self) -> None:
        progress = self._progress
        remembered = self._knowledge.recall(progress.index, progress.values)
        if remembered:
            self._note(TeacherDecision.RECALLED)
            self._say(PhraseKind.RECALL, remembered)
        elif self._settings.false_recall and self._happens(self._settings.false_recall):
            self._note(TeacherDecision.FALSE_RECALL)
            self._say(PhraseKind.RECALL, self._invent())
        else:
            self._note(TeacherDecision.GUESSED)
            self._say(PhraseKind.GUESS, self._invent())

    def _invent(self) -> str:
        progress = self._progress
        return self._knowledge.invent(progress.index, progress.values, self._rng)

    def _wants_search(self, *, is_remembered: bool) -> bool:
        progress = self._progress
        settings = self._settings
        num_searches = len(progress.queries)
        if not self.is_offered or num_searches >= settings.max_searches:
            return False
        if not progress.can_search:
            return False
        if num_searches:
            return self._happens(settings.searches_again)
        if is_remembered:
            return self._happens(settings.searches_remembered)
        return not self._happens(settings.never_searched)

    def _search(self, query: str) -> None:
        self._append(sentences.search(query))
        self._is_over = True

    def _query(self) -> str:
        """Write a query for this fact; the first may be poor."""
        progress = self._progress
        self._note(TeacherDecision.SEARCHED)
        asked = progress.index, progress.values, progress.shown
        if not progress.queries and self._happens(self._settings.bad_query):
            self._note(TeacherDecision.BAD_QUERY)
            return self._knowledge.bad_query(*asked, self._rng)
        return self._rng.choice(self._knowledge.query(*asked, progress.queries))

    # Reading what came back

    def _read(self, body: str) -> None:
        progress = self._progress
        settings = self._settings
        shown = progress.shown
        value = self._knowledge.read(progress.index, progress.values, shown, shown.observations)
        if not value:
            self._miss(body)
            return
        remembered = self._knowledge.recall(progress.index, progress.values)
        if remembered not in ("", value) and self._happens(settings.trusts_memory):
            self._note(TeacherDecision.RECALLED)
            self._say(PhraseKind.RECALL, remembered)
            return
        if self._happens(settings.copied_observation):
            self._note(TeacherDecision.COPIED_OBSERVATION)
            self._append(self._knowledge.copied(progress.index, progress.values, body))
        if self._happens(settings.evidence_ignored):
            self._note(TeacherDecision.EVIDENCE_IGNORED)
            self._say_read(self._misread(body, value))
            return
        can_search = self.is_offered and 0 < len(progress.queries) < settings.max_searches
        if settings.needless_search and can_search and self._happens(settings.needless_search):
            self._note(TeacherDecision.NEEDLESS_SEARCH)
            self._search(self._query())
            return
        self._note(TeacherDecision.READ)
        self._say_read(value)

    def _miss(self, body: str) -> None:
        """React to an observation that does not hold the value."""
        progress = self._progress
        settings = self._settings
        others = self._knowledge.distractors(progress.index, body, "")
        if others and self._happens(settings.distractor_followed):
            self._note(TeacherDecision.DISTRACTOR_FOLLOWED)
            self._say_read(self._misread(body, ""))
            return
        self._note(TeacherDecision.NOT_FOUND)
        self._say(PhraseKind.NOT_FOUND)
        can_search = self.is_offered and 0 < len(progress.queries) < settings.max_searches
        if can_search and self._happens(settings.repeated_search):
            self._note(TeacherDecision.SEARCHED)
            self._note(TeacherDecision.REPEATED_SEARCH)
            self._search(progress.queries[-1])

    def _misread(self, body: str, right: str) -> str:
        """Choose another value that the observation shows, else make one up."""
        others = self._knowledge.distractors(self._progress.index, body, right)
        if others:
            return self._rng.choice(others)
        value = self._invent()
        while value == right:
            value = self._invent()
        return value

    # Answering

    def _finish(self) -> None:
        """Compare or calculate where the question asks for it, then conclude and answer."""
        progress = self._progress
        settings = self._settings
        if not progress.has_compared and not progress.answer:
            if self._expression():
                self._calculate()
                if self._is_over:
                    return
            else:
                compared = self._knowledge.compare(progress.values)
                if compared:
                    self._say(PhraseKind.COMPARE, compared)
        if not progress.answer:
            answer = self._conclude()
            if self._expression():
                answer = progress.result
            elif settings.reasoning_slip and self._happens(settings.reasoning_slip):
                self._note(TeacherDecision.REASONING_SLIP)
                answer = self._knowledge.slip(progress.values, answer, self._rng)
            self._say(PhraseKind.ANSWER, answer)
        self._is_over = True
        if not self._happens(settings.format):
            self._append(sentences.boxed(progress.answer))
            return
        self._note(TeacherDecision.FORMAT)
        if self._happens(0.5):
            self._append(f"\n{THINK_CLOSE}\n\n{progress.answer}")

    def _conclude(self) -> str:
        return self._knowledge.conclude(self._progress.values, self._progress.shown)

    def _expression(self) -> str:
        """Write the calculation for the values found; empty where there is none to do yet."""
        progress = self._progress
        if progress.is_open or progress.has_next:
            return ""
        return self._knowledge.expression(progress.values)

    def _calculate(self) -> None:
        """Call the calculator, or say what it has shown, or calculate in one's head."""
        expression = self._expression()
        shown = self._progress.calculated
        if not shown and self.has_calculator and self._happens(self._settings.calculates):
            self._note(TeacherDecision.CALCULATED)
            self._append(sentences.calculate(expression))
            self._is_over = True
            return
        result = shown if shown.isdecimal() else str(self._calculate_in_head())
        self._say(PhraseKind.COMPARE, f"{expression} is {result}")

    def _calculate_in_head(self) -> int:
        result = int(self._conclude())
        if not self._happens(self._settings.miscalculates):
            return result
        self._note(TeacherDecision.MISCALCULATED)
        return result + self._rng.choice(_MISCALCULATIONS)

    def _answer_after_close(self) -> str:
        """Answer where the thinking is already closed, as after the marker that forces it."""
        given = self._response.rpartition(THINK_CLOSE)[2]
        answer = sentences.box(self._progress.answer or self._best_guess())
        if given.endswith(sentences.BOX_OPEN):
            return answer.removeprefix(sentences.BOX_OPEN)
        return "" if sentences.BOX_OPEN in given else answer

    def _best_guess(self) -> str:
        """Answer from what was found; each value still missing is remembered or made up."""
        progress = self._progress
        if progress.unread is not None:
            shown = progress.shown
            value = self._knowledge.read(progress.index, progress.values, shown, shown.observations)
            progress.values[progress.index :] = [value or self._believe()]
        while progress.is_open or progress.has_next:
            if not progress.is_open:
                progress.next_fact()
            progress.values.append(self._believe())
        return self._conclude()

    def _believe(self) -> str:
        """Remember this fact's value, or make one up."""
        progress = self._progress
        return self._knowledge.recall(progress.index, progress.values) or self._invent()
