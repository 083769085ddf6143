"""Test results of held-out questions, and the commands that write them and their table."""

import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import to_builtins
from omegaconf import OmegaConf

from coa.errors import ConfigError
from coa.intervals import mean_interval, paired_difference
from coa.microworld.names import Category
from coa.microworld.phrases import need, say
from coa.microworld.questions import make_questions
from coa.microworld.world import Group, GroupSize, WorldSettings, make_world
from coa.policy.teacher.sentences import PhraseKind, search
from coa.progress import Progress
from coa.records.graded import GradedTrajectory
from coa.records.protocol import parse
from coa.records.question import Question
from coa.records.trajectory import StopReason
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.search.corpus import corpus_hash
from coa.store import tables
from coa.store.model_files import fingerprint_model
from coa.student.asking import AskingPrompts
from coa.student.evaluate_settings import EvaluateParams
from coa.student.held_out import choose_held_out
from coa.student.knowledge import Decision, KnowledgeProbe
from evaluation import evaluate, table
from evaluation.evaluate import check
from evaluation.fidelity import FidelityParams
from evaluation.outcomes import summarise
from evaluation.result_files import read_result, write_result
from tests.evaluate_support import (
    TABLE,
    outcome,
    result,
)
from tests.settings_support import every_setting

SMALL = GroupSize(12, 12, 6, 6)
WORLD_SETTINGS = WorldSettings(known=SMALL, train=SMALL, validation=SMALL, test=SMALL)
WORLD = make_world(WORLD_SETTINGS)
KNOWLEDGE = KnowledgeProbe(WORLD)
QUESTIONS = make_questions(WORLD, Group.VALIDATION, 60, seed=0)


def fact_of(group: Group) -> tuple[str, str, str]:
    """Entity, relation and value of one fact."""
    fact = WORLD.facts_of(WORLD.entities[group, Category.FILM][0])[0]
    return fact.entity, fact.relation, fact.value


@settings(max_examples=25)
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30))
def test_a_mean_lies_in_its_interval(values: list[float]) -> None:
    found = mean_interval(values)
    assert found is not None
    assert found.num == len(values)
    assert min(values) - 1e-3 <= found.low <= found.high <= max(values) + 1e-3


def test_pairing_finds_a_difference_that_two_intervals_hide() -> None:
    theirs = [float(i % 2) for i in range(400)]
    ours = [1.0 if i % 20 == 0 else value for i, value in enumerate(theirs)]
    found = paired_difference(ours, theirs)
    assert found is not None
    assert found.value == 0.05
    assert found.excludes_zero
    alone = [mean_interval(values) for values in (ours, theirs)]
    assert alone[0] is not None and alone[1] is not None
    assert alone[0].low < alone[1].high


def test_the_decision_after_each_need_is_read_back() -> None:
    known, unknown = fact_of(Group.KNOWN), fact_of(Group.VALIDATION)
    text = " ".join(
        [
            need(known[1], known[0]),
            say(PhraseKind.RECALL, known[2]),
            need(unknown[1], unknown[0]),
            search(unknown[0]),
        ]
    )
    found = list(KNOWLEDGE.decisions(parse(text)))
    assert [(one.is_known, one.searched) for one in found] == [(True, False), (False, True)]
    assert isinstance(found[0], Decision)


def test_a_question_needs_no_search_where_all_its_facts_are_known() -> None:
    told = {question.question_id: KNOWLEDGE.needs_no_search(question) for question in QUESTIONS}
    for question in QUESTIONS:
        is_known = all(WORLD.groups[title] is Group.KNOWN for title in question.gold_titles)
        assert told[question.question_id] is is_known
    assert {True, False} <= set(told.values())
    assert KNOWLEDGE.needs_no_search(Question("q", "Who?", ("x",), "test", source="nq")) is None


def test_the_choice_of_questions_follows_from_seed_and_ids() -> None:
    params = EvaluateParams(num_questions=10)
    chosen = choose_held_out(QUESTIONS, params)
    assert choose_held_out(QUESTIONS[::-1], params) == chosen
    assert len(chosen) == 10
    assert choose_held_out(QUESTIONS, replace(params, seed=1)) != chosen
    assert len(choose_held_out(QUESTIONS, EvaluateParams())) == len(QUESTIONS)


@pytest.mark.parametrize(
    ("params", "questions", "advice"),
    [
        (
            EvaluateParams(num_questions=61),
            QUESTIONS,
            "set num_questions=60 or fewer; 0 asks all 60",
        ),
        (EvaluateParams(split="train"), QUESTIONS, "set split=validation"),
        (EvaluateParams(split="test", num_questions=5), QUESTIONS, "set split=validation"),
        (EvaluateParams(), [], "bring questions of the split validation or test"),
    ],
)
def test_what_it_advises_for_too_few_questions_can_be_followed(
    params: EvaluateParams, questions: list[Question], advice: str
) -> None:
    with pytest.raises(ConfigError, match="cannot be evaluated on") as caught:
        choose_held_out(questions, params)
    given = caught.value.details["what to do"]
    assert given.startswith(advice)
    settings = dict(re.findall(r"(num_questions|split)=(\w+)", given))
    if settings:
        number = int(settings.get("num_questions", params.num_questions))
        followed = replace(params, num_questions=number, split=settings.get("split", params.split))
        assert choose_held_out(questions, followed)


def test_a_model_is_loaded_here_and_names_its_result() -> None:
    params = check(EvaluateParams(model="data/train/sft2"))
    assert (params.name, params.policy.policy, params.policy.local.model) == (
        "sft2",
        "local",
        "data/train/sft2",
    )


def test_a_fingerprint_follows_the_weights(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"one")
    before = fingerprint_model(str(tmp_path))
    (tmp_path / "log.jsonl").write_text("more")
    assert fingerprint_model(str(tmp_path)) == before
    (tmp_path / "model.safetensors").write_bytes(b"two")
    assert fingerprint_model(str(tmp_path)) != before
    assert fingerprint_model("Qwen/Qwen3-8B") == ""


def test_a_result_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    written = result("a", [True, False, True])
    path = write_result(written, tmp_path)
    assert read_result(path) == written
    assert read_result(path).rows()[1] == outcome("q001", False)


def test_failed_rollouts_are_counted_and_wrong() -> None:
    rows = [outcome("q0", False, stop_reason=StopReason.TOOL_ERROR), outcome("q1", True)]
    found = summarise(result("a", [True]).setting, rows, num_resamples=50, seed=0)
    assert found.num_failed == 1
    assert found.metrics["exact_match"] is not None and found.metrics["exact_match"].value == 0.5
    assert found.search_rate_unknown == 1.0
    assert found.search_rate_known is None


@pytest.fixture
def workplace(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small world's questions, its index and params.yaml."""
    monkeypatch.chdir(tmp_path)
    tables.write_table(Path("data/questions.parquet"), Question, QUESTIONS)
    corpus = Path("data/corpus.parquet")
    passages = WORLD.passages()
    tables.write_table(corpus, Passage, passages)
    with Progress("index", None, "passages") as progress:
        build_index(
            iter(passages), Path("data/index"), IndexSettings(), corpus_hash([corpus]), progress
        )
    values = every_setting()
    values.microworld.world = OmegaConf.create(asdict(WORLD_SETTINGS))
    prompts = AskingPrompts("prompt.txt", "prompt.txt", "prompt.txt")
    values.evaluate = to_builtins(EvaluateParams(prompts=prompts))
    values.table, values.fidelity = (
        to_builtins(TABLE),
        to_builtins(FidelityParams()),
    )
    Path("params.yaml").write_text(OmegaConf.to_yaml(values))
    Path("prompt.txt").write_text((root / "synth/prompts/coa.txt").read_text())
    return tmp_path


def test_the_microworlds_teacher_is_evaluated_and_stands_in_the_table(workplace: Path) -> None:
    assert "exact match 0." in evaluate.main(["name=a"])
    assert "60 questions" in evaluate.main(["name=b", "mode=cot"])
    offered, forbidden = (read_result(Path(f"results/evaluate/{name}.json")) for name in "ab")
    assert offered.metrics["exact_match"].value > forbidden.metrics["exact_match"].value  # type: ignore[union-attr]
    assert offered.search_rate_unknown is not None and offered.search_rate_known is not None
    assert offered.search_rate_unknown > offered.search_rate_known
    assert (forbidden.setting.search, offered.setting.search[:8]) == ("", "tantivy:")
    rows = list(tables.read_table(Path("data/evaluate/a.parquet"), GradedTrajectory))
    assert [row.trajectory.question_id for row in rows] == offered.outcomes["question_id"]
    assert "2 systems" in table.main([])
    assert Path("results/table.png").read_bytes().startswith(b"\x89PNG")


def test_an_evaluation_writes_the_same_bytes_again(workplace: Path) -> None:
    path = Path("results/evaluate/a.json")
    evaluate.main(["name=a", "num_questions=20"])
    first = path.read_bytes()
    evaluate.main(["name=a", "num_questions=20"])
    assert path.read_bytes() == first
