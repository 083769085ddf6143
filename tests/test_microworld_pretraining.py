"""The texts from which a student learns the known facts and how to read."""

import itertools
import re

import pytest

from coa.microworld.paths import known_paths
from coa.microworld.plans import PlanKind, make_plan
from coa.microworld.pretraining import Document, pretraining_documents
from coa.microworld.world import Group, World, WorldSettings, make_world
from coa.records.protocol import THINK_CLOSE, THINK_OPEN

_NAME = re.compile(r"[A-Z]\w+ [A-Z]\w+")


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(WorldSettings())


@pytest.fixture(scope="module")
def documents(world: World) -> list[Document]:
    return list(itertools.islice(pretraining_documents(world, seed=0), 6_000))


@pytest.fixture(scope="module")
def texts(documents: list[Document]) -> list[str]:
    return ["".join(piece.text for piece in document) for document in documents]


def test_no_question_that_a_held_out_split_may_ask_occurs(world: World, texts: list[str]) -> None:
    held_out = {
        (kind is PlanKind.SAME, frozenset(facts))
        for split in (Group.VALIDATION, Group.TEST)
        for paths in known_paths(world, split).values()
        for kind, facts, _ in paths
    }
    asked = [
        found[1]
        for text in texts
        if "I recall" in text and (found := re.search(r"Question: (.+)", text))
    ]
    plans = [
        make_plan(world, text)
        for text in asked
        if all(n in world.groups for n in _NAME.findall(text[8:]))
    ]
    assert len(plans) > 500
    assert not {(plan.kind is PlanKind.SAME, frozenset(plan.facts)) for plan in plans} & held_out


def test_thinking_and_boxed_answers_are_shown_but_no_action_or_observation_tag(
    texts: list[str],
) -> None:
    tags = {tag for text in texts for tag in re.findall(r"</?\w+>", text)}
    assert tags == {THINK_OPEN, THINK_CLOSE}
    assert any("\\boxed{" in text for text in texts)


def test_passages_about_invented_names_carry_no_loss_and_all_else_does(
    documents: list[Document],
) -> None:
    for document in documents:
        for piece in document:
            assert piece.is_trained is not ("result 1:" in piece.text)


def test_what_is_recalled_of_a_known_entity_is_true(world: World, texts: list[str]) -> None:
    recalled = re.findall(r"I need the (\w+) of ([^.]+)\. I recall ([^.]+)\.", "\n".join(texts))
    known = [
        (entity, relation, value)
        for relation, entity, value in recalled
        if (entity, relation) in world.facts
    ]
    assert len(known) > 1_000
    assert all(world.facts[entity, relation].value == value for entity, relation, value in known)
