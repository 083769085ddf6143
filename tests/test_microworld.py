"""The world, its passages and its questions."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError, InputError
from coa.microworld.factory import MicroworldParams, scripted_teacher
from coa.microworld.plans import Plan, PlanKind, make_plan
from coa.microworld.questions import make_questions
from coa.microworld.relations import RELATIONS, read_value, sentence
from coa.microworld.world import SPLITS, Group, GroupSize, World, WorldSettings, make_world
from coa.policy import Request
from coa.records.question import Question
from coa.settings.params import Params, write_profile

COUNTS = {Group.TRAIN: 22_000, Group.VALIDATION: 1_500, Group.TEST: 2_500}
SMALL = WorldSettings(
    seed=3,
    known=GroupSize(20, 14, 8, 8),
    train=GroupSize(40, 30, 16, 16),
    validation=GroupSize(15, 10, 6, 6),
    test=GroupSize(15, 10, 6, 6),
)


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(WorldSettings())


@pytest.fixture(scope="module")
def questions(world: World) -> dict[Group, list[Question]]:
    return {split: make_questions(world, split, count, seed=1) for split, count in COUNTS.items()}


@pytest.fixture(scope="module")
def plans(world: World, questions: dict[Group, list[Question]]) -> dict[Group, list[Plan]]:
    return {
        split: [make_plan(world, question.question, question.question_id) for question in asked]
        for split, asked in questions.items()
    }


def test_equal_settings_make_equal_worlds_and_another_seed_another() -> None:
    assert make_world(SMALL) == make_world(SMALL)
    assert make_world(SMALL).facts.keys() != make_world(WorldSettings(seed=4)).facts.keys()


def test_facts_of_a_split_lead_to_the_same_split_or_to_what_is_known(world: World) -> None:
    for fact in world.facts.values():
        if RELATIONS[fact.relation].is_link:
            assert world.groups[fact.value] in {world.groups[fact.entity], Group.KNOWN}


@pytest.mark.parametrize("person", [1, 6_000])
def test_a_group_that_is_too_small_or_too_large_is_an_error_that_names_the_limit(
    person: int,
) -> None:
    with pytest.raises(ConfigError, match=r"expected: at (least|most) \d+"):
        make_world(WorldSettings(test=GroupSize(person, 10, 10, 10)))


def test_every_fact_is_stated_by_a_passage_under_its_title_and_none_contradicts_one(
    world: World,
) -> None:
    stated = set()
    for passage in world.passages():
        for relation in RELATIONS:
            if value := read_value(passage.text, passage.title, relation):
                fact = world.facts.get((passage.title, relation))
                assert fact is None or fact.value == value
                stated.add((passage.title, relation))
    assert world.facts.keys() <= stated


@given(
    relation=st.sampled_from(sorted(RELATIONS)),
    paraphrase=st.integers(0, 1),
    seed=st.integers(0, 1_000),
)
def test_a_value_is_read_back_from_its_sentence_among_others(
    relation: str, paraphrase: int, seed: int
) -> None:
    small, rng = make_world_once(), random.Random(seed)
    entity, other = (small.invent_name(RELATIONS[relation].subject, rng) for _ in range(2))
    values = [small.invent_value(RELATIONS[relation].value, rng) for _ in range(2)]
    body = (
        f"result 1: {sentence(other, relation, values[1], 0)}\n"
        f"result 2: {sentence(entity, relation, values[0], 1)}"
    )
    assert (
        read_value(sentence(entity, relation, values[0], paraphrase), entity, relation) == values[0]
    )
    assert read_value(body, entity, relation) == (values[0] if entity != other else values[1])


def make_world_once(cache: list[World] = []) -> World:  # noqa: B006 - the one world that all examples share
    if not cache:
        cache.append(make_world(SMALL))
    return cache[0]


def _path(plan: Plan) -> tuple[str, object]:
    """What a plan asks for, in whatever words and order."""
    if plan.kind is PlanKind.CHAIN:
        return "chain", plan.facts
    return "same" if plan.kind is PlanKind.SAME else "comparison", frozenset(plan.facts)


def test_a_plan_read_from_a_question_concludes_its_gold_answer(
    questions: dict[Group, list[Question]], plans: dict[Group, list[Plan]]
) -> None:
    for split in SPLITS:
        for question, plan in zip(questions[split], plans[split], strict=True):
            assert plan.answer == question.gold_answers[0]
            assert plan.question_id == question.question_id
            assert question.num_hops == len(plan.facts)
            assert question.gold_titles == tuple(dict.fromkeys(fact.entity for fact in plan.facts))


def test_no_two_splits_ask_for_the_same_path(plans: dict[Group, list[Plan]]) -> None:
    paths = [{_path(plan) for plan in plans[split]} for split in SPLITS]
    assert sum(map(len, paths)) == len(set().union(*paths))


def test_what_a_split_has_to_search_belongs_to_it_alone(
    world: World, plans: dict[Group, list[Plan]]
) -> None:
    for split in SPLITS:
        groups = {world.groups[fact.entity] for plan in plans[split] for fact in plan.facts}
        assert groups == {split, Group.KNOWN}


def test_more_questions_than_the_world_has_are_refused_with_the_number_that_there_is() -> None:
    with pytest.raises(ConfigError, match=r"expected: at most \d+ of them"):
        make_questions(make_world(SMALL), Group.TEST, 100_000, seed=0)
    with pytest.raises(ConfigError, match="only a split has questions"):
        make_questions(make_world(SMALL), Group.KNOWN, 1, seed=0)


@pytest.mark.parametrize(
    "text", ["What is the mayor of Gotham?", "Who wrote it?", "Name the colour of Port Velden."]
)
def test_a_question_from_elsewhere_has_no_plan(world: World, text: str) -> None:
    with pytest.raises(InputError, match="not made from this world"):
        make_plan(world, text, "q1")


def test_the_section_of_the_parameters_file_makes_a_teacher(root: Path, tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    write_profile(root / "conf/tiny.yaml", file, root / "conf/microworld.yaml")
    settings = ["num_train=10", "microworld.world.seed=7", "microworld.teacher.remembers_known=1.0"]
    params = Params.load("microworld", settings, file).section(MicroworldParams)
    world = make_world(params.world)
    question = make_questions(world, Group.TRAIN, params.num_train, params.seed)[0].question
    request = Request(f"Question: {question}\n<think>\n", (), 200, 0.6, 1.0, seed=0)
    (completion,) = scripted_teacher(params).complete_batch([request])
    assert completion.text.startswith("I need the ")


_DIGEST = """
import hashlib, itertools
from coa.microworld.pretraining import pretraining_documents
from coa.microworld.questions import make_questions
from coa.microworld.teacher import Teacher
from coa.microworld.world import Group, GroupSize, WorldSettings, make_world
from coa.policy import Request
size = GroupSize(40, 30, 16, 16)
world = make_world(WorldSettings(known=size, train=size, validation=size, test=size))
questions = make_questions(world, Group.TRAIN, 200, 0)
teacher = Teacher(world)
contexts = [f"<begin_search> Question: {q.question}\\n<think>\\n" for q in questions]
said = [teacher.write(Request(context, (), 200, 1.0, 1.0, i)) for i, context in enumerate(contexts)]
documents = list(itertools.islice(pretraining_documents(world, 0), 200))
made = [world.passages(), questions, sorted(teacher.memory), said, documents]
print(hashlib.sha256(repr(made).encode()).hexdigest())
"""


def test_nothing_depends_on_the_hash_seed(root: Path) -> None:
    digests = [
        subprocess.run(
            [sys.executable, "-c", _DIGEST],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root)},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert len(digests[0]) == 65
    assert digests[0] == digests[1]
