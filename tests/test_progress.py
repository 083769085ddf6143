"""What a person reads of a bar."""

import re
import time

import pytest

from coa.policy import Traffic
from coa.progress import Ended, Progress


def test_the_last_line_tells_of_all_items(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("evaluate", 3, "questions") as bar:
        for is_correct in (False, True, True):
            bar.add(tokens=5, is_correct=is_correct)

    last = capsys.readouterr().err.strip().rpartition("\r")[2]
    assert "3/3" in last
    assert "tokens=15" in last
    assert "correct=66.7%" in last


def test_rollouts_that_are_over_are_counted_before_they_are_graded(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Progress("evaluate", 4, "questions") as bar:
        for tokens in (5, 6, 7):
            bar.end(Ended(tokens, is_live=True, started=time.monotonic()))
        bar.grade(is_correct=True)

    last = capsys.readouterr().err.strip().rpartition("\r")[2]
    assert "3/3" in last
    assert "tokens=18" in last
    assert "correct=100.0%" in last


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


def test_where_the_requests_stand_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("sample", 10, "rows") as bar:
        bar.show(Traffic(waiting=64, retried=3, refused=2))

        assert "waiting=64, retried=3, refused=2" in bar.line

    assert "waiting" not in capsys.readouterr().err.strip().rpartition("\r")[2]
