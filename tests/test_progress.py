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
