"""What runs cost: counted at the server and in the ledger, with caps that hold over runs."""

import asyncio
import json
import re
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from coa import costs
from coa.errors import CapError, ConfigError
from coa.policy import Request, RequestError
from coa.policy.completions import CompletionsPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import error_response
from coa.policy.server_settings import ServerSettings
from coa.records.usage import Usage, read_usage
from coa.settings.params import Params
from coa.spending.journaled import JournaledPolicy
from coa.spending.ledger import Ledger, Spending, price_journal
from coa.spending.prices import CostParams
from coa.store.journal import CallKind, Journal, JournalReader, Runs
from evaluation.evaluate import main as evaluate
from synth.sample import main as sample
from tests.completions_support import ask, request
from tests.costs_support import MODEL, PaidTeacher, served
from tests.doubles.model_server import serve as serve_oddly
from tests.many_servers_support import SlowScript

RUN = ("mode=cot", "out=data/paid/sample")
PRICES = f"costs.models={{{MODEL}: {{input: 2, cached_input: 0.5, output: 8, reasoning: 10}}}}"

NUM_PROBES = 1
"""Questions that are asked of a server before the first one of a run."""


@pytest.fixture(autouse=True)
def run_folder(linked_run: Path) -> Path:
    return linked_run


def metrics(name: str = "paid_sample_cot") -> dict[str, object]:
    return dict(json.loads(Path(f"metrics/{name}.json").read_text())["costs"])


def stage(name: str, *arguments: str) -> costs.StageCosts:
    prices = Params.load("costs", arguments).section(CostParams)
    (found,) = [it for it in costs.read_stages(Path(".journal"), prices) if it.name == name]
    return found


def test_the_ledger_equals_what_the_server_counted() -> None:
    teacher = PaidTeacher()
    with served(teacher) as asked:
        sample([*RUN, *asked, PRICES])

    sums = teacher.sums
    fresh = sums["context_tokens"] - sums["cached_tokens"]
    plain = sums["written_tokens"] - sums["reasoning_tokens"]
    dollars = fresh * 2 + sums["cached_tokens"] * 0.5
    dollars += plain * 8 + sums["reasoning_tokens"] * 10
    expected = {**sums, "search_requests": 0, "dollars": round(dollars / 1e6, 6)}
    assert metrics() == expected
    found = stage("paid-sample-cot", PRICES)
    assert found.spending.metrics() == expected
    assert found.spending.total.seconds > 0
    assert found.runs.made == sums["calls"]
    assert found.runs.rollouts == sums["calls"] - NUM_PROBES


def test_the_dearer_of_the_table_and_what_the_server_says_counts() -> None:
    teacher = PaidTeacher(dollars=0.25)
    with served(teacher) as asked:
        sample([*RUN, *asked, PRICES])

    assert metrics()["dollars"] == 0.25 * len(teacher.charged)
    assert stage("paid-sample-cot").spending.total.known_dollars == metrics()["dollars"]


def test_a_second_run_pays_nothing_and_its_figures_are_the_same_bytes() -> None:
    teacher = PaidTeacher()
    with served(teacher) as asked:
        sample([*RUN, *asked])
        first = Path("metrics/paid_sample_cot.json").read_bytes()
        num_calls = len(teacher.charged)
        sample([*RUN, *asked])

    assert len(teacher.charged) == num_calls
    assert Path("metrics/paid_sample_cot.json").read_bytes() == first
    runs = stage("paid-sample-cot").runs
    assert (runs.made, runs.replayed, runs.rollouts) == (
        num_calls,
        num_calls,
        num_calls - NUM_PROBES,
    )


def test_without_prices_costs_are_calls_and_tokens_and_the_table_says_so() -> None:
    teacher = PaidTeacher()
    with served(teacher) as asked:
        sample([*RUN, *asked])

    assert metrics()["dollars"] is None
    assert metrics()["written_tokens"] == teacher.sums["written_tokens"]
    shown = costs.main([])
    assert re.search(r"paid-sample-cot.* not known\n", shown)
    assert f"Without a price in the section costs.models, so without dollars:\n  {MODEL}" in shown


def test_a_cap_on_calls_is_exact_and_holds_over_resumed_runs(root: Path) -> None:
    teacher = PaidTeacher(seconds=0.01)
    with served(teacher) as asked:
        for max_calls in (5, 5, 8):
            with pytest.raises(CapError, match=r"costs\.max_calls is reached") as stopped:
                sample([*RUN, *asked, f"costs.max_calls={max_calls}"])
            assert len(teacher.charged) == max_calls
            assert f"{max_calls:,} calls, " in stopped.value.details["got"]
            assert "raise costs.max_calls" in stopped.value.details["what to do"]
        assert not Path("data/paid/sample/cot.parquet").exists()

        sample([*RUN, *asked])
        assert metrics()["calls"] == len(teacher.charged)


TURN = "rollout.max_turn_tokens=40"
MOST_TOKENS = 600
"""More than a call of these runs may read and write."""
DOLLARS_A_TOKEN = 0.001
FLAT = f"costs.models={{{MODEL}: {{input: 1000, output: 1000}}}}"
"""The same price for each token."""


@pytest.mark.parametrize(
    ("cap", "prices", "told"),
    [
        ("max_tokens=1200", "", 0.0),
        ("max_dollars=1.2", FLAT, 0.0),
        ("max_dollars=1.2", "", DOLLARS_A_TOKEN),
        ("max_dollars=1.2", FLAT.replace("1000", "10"), DOLLARS_A_TOKEN),
        ("max_dollars=1.2", FLAT, DOLLARS_A_TOKEN / 100),
    ],
    ids=["tokens", "table", "told", "told dearer", "table dearer"],
)
def test_caps_are_reached_and_never_passed(cap: str, prices: str, told: float) -> None:
    teacher = PaidTeacher(dollars_a_token=told, seconds=0.01)
    with served(teacher) as asked:
        arguments = [*RUN, *asked, TURN, f"costs.{cap}", "teacher.concurrency=32"]
        for _ in range(2):
            with pytest.raises(CapError, match=cap.partition("=")[0]):
                sample([*arguments, prices] if prices else arguments)

    assert 1200 - MOST_TOKENS < teacher.num_tokens <= 1200
    assert stage("paid-sample-cot").spending.total.calls == len(teacher.charged)


def test_a_cost_of_0_that_the_server_tells_does_not_switch_a_cap_off() -> None:
    teacher = PaidTeacher(dollars=0.0)
    with served(teacher) as asked:
        with pytest.raises(CapError, match="paid has no price"):
            sample([*RUN, *asked, "costs.max_dollars=1"])
        with pytest.raises(CapError, match=r"max_dollars is reached"):
            sample([*RUN, *asked, TURN, "costs.max_dollars=1.2", FLAT])
    assert 0 < teacher.num_tokens * DOLLARS_A_TOKEN <= 1.2


def test_replies_that_cannot_be_used_count_in_this_run_and_in_the_next(tmp_path: Path) -> None:
    sent: list[int] = []

    def fail(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        sent.append(1)
        usage = {"prompt_tokens": 100, "completion_tokens": 10}
        withheld = {"text": "no", "finish_reason": "content_filter"}
        replies = [
            web.json_response({"choices": [], "usage": usage}),
            web.json_response({"choices": [withheld], "usage": usage}),
            web.Response(text='{"choices": [{"te', content_type="application/json"),
            error_response(400, "too long"),
        ]
        return replies[len(sent) % 4]

    async def go(max_calls: int) -> Spending:
        async with serve_oddly(ScriptedPolicy([]), fails=fail) as base_url:
            settings = ServerSettings(base_url, "scripted", patience_minutes=1)
            async with CompletionsPolicy(settings) as policy:
                with Journal(tmp_path / "journal.sqlite") as journal:
                    ledger = Ledger(journal, CostParams(max_calls=max_calls))
                    journaled = JournaledPolicy(policy, journal, ledger)
                    for seed in range(10):
                        with suppress(RequestError):
                            await journaled.complete(request(seed=seed))
                    return ledger.paid

    for limit in (7, 12):
        with pytest.raises(CapError, match=f"max_calls = {limit}"):
            asyncio.run(go(limit))
        assert len(sent) == limit
    with JournalReader(tmp_path / "journal.sqlite") as journal:
        total = price_journal(journal, CostParams()).total
    assert total.calls == 12
    assert total.context_tokens > 600


def test_calls_wait_for_room_instead_of_ending_the_run() -> None:
    """All calls at their most would pass the cap; one after the other they do not."""
    policy = SlowScript(0.01)

    async def go() -> Ledger:
        with Journal(".journal/waits.sqlite") as journal:
            ledger = Ledger(journal, CostParams(max_tokens=1000))
            journaled = JournaledPolicy(policy, journal, ledger)
            asked = [Request("Question?", (), 300, 0.6, 1.0, seed) for seed in range(20)]
            await asyncio.gather(*map(journaled.complete, asked))
            return ledger

    assert 0 < asyncio.run(go()).paid.total.tokens < 700


def test_a_cap_in_dollars_without_a_price_stops_the_run() -> None:
    teacher = PaidTeacher()
    with served(teacher) as asked:
        with pytest.raises(CapError, match="paid has no price"):
            sample([*RUN, *asked, "costs.max_dollars=1"])
        assert len(teacher.charged) <= 4
        sample([*RUN, *asked, "costs.max_dollars=1", PRICES])


def test_a_model_in_a_folder_needs_no_price_for_a_limit_in_dollars(tmp_path: Path) -> None:
    ledger = Ledger(prices=CostParams(max_dollars=1))
    for model in (str(tmp_path), f"{tmp_path}+react"):
        ledger.paid.tallies[model].unpriced_calls += 1
    ledger.admit_now(ledger.most_of(str(tmp_path), 100, 100))
    ledger.paid.tallies["somebody/model"].unpriced_calls += 1
    with pytest.raises(CapError, match="hold: somebody/model has no price"):
        ledger.admit_now(ledger.most_of("somebody/model", 100, 100))


def test_an_evaluation_says_what_it_cost(root: Path) -> None:
    teacher = PaidTeacher()
    with served(teacher) as asked:
        served_policy = [f"evaluate.{it.replace('teacher.', 'policy.')}" for it in asked]
        prompt = root / "train/prompts/question.txt"
        arguments = ("name=served", "mode=cot", "num_questions=5", f"evaluate.prompts.cot={prompt}")
        evaluate([*served_policy, *arguments])

    result = json.loads(Path("results/evaluate/served.json").read_text())
    assert result["costs"] == {**teacher.sums, "search_requests": 0, "dollars": None}


def test_the_table_of_all_stages_fits_on_a_page_and_counts_kept_rows() -> None:
    shown = costs.main(["models={scripted/microworld: {input: 1, output: 2}}"])
    assert max(map(len, shown.splitlines())) <= 100
    found = stage("sample-coa")
    assert found.kept and found.kept.num_rows
    per_row = found.spending.total.tokens / found.kept.num_rows
    (row,) = [
        line for line in shown.splitlines() if line.startswith("sample-coa") and "/" not in line
    ]
    assert str(round(per_row)) in row
    assert "all stages" in shown


def test_searches_of_an_index_on_this_machine_are_free_and_counted() -> None:
    found = stage("sample-coa")
    runs = found.runs
    assert found.spending.num_free > 0
    assert found.spending.total.calls + found.spending.num_free == runs.made
    assert "calls of tools sent no request" in costs.main([])


def test_a_journal_from_before_runs_were_timed_is_read_and_gets_the_table_when_it_is_opened() -> (
    None
):
    path = Path(".journal/old.sqlite")
    with Journal(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TABLE runs")
    connection.close()

    assert stage("old").runs == Runs()
    with Journal(path) as journal:
        journal.put_run(1.5, 3)
    assert stage("old").runs.rollouts == 3


def test_text_that_is_cut_off_is_charged_and_counts_of_servers_that_give_none_are_estimated() -> (
    None
):
    late = ask(["a query</end_search> and more that nobody asked for"], ignores_stop=True)
    completion = asyncio.run(late)
    assert completion.text == "a query</end_search>"
    assert completion.charged.written_tokens > completion.num_tokens
    assert not completion.charged.is_estimated

    def without_usage(*_: object) -> web.Response:
        return web.json_response({"choices": [{"text": "well", "finish_reason": "stop"}]})

    uncounted = asyncio.run(ask(["well"], fails=without_usage))
    assert uncounted.charged.is_estimated
    assert uncounted.charged.context_tokens > 0
    assert uncounted.num_context_tokens is None


@pytest.mark.parametrize(
    "wrong",
    ["models={a: {input: 1}}", "models={a: {input: 1, output: -1}}", "searches={serper: .nan}"],
)
def test_prices_that_are_none_are_refused(wrong: str) -> None:
    with pytest.raises(ConfigError):
        Params.load("costs", [wrong]).section(CostParams)


COUNTED: dict[str, Any] = {"prompt_tokens": 9, "completion_tokens": 4}
OPENROUTER = {
    "prompt_tokens_details": {"cached_tokens": 100},
    "completion_tokens_details": {"reasoning_tokens": 3},
    "cost": 0.5,
}
XAI = {"total_tokens": 33, "completion_tokens_details": {"reasoning_tokens": 20}}
HUGE = {"prompt_tokens": 2**63, "completion_tokens": -(10**400), "cost": 10**400}


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        (COUNTED, Usage(9, 4)),
        (None, Usage(7, 5, is_estimated=True)),
        ("nonsense", Usage(7, 5, is_estimated=True)),
        ({**COUNTED, "prompt_cache_hit_tokens": 6}, Usage(9, 4, cached_tokens=6)),
        ({**COUNTED, **OPENROUTER}, Usage(9, 4, 9, 3, 0.5)),
        ({**COUNTED, **XAI}, Usage(9, 24, 0, 20)),
        ({**COUNTED, "prompt_tokens_details": None, "cost": -1}, Usage(9, 4)),
        ({**COUNTED, "prompt_tokens": True, "cost": True}, Usage(7, 4, is_estimated=True)),
        (HUGE, Usage(7, 5, is_estimated=True)),
    ],
    ids=["plain", "nothing", "nonsense", "deepseek", "openrouter", "xai", "null", "true", "huge"],
)
def test_usage_is_read_in_the_form_of_each_server(reported: object, expected: Usage) -> None:
    assert read_usage(reported, 5, lambda: 7) == expected


def test_rows_of_another_run_are_not_counted_as_kept() -> None:
    kept = stage("sample-coa").kept
    assert kept and kept.num_rows
    before = kept.num_rows
    Path(".journal/sample-coa.sqlite").rename(".journal/elsewhere.sqlite")
    with Journal(Path(".journal/sample-coa.sqlite")) as journal:
        reply = b'{"text": "another text", "num_tokens": 2, "finish": "stop"}'
        journal.put("k" * 32, reply, kind=CallKind.POLICY, who="other", seconds=1.0)
    found = stage("sample-coa")
    assert found.kept
    assert (found.kept.num_rows, found.kept.num_others) == (0, before)
    shown = costs.main([])
    assert f"{before:,} rows of data/filter/kept.parquet are not of sample-coa's calls" in shown


def test_a_command_that_reaches_a_cap_ends_with_status_1_and_says_how_to_go_on(root: Path) -> None:
    teacher = PaidTeacher(seconds=0.05)
    command = [sys.executable, "-m", "synth.sample", *RUN, "costs.max_calls=12"]
    with served(teacher) as asked:
        ended = subprocess.run([*command, *asked], capture_output=True, text=True, check=False)

    assert ended.returncode == 1, ended.stderr
    assert "error: the limit costs.max_calls is reached" in ended.stderr
    assert "waiting for" in ended.stderr
    assert "run the same command again" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(teacher.charged) == 12
