"""Kill runs with SIGKILL: what was reported as recorded outlives them."""

import json
import random
import signal
import sqlite3
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from coa.store.journal import Journal, request_key
from tests.journal_support import (
    python,
)


def lines_until_killed(process: subprocess.Popen[str], num_lines: int) -> Iterator[str]:
    """Yield the lines that the process reports until a SIGKILL after `num_lines` of them.

    Lines still in the pipe are included.
    """
    assert process.stdout
    for _ in range(num_lines):
        yield process.stdout.readline().rstrip("\n")
    process.send_signal(signal.SIGKILL)
    rest, _ = process.communicate()
    yield from (line.rstrip("\n") for line in rest.splitlines(keepends=True) if line.endswith("\n"))


@pytest.mark.parametrize("seed", range(4))
def test_every_reported_row_outlives_a_sigkill(journal_path: Path, seed: int) -> None:
    script = """
        import sys
        from coa.store.journal import CallKind, Journal, request_key
        with Journal(sys.argv[1]) as journal:
            for i in range(1_000_000):
                reply = b'"%d %s"' % (i, b"x" * (i % 5000))
                journal.put(request_key(i), reply, kind=CallKind.TOOL, who="", seconds=0)
                print(i, flush=True)
    """
    moments = random.Random(seed)

    reported = [
        int(line)
        for line in lines_until_killed(python(script, journal_path), moments.randrange(1, 3000))
    ]

    with Journal(journal_path, wait_seconds=5) as journal:
        for i in reported:
            recorded = journal.get(request_key(i))
            assert recorded and json.loads(recorded).startswith(f"{i} ")
        assert reported
    check = sqlite3.connect(journal_path)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


def test_a_run_that_is_killed_again_and_again_repeats_only_calls_in_flight(
    journal_path: Path, tmp_path: Path
) -> None:
    script = """
        import asyncio, os, sys
        from coa.store.journal import Journal
        from coa.spending.journaled import JournaledPolicy
        from coa.policy import Request
        from coa.policy.scripted import ScriptedPolicy

        paid = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def script(request):
            os.write(paid, b"%d\\n" % request.seed)
            return f"text {request.seed}"

        async def rollout(policy, seeds):
            for seed in seeds:
                completion = await policy.complete(Request("context", (), 9, 0.6, 1.0, seed))
                assert completion.text == f"text {seed}"
                print(seed, flush=True)
                await asyncio.sleep(0)

        async def main(policy):
            await asyncio.gather(*(rollout(policy, range(k, 800, 8)) for k in range(8)))

        with Journal(sys.argv[1]) as journal:
            asyncio.run(main(JournaledPolicy(ScriptedPolicy(script), journal)))
    """
    moments = random.Random(7)
    paid = tmp_path / "paid"
    reported: set[str] = set()
    for _ in range(4):
        calls_before = Counter(paid.read_text().split()) if paid.exists() else Counter()
        finished_before = set(reported)
        reported.update(
            lines_until_killed(python(script, journal_path, paid), moments.randrange(1, 250))
        )
        made_again = [
            seed
            for seed in (Counter(paid.read_text().split()) - calls_before)
            if seed in finished_before
        ]
        assert made_again == []

    last = python(script, journal_path, paid)
    _, errors = last.communicate(timeout=60)

    assert last.returncode == 0, errors
    calls = Counter(paid.read_text().split())
    assert len(calls) == 800
    assert calls.total() - 800 <= 4 * 8  # at most those in flight at each kill
