"""A run rehearsed with a teacher that is asked in its model's own format."""

import os
import re
import subprocess
import sys
from pathlib import Path

from coa import tables
from coa.trajectory import Trajectory
from synth import sample
from tests.native_support import make_tokenizer


def test_the_command_that_a_rehearsal_prints_samples_in_the_models_format(
    linked_run: Path, root: Path, tmp_path: Path
) -> None:
    make_tokenizer().save_pretrained(tmp_path / "tokenizer")
    command = [sys.executable, "-m", "coa.policy.rehearse", "port=0"]
    with subprocess.Popen(
        [*command, f"rehearse.tokenizer={tmp_path / 'tokenizer'}"],
        env={**os.environ, "PYTHONPATH": str(root)},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        try:
            lines = iter(process.stderr.readline, "")
            native = next(line for line in lines if "teacher.policy=native" in line)
            settings = re.findall(r"\S+=\S+", native)
            limit = "rollout.max_context_tokens=8192"  # its tokens are short
            said = sample.main([*settings, limit, "mode=coa", "out=data/rehearsed"])
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert "40 trajectories" in said
    rows = list(tables.read_table(Path("data/rehearsed/coa.parquet"), Trajectory))
    direct = list(tables.read_table(Path("data/sample/coa.parquet"), Trajectory))
    assert [texts_of(row) for row in rows] == [texts_of(row) for row in direct]


def texts_of(row: Trajectory) -> list[str]:
    return [step.text for step in row.steps]
