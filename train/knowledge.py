"""What a student of the microworld is to know from pre-training, and whether a rollout searched for what it knows.

Read back from a rollout's own sentences; in any other world nobody can tell what a model knows.
"""

from collections.abc import Iterator
from typing import NamedTuple

from coa.errors import InputError
from coa.microworld.phrases import PhraseKind, read_back
from coa.microworld.plans import make_plan
from coa.microworld.questions import SOURCE
from coa.microworld.world import Fact, World
from coa.protocol import render
from coa.question import Question
from coa.trajectory import Step

_NEEDED = " of "


class Decision(NamedTuple):
    """What a rollout did right after it had said which fact it needs."""

    fact: Fact
    is_known: bool
    searched: bool


def needs_no_search(world: World, question: Question) -> bool | None:
    """Whether all facts that a question joins are known; None for a question that is not about this world."""
    if question.source != SOURCE:
        return None
    try:
        return all(world.is_known(fact) for fact in make_plan(world, question.question).facts)
    except InputError:
        return None


def needed_fact(world: World, said: str) -> Fact | None:
    """The fact that a sentence speaks of as `relation of entity`; None where the world has none."""
    relation, _, entity = said.partition(_NEEDED)
    return world.facts.get((entity, relation))


def decisions(world: World, steps: tuple[Step, ...]) -> Iterator[Decision]:
    """To search or not: one decision for each fact of this world that the rollout says it needs."""
    fact: Fact | None = None
    for utterance in read_back(render(steps)):
        if fact is not None:
            yield Decision(fact, world.is_known(fact), utterance.said is PhraseKind.SEARCH)
        fact = needed_fact(world, utterance.text) if utterance.said is PhraseKind.NEED else None


def fact_before(world: World, steps: tuple[Step, ...]) -> Fact | None:
    """The last fact that the steps say they need."""
    needs = [
        utterance.text
        for utterance in read_back(render(steps))
        if utterance.said is PhraseKind.NEED
    ]
    return needed_fact(world, needs[-1]) if needs else None
