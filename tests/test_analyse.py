"""Compare the rules with the truth: what the scripted teacher did is known to these tests alone.

`python -m pytest tests/test_analyse.py -s` shows the table of precision and recall. Causes that the
teacher never or seldom brings about (a confident error, a slip of the conclusion, a forged
observation, ...) are made from its rollouts by changing the one thing that the cause is about.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from coa.errors import InputError
from coa.microworld.plans import make_plan
from coa.microworld.questions import make_questions
from coa.microworld.world import Group, WorldSettings, make_world
from coa.policy.teacher.settings import TeacherEvent
from coa.records import protocol
from coa.records.causes import CONTRIBUTING_ONLY, Analysis, Cause
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.question import Question
from coa.records.trajectory import (
    FORCED_STOPS,
    Author,
    Mode,
    Step,
    StepKind,
    StopReason,
)
from coa.search import Passage
from coa.store import tables
from coa.store.files import ANALYSED
from curate import analyse
from curate.analyse import analyse_all
from curate.diagnosis.gold import Corpus, gold_passages
from curate.diagnosis.rules import Context
from tests.analyse_support import (
    FORGED,
    MADE,
    Sampled,
    Truth,
    change_steps,
    fits_cause,
    measure_rules,
    roll_out_known,
    true_fault,
)

NUM_QUESTIONS = {Mode.COT: 500, Mode.COA: 2_600}
LEAST, LEAST_CASES = 0.9, 30
"""Precision and recall of every cause, and cases of each that make a figure."""


@pytest.fixture(scope="module")
def sampled() -> Sampled:
    world = make_world(WorldSettings())
    asked = make_questions(world, Group.TRAIN, 22_000, seed=1)[: max(NUM_QUESTIONS.values())]
    plans = {
        question.question_id: make_plan(world, question.question, question.question_id)
        for question in asked
    }
    rows: list[GradedTrajectory] = []
    truth: dict[str, Truth] = {}
    for mode, number in NUM_QUESTIONS.items():
        events: dict[str, list[TeacherEvent]] = defaultdict(list)
        for question, trajectory in zip(
            asked, roll_out_known(world, plans, asked[:number], mode, 10, events), strict=False
        ):
            rows.append(grade_trajectory(trajectory, question))
            found = true_fault(
                trajectory, plans[question.question_id], events[question.question_id]
            )
            truth[trajectory.trajectory_id] = found
    # With one search each most run out of them.
    for question, trajectory in zip(
        asked, roll_out_known(world, plans, asked[:300], Mode.COA, 1, {}), strict=False
    ):
        if trajectory.stop_reason in FORCED_STOPS:
            renamed = replace(trajectory, trajectory_id=f"{trajectory.trajectory_id}/short")
            rows.append(grade_trajectory(renamed, question))
            truth[renamed.trajectory_id] = Truth(Cause.BUDGET)
    titles = {title for question in asked for title in question.gold_titles}
    questions = {question.question_id: question for question in asked}
    return Sampled(world, questions, gold_passages(world.passages(), titles), rows, truth)


def _made(cause: Cause, sampled: Sampled) -> list[GradedTrajectory]:
    fitting = (
        row
        for row in sampled.rows
        if fits_cause(cause, row, sampled.truth[row.trajectory.trajectory_id].cause)
    )
    made = (MADE[cause](row, sampled) for _, row in zip(range(300), fitting, strict=False))
    return [row for row in made if not row.grade.exact_match]


def _analyse(
    sampled: Sampled, rows: Iterable[GradedTrajectory], context: Context | None = None
) -> list[Analysis]:
    return list(analyse_all(rows, sampled.questions, context or sampled.context()))


def test_every_cause_is_found_where_it_is_the_true_one_and_nowhere_else(sampled: Sampled) -> None:
    rows = [row for row in sampled.rows if not row.grade.exact_match]
    truth = {
        row.trajectory.trajectory_id: sampled.truth[row.trajectory.trajectory_id].cause
        for row in rows
    }
    for cause in MADE:
        made = _made(cause, sampled)
        rows += made
        truth |= {row.trajectory.trajectory_id: cause for row in made}
    table = measure_rules(
        [(truth[row.trajectory_id], row.cause) for row in _analyse(sampled, rows)]
    )
    assert table.pop(Cause.UNKNOWN, (0, 0.0, 0.0))[0] == 0
    assert table.keys() == set(Cause) - CONTRIBUTING_ONLY - {Cause.UNKNOWN}
    assert all(number >= LEAST_CASES for number, _, _ in table.values())
    assert all(min(precision, recall) >= LEAST for _, precision, recall in table.values())


def test_the_blamed_step_is_where_the_wrong_value_is_stated(sampled: Sampled) -> None:
    rows = _analyse(sampled, sampled.rows)
    truth = ((row, sampled.truth[row.trajectory_id]) for row in rows if row.cause)
    agreeing = [
        row.step == true.step
        for row, true in truth
        if true.step is not None and row.cause is true.cause
    ]
    assert sum(agreeing) / len(agreeing) > 0.98


def test_without_the_corpus_the_text_of_the_observations_decides(sampled: Sampled) -> None:
    found = [row for row in _analyse(sampled._replace(corpus=Corpus()), sampled.rows) if row.cause]
    decided = [row for row in found if row.cause is not Cause.UNKNOWN]
    agreeing = [row.cause is sampled.truth[row.trajectory_id].cause for row in decided]
    assert len(decided) > len(found) / 2
    assert sum(agreeing) / len(agreeing) > LEAST


PARAMS = """
index: {corpus: corpus.parquet, out: data/index, columns: {}, is_stemmed: true}
analyse:
  {reads_corpus: true, near_f1: 0.75, graded: data/grade.parquet, out: data/analyse.parquet}
"""


@pytest.fixture
def run_folder(tmp_path: Path, sampled: Sampled, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the command reads, from a part of the rollouts."""
    rows = sampled.rows[:50] + sampled.rows[NUM_QUESTIONS[Mode.COT] :][:100]
    monkeypatch.chdir(tmp_path)
    tables.write_table(Path("corpus.parquet"), Passage, sampled.world.passages())
    tables.write_table(analyse.QUESTIONS, Question, sampled.questions.values())
    tables.write_table(analyse.GRADED, GradedTrajectory, rows)
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    return tmp_path


def test_the_command_writes_a_row_for_every_graded_trajectory(run_folder: Path) -> None:
    summary = analyse.main([])
    rows = list(tables.read_table(ANALYSED, Analysis))
    graded = list(tables.read_table(analyse.GRADED, GradedTrajectory))
    metrics = json.loads((run_folder / "metrics/analyse.json").read_text(encoding="utf-8"))
    failed = sum(row.cause is not None for row in rows)
    assert [row.trajectory_id for row in rows] == [row.trajectory.trajectory_id for row in graded]
    assert all(
        (row.cause is None) is one.grade.exact_match for row, one in zip(rows, graded, strict=True)
    )
    assert sum(sum(of_mode["causes"].values()) for of_mode in metrics.values()) == failed
    assert summary.startswith("data/analyse.parquet: ")


def test_a_question_that_is_missing_is_named(run_folder: Path) -> None:
    tables.write_table(analyse.QUESTIONS, Question, [])
    with pytest.raises(InputError, match=r"is not in data/questions\.parquet"):
        analyse.main([])


def _broken_rows(row: GradedTrajectory) -> Iterator[GradedTrajectory]:
    """Yield rows as they should not be.

    Their tags are unclosed or nested, their turns are empty, hold null bytes or ten megabytes, or
    they have no steps.
    """
    open_call = protocol.open_tag("search")
    for i, text in enumerate(
        (open_call, f"{open_call} {open_call}", FORGED * 2, "", "\0", "(Ab. " * 2_000_000)
    ):
        thought = Step(StepKind.THOUGHT, Author.POLICY, text)
        yield change_steps(row, f"broken{i}", (thought, *row.trajectory.steps))
    yield change_steps(row, "empty", ())
    yield change_steps(
        row, "answerless", row.trajectory.steps[:-1], stop_reason=StopReason.NO_ANSWER
    )


def test_broken_rows_get_a_cause_each(run_folder: Path, sampled: Sampled) -> None:
    wrong = next(
        row for row in sampled.rows if not row.grade.exact_match and row.trajectory.num_actions
    )
    rows = list(_broken_rows(wrong))
    tables.write_table(analyse.GRADED, GradedTrajectory, rows)
    analyse.main([])
    found = list(tables.read_table(ANALYSED, Analysis))
    assert all(row.cause for row in found)
    assert [found[i].cause for i in (2, -2, -1)] == [
        Cause.FORGED_OBSERVATION,
        Cause.FORMAT,
        Cause.FORMAT,
    ]
    assert all(len(row.evidence) < 1_000 for row in found)
