"""A run rehearsed in the terminal: the served script, and a run with a chat teacher against it."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from coa.records.trajectory import Trajectory
from coa.rehearse import sampling_commands
from coa.store import tables
from synth import sample

SECRET = "sk-rehearsed-8c1f"


@pytest.fixture
def rehearsals(linked_run: Path, root: Path) -> Iterator[list[list[str]]]:
    """Serve from another process, and give the settings of the two commands that it prints."""
    command = [sys.executable, "-m", "coa.rehearse", "port=0", "latency_seconds=0.001"]
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None and process.stdout is not None
        lines = [process.stderr.readline() for _ in range(4)]
        yield [re.findall(r"\S+=\S+", line) for line in lines if line.startswith("coa")]
        process.terminate()
        assert "served the rehearsal" in process.stdout.read()


def test_a_run_over_chat_is_rehearsed(
    rehearsals: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    rehearsal, _ = rehearsals
    monkeypatch.setenv("TEACHER_KEY", SECRET)
    assert any(setting.startswith("teacher.server.model=scripted/") for setting in rehearsal)
    key = "teacher.server.api_key_env=TEACHER_KEY"
    settings = [*rehearsal, "mode=coa", "out=data/rehearsed", key]
    assert "40 trajectories" in sample.main(settings)
    rows = list(tables.read_table(Path("data/rehearsed/coa.parquet"), Trajectory))
    direct = list(tables.read_table(Path("data/sample/coa.parquet"), Trajectory))
    assert all(row.model.startswith("scripted/") for row in rows)
    assert [texts_of(row) for row in rows] == [texts_of(row) for row in direct]
    (metrics,) = Path("metrics").glob("*rehearsed*coa*")
    assert json.loads(metrics.read_text())["probe"]["reasoning"] == "shown as text"
    assert " 0 calls made" in sample.main(settings)
    for path in Path().rglob("*"):
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path


def test_over_completions_and_in_a_chat_format_the_script_writes_the_same_rows(
    rehearsals: list[list[str]],
) -> None:
    _, rehearsal = rehearsals
    template = "teacher.chat_template=<|im_start|>user {prompt}<|im_end|>"
    said = sample.main([*rehearsal, template, "mode=coa", "out=data/rehearsed"])
    assert "40 trajectories" in said
    served = list(tables.read_table(Path("data/rehearsed/coa.parquet"), Trajectory))
    direct = list(tables.read_table(Path("data/sample/coa.parquet"), Trajectory))
    assert "<|im_end|>" in served[0].prompt
    assert not any(row.error for row in served)
    assert [texts_of(row) for row in served] == [texts_of(row) for row in direct]


def texts_of(row: Trajectory) -> list[str]:
    return [step.text for step in row.steps]


def test_it_prints_a_profile_that_sends_a_whole_run_to_it(root: Path) -> None:
    *_, teacher, prompts = sampling_commands("http://127.0.0.1:8001/v1", "scripted/gold-1")
    profile = YAML(typ="safe").load(f"{teacher}\n{prompts}")
    server = {
        "base_url": "http://127.0.0.1:8001/v1",
        "model": "scripted/gold-1",
        "api_key_env": "",
    }
    assert profile["teacher"] == {
        "policy": "chat",
        "chat_template": "{prompt}",
        "chat": {"family": "vllm"},
        "server": server,
    }
    assert profile["prompts"] == YAML(typ="safe").load(root / "conf/chat_teacher.yaml")["prompts"]
