"""A world whose passages mislead those who search for what they know."""

from dataclasses import replace

import pytest

from coa.errors import ConfigError
from coa.microworld.relations import read_value, sentence
from coa.microworld.teacher import Teacher
from coa.microworld.world import (
    FaultShares,
    GroupSize,
    PassageFault,
    World,
    WorldSettings,
    make_world,
)
from coa.policy.teacher.sentences import results
from coa.records.protocol import observation_text
from tests.microworld_teacher_support import PERFECT, prompt_of, request_for

SMALL = WorldSettings(
    known=GroupSize(60, 40, 20, 20),
    train=GroupSize(40, 30, 16, 16),
    validation=GroupSize(15, 10, 6, 6),
    test=GroupSize(15, 10, 6, 6),
    faults=FaultShares(stale=0.3, contradicted=0.2, distracted=0.1),
)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(SMALL)


def stated_values(world: World) -> dict[tuple[str, str], set[str]]:
    """Collect what the passages state about each fact of the world."""
    relations_of: dict[str, list[str]] = {}
    for entity, relation in world.facts:
        relations_of.setdefault(entity, []).append(relation)
    stated: dict[tuple[str, str], set[str]] = {key: set() for key in world.facts}
    for passage in world.passages():
        for relation in relations_of.get(passage.title, []):
            value = read_value(passage.text, passage.title, relation)
            if value:
                stated[passage.title, relation].add(value)
    return stated


def test_faults_change_passages_about_known_facts_and_nothing_else(world: World) -> None:
    plain = make_world(replace(SMALL, faults=FaultShares()))
    assert world.facts == plain.facts
    faults = world.passage_faults()
    for key, values in stated_values(world).items():
        fact = world.facts[key]
        fault = faults.get(key)
        assert fault is None or world.is_known(fact)
        assert (fact.value in values) == (fault in (None, PassageFault.CONTRADICTED))
        assert len(values) == {None: 1, PassageFault.DISTRACTED: 0}.get(fault, len(values))
        assert fault is not PassageFault.CONTRADICTED or len(values) == 2


def test_shares_of_more_than_all_are_an_error_that_says_so() -> None:
    with pytest.raises(ConfigError, match="together at most 1"):
        make_world(replace(SMALL, faults=FaultShares(stale=0.8, contradicted=0.3)))


@pytest.mark.parametrize(
    ("trusts_memory", "said"), [(0.0, "It says Cold Usk."), (1.0, "I recall ")]
)
def test_a_teacher_believes_what_it_reads_or_what_it_remembers(
    world: World, trusts_memory: float, said: str
) -> None:
    settings = replace(PERFECT, trusts_memory=trusts_memory)
    teacher = Teacher(world, settings=settings)
    fact = next(
        fact
        for key, fact in world.facts.items()
        if fact.relation == "birthplace" and key in teacher.memory
    )
    shown = results([sentence(fact.entity, "birthplace", "Cold Usk", 0)])
    prompt = prompt_of(f"What is the birthplace of {fact.entity}?", is_offered=True)
    thought = f"I need the birthplace of {fact.entity}. <begin_search> {fact.entity} </end_search>"
    context = prompt + thought + observation_text("search", shown)
    written = teacher.write(request_for(context))
    assert said in written
    assert (fact.value in written) == (trusts_memory == 1.0)
