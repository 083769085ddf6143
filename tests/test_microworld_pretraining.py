"""The texts from which a student learns the known facts and how to read."""

import itertools
import re

import pytest

from coa.microworld.paths import known_paths
from coa.microworld.plans import PlanKind, make_plan
from coa.microworld.pretraining import Document, pretraining_documents
from coa.microworld.vocabulary import vocabulary
from coa.microworld.world import SPLITS, Group, World, WorldSettings, make_world
from coa.records.protocol import THINK_CLOSE, THINK_OPEN

_TOKEN = re.compile(r"</?\w+>|\w+|[^\w\s]")
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


def test_equal_seeds_give_equal_documents_and_other_seeds_others(
    world: World, documents: list[Document]
) -> None:
    assert list(itertools.islice(pretraining_documents(world, seed=0), 50)) == documents[:50]
    assert list(itertools.islice(pretraining_documents(world, seed=1), 50)) != documents[:50]


def test_no_entity_of_a_split_occurs(world: World, texts: list[str]) -> None:
    to_search = {entity for entity, group in world.groups.items() if group in SPLITS}
    mentioned = {name for text in texts for name in _NAME.findall(text)}
    assert not mentioned & to_search


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


def test_every_word_is_in_the_vocabulary(world: World, texts: list[str]) -> None:
    words = {word for text in texts for word in _TOKEN.findall(text)} - {THINK_OPEN, THINK_CLOSE}
    assert words <= set(vocabulary(world))


def test_passages_about_invented_names_carry_no_loss_and_all_else_does(
    documents: list[Document],
) -> None:
    for document in documents:
        for piece in document:
            assert piece.is_trained is not ("result 1:" in piece.text)


def test_whatever_is_read_stands_in_a_passage_before(texts: list[str]) -> None:
    read = [
        (text[: found.start()], found[1])
        for text in texts
        for found in re.finditer(r"It says ([^.]+)\.", text)
    ]
    assert len(read) > 5_000
    assert all(f"{value}." in before for before, value in read)


def test_what_is_recalled_of_a_known_entity_is_true(world: World, texts: list[str]) -> None:
    recalled = re.findall(r"I need the (\w+) of ([^.]+)\. I recall ([^.]+)\.", "\n".join(texts))
    known = [
        (entity, relation, value)
        for relation, entity, value in recalled
        if (entity, relation) in world.facts
    ]
    assert len(known) > 1_000
    assert all(world.facts[entity, relation].value == value for entity, relation, value in known)


def test_guesses_about_invented_names_are_nearly_always_hedged(
    world: World, texts: list[str]
) -> None:
    said = re.findall(r"I need the \w+ of ([^.]+)\. (Maybe|I recall) ", "\n".join(texts))
    hedged = [how == "Maybe" for entity, how in said if entity not in world.groups]
    assert 0.85 < sum(hedged) / len(hedged) < 0.95
    assert not any(how == "Maybe" for entity, how in said if entity in world.groups)


def test_rare_entities_are_mentioned_less(world: World, texts: list[str]) -> None:
    titles = [
        _NAME.findall(text) for text in texts if "Question" not in text and "result" not in text
    ]
    mentions = [name for names in titles for name in names if world.groups.get(name) is Group.KNOWN]
    rare = sum(name in world.rare for name in mentions) / len(world.rare)
    frequent = sum(name not in world.rare for name in mentions) / (210 - len(world.rare))
    assert rare < 0.7 * frequent


def test_a_few_documents_are_transcripts_of_another_format(texts: list[str]) -> None:
    transcripts = [text for text in texts if "Action: search[" in text]
    assert 0.01 < len(transcripts) / len(texts) < 0.05
    assert all(
        re.search(r"Observation: result 1: .*\nThought: .*\n?.*Answer: \w", t, re.DOTALL)
        for t in transcripts
    )


def test_documents_are_short(texts: list[str]) -> None:
    lengths = [len(_TOKEN.findall(text)) for text in texts]
    assert sum(lengths) / len(lengths) < 90
    assert max(lengths) < 220
