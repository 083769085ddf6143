"""Test that rollouts become run files that BrowseComp-Plus's grader reads."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import to_builtins
from omegaconf import OmegaConf

from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.protocol import observation, parse
from coa.records.question import Question
from coa.records.trajectory import Mode, Outcome, Sampling, StopReason, Trajectory
from coa.store import tables
from coa.student.evaluate_settings import EvaluateParams
from evaluation import run_files
from evaluation.run_files import to_run

CALL, ANSWER = parse("I look. <begin_search> paper on x </end_search>"), "</think> \\boxed{None}"
SHOWN = observation("search", "result 1: X", Outcome.OK, ("77", "3"))
TRAJECTORY = Trajectory(
    trajectory_id="769/coa/0",
    question_id="769",
    mode=Mode.COA,
    index=0,
    question="Which paper?",
    prompt="Which paper?",
    steps=(*CALL, SHOWN, *CALL, SHOWN, *parse(ANSWER)),
    stop_reason=StopReason.ANSWERED,
    model="m",
    sampling=Sampling(),
    prompt_hash="p",
    search_fingerprint="bm25/top2",
    num_prompt_tokens=1,
    num_policy_tokens=1,
    num_environment_tokens=1,
    num_calls=3,
    num_actions=2,
)


def test_a_run_has_its_calls_its_documents_once_and_its_answer_last() -> None:
    run = to_run(TRAJECTORY)
    assert run["query_id"] == "769"
    assert run["status"] == "completed"
    assert run["tool_call_counts"] == {"search": 2}
    assert run["retrieved_docids"] == ["77", "3"]
    kinds = [entry["type"] for entry in run["result"]]
    assert kinds == ["reasoning", "tool_call", "reasoning", "tool_call", "output_text"]
    assert json.loads(run["result"][1]["arguments"]) == {"query": "paper on x"}
    assert "result 1: X" in run["result"][1]["output"]
    assert run["result"][-1]["output"] == "\\boxed{None}"


@pytest.mark.parametrize(
    ("reason", "status"),
    [(StopReason.NO_ANSWER, "incomplete"), (StopReason.POLICY_ERROR, "failed")],
)
def test_a_rollout_without_an_answer_is_not_completed(reason: StopReason, status: str) -> None:
    run = to_run(replace(TRAJECTORY, steps=CALL, stop_reason=reason))
    assert run["status"] == status
    assert run["result"][-1]["type"] == "tool_call"
    assert run["result"][-1]["output"] is None


def test_the_command_writes_a_file_a_question_and_none_outside_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = replace(TRAJECTORY, question_id="..\\x?y", trajectory_id="x/coa/0")
    rows = []
    for trajectory in (TRAJECTORY, hostile):
        question = Question(trajectory.question_id, "Which paper?", ("None",), "test")
        rows.append(grade_trajectory(trajectory, question))
    tables.write_table(Path("data/evaluate/a.parquet"), GradedTrajectory, rows)
    values = {"evaluate": to_builtins(EvaluateParams())}
    Path("params.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    assert run_files.main(["name=a"]) == "data/run_files/a: 2 run files (2 completed)"
    assert "2 run files" in run_files.main(["name=a"])
    written = sorted(path.name for path in Path("data/run_files/a").iterdir())
    assert written == ["about.json", "run_..%5Cx%3Fy.json", "run_769.json"]
    assert json.loads(Path("data/run_files/a/run_769.json").read_text())["query_id"] == "769"
