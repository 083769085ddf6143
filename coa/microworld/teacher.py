"""Continue a request's text as a scripted, imperfect teacher: the script of a `ScriptedPolicy`.

The teacher remembers part of the facts and makes up the rest. It searches mostly for what it does
not remember, writes a poor query now and then, misreads, gives up, and breaks the format once in a
while, so that all later stages have real errors to find. What it writes depends on the request's
text and seed alone: a call can be replayed, and a rollout may be cut after any sentence and
continued, with or without a trigger.
"""

import random
import zlib
from collections.abc import Callable, Iterable
from itertools import chain

from coa.microworld import phrases
from coa.microworld.decisions import TeacherDecision, TeacherEvent, TeacherSettings
from coa.microworld.names import POOLS, VALUES
from coa.microworld.phrases import PhraseKind, Utterance
from coa.microworld.plans import (
    CALCULATIONS,
    MISCALCULATIONS,
    Plan,
    PlanKind,
    calculate,
    make_plan,
)
from coa.microworld.progress import PlanProgress
from coa.microworld.relations import BY_NAME, RELATIONS_OF, find_sentence, read_value
from coa.microworld.world import World
from coa.policy import Request
from coa.policy.scripted import asked_question
from coa.protocol import THINK_CLOSE, THINK_OPEN, neutralise

_RESPONSE_START = f"{THINK_OPEN}\n"
_NAME_WORDS = frozenset(chain.from_iterable(pool.first + pool.second for pool in POOLS.values()))
_PLAIN_VALUES = frozenset(chain.from_iterable(VALUES.values()))
_COMPARISONS = frozenset({PlanKind.OLDER, PlanKind.NEWER, PlanKind.SAME})


class Teacher:
    """A teacher that writes trajectories; `write` is the script."""

    def __init__(
        self,
        world: World,
        plans: Iterable[Plan] = (),
        settings: TeacherSettings | None = None,
        on_event: Callable[[TeacherEvent], None] | None = None,
    ) -> None:
        self.world = world
        self.settings = settings or TeacherSettings()
        self.on_event = on_event
        self.memory = self._memorise()
        """The facts that it remembers, by entity and relation."""
        # Known plans save reading the question, and their ids are in the events.
        self._plans = {neutralise(plan.question): plan for plan in plans}

    def write(self, request: Request) -> str:
        """Continue the request's context up to the end of the next action or of the answer.

        Raises:
            InputError: the context holds no question about this world, or does not open the
                thinking.
        """
        prompt, _, response = request.context.rpartition(_RESPONSE_START)
        question = asked_question(prompt)
        plan = self._plans.get(question) or make_plan(self.world, question)
        turn = _Turn(
            self,
            plan,
            request.seed,
            response,
            is_offered=phrases.SEARCH_OPEN in prompt,
            has_calculator=phrases.CALCULATE_OPEN in prompt,
        )
        return turn.write()

    def _memorise(self) -> frozenset[tuple[str, str]]:
        rng = random.Random(f"{self.settings.seed}/memory")
        remembered = set()
        for key, fact in self.world.facts.items():
            chance = self.settings.remembers_other
            if self.world.is_known(fact):
                chance = self.settings.remembers_known
            if rng.random() < chance:
                remembered.add(key)
        return frozenset(remembered)


class _Turn:
    """The writing of one call, from the end of the context to the end of the turn."""

    def __init__(
        self,
        teacher: Teacher,
        plan: Plan,
        seed: int,
        response: str,
        *,
        is_offered: bool,
        has_calculator: bool,
    ) -> None:
        self._teacher = teacher
        self._settings = teacher.settings
        self._plan = plan
        self._seed = seed
        self._response = response
        self._is_offered = is_offered
        self._has_calculator = has_calculator
        self._rng = random.Random(seed << 32 | zlib.crc32(response.encode()))
        self._progress = PlanProgress(plan, response)
        self._written = ""
        self._is_over = False

    def write(self) -> str:
        if THINK_CLOSE in self._response:
            return self._answer_after_close()
        if self._response.endswith(phrases.SEARCH_OPEN):
            self._progress.aim_search()
            return f" {self._query()} {phrases.SEARCH_CLOSE}"
        if self._response.endswith(phrases.CALCULATE_OPEN):
            return f" {self._expression() or 0} {phrases.CALCULATE_CLOSE}"
        if self._progress.unread is not None:
            self._read(self._progress.unread)
        while not self._is_over:
            if self._progress.is_open:
                self._decide()
            elif self._progress.has_next:
                self._progress.next_hop()
                self._say(PhraseKind.NEED, f"{self._progress.relation} of {self._progress.entity}")
            else:
                self._finish()
        return self._written

    def _note(self, what: TeacherDecision) -> None:
        if self._teacher.on_event:
            hop = max(self._progress.hop, 0)
            self._teacher.on_event(TeacherEvent(self._plan.question_id, hop, what, self._seed))

    def _happens(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _append(self, text: str) -> None:
        """Append a text, with a space before it where there is no blank."""
        before = self._written or self._response
        if before and not before[-1].isspace() and not text[0].isspace():
            self._written += " "
        self._written += text

    def _say(self, said: PhraseKind, what: str = "") -> None:
        self._append(phrases.say(said, what))
        self._progress.follow(Utterance(said, what))

    # Searching or not

    def _decide(self) -> None:
        """Search for this hop's value, or state it from memory."""
        progress = self._progress
        is_remembered = (progress.entity, progress.relation) in self._teacher.memory
        if self._wants_search(is_remembered):
            self._search(self._query())
            return
        if progress.num_searches:
            self._note(TeacherDecision.GAVE_UP)
        if is_remembered:
            self._note(TeacherDecision.RECALLED)
            self._say(PhraseKind.RECALL, self._believe())
        else:
            self._note(TeacherDecision.HALLUCINATED)
            self._say(PhraseKind.GUESS, self._believe())

    def _wants_search(self, is_remembered: bool) -> bool:
        num_searches = self._progress.num_searches
        settings = self._settings
        if not self._is_offered or num_searches >= settings.max_searches:
            return False
        if num_searches:
            return self._happens(settings.searches_again)
        if is_remembered:
            return self._happens(settings.searches_remembered)
        return self._happens(settings.searches_other)

    def _believe(self) -> str:
        """Remember this hop's value, or make up one of the right category."""
        key = self._progress.entity, self._progress.relation
        if key in self._teacher.memory:
            return self._teacher.world.facts[key].value
        return self._invent()

    def _invent(self) -> str:
        category = BY_NAME[self._progress.relation].value
        return self._teacher.world.invent_value(category, self._rng)

    def _search(self, query: str) -> None:
        self._append(phrases.search(query))
        self._is_over = True

    def _query(self) -> str:
        """Write a query for this hop.

        The first has any form; after a failure comes a better one than the last.
        """
        progress = self._progress
        entity = progress.entity
        relation = BY_NAME[progress.relation]
        self._note(TeacherDecision.SEARCHED)
        with_noun = f"{entity} {relation.name}"
        with_verb = f"{entity} {relation.verb}"
        with_both = f"{with_noun} {relation.verb}"
        if progress.num_searches:
            return with_both if progress.last_query != with_both else with_verb
        if not self._happens(self._settings.poor_query):
            return self._rng.choices((with_noun, with_verb, with_both), (5, 1, 4))[0]
        self._note(TeacherDecision.POOR_QUERY)
        others = [other.name for other in RELATIONS_OF[relation.subject] if other is not relation]
        half_name = f"{entity.split()[0]} {relation.name}"
        wrong_relation = f"{entity} {self._rng.choice(others)}"
        return self._rng.choices((entity, half_name, wrong_relation), (4, 3, 3))[0]

    # Reading what came back

    def _read(self, body: str) -> None:
        progress = self._progress
        value = read_value(body, progress.entity, progress.relation)
        if not value:
            self._miss(body)
            return
        if self._doubts(value):
            self._note(TeacherDecision.RECALLED)
            self._say(PhraseKind.RECALL, self._believe())
            return
        if self._happens(self._settings.copies):
            self._note(TeacherDecision.COPIED)
            self._append(find_sentence(body, progress.entity, progress.relation))
        if self._happens(self._settings.misreads):
            self._note(TeacherDecision.MISREAD)
            self._say(PhraseKind.READ, self._misread(body, value))
        else:
            self._note(TeacherDecision.RIGHT_READ)
            self._say(PhraseKind.READ, value)

    def _doubts(self, value: str) -> bool:
        """Tell whether it trusts its memory more than a value that an observation states."""
        key = self._progress.entity, self._progress.relation
        is_remembered = key in self._teacher.memory
        if not is_remembered or self._teacher.world.facts[key].value == value:
            return False
        return self._happens(self._settings.trusts_memory)

    def _miss(self, body: str) -> None:
        """React to an observation that does not hold the value."""
        progress = self._progress
        settings = self._settings
        if self._others_shown(body) and self._happens(settings.misreads_absent):
            self._note(TeacherDecision.MISREAD)
            self._say(PhraseKind.READ, self._misread(body))
            return
        self._note(TeacherDecision.NOT_FOUND)
        self._say(PhraseKind.NOT_FOUND)
        can_search = self._is_offered and 0 < progress.num_searches < settings.max_searches
        if can_search and self._happens(settings.repeats):
            self._note(TeacherDecision.SEARCHED)
            self._note(TeacherDecision.REPEATED)
            self._search(progress.last_query)

    def _misread(self, body: str, right: str = "") -> str:
        """Choose another value that the observation shows, else invent one."""
        others = self._others_shown(body, right)
        if others:
            return self._rng.choice(others)
        value = self._invent()
        while value == right:
            value = self._invent()
        return value

    def _others_shown(self, body: str, right: str = "") -> list[str]:
        """List the names and values that an observation shows beside the right one."""
        others = []
        for value in phrases.values_shown(body):
            is_named = value in _PLAIN_VALUES or value.split()[0] in _NAME_WORDS
            if value != right and is_named:
                others.append(value)
        return others

    # Answering

    def _finish(self) -> None:
        """Compare where the question asks for it, then conclude and answer."""
        progress = self._progress
        kind = self._plan.kind
        if self._expression() and not progress.has_compared:
            self._calculate()
            if self._is_over:
                return
        elif kind in _COMPARISONS and not progress.has_compared:
            is_by_order = kind is not PlanKind.SAME
            compared = phrases.comparison(progress.values, is_by_order=is_by_order)
            self._say(PhraseKind.COMPARE, compared)
        if not progress.answer:
            concluded = self._plan.conclude(progress.values)
            is_calculated = kind in CALCULATIONS and progress.has_compared
            self._say(PhraseKind.ANSWER, progress.result if is_calculated else concluded)
        self._is_over = True
        if self._happens(self._settings.unclosed):
            self._note(TeacherDecision.UNCLOSED)
        elif self._happens(self._settings.unboxed):
            self._note(TeacherDecision.UNBOXED)
            self._append(f"\n{THINK_CLOSE}\n\n{progress.answer}")
        else:
            self._append(phrases.boxed(progress.answer))

    def _expression(self) -> str:
        """Write the calculation for the values found; empty where there is none to do yet."""
        progress = self._progress
        if progress.is_open or progress.has_next:
            return ""
        return self._plan.expression(progress.values)

    def _calculate(self) -> None:
        """Call the calculator, or say what it has shown, or calculate in one's head."""
        expression = self._expression()
        shown = self._progress.calculated
        if not shown and self._has_calculator and self._happens(self._settings.calculates):
            self._note(TeacherDecision.CALCULATED)
            self._append(phrases.calculate(expression))
            self._is_over = True
            return
        result = shown if shown.isdecimal() else str(self._calculate_in_head(expression))
        self._say(PhraseKind.COMPARE, phrases.calculation(expression, result))

    def _calculate_in_head(self, expression: str) -> int:
        result = calculate(expression)
        if not self._happens(self._settings.miscalculates):
            return result
        self._note(TeacherDecision.MISCALCULATED)
        return result + self._rng.choice(MISCALCULATIONS)

    def _answer_after_close(self) -> str:
        """Answer where the thinking is already closed, as after the marker that forces it."""
        answer = self._progress.answer or self._best_guess()
        if self._response.endswith(phrases.BOX_OPEN):
            return f"{answer}}}"
        if phrases.BOX_OPEN in self._response:
            return ""
        return f"{phrases.BOX_OPEN}{answer}}}"

    def _best_guess(self) -> str:
        """Answer from what was found; each value still missing is remembered or made up."""
        progress = self._progress
        if progress.unread is not None:
            value = read_value(progress.unread, progress.entity, progress.relation)
            progress.values[progress.hop :] = [value or self._believe()]
        while progress.is_open or progress.has_next:
            if not progress.is_open:
                progress.next_hop()
            progress.values.append(self._believe())
        return self._plan.conclude(progress.values)
