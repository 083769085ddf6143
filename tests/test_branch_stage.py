"""The stage `curate.branch` over a small run: both arms, any folder, and what it says."""

import json
from pathlib import Path

import pytest

from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.rollout.points import Point, PointOutcome
from coa.store import tables
from curate.branch import main as branch

BOTH = (
    "arms=both",
    "num_continuations=12",
    "search_price=0.05",
    "max_parents={act_is_better: 8, think_is_better: 8}",
    "out=data/mined",
)
FOLDER = Path("data/mined")


def test_both_arms_make_pairs_with_their_worth_in_a_folder_of_their_own(linked_run: Path) -> None:
    before = {path.name: path.read_bytes() for path in Path("data/branch").iterdir()}
    branch(BOTH)
    pairs = list(tables.read_table(FOLDER / "pairs.parquet", PreferencePair))
    points = list(tables.read_table(FOLDER / "points.parquet", Point))
    forks = list(tables.read_table(FOLDER / "forks.parquet", GradedTrajectory))
    assert pairs
    for pair in pairs:
        assert pair.worth is not None and pair.worth.excludes_zero
        assert abs(pair.worth.value) >= 0.3
        assert (pair.kind == "act_is_better") == (pair.worth.value > 0)
    assert {point.pair_id for point in points} - {""} == {pair.pair_id for pair in pairs}
    ids = [row.trajectory.trajectory_id for row in forks]
    assert len(set(ids)) == len(ids)
    metrics = json.loads(Path("metrics/mined.json").read_text())
    assert metrics["continuations"] == len(forks)
    assert metrics["continuations_per_pair"] == pytest.approx(len(forks) / len(pairs), abs=1e-3)
    assert sum(metrics[outcome] for outcome in PointOutcome) == len(points)
    assert before == {path.name: path.read_bytes() for path in Path("data/branch").iterdir()}


def test_a_second_run_takes_all_rounds_from_the_journal(linked_run: Path) -> None:
    branch(BOTH)
    first = {path.name: path.read_bytes() for path in FOLDER.iterdir()}
    assert "0 calls made" in branch(BOTH)
    assert first == {path.name: path.read_bytes() for path in FOLDER.iterdir()}


def test_the_default_makes_pairs_without_a_worth(current_run: Path) -> None:
    pairs = list(tables.read_table(Path("data/branch/pairs.parquet"), PreferencePair))
    assert pairs
    for pair in pairs:
        assert pair.worth is None and pair.tool == "search"
        assert pair.trajectory_id in (pair.chosen_id, pair.rejected_id)
