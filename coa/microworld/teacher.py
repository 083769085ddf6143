"""Tell the scripted teacher of an invented world which facts a question takes.

The teacher remembers part of the facts and makes up the rest. The words of the relations are the
language of its world: a query may hold them whatever was shown, but no name that was not.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

from coa.microworld import phrases
from coa.microworld.names import POOLS, VALUES
from coa.microworld.plans import CALCULATIONS, Plan, PlanKind, make_plan
from coa.microworld.relations import BY_NAME, RELATIONS_OF, find_sentence, read_value
from coa.microworld.world import World
from coa.policy.teacher.script import Script, Shown
from coa.policy.teacher.settings import TeacherEvent, TeacherSettings
from coa.records.protocol import neutralise

_NAME_WORDS = frozenset(chain.from_iterable(pool.first + pool.second for pool in POOLS.values()))
_PLAIN_VALUES = frozenset(chain.from_iterable(VALUES.values()))
_IN_ORDER = frozenset({PlanKind.OLDER, PlanKind.NEWER})


class Teacher(Script):
    """A teacher that answers the questions of a world."""

    def __init__(
        self,
        world: World,
        plans: Iterable[Plan] = (),
        settings: TeacherSettings | None = None,
        on_event: Callable[[TeacherEvent], None] | None = None,
    ) -> None:
        super().__init__(self._find, settings or TeacherSettings(), on_event)
        self.world = world
        self.memory = self._memorise()
        """The facts that it remembers, by entity and relation."""
        # Known plans save reading the question, and their ids are in the events.
        self._plans = {neutralise(plan.question): plan for plan in plans}

    def _find(self, question: str) -> "WorldKnowledge":
        plan = self._plans.get(question) or make_plan(self.world, question)
        return WorldKnowledge(self.world, plan, self.memory)

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


class WorldKnowledge:
    """The facts that a question about an invented world takes (`Knowledge`)."""

    sentences = phrases.SENTENCES

    def __init__(self, world: World, plan: Plan, memory: frozenset[tuple[str, str]]) -> None:
        self._world = world
        self._plan = plan
        self._memory = memory
        self.question_id = plan.question_id
        self.num_facts = len(plan.facts)

    def _entity(self, index: int, values: Sequence[str]) -> str:
        """Return what the fact is about: the question names it, or the fact before leads to it."""
        if index > 0 and self._plan.kind is PlanKind.CHAIN:
            return values[index - 1]
        return self._plan.facts[index].entity

    def _key(self, index: int, values: Sequence[str]) -> tuple[str, str]:
        return self._entity(index, values), self._plan.facts[index].relation

    def need(self, index: int, values: Sequence[str], shown: Shown) -> str:
        """Name the relation and the entity."""
        entity, relation = self._key(index, values)
        return f"{relation} of {entity}"

    def is_settled(self, values: Sequence[str]) -> bool:
        """Tell that all facts are needed."""
        return False

    def can_search(self, index: int, values: Sequence[str], shown: Shown) -> bool:
        """Tell whether the question or a result has shown the entity."""
        return shown.holds(self._entity(index, values))

    def query(
        self, index: int, values: Sequence[str], shown: Shown, queries: Sequence[str]
    ) -> Sequence[str]:
        """Write queries of any form; after a failure a better one than the last."""
        entity, name = self._key(index, values)
        verb = BY_NAME[name].verb
        with_both = f"{entity} {name} {verb}"
        if queries:
            return [with_both if queries[-1] != with_both else f"{entity} {verb}"]
        return [f"{entity} {name}"] * 5 + [f"{entity} {verb}"] + [with_both] * 4

    def bad_query(self, index: int, values: Sequence[str], shown: Shown, rng: random.Random) -> str:
        """Ask for the entity alone, half the name, or another relation."""
        entity, name = self._key(index, values)
        relations = RELATIONS_OF[BY_NAME[name].subject]
        others = [other.name for other in relations if other.name != name]
        half_name = f"{entity.split()[0]} {name}"
        wrong_relation = f"{entity} {rng.choice(others)}"
        return rng.choices((entity, half_name, wrong_relation), (4, 3, 3))[0]

    def read(
        self, index: int, values: Sequence[str], shown: Shown, observations: Sequence[str]
    ) -> str:
        """Read the value that a passage states for the relation of the entity."""
        return read_value("\n".join(observations), *self._key(index, values))

    def quote(self, value: str, shown: Shown) -> str:
        """Quote nothing: a passage of the world states a value in a few words."""
        return ""

    def distractors(self, index: int, observation: str, right: str) -> list[str]:
        """List the names and values that a result shows beside the right one."""
        others = []
        for value in phrases.values_shown(observation):
            is_named = value in _PLAIN_VALUES or value.split()[0] in _NAME_WORDS
            if value != right and is_named:
                others.append(value)
        return others

    def copied(self, index: int, values: Sequence[str], observation: str) -> str:
        """Copy the sentence that states the fact, or what was shown first."""
        return find_sentence(observation, *self._key(index, values)) or observation.split("\n")[0]

    def recall(self, index: int, values: Sequence[str]) -> str:
        """Return the value of a fact that is remembered."""
        key = self._key(index, values)
        return self._world.facts[key].value if key in self._memory else ""

    def invent(self, index: int, values: Sequence[str], rng: random.Random) -> str:
        """Invent a value of the right category."""
        category = BY_NAME[self._plan.facts[index].relation].value
        return self._world.invent_value(category, rng)

    def compare(self, values: Sequence[str]) -> str:
        """Say which year is before, or whether two values are the same."""
        if self._plan.kind not in (*_IN_ORDER, PlanKind.SAME):
            return ""
        return phrases.comparison(values, is_by_order=self._plan.kind in _IN_ORDER)

    def expression(self, values: Sequence[str]) -> str:
        """Write the calculation with the years that were found."""
        return self._plan.expression(values)

    def conclude(self, values: Sequence[str], shown: Shown) -> str:
        """Conclude the answer from the values, be they right or not."""
        return self._plan.conclude(values)

    def slip(self, values: Sequence[str], answer: str, rng: random.Random) -> str:
        """Take the other one of two, an earlier value, or the entity that was asked about."""
        kind = self._plan.kind
        if kind is PlanKind.SAME:
            return "no" if answer == "yes" else "yes"
        named = [fact.entity for fact in self._plan.facts]
        if kind in _IN_ORDER:
            return named[0] if answer == named[1] else named[1]
        if kind in CALCULATIONS:
            return values[0]
        return values[-2] if len(values) > 1 else named[0]
