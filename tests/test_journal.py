"""Test the journal: rows stay as they are, and a damaged or busy file is refused."""

import hashlib
import logging
import random
import resource
import sqlite3
import threading
import time
import tracemalloc
from contextlib import closing
from pathlib import Path

import pytest

from coa.errors import InputError, OutputError
from coa.spending.ledger import Ledger
from coa.spending.prices import CostParams, PriceKind
from coa.store.journal import CallKind, Journal, JournalReader, request_key
from coa.store.journal_file import JOURNAL_VERSION
from tests.journal_support import (
    put,
    python,
)

KEY = request_key("a")


def test_a_recorded_reply_is_read_back_after_reopening(journal_path: Path) -> None:
    with Journal(journal_path) as journal:
        put(journal, KEY, b'{"text":"\xc3\xa9"}')

    with Journal(journal_path) as journal:
        assert journal.get(KEY) == b'{"text":"\xc3\xa9"}'
        assert journal.get(request_key("another")) is None
        assert journal.num_recorded == 0


def test_the_first_reply_under_a_key_stays(journal_path: Path) -> None:
    with Journal(journal_path) as journal:
        put(journal, KEY, b"1")
        put(journal, KEY, b"2")

        assert (journal.get(KEY), journal.num_recorded) == (b"1", 1)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE calls SET reply = '2'",
        "DELETE FROM calls",
        "INSERT OR REPLACE INTO calls SELECT * FROM calls",
    ],
)
def test_rows_cannot_be_changed_or_deleted_by_anybody(journal_path: Path, statement: str) -> None:
    with Journal(journal_path) as journal:
        put(journal, KEY, b"1")
    foreign = sqlite3.connect(journal_path)

    try:
        foreign.execute(statement)
    except sqlite3.IntegrityError as error:
        assert "append-only" in str(error)
    foreign.commit()

    assert foreign.execute("SELECT key, kind, who, reply, seconds FROM calls").fetchall() == [
        (KEY, "tool", "fingerprint", "1", 0.5)
    ]
    foreign.close()


def test_a_key_depends_on_every_part_and_not_on_the_order_of_mappings() -> None:
    keys = {
        request_key(*parts)
        for parts in [("a", "b"), ("ab",), ("a", ("b",)), ("b", "a"), ("a", 1), ("a", "1")]
    }

    assert len(keys) == 6
    assert request_key({"x": 1, "y": 2}) == request_key({"y": 2, "x": 1})
    assert request_key("é", 0.6) == hashlib.sha256('["é",0.6]'.encode()).hexdigest()[:32]


@pytest.mark.parametrize(
    "content", [b"not a database at all, but a text" * 9, None], ids=["text", "another database"]
)
def test_a_file_that_is_no_journal_is_refused_and_left_as_it_is(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "journal.sqlite"
    if content is None:
        other = sqlite3.connect(path)
        other.execute("CREATE TABLE precious (x)")
        other.close()
        content = path.read_bytes()
    path.write_bytes(content)

    with (
        pytest.raises(
            InputError, match=r"not a journal(.|\n)*journal\.sqlite(.|\n)*name another path"
        ),
        Journal(path),
    ):
        pass

    assert path.read_bytes() == content


def test_a_journal_of_another_version_is_refused(journal_path: Path) -> None:
    with Journal(journal_path):
        pass
    newer = sqlite3.connect(journal_path)
    newer.execute(f"PRAGMA user_version = {JOURNAL_VERSION + 1}")
    newer.close()

    with pytest.raises(
        InputError,
        match=rf"version(.|\n)*expected: {JOURNAL_VERSION}\n  got: {JOURNAL_VERSION + 1}",
    ):
        Journal(journal_path).__enter__()


def test_a_damaged_journal_says_how_to_save_what_is_left(journal_path: Path) -> None:
    with Journal(journal_path) as journal:
        for i in range(2000):
            put(journal, request_key(i))
    content = bytearray(journal_path.read_bytes())
    content[4096:] = random.Random(0).randbytes(len(content) - 4096)
    journal_path.write_bytes(content)

    with (
        pytest.raises(InputError, match=r"damaged(.|\n)*\.recover"),
        Journal(journal_path) as journal,
    ):
        journal.get(KEY)


def test_a_path_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match=r"cannot write .*journal(.|\n)*what to do"):
        Journal(tmp_path / "file" / "journal.sqlite").__enter__()


def test_a_full_disk_stops_the_run_and_keeps_what_was_recorded(journal_path: Path) -> None:
    script = """
        import resource, sys
        from coa.errors import OutputError
        from coa.store.journal import CallKind, Journal, request_key
        with Journal(sys.argv[1]) as journal:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
            try:
                for i in range(10_000):
                    reply = b'"' + b"x" * 1000 + b'"'
                    journal.put(request_key(i), reply, kind=CallKind.TOOL, who="", seconds=0)
                    print(i, flush=True)
            except OutputError as error:
                print(error, flush=True)
                assert journal.get(request_key(0))
    """
    process = python(script, journal_path)
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    reported = [int(line) for line in output.splitlines() if line.isdigit()]
    assert len(reported) > 10
    assert "free some space" in output
    with Journal(journal_path) as journal:
        assert all(journal.get(request_key(i)) for i in reported)


HOLD = """
    import sys, time
    from coa.store.journal import Journal
    with Journal(sys.argv[1]):
        print("open", flush=True)
        time.sleep(float(sys.argv[2]))
"""


def test_a_journal_that_another_process_has_open_is_refused_with_its_pid(
    journal_path: Path,
) -> None:
    holder = python(HOLD, journal_path, 60)
    assert holder.stdout
    holder.stdout.readline()

    with pytest.raises(
        OutputError, match=rf"open in process {holder.pid}\n(.|\n)*what to do: wait for that run"
    ):
        Journal(journal_path, wait_seconds=0.2).__enter__()

    holder.kill()
    holder.communicate()
    with Journal(
        journal_path, wait_seconds=0
    ) as journal:  # the kernel has freed the lock of the killed process
        put(journal, KEY)


def test_a_journal_is_waited_for(journal_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    holder = python(HOLD, journal_path, 60)
    assert holder.stdout
    holder.stdout.readline()

    def end_when_waited_for() -> None:
        while "waiting" not in caplog.text:
            time.sleep(0.01)
        holder.kill()

    with caplog.at_level(logging.WARNING):
        ending = threading.Thread(target=end_when_waited_for, daemon=True)
        ending.start()
        with Journal(journal_path, wait_seconds=30) as journal:
            put(journal, KEY)

    assert f"open in process {holder.pid}; waiting up to 30 s" in caplog.text
    ending.join()
    holder.communicate()


def test_memory_does_not_grow_with_the_rows(journal_path: Path) -> None:
    reply = b'"' + b"x" * 2000 + b'"'
    with Journal(journal_path) as journal:
        for i in range(2000):
            put(journal, request_key(i), reply)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        for i in range(2000, 12_000):
            put(journal, request_key(i), reply)
            journal.get(request_key(i))
        after, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert after - before < 100_000
    assert (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident < 20_000
    )  # KiB, for 20 MB recorded


def damage(path: Path, *statements: str) -> None:
    """Change a journal past its triggers, as a failing disk or a foreign tool does."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
        for (name,) in names.fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE calls SET seconds = 'abc'",
        "UPDATE calls SET seconds = x'ff'",
        "UPDATE calls SET who = CAST(x'80' AS TEXT)",
        "UPDATE calls SET kind = CAST(x'80' AS TEXT)",
        "UPDATE calls SET finished_at = CAST(x'80' AS TEXT)",
        "UPDATE calls SET reply = CAST(x'80' AS TEXT)",
    ],
)
def test_a_damaged_value_costs_at_most_its_own_call(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "calls.sqlite"
    with Journal(path) as journal:
        journal.put("a" * 32, b'{"num_tokens": 3}', kind=CallKind.POLICY, who="m", seconds=1.0)
    damage(path, statement)
    with Journal(path) as journal:
        journal.put("b" * 32, b'{"num_tokens": 4}', kind=CallKind.POLICY, who="m", seconds=1.0)
        prices = CostParams(
            models={"m": {PriceKind.INPUT: 1.0, PriceKind.OUTPUT: 1.0}}, max_calls=9
        )
        assert Ledger(journal, prices).paid.tallies["m"].calls >= 1
        found = journal.find("b" * 32)
        assert found is not None and found.reply == b'{"num_tokens": 4}'
        assert len(list(journal.rows())) == 2
    with JournalReader(path) as reader:
        assert len(list(reader.calls())) == 2


def test_a_journal_opened_twice_in_one_process_is_refused(journal_path: Path) -> None:
    with Journal(journal_path), pytest.raises(OutputError, match="this very process"):
        Journal(journal_path, wait_seconds=0).__enter__()


def test_a_holders_file_that_is_no_text_does_not_hide_the_message(tmp_path: Path) -> None:
    path = tmp_path / "calls.sqlite"
    with Journal(path):
        Path(f"{path}.pid").write_bytes(b"\xff\xfe\x00")
        with pytest.raises(OutputError, match="the journal is open in process"):
            Journal(path, wait_seconds=0).__enter__()
