"""A scripted, imperfect teacher: a request -> the text that follows, for `coa.policy.scripted.ScriptedPolicy`.

It remembers part of the facts and makes up the rest, searches mostly what it does not remember, asks poorly now and
then, misreads, gives up, and breaks the format once in a while, so that everything after it has real work to do. What
it writes depends on the request's text and seed alone: a call can be replayed, and a rollout may be cut after any
sentence and continued, with or without a trigger.
"""

import random
import zlib
from collections.abc import Callable, Iterable

from coa.microworld import phrases
from coa.microworld.decisions import TeacherDecision, TeacherEvent, TeacherSettings
from coa.microworld.names import POOLS, VALUES
from coa.microworld.phrases import PhraseKind, Utterance
from coa.microworld.plans import Plan, PlanKind, make_plan
from coa.microworld.progress import PlanProgress
from coa.microworld.relations import RELATIONS, RELATIONS_OF, find_sentence, read_value
from coa.microworld.world import World
from coa.policy import Request
from coa.protocol import THINK_CLOSE, THINK_OPEN, neutralise

_RESPONSE_START = f"{THINK_OPEN}\n"
_QUESTION = "Question: "
_NAME_WORDS = frozenset(word for pools in POOLS.values() for pool in pools for word in pool)
_PLAIN_VALUES = frozenset(value for values in VALUES.values() for value in values)


class Teacher:
    """Writes trajectories; `write` is the script."""

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
        """The facts that it remembers, as entity and relation."""
        # Known plans save reading the question, and their ids stand in the events.
        self._plans = {neutralise(plan.question): plan for plan in plans}

    def write(self, request: Request) -> str:
        """Continue the request's context up to the end of the next action or of the answer.

        Raises:
            InputError: the context holds no question about this world, or its thinking is not opened.
        """
        prompt, _, response = request.context.rpartition(_RESPONSE_START)
        question = prompt.rpartition(_QUESTION)[2].split("\n", 1)[0].strip()
        plan = self._plans.get(question) or make_plan(self.world, question)
        return _Turn(self, plan, request.seed, response, phrases.SEARCH_OPEN in prompt).write()

    def _memorise(self) -> frozenset[tuple[str, str]]:
        rng = random.Random(f"{self.settings.seed}/memory")
        chances = {True: self.settings.remembers_known, False: self.settings.remembers_other}
        facts = self.world.facts
        return frozenset(
            key for key, fact in facts.items() if rng.random() < chances[self.world.is_known(fact)]
        )


class _Turn:
    """One call: what is written from the end of the context to the end of the turn."""

    def __init__(
        self, teacher: Teacher, plan: Plan, seed: int, response: str, is_offered: bool
    ) -> None:
        self._teacher, self._settings, self._plan = teacher, teacher.settings, plan
        self._seed, self._response, self._is_offered = seed, response, is_offered
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
        before = self._written or self._response
        self._written += (
            text if not before or before[-1].isspace() or text[0].isspace() else f" {text}"
        )

    def _say(self, said: PhraseKind, what: str = "") -> None:
        self._append(phrases.say(said, what))
        self._progress.follow(Utterance(said, what))

    # Searching or not

    def _decide(self) -> None:
        progress, settings = self._progress, self._settings
        is_remembered = (progress.entity, progress.relation) in self._teacher.memory
        may_search = self._is_offered and progress.num_searches < settings.max_searches
        chance = settings.searches_remembered if is_remembered else settings.searches_other
        if may_search and self._happens(
            settings.searches_again if progress.num_searches else chance
        ):
            self._search(self._query())
            return
        if progress.num_searches:
            self._note(TeacherDecision.GAVE_UP)
        self._note(TeacherDecision.RECALLED if is_remembered else TeacherDecision.HALLUCINATED)
        self._say(PhraseKind.RECALL if is_remembered else PhraseKind.GUESS, self._believe())

    def _believe(self) -> str:
        """What it remembers of this hop's fact, else a made-up value of the right category."""
        key = self._progress.entity, self._progress.relation
        if key in self._teacher.memory:
            return self._teacher.world.facts[key].value
        return self._invent()

    def _invent(self) -> str:
        return self._teacher.world.invent_value(RELATIONS[self._progress.relation].value, self._rng)

    def _search(self, query: str) -> None:
        self._append(phrases.search(query))
        self._is_over = True

    def _query(self) -> str:
        """A query for this hop: at first in any form, after a failure a better one than the last."""
        progress = self._progress
        entity, relation = progress.entity, RELATIONS[progress.relation]
        self._note(TeacherDecision.SEARCHED)
        noun, verb = f"{entity} {relation.name}", f"{entity} {relation.verb}"
        both = f"{noun} {relation.verb}"
        if progress.num_searches:
            return next(query for query in (both, verb) if query != progress.last_query)
        if not self._happens(self._settings.poor_query):
            return self._rng.choices((noun, verb, both), (5, 1, 4))[0]
        self._note(TeacherDecision.POOR_QUERY)
        others = [other.name for other in RELATIONS_OF[relation.subject] if other is not relation]
        return self._rng.choices(
            (
                entity,
                f"{entity.split()[0]} {relation.name}",
                f"{entity} {self._rng.choice(others)}",
            ),
            (4, 3, 3),
        )[0]

    # Reading what came back

    def _read(self, body: str) -> None:
        progress = self._progress
        value = read_value(body, progress.entity, progress.relation)
        if not value:
            self._miss(body)
            return
        if self._happens(self._settings.copies):
            self._note(TeacherDecision.COPIED)
            self._append(find_sentence(body, progress.entity, progress.relation))
        is_right = not self._happens(self._settings.misreads)
        self._note(TeacherDecision.RIGHT_READ if is_right else TeacherDecision.MISREAD)
        self._say(PhraseKind.READ, value if is_right else self._misread(body, value))

    def _miss(self, body: str) -> None:
        """The observation does not hold the value."""
        progress, settings = self._progress, self._settings
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
        if others := self._others_shown(body, right):
            return self._rng.choice(others)
        return next(value for value in iter(self._invent, None) if value != right)

    def _others_shown(self, body: str, right: str = "") -> list[str]:
        """The names and values that an observation shows beside the right one."""
        shown = (value for value in phrases.values_shown(body) if value != right)
        return [
            value for value in shown if value in _PLAIN_VALUES or value.split()[0] in _NAME_WORDS
        ]

    # Answering

    def _finish(self) -> None:
        progress, kind = self._progress, self._plan.kind
        if kind is not PlanKind.CHAIN and not progress.has_compared:
            self._say(
                PhraseKind.COMPARE,
                phrases.comparison(progress.values, is_by_order=kind is not PlanKind.SAME),
            )
        if not progress.answer:
            self._say(PhraseKind.ANSWER, self._plan.conclude(progress.values))
        self._is_over = True
        if self._happens(self._settings.unclosed):
            self._note(TeacherDecision.UNCLOSED)
        elif self._happens(self._settings.unboxed):
            self._note(TeacherDecision.UNBOXED)
            self._append(f"\n{THINK_CLOSE}\n\n{progress.answer}")
        else:
            self._append(phrases.boxed(progress.answer))

    def _answer_after_close(self) -> str:
        """The answer where the thinking is already closed, as after the marker that forces one."""
        answer = self._progress.answer or self._best_guess()
        if self._response.endswith(phrases.BOX_OPEN):
            return f"{answer}}}"
        return "" if phrases.BOX_OPEN in self._response else f"{phrases.BOX_OPEN}{answer}}}"

    def _best_guess(self) -> str:
        progress = self._progress
        if progress.unread is not None:
            value = read_value(progress.unread, progress.entity, progress.relation)
            progress.values[progress.hop :] = [value or self._believe()]
        while progress.is_open or progress.has_next:
            if not progress.is_open:
                progress.next_hop()
            progress.values.append(self._believe())
        return self._plan.conclude(progress.values)
