"""The set of a student's right trajectories: screened, divided as the other sets are, or empty."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf

from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.store import tables
from coa.store.files import STUDENT_ASSEMBLED, STUDENT_KEPT
from curate import student_set
from curate.assemble import AssembleParams, split_candidates
from curate.strata import Candidate
from tests.sample_records import make_graded
from tests.settings_support import every_setting

THOUGHTS = (
    "I remember the map of it",
    "Somebody told me once in school",
    "My guess goes another way",
)
QUESTIONS = [
    Question(f"q{i}", f"Who is the keeper of lighthouse number {i}?", (f"Ada {i}",), "train")
    for i in range(40)
]
HELD_OUT = Question(
    "v", "Which river runs by the old mill of Villa Pellin?", ("Arno",), "validation"
)


def written(asked: Question, thought: str, index: int = 0) -> GradedTrajectory:
    text = f"{thought}: {asked.gold_answers[0]}. {protocol.THINK_CLOSE} \\boxed{{Ada}}"
    row_id = f"{asked.question_id}/coa/{index}"
    steps = protocol.parse_policy(text)
    return make_graded(asked, steps, trajectory_id=row_id, index=index, model="student")


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the default settings and its questions."""
    monkeypatch.chdir(tmp_path)
    settings = every_setting()
    settings.assemble.validation_share = 0.2
    OmegaConf.save(settings, tmp_path / "params.yaml")
    tables.write_table(Path("data/questions.parquet"), Question, [*QUESTIONS, HELD_OUT])
    return tmp_path


def write_kept(rows: Sequence[GradedTrajectory]) -> None:
    tables.write_table(STUDENT_KEPT, GradedTrajectory, rows)


def ids(split: str) -> list[str]:
    rows = tables.read_table(STUDENT_ASSEMBLED / f"coa/{split}.parquet", GradedTrajectory)
    return [row.trajectory.trajectory_id for row in rows]


def test_a_question_is_in_the_split_that_it_has_in_every_other_set(project: Path) -> None:
    write_kept([written(asked, f"{THOUGHTS[0]} {asked.question_id}") for asked in QUESTIONS])
    student_set.main([])

    params = AssembleParams(validation_share=0.2)
    candidates = [Candidate(f"{q.question_id}/coa/0", q.question_id, (), ()) for q in QUESTIONS]
    expected = split_candidates(candidates, params)
    for split in ("train", "validation"):
        assert ids(split) == sorted(candidate.row_id for candidate in expected[split])
    assert ids("validation")
    assert len(ids("train")) + len(ids("validation")) == len(QUESTIONS)


def test_rows_that_touch_an_evaluation_set_and_copies_are_left_out_and_counted(
    project: Path,
) -> None:
    leak = written(QUESTIONS[0], f"It reminds me of this: {HELD_OUT.question}")
    first, second = (written(QUESTIONS[1], THOUGHTS[1] * 3, index) for index in (0, 1))
    other = written(QUESTIONS[2], THOUGHTS[2])
    asks_it = Question("q99", HELD_OUT.question, ("Arno",), "train")
    write_kept([leak, first, second, other, written(asks_it, THOUGHTS[0])])
    assert student_set.main([]).endswith("3 of 5 left out")

    found = json.loads(Path("metrics/student_assemble.json").read_text())
    assert found["kept"] == 5
    assert found["excluded"]["evaluation_question"] == 1
    assert found["excluded"]["near_duplicate"] == 1
    assert found["train"] + found["validation"] == 2
    assert len({*ids("train"), *ids("validation")} & {"q1/coa/0", "q1/coa/1"}) == 1


def test_the_columns_are_those_of_the_other_sets(project: Path) -> None:
    write_kept([written(QUESTIONS[3], THOUGHTS[0])])
    student_set.main([])
    tables.write_table(Path("other.parquet"), GradedTrajectory, [written(QUESTIONS[3], "x")])
    found = pq.read_schema(STUDENT_ASSEMBLED / "coa/train.parquet")  # type: ignore[no-untyped-call]
    assert found.equals(pq.read_schema("other.parquet"))  # type: ignore[no-untyped-call]


def test_a_student_that_wrote_nothing_right_leaves_an_empty_set_and_a_warning(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_kept([])
    assert "0 train" in student_set.main([])
    assert "WARNING: there is nothing to train on" in (capsys.readouterr().err)
    assert ids("train") == ids("validation") == []
