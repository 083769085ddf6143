"""What a question needs: a path through the facts -> its words, and a question's words -> its plan.

The two are inverse, so nobody has to keep plans beside the questions.
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
"""How a chain's question begins and ends."""
_WHICH = "Which film is {}, {} or {}?"
_WHETHER = "Do {} and {} have the same {}?"
WORDING = (*itertools.chain(*OPENINGS), _WHICH, "older newer", _WHETHER, "yes no", " of the ")
"""All words that questions and their answers add to names and nouns."""
_CHAIN = re.compile(
    rf"(?:{'|'.join(opening for opening, _ in OPENINGS)})(?P<nouns>.+) of (?P<entity>[^?.]+)[?.]"
)
_COMPARISON = re.compile(r"Which film is (?P<kind>older|newer), (?P<a>.+) or (?P<b>.+)\?")
_SAME = re.compile(r"Do (?P<a>.+) and (?P<b>.+) have the same (?P<noun>\w+)\?")


class PlanKind(StrEnum):
    """What a question asks."""

    CHAIN = "chain"
    """The value at the end of one to four facts, each about the value of the one before."""
    OLDER = "older"
    """Which of two films has the smaller year."""
    NEWER = "newer"
    """Which of two films has the larger year."""
    SAME = "same"
    """Whether two entities share a value: yes or no."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a question needs: for the teacher and the tests; it never travels with the question."""

    question_id: str
    question: str
    """As asked."""
    kind: PlanKind
    facts: Facts

    def conclude(self, values: Sequence[str]) -> str:
        """The answer that follows when the facts have these values, be they true or not."""
        if self.kind is PlanKind.CHAIN:
            return values[-1]
        a, b = values
        if self.kind is PlanKind.SAME:
            return "yes" if a == b else "no"
        takes_first = a <= b if self.kind is PlanKind.OLDER else a >= b
        return self.facts[0 if takes_first else 1].entity

    @property
    def answer(self) -> str:
        """The right answer."""
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
    """The kind of a question and its steps: an entity, empty where it is the value before, and a relation."""
    if found := _CHAIN.fullmatch(text):
        relations = [BY_NOUN[noun].name for noun in reversed(found["nouns"].split(" of the "))]
        return PlanKind.CHAIN, list(
            zip([found["entity"]] + [""] * (len(relations) - 1), relations, strict=True)
        )
    if found := _COMPARISON.fullmatch(text):
        return PlanKind(found["kind"]), [(found["a"], "year"), (found["b"], "year")]
    if found := _SAME.fullmatch(text):
        relation = BY_NOUN[found["noun"]].name
        return PlanKind.SAME, [(found["a"], relation), (found["b"], relation)]
    raise KeyError(text)


def _follow(world: World, steps: Iterable[tuple[str, str]]) -> Iterator[Fact]:
    value = ""
    for entity, relation in steps:
        fact = world.facts[entity or value, relation]
        value = fact.value
        yield fact


def question_text(kind: PlanKind, path: Facts, rng: random.Random) -> str:
    """Ask for a path in words; the nouns and the opening vary."""
    if kind is PlanKind.CHAIN:
        opening, sign = rng.choice(OPENINGS)
        nouns = (_noun(fact.relation, rng) for fact in reversed(path))
        return f"{opening}{' of the '.join(nouns)} of {path[0].entity}{sign}"
    a, b = (fact.entity for fact in path)
    if kind is PlanKind.SAME:
        return _WHETHER.format(a, b, _noun(path[0].relation, rng))
    return _WHICH.format(kind, a, b)


def _noun(relation: str, rng: random.Random) -> str:
    return rng.choice((relation, RELATIONS[relation].synonym))
