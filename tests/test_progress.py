"""What a person reads of a bar."""

import contextlib
import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from coa.progress import Ended, Progress, Standing, Traffic


def test_the_last_line_tells_of_all_items(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("evaluate", 3, "questions") as bar:
        for is_correct in (False, True, True):
            bar.add(tokens=5, is_correct=is_correct)

    last = capsys.readouterr().err.splitlines()[-1]
    assert "3/3" in last
    assert "tokens=15" in last
    assert "correct=66.7%" in last


def test_rows_of_the_journal_count_in_no_rate_and_not_in_the_time_left(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress("sample", 2000, "rows") as bar:
        for _ in range(990):
            bar.end(Ended(7, is_live=False, started=time.monotonic()))
        for _ in range(10):
            bar.end(Ended(7, is_live=True, started=time.monotonic() - 10))

        shown = bar.line

    assert "1000/2000" in shown
    assert "from the journal=990" in shown
    assert "tokens=70.0, tokens/s=7.0" in shown
    # A thousand rows are left, at one a second.
    assert re.search(r"<16:(39|40), ", shown)


def test_the_cost_so_far_and_the_expected_one_are_shown() -> None:
    with Progress("sample", 100, "rows") as bar:
        for _ in range(8):
            bar.end(Ended(7, is_live=True, started=time.monotonic()))
        bar.show(Standing(Traffic(), under_way=4, paid=3.0, used=1.0))

        # Ten rows' worth cost a dollar, and ninety are left; two dollars were paid by earlier runs.
        assert "cost=$3.00 of $12.00" in bar.line
        bar.show(Standing(Traffic(), under_way=4, paid=None))
        assert "cost" not in bar.line


TERMINAL = """
import os, sys, time
from coa.progress import Traffic
from coa.progress import Ended, Progress, Standing
with Progress("evaluate my model", 1000, "questions") as bar:
    for number in range(1000):
        bar.end(Ended(99, True, time.monotonic(), 2, "policy_error" if number % 9 == 0 else ""))
        bar.grade(is_correct=number % 2 == 0)
        bar.show(Standing(Traffic(64, 12, 3), 64, 12.5, 12.5))
"""


@pytest.mark.parametrize("columns", [60, 85, 100, 240])
def test_the_bar_is_not_wider_than_the_terminal_and_cuts_nothing_in_the_middle(
    root: Path, columns: int
) -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", TERMINAL], cwd=root, stderr=theirs)
    os.close(theirs)
    written = b""
    # Linux reports the end of a terminal as an error.
    with contextlib.suppress(OSError):
        while part := os.read(ours, 65536):
            written += part
    os.close(ours)
    assert process.wait(60) == 0

    lines = [line for line in re.split(r"[\r\n]+", written.decode()) if line.strip()]
    assert len(lines) > 3
    assert max(len(line.rstrip()) for line in lines) <= columns
    last = lines[-1].rstrip()
    if columns >= 80:
        assert last.endswith("]")
    if columns >= 100:
        assert "correct=50.0%" in last
    if columns >= 240:
        assert "cost=$12.50" in last
        assert "policy_error=112" in last
        assert "refused=3" in last
