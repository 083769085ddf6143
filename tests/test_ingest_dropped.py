"""Drop unusable rows with their reason and place; long files and rows cost bounded memory."""

import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from coa.records import protocol
from coa.records.unreadable import UnreadableReason
from synth.ingest import DroppedLine, Ingested, ingest
from tests.ingest_support import (
    CHAT,
    R1,
    R1_TEXT,
    TEXT,
    TRAINING,
    ingest_params,
    read,
    without,
    write,
)


@pytest.mark.parametrize(
    ("row", "reason", "character"),
    [
        (b"{", UnreadableReason.NOT_JSON, 2),
        (b"[1]", UnreadableReason.NOT_JSON, 0),
        (b"[" * 100_000, UnreadableReason.NOT_JSON, 0),
        (b'{"a": ' + b"9" * 5000 + b"}", UnreadableReason.NOT_JSON, 0),
        (b'{"a": "\xff"}', UnreadableReason.NOT_UTF8, 7),
        ({**R1, "question": "a \ud800"}, UnreadableReason.NOT_UTF8, 2),
        (b'{"a": "\0"}', UnreadableReason.NULL_BYTE, 7),
        ({**R1, "gen_text_store": R1_TEXT + "\0"}, UnreadableReason.NULL_BYTE, len(R1_TEXT)),
        ({"a": 1}, UnreadableReason.WRONG_FORMAT, 0),
        (without(R1, "gen_text_store"), UnreadableReason.WRONG_FORMAT, 0),
        (without(R1, "question"), UnreadableReason.NO_QUESTION, 0),
        ({**R1, "question": " "}, UnreadableReason.NO_QUESTION, 0),
        ({**R1, "question": 5}, UnreadableReason.NO_QUESTION, 0),
        ({**CHAT, "traj": []}, UnreadableReason.NO_QUESTION, 0),
        ({**CHAT, "traj": [{"role": "user"}]}, UnreadableReason.NO_QUESTION, 0),
        ({**CHAT, "traj": [1]}, UnreadableReason.WRONG_FORMAT, 0),
        ({**TEXT, "traj": "Thought: a"}, UnreadableReason.NO_QUESTION, 0),
        ({**R1, "gen_text_store": "a <|begin_of_query|> b"}, UnreadableReason.UNCLOSED_TAG, 2),
        ({**R1, "gen_text_store": "no answer"}, UnreadableReason.NO_ANSWER, 9),
        ({**TRAINING, "output": ""}, UnreadableReason.WRONG_FORMAT, 0),
    ],
)
def test_an_unusable_row_is_dropped_with_its_reason_and_place(
    tmp_path: Path, row: Any, reason: UnreadableReason, character: int
) -> None:
    before, dropped, after = read(tmp_path, R1, row, TEXT)
    assert isinstance(before, Ingested) and isinstance(after, Ingested)
    assert isinstance(dropped, DroppedLine)
    assert (dropped.reason, dropped.line, dropped.character) == (reason, 2, character)
    dropped.detail.encode()


def test_an_id_that_names_two_questions_is_dropped(tmp_path: Path) -> None:
    _, clash = read(tmp_path, CHAT, {**TEXT, "idx": "7"})
    assert isinstance(clash, DroppedLine) and clash.reason is UnreadableReason.ID_CLASH


def test_a_ten_megabyte_row_is_dropped_unread_or_read_when_allowed(tmp_path: Path) -> None:
    large = {**R1, "gen_text_store": "x " * 5_000_000 + R1_TEXT}
    path = write(tmp_path / "large.jsonl", large, TEXT)
    tracemalloc.start()
    dropped, kept = ingest(ingest_params(str(path), max_row_bytes=1_000_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(dropped, DroppedLine) and isinstance(kept, Ingested)
    assert (dropped.reason, dropped.line) == (UnreadableReason.TOO_LARGE, 1)
    assert peak < 4_000_000
    whole = next(ingest(ingest_params(str(path), max_row_bytes=20_000_000)))
    assert (
        isinstance(whole, Ingested)
        and protocol.render(whole.trajectory.steps) == large["gen_text_store"]
    )


@pytest.mark.parametrize("size", [99, 100, 101])
def test_a_line_of_exactly_the_limit_is_read(tmp_path: Path, size: int) -> None:
    found = read(tmp_path, b"x" * size, b"y", max_row_bytes=100)
    first = UnreadableReason.TOO_LARGE if size > 100 else UnreadableReason.NOT_JSON
    dropped = [(row.line, row.reason) for row in found if isinstance(row, DroppedLine)]
    assert dropped == [(1, first), (2, UnreadableReason.NOT_JSON)]


def test_memory_does_not_grow_with_the_number_of_rows(tmp_path: Path) -> None:
    path = write(
        tmp_path / "many.jsonl",
        *({**R1, "gen_text_store": "x" * 10_000 + R1_TEXT} for _ in range(1000)),
    )
    tracemalloc.start()
    num_rows = sum(1 for _ in ingest(ingest_params(str(path))))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (num_rows, peak < 1_000_000) == (1000, True)
