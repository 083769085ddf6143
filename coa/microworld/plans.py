"""Ask for a path through the facts in words, and find the path again from the words.

The two are inverse, so plans need not be stored beside the questions.
"""

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from coa.errors import InputError
from coa.microworld.relations import BIRTH_YEAR, BY_NAME, BY_NOUN
from coa.microworld.world import Fact, World

Facts = tuple[Fact, ...]
"""The facts that a question joins, in the order in which they are needed."""
OPENINGS = (
    ("What is the ", "?"),
    ("Name the ", "."),
    ("Tell me the ", "."),
    ("Can you find the ", "?"),
)
"""The beginnings and ends of a chain's question."""
_WHICH = "Which film is {}, {} or {}?"
_WHETHER = "Do {} and {} have the same {}?"
_OF_THE = " of the "
_AGE = "How old was {} when {} premiered?"
_TURNED = "In which year did {} turn {}?"
AGES = range(18, 61)
"""The ages that a question can ask about."""
_ANY_OPENING = "|".join(opening for opening, _ in OPENINGS)
_CHAIN = re.compile(rf"(?:{_ANY_OPENING})(?P<nouns>.+) of (?P<entity>[^?.]+)[?.]")
_COMPARISON = re.compile(r"Which film is (?P<kind>older|newer), (?P<a>.+) or (?P<b>.+)\?")
_SAME = re.compile(r"Do (?P<a>.+) and (?P<b>.+) have the same (?P<noun>\w+)\?")
_AGE_ASKED = re.compile(r"How old was (?P<person>.+) when (?P<film>.+) premiered\?")
_TURNED_ASKED = re.compile(r"In which year did (?P<person>.+) turn (?P<age>\d+)\?")


class UnknownQuestionError(InputError):
    """A question was not made from the world that is asked."""


class PlanKind(StrEnum):
    """The kind of a question."""

    CHAIN = "chain"
    """Asks for the last value of one to four facts, each about the value of the one before."""
    OLDER = "older"
    """Asks which of two films has the smaller year."""
    NEWER = "newer"
    """Asks which of two films has the larger year."""
    SAME = "same"
    """Asks whether two entities share a value: yes or no."""
    AGE = "age"
    """Asks how old a person was in the year of a film."""
    TURNED = "turned"
    """Asks in which year a person had an age."""


CALCULATIONS = frozenset({PlanKind.AGE, PlanKind.TURNED})
"""The kinds of questions that need a calculation with the values of their facts."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The facts that a question needs, for the teacher and the tests; never stored with it."""

    question_id: str
    question: str
    """The question as it is asked."""
    kind: PlanKind
    facts: Facts
    age: int = 0
    """The age that a question of the kind `turned` asks about."""

    def expression(self, values: Sequence[str]) -> str:
        """Write the calculation that leads from the values of the facts to the answer.

        Empty where none is needed, or where a value is no year.
        """
        if self.kind not in CALCULATIONS or not all(value.isdecimal() for value in values):
            return ""
        if self.kind is PlanKind.TURNED:
            return f"{values[0]} + {self.age}"
        birth_year, film_year = values
        return f"{film_year} - {birth_year}"

    def conclude(self, values: Sequence[str]) -> str:
        """Conclude the answer from the values of the facts, be they true or not."""
        if self.kind is PlanKind.CHAIN:
            return values[-1]
        if self.kind in CALCULATIONS:
            expression = self.expression(values)
            return str(calculate(expression)) if expression else values[-1]
        a, b = values
        if self.kind is PlanKind.SAME:
            return "yes" if a == b else "no"
        takes_first = a <= b if self.kind is PlanKind.OLDER else a >= b
        chosen = self.facts[0] if takes_first else self.facts[1]
        return chosen.entity

    @property
    def answer(self) -> str:
        """Return the right answer."""
        return self.conclude([fact.value for fact in self.facts])


def calculate(expression: str) -> int:
    """Compute a sum or a difference as `Plan.expression` writes it."""
    first, sign, second = expression.split()
    return int(first) + int(second) if sign == "+" else int(first) - int(second)


def make_plan(world: World, question: str, question_id: str = "") -> Plan:
    """Find the facts that a question needs, from its text.

    Raises:
        UnknownQuestionError: the question was not made from this world.
    """
    try:
        kind, steps = _read(question)
        facts = tuple(_follow(world, steps))
        asked = _TURNED_ASKED.fullmatch(question)
        return Plan(question_id, question, kind, facts, age=int(asked["age"]) if asked else 0)
    except KeyError as error:
        raise UnknownQuestionError(
            "the question was not made from this world",
            where=question_id,
            got=question,
            fix="use the world settings that the questions were made with",
        ) from error


def _read(text: str) -> tuple[PlanKind, list[tuple[str, str]]]:
    """Read a question's kind and its steps.

    A step is an entity, empty where it is the value of the step before, and a relation.
    """
    chain = _CHAIN.fullmatch(text)
    if chain:
        steps = []
        entity = chain["entity"]
        for noun in reversed(chain["nouns"].split(_OF_THE)):
            steps.append((entity, BY_NOUN[noun].name))
            entity = ""
        return PlanKind.CHAIN, steps
    comparison = _COMPARISON.fullmatch(text)
    if comparison:
        kind = PlanKind(comparison["kind"])
        return kind, [(comparison["a"], "year"), (comparison["b"], "year")]
    same = _SAME.fullmatch(text)
    if same:
        relation = BY_NOUN[same["noun"]].name
        return PlanKind.SAME, [(same["a"], relation), (same["b"], relation)]
    age = _AGE_ASKED.fullmatch(text)
    if age:
        return PlanKind.AGE, [(age["person"], BIRTH_YEAR.name), (age["film"], "year")]
    turned = _TURNED_ASKED.fullmatch(text)
    if turned:
        return PlanKind.TURNED, [(turned["person"], BIRTH_YEAR.name)]
    raise KeyError(text)


def _follow(world: World, steps: Iterable[tuple[str, str]]) -> Iterator[Fact]:
    """Look up the fact of each step."""
    value = ""
    for entity, relation in steps:
        fact = world.facts[entity or value, relation]
        value = fact.value
        yield fact


def question_text(kind: PlanKind, path: Facts, rng: random.Random, age: int = 0) -> str:
    """Ask for a path in words; the nouns and the opening vary.

    Only a question of the kind `turned` has an age.
    """
    if kind is PlanKind.CHAIN:
        opening, sign = rng.choice(OPENINGS)
        nouns = [_draw_noun(fact.relation, rng) for fact in reversed(path)]
        return f"{opening}{_OF_THE.join(nouns)} of {path[0].entity}{sign}"
    if kind is PlanKind.TURNED:
        return _TURNED.format(path[0].entity, age)
    first, second = path
    if kind is PlanKind.SAME:
        noun = _draw_noun(first.relation, rng)
        return _WHETHER.format(first.entity, second.entity, noun)
    if kind is PlanKind.AGE:
        return _AGE.format(first.entity, second.entity)
    return _WHICH.format(kind, first.entity, second.entity)


def _draw_noun(relation: str, rng: random.Random) -> str:
    return rng.choice((relation, BY_NAME[relation].synonym))
