"""One row in the terminal: its steps in colour, and no text that acts on the terminal."""

import subprocess
import sys
from pathlib import Path

import pytest

from coa.errors import ConfigError, InputError
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Author, Step, StepKind
from coa.show import main
from coa.store import tables
from tests.sample_records import make_graded, make_pair

ASKED = Question("q1", "Who?\x1b[2J", ("Ada",), "train", "bridge", 2)
STEPS = (
    Step(StepKind.THOUGHT, Author.POLICY, "I recall Bo.\x07"),
    Step(StepKind.ANSWER, Author.POLICY, f"{protocol.THINK_CLOSE} \\boxed{{Bo}}"),
)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    row = make_graded(ASKED, STEPS)
    tables.write_table(Path("data/grade.parquet"), GradedTrajectory, [row])
    pair = make_pair(row.trajectory, STEPS[1:], STEPS[1:], prefix=STEPS[:1])
    tables.write_table(Path("data/branch/pairs.parquet"), PreferencePair, [pair])
    return tmp_path


def test_a_trajectory_is_printed_with_its_grade(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["q1/coa/0"]) == "\nq1/coa/0 is a row of data/grade.parquet"
    printed = capsys.readouterr().out
    assert "Who?\\x1b[2J" in printed
    assert "wrong: Bo; accepted: Ada" in printed
    assert f"I recall Bo.\\x07{protocol.THINK_CLOSE} \\boxed{{Bo}}" in printed
    assert not {"\x1b", "\x07"} & set(printed)


def test_a_row_that_is_not_there_and_a_missing_id_are_errors(run: Path) -> None:
    with pytest.raises(InputError, match="no file has a row 'q9'"):
        main(["q9"])
    with pytest.raises(ConfigError, match="name one row"):
        main([])


def test_a_reader_that_stops_early_is_met_in_silence(run: Path, root: Path) -> None:
    command = f"{sys.executable} -m coa.show q1/coa/0 | head -1"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.stdout.startswith("q1/coa/0")
    assert "Traceback" not in done.stderr
