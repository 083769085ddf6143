"""Write a small run with a file of every kind that `coa.view` shows."""

from pathlib import Path

from coa.records import protocol
from coa.records.causes import Analysis, Cause
from coa.records.drops import Dropped, DropReason
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Author, Mode, Outcome, Step, StepKind, Trajectory
from coa.records.worth import ArmSample, estimate_worth
from coa.store import tables
from tests.sample_records import make_analysis, make_graded, make_pair

HOSTILE = "<script>alert(1)</script>\x1b[31m\u202eabc\u202c</div><img src=x onerror=a(1)> {{7*7}}"
ADDRESS = "http://127.0.0.1:8050"


def steps(text: str, answer: str) -> tuple[Step, ...]:
    call = f"{protocol.open_tag('search')} {text} {protocol.close_tag('search')}"
    return (
        Step(StepKind.THOUGHT, Author.POLICY, f"Look: {text}"),
        Step(StepKind.ACTION, Author.POLICY, call, tool="search", argument=text),
        Step(
            StepKind.OBSERVATION,
            Author.ENVIRONMENT,
            f"result 1: {text}",
            tool="search",
            outcome=Outcome.OK,
        ),
        Step(StepKind.ANSWER, Author.POLICY, f"{protocol.THINK_CLOSE} \\boxed{{{answer}}}"),
    )


def question(number: int, text: str = "Who?") -> Question:
    return Question(f"q{number:03}", f"{text} {number}", ("Ada",), "train", "bridge", 2)


def graded(number: int, mode: Mode = Mode.COA, text: str = "Who?") -> GradedTrajectory:
    answer = "Ada" if number % 2 else "Bo"
    return make_graded(question(number, text), steps(f"{text} {number}", answer), mode)


def write_run(folder: Path) -> None:
    """Write the files below a folder; the first row is hostile and wrong."""
    rows = [graded(0, text=HOSTILE), *(graded(number) for number in range(1, 120))]
    rows += [graded(number, Mode.COT) for number in range(1, 60)]
    trajectories = [row.trajectory for row in rows]
    tables.write_table(folder / "data/sample/coa.parquet", Trajectory, trajectories)
    tables.write_table(folder / "data/grade.parquet", GradedTrajectory, rows)
    analyses = []
    for row in rows:
        cause = None if row.grade.exact_match else Cause.BAD_QUERY
        analyses.append(make_analysis(row, cause))
    tables.write_table(folder / "data/analyse.parquet", Analysis, analyses)
    dropped = [Dropped(DropReason.WRONG, HOSTILE, row) for row in rows if not row.grade.exact_match]
    tables.write_table(folder / "data/filter/dropped.parquet", Dropped, dropped)
    it = rows[1].trajectory
    worth = estimate_worth(ArmSample(4, 3, 4), ArmSample(4, 1), 0.05, 0.9)
    pair = make_pair(it, it.steps[1:], it.steps[3:], prefix=it.steps[:1], worth=worth)
    tables.write_table(folder / "data/branch/pairs.parquet", PreferencePair, [pair])
    tables.write_table(folder / "data/questions.parquet", Question, [question(1)])
