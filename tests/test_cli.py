"""A command's end: its summary, its help, and a reader of its output who has gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coa.cli import READER_GONE

COMMAND = """
import sys
from coa.cli import run

def main(arguments):
    for number in range(100_000):
        print(number)
    return "done"

run(main, sys.argv[1:])
"""
SPINS = """
import os
from coa.cli import run

run(lambda arguments: str(os.environ.get("GOMP_SPINCOUNT")), [])
"""


def test_a_reader_that_stops_early_ends_a_command_without_a_traceback(root: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", COMMAND],
        cwd=root,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=20) == READER_GONE


@pytest.mark.parametrize(
    ("told", "spins"),
    [({}, "10000"), ({"GOMP_SPINCOUNT": "5"}, "5"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "None")],
)
def test_threads_sleep_soon_unless_the_user_says_how_they_wait(
    root: Path, told: dict[str, str], spins: str
) -> None:
    others = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", SPINS],
        cwd=root,
        env={**others, **told},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{spins}\n"
