"""What a person reads of a bar."""

import pytest

from coa.progress import Progress


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
            bar.end(tokens)
        bar.grade(is_correct=True)

    last = capsys.readouterr().err.strip().rpartition("\r")[2]
    assert "3/3" in last
    assert "tokens=18" in last
    assert "correct=100.0%" in last
