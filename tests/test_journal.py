"""Test the journal: what was reported as recorded outlives a SIGKILL.

No finished call is made again.
"""

import asyncio
import hashlib
import json
import logging
import os
import random
import resource
import signal
import sqlite3
import statistics
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coa.errors import InputError, OutputError, ServiceError
from coa.journal import JOURNAL_VERSION, CallKind, Journal, request_key
from coa.journaled import JournaledBatchPolicy, JournaledPolicy, JournaledTool
from coa.policy import Completion, Finish, Request, RequestError
from coa.policy.scripted import ScriptedPolicy
from coa.tools import ToolReply
from coa.trajectory import Outcome

ROOT = Path(__file__).parents[1]
KEY = request_key("a")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "journal.sqlite"


def request(seed: int = 0, **changes: object) -> Request:
    return Request("Question: ...\n", (), 64, 0.6, 1.0, **{"seed": seed, **changes})  # type: ignore[arg-type]


def put(journal: Journal, key: str, reply: bytes = b'"reply"') -> None:
    journal.put(key, reply, kind=CallKind.TOOL, who="fingerprint", seconds=0.5)


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs `script`; its output can be read line by line."""
    command = [sys.executable, "-u", "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
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


class CountingTool:
    """A real tool: answers after a moment what it is told to, and counts its calls."""

    name = "search"

    def __init__(self, answer: Callable[[str], ToolReply], fingerprint: str = "corpus-1") -> None:
        self.fingerprint = fingerprint
        self.calls: list[str] = []
        self._answer = answer

    async def call(self, argument: str) -> ToolReply:
        self.calls.append(argument)
        await asyncio.sleep(0.01)
        return self._answer(argument)


class BrokenPolicy(ScriptedPolicy):
    """A policy whose server fails the first time."""

    def __init__(self, error: Exception) -> None:
        super().__init__(lambda request: "well")
        self._errors = [error]

    async def complete(self, request: Request) -> Completion:
        if self._errors:
            raise self._errors.pop()
        return await super().complete(request)


# --- the file -------------------------------------------------------------------------------------


def test_a_recorded_reply_is_read_back_after_reopening(path: Path) -> None:
    with Journal(path) as journal:
        put(journal, KEY, b'{"text":"\xc3\xa9"}')

    with Journal(path) as journal:
        assert journal.get(KEY) == b'{"text":"\xc3\xa9"}'
        assert journal.get(request_key("another")) is None
        assert (journal.num_replayed, journal.num_recorded) == (1, 0)


def test_the_first_reply_under_a_key_stays(path: Path) -> None:
    with Journal(path) as journal:
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
def test_rows_cannot_be_changed_or_deleted_by_anybody(path: Path, statement: str) -> None:
    with Journal(path) as journal:
        put(journal, KEY, b"1")
    foreign = sqlite3.connect(path)

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


def test_a_journal_of_another_version_is_refused(path: Path) -> None:
    with Journal(path):
        pass
    newer = sqlite3.connect(path)
    newer.execute(f"PRAGMA user_version = {JOURNAL_VERSION + 1}")
    newer.close()

    with pytest.raises(
        InputError,
        match=rf"version(.|\n)*expected: {JOURNAL_VERSION}\n  got: {JOURNAL_VERSION + 1}",
    ):
        Journal(path).__enter__()


def test_a_damaged_journal_says_how_to_save_what_is_left(path: Path) -> None:
    with Journal(path) as journal:
        for i in range(2000):
            put(journal, request_key(i))
    content = bytearray(path.read_bytes())
    content[4096:] = random.Random(0).randbytes(len(content) - 4096)
    path.write_bytes(content)

    with pytest.raises(InputError, match=r"damaged(.|\n)*\.recover"), Journal(path) as journal:
        journal.get(KEY)


def test_an_empty_file_becomes_a_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.touch()

    with Journal(path) as journal:
        put(journal, KEY)

        assert journal.num_recorded == 1


def test_a_path_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(OutputError, match=r"cannot write .*journal(.|\n)*what to do"):
        Journal(tmp_path / "file" / "journal.sqlite").__enter__()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
def test_a_read_only_folder_is_an_output_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)

    with pytest.raises(OutputError, match=r"cannot write .*journal(.|\n)*what to do"):
        Journal(tmp_path / "journal.sqlite").__enter__()


def test_a_full_disk_stops_the_run_and_keeps_what_was_recorded(path: Path) -> None:
    script = """
        import resource, sys
        from coa.errors import OutputError
        from coa.journal import CallKind, Journal, request_key
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
    process = python(script, path)
    output, errors = process.communicate(timeout=60)

    assert process.returncode == 0, errors
    reported = [int(line) for line in output.splitlines() if line.isdigit()]
    assert len(reported) > 10
    assert "free some space" in output
    with Journal(path) as journal:
        assert all(journal.get(request_key(i)) for i in reported)


# --- one process at a time ------------------------------------------------------------------------

HOLD = """
    import sys, time
    from coa.journal import Journal
    with Journal(sys.argv[1]):
        print("open", flush=True)
        time.sleep(float(sys.argv[2]))
"""


def test_a_journal_that_another_process_has_open_is_refused_with_its_pid(path: Path) -> None:
    holder = python(HOLD, path, 60)
    assert holder.stdout
    holder.stdout.readline()

    with pytest.raises(
        OutputError, match=rf"open in process {holder.pid}\n(.|\n)*what to do: wait for that run"
    ):
        Journal(path, wait_seconds=0.2).__enter__()

    holder.kill()
    holder.communicate()
    with Journal(
        path, wait_seconds=0
    ) as journal:  # the kernel has freed the lock of the killed process
        put(journal, KEY)


def test_a_journal_is_waited_for(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    holder = python(HOLD, path, 60)
    assert holder.stdout
    holder.stdout.readline()

    def end_when_waited_for() -> None:
        while "waiting" not in caplog.text:
            time.sleep(0.01)
        holder.kill()

    with caplog.at_level(logging.WARNING):
        ending = threading.Thread(target=end_when_waited_for, daemon=True)
        ending.start()
        with Journal(path, wait_seconds=30) as journal:
            put(journal, KEY)

    assert f"open in process {holder.pid}; waiting up to 30 s" in caplog.text
    ending.join()
    holder.communicate()


def test_a_journal_opened_twice_in_one_process_is_refused(path: Path) -> None:
    with Journal(path), pytest.raises(OutputError, match="this very process"):
        Journal(path, wait_seconds=0).__enter__()


# --- SIGKILL --------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_every_reported_row_outlives_a_sigkill(path: Path, seed: int) -> None:
    script = """
        import sys
        from coa.journal import CallKind, Journal, request_key
        with Journal(sys.argv[1]) as journal:
            for i in range(1_000_000):
                reply = b'"%d %s"' % (i, b"x" * (i % 5000))
                journal.put(request_key(i), reply, kind=CallKind.TOOL, who="", seconds=0)
                print(i, flush=True)
    """
    moments = random.Random(seed)

    reported = [
        int(line) for line in lines_until_killed(python(script, path), moments.randrange(1, 3000))
    ]

    with Journal(path, wait_seconds=5) as journal:
        for i in reported:
            recorded = journal.get(request_key(i))
            assert recorded and json.loads(recorded).startswith(f"{i} ")
        assert len(reported) == journal.num_replayed > 0
    check = sqlite3.connect(path)
    assert check.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    check.close()


def test_a_run_that_is_killed_again_and_again_repeats_only_calls_in_flight(
    path: Path, tmp_path: Path
) -> None:
    script = """
        import asyncio, os, sys
        from coa.journal import Journal
        from coa.journaled import JournaledPolicy
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
        reported.update(lines_until_killed(python(script, path, paid), moments.randrange(1, 250)))
        made_again = [
            seed
            for seed in (Counter(paid.read_text().split()) - calls_before)
            if seed in finished_before
        ]
        assert made_again == []

    last = python(script, path, paid)
    _, errors = last.communicate(timeout=60)

    assert last.returncode == 0, errors
    calls = Counter(paid.read_text().split())
    assert len(calls) == 800
    assert calls.total() - 800 <= 4 * 8  # at most those in flight at each kill


# --- policies and tools ---------------------------------------------------------------------------


def test_a_second_run_asks_the_policy_nothing(path: Path) -> None:
    with Journal(path) as journal:
        first = ScriptedPolicy(["one", "two"])
        policy = JournaledPolicy(first, journal)
        replies = [asyncio.run(policy.complete(request(seed))) for seed in (1, 2)]

    with Journal(path) as journal:
        policy = JournaledPolicy(ScriptedPolicy([]), journal)

        assert [asyncio.run(policy.complete(request(seed))) for seed in (1, 2)] == replies
        assert (journal.num_replayed, journal.num_recorded) == (2, 0)


def test_a_completion_comes_back_whole(path: Path) -> None:
    completion = Completion("é\n</think>", Finish.LENGTH, 3, 7, (1, 2, 3))

    class Exact(ScriptedPolicy):
        async def complete(self, request: Request) -> Completion:
            return completion

    with Journal(path) as journal:
        live = asyncio.run(JournaledPolicy(Exact([]), journal).complete(request()))
        replayed = asyncio.run(JournaledPolicy(ScriptedPolicy([]), journal).complete(request()))

    assert live == replayed == completion


@pytest.mark.parametrize(
    "change",
    [
        {"context": "other"},
        {"stop": ("</end_search>",)},
        {"max_tokens": 65},
        {"temperature": 0.7},
        {"top_p": 0.9},
        {"seed": 1},
        {"context_ids": (1, 2)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_request_is_another_call(path: Path, change: dict[str, object]) -> None:
    fields = {
        "context": "c",
        "stop": (),
        "max_tokens": 64,
        "temperature": 0.6,
        "top_p": 1.0,
        "seed": 0,
    }
    with Journal(path) as journal:
        policy = JournaledPolicy(ScriptedPolicy(["one", "two"]), journal)
        first = asyncio.run(policy.complete(Request(**fields)))  # type: ignore[arg-type]
        second = asyncio.run(policy.complete(Request(**fields | change)))  # type: ignore[arg-type]

    assert (first.text, second.text) == ("one", "two")


def test_another_policy_is_another_call(path: Path) -> None:
    with Journal(path) as journal:
        texts = [
            asyncio.run(
                JournaledPolicy(ScriptedPolicy([name], name), journal).complete(request())
            ).text
            for name in ("teacher", "student")
        ]

    assert texts == ["teacher", "student"]


@pytest.mark.parametrize("error", [RequestError("too long"), ServiceError("no server")], ids=repr)
def test_errors_of_the_policy_are_not_recorded(path: Path, error: Exception) -> None:
    with Journal(path) as journal:
        policy = JournaledPolicy(BrokenPolicy(error), journal)
        with pytest.raises(type(error)):
            asyncio.run(policy.complete(request()))

        assert asyncio.run(policy.complete(request())).text == "well"
        assert journal.num_recorded == 1


def test_a_batch_asks_only_for_what_is_missing_and_keeps_the_order(path: Path) -> None:
    inner = ScriptedPolicy(["b", "a and c"])
    with Journal(path) as journal:
        policy = JournaledBatchPolicy(inner, journal)
        policy.complete_batch([request(2)])

        replies = policy.complete_batch([request(1), request(2), request(1)])

    assert [reply.text for reply in replies] == ["a and c", "b", "a and c"]
    assert inner.requests == [request(2), request(1)]


def test_a_policy_keeps_its_name_and_its_way_of_counting(path: Path) -> None:
    with Journal(path) as journal:
        policy = JournaledPolicy(ScriptedPolicy([], name="teacher"), journal)

    assert (policy.name, policy.count_tokens("one two"), policy.encode("one")) == (
        "teacher",
        2,
        None,
    )


def test_identical_calls_in_flight_are_made_once(path: Path) -> None:
    tool = CountingTool(lambda argument: ToolReply(Outcome.OK, f"about {argument}", ("p1",)))

    async def ask(journal: Journal) -> list[ToolReply]:
        # Two wrappers: what is in flight belongs to the journal.
        tools = [JournaledTool(tool, journal), JournaledTool(tool, journal)]
        return await asyncio.gather(*(tools[i % 2].call(f"query {i % 3}") for i in range(300)))

    with Journal(path) as journal:
        replies = asyncio.run(ask(journal))

    assert sorted(tool.calls) == ["query 0", "query 1", "query 2"]
    assert replies == [ToolReply(Outcome.OK, f"about query {i % 3}", ("p1",)) for i in range(300)]


def test_identical_requests_in_flight_reach_the_policy_once(path: Path) -> None:
    async def ask(policy: JournaledPolicy) -> list[Completion]:
        return await asyncio.gather(*(policy.complete(request()) for _ in range(50)))

    with Journal(path) as journal:
        replies = asyncio.run(ask(JournaledPolicy(ScriptedPolicy(["once"]), journal)))

    assert {reply.text for reply in replies} == {"once"}


def test_a_call_whose_caller_gave_up_is_kept(path: Path) -> None:
    tool = CountingTool(lambda argument: ToolReply(Outcome.OK, "late"))

    async def ask_impatiently(journaled: JournaledTool) -> ToolReply:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(journaled.call("query"), 0.001)
        await asyncio.sleep(0.05)
        return await journaled.call("query")

    with Journal(path) as journal:
        reply = asyncio.run(ask_impatiently(JournaledTool(tool, journal)))

    assert (reply.text, tool.calls) == ("late", ["query"])


@pytest.mark.parametrize("outcome", Outcome)
def test_only_a_tools_own_failure_is_tried_again(path: Path, outcome: Outcome) -> None:
    tool = CountingTool(lambda argument: ToolReply(outcome, "text"))
    with Journal(path) as journal:
        journaled = JournaledTool(tool, journal)
        replies = [asyncio.run(journaled.call("query")) for _ in range(2)]

    assert replies == [ToolReply(outcome, "text")] * 2
    assert len(tool.calls) == (2 if outcome is Outcome.ERROR else 1)


def test_another_corpus_is_another_call(path: Path) -> None:
    tools = [
        CountingTool(lambda argument: ToolReply(Outcome.OK, "text"), name)
        for name in ("corpus-1", "corpus-2")
    ]
    with Journal(path) as journal:
        for tool in tools:
            journaled = JournaledTool(tool, journal)
            asyncio.run(journaled.call("query"))
            assert (journaled.name, journaled.fingerprint) == (tool.name, tool.fingerprint)

    assert [tool.calls for tool in tools] == [["query"], ["query"]]


def test_a_reply_with_a_lone_surrogate_reads_live_as_it_will_be_replayed(path: Path) -> None:
    tool = CountingTool(lambda argument: ToolReply(Outcome.OK, "broken \ud83d emoji, é"))
    with Journal(path) as journal:
        live, replayed = (
            asyncio.run(JournaledTool(tool, journal).call("query \ud83d")) for _ in range(2)
        )

    assert live == replayed == ToolReply(Outcome.OK, "broken ? emoji, é")


def test_a_reply_of_another_form_names_the_journal_and_the_key(path: Path) -> None:
    key = request_key(CallKind.TOOL, "search", "corpus-1", "query")
    tool = CountingTool(lambda argument: ToolReply(Outcome.OK, "text"))
    with Journal(path) as journal:
        put(journal, key, b'{"outcome":"unheard of"}')

        with pytest.raises(InputError, match=rf"cannot be read(.|\n)*{key}"):
            asyncio.run(JournaledTool(tool, journal).call("query"))


def test_a_journal_that_is_not_open_says_so(path: Path) -> None:
    with pytest.raises(AssertionError, match="with"):
        Journal(path).get(KEY)


# --- cost -----------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_rows(path: Path) -> None:
    reply = b'"' + b"x" * 2000 + b'"'
    with Journal(path) as journal:
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


def test_a_put_costs_less_than_a_millisecond(path: Path) -> None:
    seconds = []
    with Journal(path) as journal:
        for i in range(500):
            started = time.perf_counter()
            put(journal, request_key(i))
            seconds.append(time.perf_counter() - started)

    assert (
        statistics.median(seconds) < 0.001
    )  # about 0.00004; a synchronised write per row takes milliseconds
