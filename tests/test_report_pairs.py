"""The error report says where pairs came from, and shows what acting was worth at their points."""

import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from coa.records.causes import Analysis, Cause
from coa.records.graded import GradedTrajectory
from coa.records.pairs import Arm
from coa.records.question import Question
from coa.records.sets import AssembleParams
from coa.records.trajectory import Mode
from coa.records.worth import ArmSample, Worth, estimate_worth
from coa.rollout.points import Point, PointOutcome
from coa.store import tables
from coa.store.files import ANALYSED, GRADED, POINTS
from curate import report
from tests.sample_records import make_analysis, make_graded

HOSTILE = "</td><script>alert(1)</script> {{ 7*7 }} $x_1$ \x00 \u202e \u4e2d"
NUM_POINTS = 24


def worth(num_act_correct: int, num_think_correct: int, num: int = 8) -> Worth:
    act = ArmSample(num, num_act_correct, num * 2, num * 40)
    think = ArmSample(num, num_think_correct, num, num * 30)
    return estimate_worth(act, think, price=0.05, confidence=0.9)


def measured_point(number: int) -> Point:
    """A point of one of three causes: acting helps, harms, or is as good as thinking."""
    causes = [(Cause.NEVER_SEARCHED, 7, 2), (Cause.DISTRACTOR_FOLLOWED, 1, 6), ("", 4, 4)]
    outcomes = [PointOutcome.PAIRED, PointOutcome.PAIRED, PointOutcome.UNDECIDED]
    cause, num_act_correct, num_think_correct = causes[number % 3]
    outcome = outcomes[number % 3]
    return Point(
        parent_id=f"q{number}/coa/0",
        point=5,
        arm=Arm.ACT,
        outcome=outcome,
        parent_is_correct=False,
        num_continuations=16,
        num_correct=num_act_correct + num_think_correct,
        pair_id=f"q{number}/coa/0/5" if outcome is PointOutcome.PAIRED else "",
        chosen_by="blame" if number % 2 else "random",
        cause=cause,
        worth=worth(num_act_correct + number % 2, num_think_correct),
    )


MEASURED = [measured_point(number) for number in range(NUM_POINTS)]
ONE_ARM = Point("q1/coa/0", 5, Arm.THINK, PointOutcome.SAME_OUTCOME, True, 4, 3, "")


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose questions join one to three facts, the last one an unknown number."""
    monkeypatch.chdir(tmp_path)
    sizes = {"assemble": asdict(AssembleParams())}
    Path("params.yaml").write_text(json.dumps(sizes), encoding="utf-8")
    rows: list[GradedTrajectory] = []
    analyses: list[Analysis] = []
    for number in range(NUM_POINTS):
        asked = Question(f"q{number}", "Who?", ("Ada",), "train")
        row = make_graded(asked, (), Mode.COA)
        rows.append(row)
        num_hops = 1 + number % 3 if number < NUM_POINTS - 1 else None
        analyses.append(replace(make_analysis(row), num_hops=num_hops))
    tables.write_table(GRADED, GradedTrajectory, rows)
    tables.write_table(ANALYSED, Analysis, analyses)
    return tmp_path


def page_of(points: list[Point]) -> str:
    tables.write_table(POINTS, Point, points)
    report.main([])
    return report.OUT.read_text(encoding="utf-8")


def text_of(page: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", page).split())


def test_the_page_says_how_points_were_chosen_and_what_became_of_them() -> None:
    text = text_of(page_of(MEASURED))
    assert "forked at 24 points" in text
    assert "by what the analysis blames at random kept as a pair 8 (66.7%) 8 (66.7%)" in text
    assert "before it was clear which side is better 4 (33.3%) 4 (33.3%)" in text
    assert "never searched 8 8 (100.0%)" in text
    assert "no cause blamed 8 0 (0.0%)" in text


def test_the_worth_of_acting_is_drawn_by_cause_and_hops() -> None:
    page = page_of(MEASURED)
    assert (report.PICTURES / "worth.png").exists()
    assert "At 24 points both sides were continued" in text_of(page)
    for label in ("never searched  (n=8)", "no cause blamed  (n=8)", "3 hops  (n=7)"):
        assert label in page
    assert "hops not known  (n=1)" in page
    assert "By tool" not in page
    assert (report.PICTURES / "worth.png").read_bytes() == _drawn_again(MEASURED)


def _drawn_again(points: list[Point]) -> bytes:
    page_of(points)
    return (report.PICTURES / "worth.png").read_bytes()


def test_forks_of_both_arms_are_not_compared_with_their_parents() -> None:
    text = text_of(page_of([*MEASURED, ONE_ARM]))
    assert "4 continuations of forked trajectories" in text
    page_of(MEASURED)
    assert not (report.PICTURES / "quadrants.png").exists()


def test_hostile_names_are_only_text() -> None:
    hostile = replace(MEASURED[0], cause=HOSTILE, chosen_by=HOSTILE * 50, tool=HOSTILE)
    page = page_of([*MEASURED, hostile])
    assert "<script" not in page
    assert "\x00" not in page
    assert "{{ 7*7 }}" in page
