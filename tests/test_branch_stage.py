"""The stage `curate.branch` over a small run: both arms, any folder, and what it says."""

import json
import re
from pathlib import Path

import pytest

from coa.errors import ConfigError
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


def test_one_bar_shows_all_rounds_and_its_total_grows(
    linked_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    branch(BOTH)
    shown = re.findall(r"mined: .*?(\d+)/(\d+)", capsys.readouterr().err)
    totals = [int(total) for _, total in shown]
    assert totals == sorted(totals) and len(set(totals)) > 1
    num_forks = tables.count_rows(FOLDER / "forks.parquet")
    assert shown[-1] == (str(num_forks), str(num_forks))


def test_the_default_makes_pairs_without_a_worth(current_run: Path) -> None:
    pairs = list(tables.read_table(Path("data/branch/pairs.parquet"), PreferencePair))
    assert pairs
    for pair in pairs:
        assert pair.worth is None and pair.tool == "search"
        assert pair.trajectory_id in (pair.chosen_id, pair.rejected_id)


def test_a_cue_for_a_tool_that_is_not_offered_is_refused(linked_run: Path) -> None:
    with pytest.raises(ConfigError, match="does not offer: calculate"):
        branch((*BOTH, "tool_cues={calculate: need}"))


def test_a_file_is_no_folder_for_forks(linked_run: Path) -> None:
    with pytest.raises(ConfigError, match="out is a folder"):
        branch(("out=data/mined.parquet",))
