"""Test the page: it needs nothing from elsewhere and has the same bytes every time.

Hostile text in it is only ever text.
"""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from coa.records import protocol
from coa.records.causes import Analysis
from coa.records.drops import Dropped
from coa.records.graded import GradedTrajectory
from coa.records.pairs import Arm
from coa.records.question import Question
from coa.records.sets import AssembleParams
from coa.records.trajectory import (
    Mode,
    Outcome,
    Step,
    StepKind,
)
from coa.rollout.points import Point, PointOutcome
from coa.store import tables
from curate import report
from curate.analyse import analyse_all
from curate.diagnosis.rules import Context
from curate.filter import FilterParams, judge
from tests.sample_records import make_graded

QUESTION = "Where was Ada Novak born?"
POINT = Point("p", 1, Arm.ACT, PointOutcome.PAIRED, False, 3, 2, "pair")
HOSTILE = "</div><script>alert(1)</script> <img src=x onerror=alert(2)> {{ 7*7 }} $x_1$ \x00 \u202e"


def row(name: str, mode: Mode, thought: str, answer: str) -> GradedTrajectory:
    """A trajectory with one thought and an answer; one that may act searches before it answers."""
    call = f"{thought} {protocol.open_tag('search')} Ada Novak {protocol.close_tag('search')}"
    search = (
        *protocol.parse_policy(call),
        protocol.observation("search", "Otto lives in Oslo.", Outcome.OK, ("o",)),
    )
    steps = (
        *(search if mode is Mode.COA else ()),
        *protocol.parse_policy(f"{thought}\n{protocol.THINK_CLOSE} \\boxed{{{answer}}}"),
    )
    asked = Question(name, QUESTION, ("Riga",), "train", num_hops=2)
    return make_graded(asked, steps, mode, num_actions=int(mode is Mode.COA))


ROWS = [
    row("a", Mode.COT, "I recall Riga.", "Riga"),
    row("b", Mode.COT, "Maybe Oslo.", "Oslo"),
    row("a", Mode.COA, "It says Oslo.", "Oslo"),
    row("b", Mode.COA, "I see Riga.", "Riga"),
    row("c", Mode.COA, "Maybe Bergen.", "Bergen"),
]


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the page is made of."""
    monkeypatch.chdir(tmp_path)
    sizes = {"assemble": asdict(AssembleParams())}
    Path("params.yaml").write_text(json.dumps(sizes), encoding="utf-8")
    write_rows(ROWS)
    tables.write_table(report.POINTS, Point, [POINT])
    return tmp_path


def write_rows(rows: list[GradedTrajectory]) -> None:
    questions = {name: Question(name, QUESTION, ("Riga",), "train") for name in "abc"}
    tables.write_table(report.ANALYSED, Analysis, analyse_all(rows, questions, Context()))
    tables.write_table(report.GRADED, GradedTrajectory, rows)
    tables.write_table(
        report.DROPPED, Dropped, filter(None, (judge(row, FilterParams()) for row in rows))
    )


def make_page() -> str:
    report.main([])
    return report.OUT.read_text(encoding="utf-8")


def test_the_page_is_whole_offline_and_the_same_every_time() -> None:
    page = make_page()
    files = [report.OUT, *sorted(report.PICTURES.glob("*.png"))]
    first = [path.read_bytes() for path in files]
    report.main([])
    assert [path.read_bytes() for path in files] == first
    assert [path.stem for path in files] == ["errors", "actions", "causes", "funnel", "quadrants"]
    assert not re.findall(r"<script|<link|<img|(?:src|href)=\"(?!#)|url\((?!#)|@import", page)
    for heading in (
        "From sampled to kept",
        "Primary causes",
        "Thinking against acting",
        "Number of actions",
        "Examples",
    ):
        assert heading in page


def test_files_that_were_not_made_are_missed_on_the_page_only() -> None:
    report.DROPPED.unlink()
    tables.write_table(report.POINTS, Point, [])
    page = make_page()
    assert "that file is not there, so the step is missing" in page
    assert "no trajectory was forked, because none had a point to fork" in page


@pytest.mark.parametrize("keep", [lambda row: row.grade.exact_match, lambda row: False])
def test_a_run_without_failures_or_without_rows_makes_a_page_too(
    keep: Callable[[GradedTrajectory], bool],
) -> None:
    write_rows(list(filter(keep, ROWS)))
    assert "No trajectory failed" in make_page()


def _hostile(step: Step) -> Step:
    """The same step with text that would act, and two megabytes of it."""
    is_long = step.kind is StepKind.THOUGHT
    return replace(step, text=f"{HOSTILE}{step.text}{'<' * 2_000_000 * is_long}")


def test_text_from_models_is_only_ever_text() -> None:
    trajectory = replace(
        ROWS[4].trajectory, question=HOSTILE, steps=tuple(map(_hostile, ROWS[4].trajectory.steps))
    )
    graded = replace(ROWS[4], trajectory=trajectory, question_type=HOSTILE, gold_answers=(HOSTILE,))
    write_rows([graded])
    page = make_page()
    assert "<script" not in page
    assert "<img" not in page
    assert "{{ 7*7 }}" in page
    assert "\x00" not in page
    assert len(page.encode()) < 200_000


def test_tags_that_a_page_shows_come_from_the_trajectories_only() -> None:
    template = (report.TEMPLATES / "errors.html").read_text(encoding="utf-8")
    assert not any(tag in template for tag in protocol.all_tags(["search"]))
