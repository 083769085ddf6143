"""The stage `branch` with a chat teacher, and with a policy of its own, over a real socket."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from coa.errors import ConfigError
from coa.policy.chat.families import ForkWay
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.rollout.points import Point
from coa.settings.params import Params
from coa.store import tables
from curate import branch
from data_cards.lineage import call_lines

CHAT_PROMPTS = ["prompts.coa=synth/prompts/chat_coa.txt", "prompts.cot=synth/prompts/chat_cot.txt"]
OTHER_PROMPTS = "branch.prompts={coa: synth/prompts/chat_coa.txt, cot: synth/prompts/chat_cot.txt}"
TAG_PROMPTS = "branch.prompts={coa: synth/prompts/coa.txt, cot: synth/prompts/cot.txt}"


@pytest.fixture
def server(linked_run: Path, root: Path) -> Iterator[dict[str, str]]:
    """Serve the teacher of the run in vLLM's manners; give its address and the model's name."""
    command = [sys.executable, "-m", "coa.rehearse", "port=0"]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(root)}, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            lines = [process.stderr.readline() for _ in range(4)]
            yield dict(re.findall(r"teacher\.server\.(\w+)=(\S+)", lines[1]))
        finally:
            process.terminate()
            process.communicate(timeout=30)


def read_run() -> tuple[list[Point], list[PreferencePair], list[GradedTrajectory]]:
    folder = Path("data/branch")
    return (
        list(tables.read_table(folder / "points.parquet", Point)),
        list(tables.read_table(folder / "pairs.parquet", PreferencePair)),
        list(tables.read_table(folder / "forks.parquet", GradedTrajectory)),
    )


def test_a_chat_teacher_forks_between_turns_and_says_what_it_could_not(
    server: dict[str, str],
) -> None:
    told = [f"teacher.server.{name}={value}" for name, value in server.items()]
    said = branch.main(["teacher.policy=chat", *told, *CHAT_PROMPTS])
    points, pairs, rows = read_run()
    assert pairs
    assert {point.way for point in points} == {ForkWay.TOOLS_WITHHELD, ForkWay.FORCED_CALL}
    assert {row.trajectory.model for row in rows} == {server["model"]}
    metrics = json.loads(Path("metrics/branch.json").read_text())
    assert metrics["unforkable"]["not_native"] > 0  # the parents wrote tags
    assert "not_native" in said
    again = branch.main(["teacher.policy=chat", *told, *CHAT_PROMPTS])
    assert " 0 calls made" in again
    params = Params.load("branch", ["teacher.policy=chat", *told, *CHAT_PROMPTS])
    for row in rows[:20]:
        *calls, journal = call_lines(row.trajectory, params)
        assert journal.value.endswith("give this trajectory again, character by character")
        assert "forked by" in dict(calls)


def test_forks_may_be_written_by_another_policy_than_the_teacher(server: dict[str, str]) -> None:
    told = [f"branch.policy.server.{name}={value}" for name, value in server.items()]
    another = [*told, "branch.policy.policy=completions", "branch.policy.name=forks"]
    chat_teacher = ["teacher.policy=chat", "teacher.server.model=hosted", *CHAT_PROMPTS]
    with pytest.raises(ConfigError, match=r"show no tags[\s\S]*branch\.prompts"):
        branch.main([*chat_teacher, *another])
    branch.main([*chat_teacher, *another, TAG_PROMPTS])
    points, pairs, rows = read_run()
    assert pairs
    assert {point.way for point in points} == {ForkWay.TEXT}
    assert {row.trajectory.model for row in rows} == {server["model"]}
    assert {pair.fork_model for pair in pairs} == {server["model"]}
    assert "unforkable" not in json.loads(Path("metrics/branch.json").read_text())


def test_a_policy_that_can_fork_nothing_is_refused_before_anything_is_paid(
    server: dict[str, str],
) -> None:
    told = [f"branch.policy.server.{name}={value}" for name, value in server.items()]
    another = [*told, "branch.policy.policy=chat", "branch.policy.chat.family=kimi"]
    only_thinkers = "branch.max_parents={act_is_better: 0, think_is_better: 0}"
    assert "no trajectory was chosen" in branch.main([*another, OTHER_PROMPTS, only_thinkers])
    drop_actors()
    with pytest.raises(ConfigError, match=r"fork none of the points[\s\S]*no_way"):
        branch.main([*another, OTHER_PROMPTS])


def drop_actors() -> None:
    """Leave only trajectories that never acted."""
    path = Path("data/grade.parquet")
    rows = list(tables.read_table(path, GradedTrajectory))
    thinking = [row for row in rows if not row.trajectory.num_actions]
    path.unlink()
    tables.write_table(path, GradedTrajectory, thinking)
