"""Test that a student mines its own decisions: the stages, and the set made of its pairs."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from ruamel.yaml import YAML

from coa.errors import ConfigError
from coa.pipeline import render_pipeline
from coa.plan import Plan
from coa.records import protocol
from coa.records.exclusions import Excluded
from coa.records.graded import GradedTrajectory
from coa.records.pairs import Arm, PairKind, PreferencePair
from coa.records.question import Question
from coa.records.sets import AssembleParams
from coa.records.trajectory import Step, fork_id
from coa.records.worth import ArmSample, estimate_worth
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import STUDENT_ASSEMBLED, STUDENT_BRANCHED, STUDENT_GRADED
from curate import student_pairs
from curate.assemble import split_candidates
from curate.strata import Candidate
from data_cards import lineage
from tests.lineage_support import sections
from tests.sample_records import make_graded, make_pair, make_trajectory
from tests.settings_support import every_setting

ROOT = Path(__file__).parent.parent
OWN_PAIRS = [
    "pipeline.training=[pretrain,sft1,sft2]",
    "pipeline.student=sft2",
    "pipeline.student_pairs=20",
    "train.sft2.init=data/train/pretrain",
    "train.sft1.init=data/train/sft2",
    "train.sft1.pairs=data/student/assemble/cot_a",
]
HELD_OUT = Question("v", "Which river runs by the old mill of Villa Pellin?", ("Arno",), "test")
QUESTIONS = [
    Question(
        f"q{i}", f"Who is the keeper of lighthouse number {i}?", ("Ada",), "train", "bridge", 1
    )
    for i in range(40)
]


def stages_of(*overrides: str) -> dict[str, Any]:
    plan = Plan(Params.load("pipeline", overrides, ROOT / "conf/microworld.yaml"))
    found: dict[str, Any] = YAML(typ="safe").load(render_pipeline(plan))["stages"]
    return found


@pytest.fixture
def in_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


@pytest.mark.usefixtures("in_root")
def test_the_policy_that_forks_is_the_student_that_sampled() -> None:
    stages = stages_of(*OWN_PAIRS, "branch.policy.policy=completions")
    policies: list[list[str]] = []
    for name in ("student_sample", "student_branch"):
        words = stages[name]["cmd"].split()
        policies.append([word for word in words if word.startswith(("teacher.", "prompts.coa="))])
        assert "teacher.local.model=data/train/sft2" in words
        assert "data/train/sft2" in stages[name]["deps"]
    assert policies[0] == policies[1]
    forks = stages["student_branch"]["cmd"].split()
    assert {"policy=null", "prompts=null", "arms=both", "points=blame"} <= set(forks)
    assert "prompts.cot=synth/prompts/cot.txt" in forks


@pytest.mark.usefixtures("in_root")
def test_sft1_comes_after_the_student_whose_pairs_it_reads() -> None:
    stages = stages_of(*OWN_PAIRS)
    made_by: dict[str, str] = {}
    for name, stage in stages.items():
        for out in stage.get("outs", []):
            made_by[out if isinstance(out, str) else next(iter(out))] = name
    behind: list[str] = []
    waiting = ["data/train/sft2", "data/student/assemble/cot_a"]
    while waiting:
        stage = made_by.get(waiting.pop(), "")
        if stage and stage not in behind:
            behind.append(stage)
            waiting.extend(stages[stage]["deps"])
    assert {"student_pairs", "student_branch", "student_analyse", "student_sample"} <= set(behind)
    assert "sft1" not in behind
    deps = stages["sft1"]["deps"]
    assert {"${train.sft1.init}", "${train.sft1.pairs}"} <= set(deps)


def test_a_student_may_be_a_model_that_another_run_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pipeline").symlink_to(ROOT / "pipeline")
    other = ["pipeline.training=[]", "pipeline.student=earlier", "pipeline.student_pairs=20"]
    with pytest.raises(ConfigError, match="the student 'earlier' is not trained"):
        stages_of(*other)
    (tmp_path / "data/train/earlier").mkdir(parents=True)
    stages = stages_of(*other)
    assert "data/train/earlier" in stages["student_branch"]["deps"]
    assert "index" in stages


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the default settings, questions, and the student's graded rollouts."""
    monkeypatch.chdir(tmp_path)
    settings = every_setting()
    settings.assemble.validation_share = 0.2
    settings.pipeline.student_pairs = 12
    OmegaConf.save(settings, tmp_path / "params.yaml")
    tables.write_table(Path("data/questions.parquet"), Question, [*QUESTIONS, HELD_OUT])
    graded = [make_graded(question, thinking(question)) for question in QUESTIONS]
    tables.write_table(STUDENT_GRADED, GradedTrajectory, graded)
    return tmp_path


def thinking(question: Question) -> tuple[Step, ...]:
    return protocol.parse_policy(f"It is {question.question_id}.\n</think>\n\n\\boxed{{Ada}}")


def mined(question: Question, kind: PairKind, thought: str = "") -> PreferencePair:
    """A pair of the student's, with what acting is worth at its point."""
    right = protocol.parse_policy(f"{thought} {question.question_id}.</think>\n\n\\boxed{{Ada}}")
    wrong = protocol.parse_policy(f"No {question.question_id}.</think>\n\n\\boxed{{Bob}}")
    parent = make_trajectory(question, thinking(question))
    pair = make_pair(parent, right, wrong, point=5, prefix=(), chosen_id="c", rejected_id="r")
    worth = estimate_worth(ArmSample(8, 7, 9), ArmSample(8, 1, 0), price=0.05, confidence=0.9)
    return replace(pair, kind=kind, worth=worth)


def write_pairs(pairs: Sequence[PreferencePair]) -> None:
    tables.write_table(STUDENT_BRANCHED / "pairs.parquet", PreferencePair, pairs)


def read_set(split: str) -> list[PreferencePair]:
    return list(tables.read_table(STUDENT_ASSEMBLED / f"cot_a/{split}.parquet", PreferencePair))


def test_a_students_pairs_are_divided_as_the_questions_of_the_other_sets(project: Path) -> None:
    kinds = list(PairKind)
    write_pairs([mined(QUESTIONS[i], kinds[i % 2], f"I recall {i}") for i in range(40)])
    said = student_pairs.main([])

    params = AssembleParams(validation_share=0.2)
    asked = [Candidate(q.question_id, q.question_id, (), ()) for q in QUESTIONS]
    held_out = {row.question_id for row in split_candidates(asked, params)["validation"]}
    train, validation = read_set("train"), read_set("validation")
    assert {pair.question_id for pair in train}.isdisjoint(held_out)
    assert {pair.question_id for pair in validation} <= held_out
    assert [len(train), len(validation)] == [12, round(12 * 0.2)]
    assert [sum(pair.kind is kind for pair in train) for kind in kinds] == [6, 6]
    assert all(pair.worth and pair.worth.price == 0.05 for pair in train)
    assert "12 of 12 train, 2 validation; 0 of 40 left out, 26 not chosen" in said


def test_a_pair_that_touches_an_evaluation_set_and_a_copy_are_left_out_with_their_reason(
    project: Path,
) -> None:
    better = PairKind.ACT_IS_BETTER
    leak = mined(QUESTIONS[0], better, f"It reminds me of this: {HELD_OUT.question}")
    first = mined(QUESTIONS[1], better, "Somebody told me once in school, long ago, of it")
    second = replace(first, pair_id=f"{first.pair_id}0")
    write_pairs([leak, first, second, mined(QUESTIONS[2], better, "My guess is better")])
    student_pairs.main([])

    excluded = list(tables.read_table(STUDENT_BRANCHED / "excluded.parquet", Excluded))
    assert {row.row_id for row in excluded} > {leak.pair_id}
    assert len(excluded) == 2
    found = json.loads(Path("metrics/student_branch_pairs.json").read_text())
    assert (found["mined"], found["asked"]) == (4, 12)
    assert found["excluded"]["near_duplicate"] == 1
    taken = [*found["train"].values(), *found["validation"].values(), found["not_chosen"]]
    assert sum(taken) == 2


def test_the_lineage_of_a_students_pair_names_its_stages_and_its_model(project: Path) -> None:
    pair = mined(QUESTIONS[0], PairKind.ACT_IS_BETTER, "I recall it")
    parent_id = pair.trajectory_id
    fork = fork_id(parent_id, pair.point, Arm.ACT, 0)
    write_pairs(
        [replace(pair, chosen_id=fork, rejected_id=parent_id, fork_model="data/train/sft2")]
    )
    fork_row = make_graded(QUESTIONS[0], pair.chosen, trajectory_id=fork, model="data/train/sft2")
    forks = STUDENT_BRANCHED / "forks.parquet"
    tables.write_table(forks, GradedTrajectory, [fork_row])
    student_pairs.main([])

    no_others = [f"assemble.num_{name}=0" for name in ("cot_a", "coa", "cot", "rl")]
    found = sections(lineage.main([pair.pair_id, *no_others]))
    facts = dict(found[f"student's {pair.pair_id}"])
    assert facts["is in"].endswith("by the stage student_pairs")
    assert facts["mined"] == "by the stage student_branch, forked by data/train/sft2"
    assert facts["worth"].startswith("+0.6")
    assert "by the stage student_branch with data/train/sft2, correct" in facts["chosen"]
    assert "by the stage student_sample with m" in facts["rejected"]
    assert dict(found[f"question {pair.question_id}"])["asks"] == QUESTIONS[0].question
