"""Imported trajectories are not forked: no teacher goes on with another model's text."""

from dataclasses import replace
from pathlib import Path

from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Mode, Sampling
from coa.rollout.forks import BranchParams
from coa.store import tables
from curate.forks.choice import choose_parents
from tests.card_support import question, trajectory


def test_only_trajectories_of_a_teacher_are_forked(tmp_path: Path) -> None:
    rows = [trajectory(question(number), Mode.COA, 1) for number in range(4)]
    not_recorded = Sampling(temperature=-1.0, top_p=-1.0, seed=-1)
    for i in (0, 2):
        made = replace(rows[i].trajectory, sampling=not_recorded)
        rows[i] = replace(rows[i], trajectory=made)
    greedy = replace(rows[3].trajectory, sampling=Sampling(temperature=0.0))
    rows[3] = replace(rows[3], trajectory=greedy)
    path = tmp_path / "grade.parquet"
    tables.write_table(path, GradedTrajectory, rows)
    assert choose_parents(path, BranchParams()) == {"q-001/coa/0", "q-003/coa/0"}
