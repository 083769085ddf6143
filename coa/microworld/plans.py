"""Ask for a path through the facts in words, and find the path again from the words.

The two are inverse, so plans need not be stored beside the questions.
"""

import itertools
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from coa.errors import InputError
from coa.microworld.relations import BY_NOUN, RELATIONS
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
WORDING = (*itertools.chain(*OPENINGS), _WHICH, "older newer", _WHETHER, "yes no", _OF_THE)
"""All words that questions and their answers add to names and nouns."""
_ANY_OPENING = "|".join(opening for opening, _ in OPENINGS)
_CHAIN = re.compile(rf"(?:{_ANY_OPENING})(?P<nouns>.+) of (?P<entity>[^?.]+)[?.]")
_COMPARISON = re.compile(r"Which film is (?P<kind>older|newer), (?P<a>.+) or (?P<b>.+)\?")
_SAME = re.compile(r"Do (?P<a>.+) and (?P<b>.+) have the same (?P<noun>\w+)\?")


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


@dataclass(frozen=True, slots=True)
class Plan:
    """The facts that a question needs, for the teacher and the tests; never stored with it."""

    question_id: str
    question: str
    """The question as it is asked."""
    kind: PlanKind
    facts: Facts

    def conclude(self, values: Sequence[str]) -> str:
        """Conclude the answer from the values of the facts, be they true or not."""
        if self.kind is PlanKind.CHAIN:
            return values[-1]
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


def make_plan(world: World, question: str, question_id: str = "") -> Plan:
    """Find the facts that a question needs, from its text.

    Raises:
        InputError: the question was not made from this world.
    """
    try:
        kind, steps = _read(question)
        return Plan(question_id, question, kind, tuple(_follow(world, steps)))
    except KeyError as error:
        raise InputError(
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
    raise KeyError(text)


def _follow(world: World, steps: Iterable[tuple[str, str]]) -> Iterator[Fact]:
    """Look up the fact of each step."""
    value = ""
    for entity, relation in steps:
        fact = world.facts[entity or value, relation]
        value = fact.value
        yield fact


def question_text(kind: PlanKind, path: Facts, rng: random.Random) -> str:
    """Ask for a path in words; the nouns and the opening vary."""
    if kind is PlanKind.CHAIN:
        opening, sign = rng.choice(OPENINGS)
        nouns = [_draw_noun(fact.relation, rng) for fact in reversed(path)]
        return f"{opening}{_OF_THE.join(nouns)} of {path[0].entity}{sign}"
    first, second = path
    if kind is PlanKind.SAME:
        noun = _draw_noun(first.relation, rng)
        return _WHETHER.format(first.entity, second.entity, noun)
    return _WHICH.format(kind, first.entity, second.entity)


def _draw_noun(relation: str, rng: random.Random) -> str:
    return rng.choice((relation, RELATIONS[relation].synonym))
