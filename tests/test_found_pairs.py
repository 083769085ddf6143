"""Pairs of trajectories that were there enter the CoT+A set where the settings ask for them."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from coa.errors import InputError
from coa.pipeline import render_pipeline
from coa.plan import Plan
from coa.records import protocol
from coa.records.pairs import Arm, PairKind, PreferencePair
from coa.records.question import Question
from coa.rollout.points import Point, PointOutcome
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import ASSEMBLED, PAIRS, POINTS, SHARED_PREFIX_PAIRS
from curate import (
    analyse,
    assemble,
    branch,
    filter,
    grade,
    report,
    screen,
    shared_prefix,
    summary,
)
from curate.forks.results import found_point
from data_cards import lineage, render
from synth import sample
from tests.sample_records import make_pair, make_trajectory

MORE = f"branch.more_pairs={SHARED_PREFIX_PAIRS}"


def stages_of(root: Path, *overrides: str) -> dict[str, Any]:
    params = Params.load("pipeline", overrides, root / "conf/microworld.yaml")
    stages: dict[str, Any] = yaml.safe_load(render_pipeline(Plan(params)))["stages"]
    return stages


def test_the_stage_is_in_the_pipeline_where_the_setting_asks_for_its_pairs(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    assert "shared_prefix" not in stages_of(root)
    stages = stages_of(root, MORE)
    assert str(SHARED_PREFIX_PAIRS) in stages["shared_prefix"]["outs"]
    assert "${branch.more_pairs}" in stages["branch"]["deps"]
    without_pairs = ["assemble.num_cot_a=0", "pipeline.training=[]", "pipeline.student=null"]
    assert "shared_prefix" not in stages_of(root, MORE, *without_pairs)


def test_the_pairs_of_another_file_are_added_without_the_stage(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    stages = stages_of(root, "branch.more_pairs=data/student/alike/pairs.parquet")
    assert "shared_prefix" not in stages
    assert "${branch.more_pairs}" in stages["branch"]["deps"]


def test_the_point_of_a_pair_counts_the_arm_that_ended_wrong() -> None:
    pair = _pair()
    point = found_point(pair)
    assert (point.arm, point.num_continuations, point.num_correct) == (Arm.THINK, 3, 1)
    assert point.outcome is PointOutcome.PAIRED
    assert (point.pair_id, point.chosen_by) == (pair.pair_id, "shared_prefix")
    turned = found_point(_pair(kind=PairKind.THINK_IS_BETTER))
    assert (turned.arm, turned.num_continuations, turned.num_correct) == (Arm.ACT, 2, 2)


def _pair(**changes: Any) -> PreferencePair:
    asked = Question("q", "Who leads Villa Pellin?", ("Felix Brandt",), "train")
    row = make_trajectory(asked, protocol.parse_policy("I recall her."))
    counts = {"num_act": 2, "num_act_correct": 2, "num_think": 3, "num_think_correct": 1}
    return make_pair(row, row.steps, row.steps, **counts, **changes)


@pytest.fixture
def run(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy of a small run the current folder, with four CoA trajectories of a question.

    Nothing is forked: its pairs are those that are there.
    """
    shutil.copytree(small_run, tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run")
    path = Path("params.yaml")
    sections = yaml.safe_load(path.read_text(encoding="utf-8"))
    sections["branch"]["max_parents"] = dict.fromkeys(map(str, PairKind), 0)
    sections["branch"]["more_pairs"] = str(SHARED_PREFIX_PAIRS)
    sections["assemble"]["allows_fewer"] = True
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
    sample.main(["mode=coa", "num_rollouts=4"])
    for stage in (grade, analyse, filter):
        stage.main([])
    return tmp_path / "run"


def test_found_pairs_take_the_place_of_forked_ones_up_to_the_cards(run: Path) -> None:
    shared_prefix.main([])
    found = list(tables.read_table(SHARED_PREFIX_PAIRS, PreferencePair))
    assert found
    assert f"{len(found)} pairs of {len(found)} points" in branch.main([])
    assert list(tables.read_table(PAIRS, PreferencePair)) == found
    points = list(tables.read_table(POINTS, Point))
    assert [point.pair_id for point in points] == [pair.pair_id for pair in found]
    screen.main([])
    assemble.main([])
    written = list(tables.read_table(ASSEMBLED / "cot_a/train.parquet", PreferencePair))
    assert written
    report.main([])
    render.main([])
    assert f"{len(found)} points forked, {len(found)} pairs" in summary.main([])
    told = lineage.main([written[0].pair_id])
    assert "in neither" not in told and "another run's" not in told
    assert written[0].rejected_id in told
    assert {pair.pair_id for pair in written} <= {pair.pair_id for pair in found}


def test_found_pairs_follow_the_forked_ones(run: Path) -> None:
    forked = list(tables.read_table(PAIRS, PreferencePair))
    assert forked
    shared_prefix.main([])
    found = list(tables.read_table(SHARED_PREFIX_PAIRS, PreferencePair))
    settings = Path("params.yaml")
    sections = yaml.safe_load(settings.read_text(encoding="utf-8"))
    sections["branch"]["max_parents"] = dict.fromkeys(map(str, PairKind), 3000)
    settings.write_text(yaml.safe_dump(sections), encoding="utf-8")
    branch.main([])
    pairs = list(tables.read_table(PAIRS, PreferencePair))
    assert pairs[-len(found) :] == found
    assert {pair.pair_id for pair in forked} <= {pair.pair_id for pair in pairs}
    assert len({pair.pair_id for pair in pairs}) == len(pairs)


def test_a_file_of_pairs_that_is_missing_is_named(run: Path) -> None:
    SHARED_PREFIX_PAIRS.unlink(missing_ok=True)
    with pytest.raises(InputError, match=r"shared_prefix/pairs\.parquet is missing"):
        branch.main([])
