"""What searches and the judge of a training cost."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from coa import costs
from coa.errors import CapError
from coa.policy import Request
from coa.policy.completions import CompletionsPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.records import protocol
from coa.records.question import Question
from coa.search.recorded import RecordedSearch
from coa.search.settings import Provider, RecordingMode, RecordingSettings, WebSettings
from coa.search.tool import SearchTool
from coa.search.web import WebSearch
from coa.settings.params import Params
from coa.spending.journaled import JournaledBatchPolicy, JournaledTool
from coa.spending.ledger import Ledger
from coa.spending.prices import CostParams
from coa.store.journal import Journal
from tests.costs_support import MODEL, PaidTeacher, served
from tests.sample_records import make_graded
from train.judging import JudgeAccount

PRICES = CostParams(searches={"serper": 0.001})


class Serper:
    """Answers searches as Serper does; each of `faults` answers one request instead."""

    def __init__(self) -> None:
        self.num_requests = 0
        self.faults: list[int] = []

    async def search(self, request: web.Request) -> web.Response:
        self.num_requests += 1
        if self.faults:
            return web.Response(status=self.faults.pop(0))
        page = {"link": "https://a.example", "title": "Danube", "snippet": "A river."}
        return web.json_response({"organic": [page]})

    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/search", self.search)
        return app


def search(
    url: str, queries: list[str], *, recording: Path | None = None, prices: CostParams = PRICES
) -> Ledger:
    """Search through the journal, all at once, and return the account."""
    engine: Any = WebSearch(WebSettings(Provider.SERPER, url, max_per_second=0))
    if recording:
        engine = RecordedSearch(engine, RecordingSettings(RecordingMode.RECORD, str(recording)))

    async def ask() -> Ledger:
        tool = SearchTool(engine)
        with Journal(".journal/sample-coa.sqlite") as journal:
            ledger = Ledger(journal, prices)
            journaled = JournaledTool(tool, journal, ledger)
            try:
                await asyncio.gather(*(journaled.call(query) for query in queries))
            finally:
                await tool.aclose()
        return ledger

    return asyncio.run(ask())


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SERPER_API_KEY", "s3cret")
    Path("params.yaml").write_bytes((root / "conf/microworld.yaml").read_bytes())


def test_requests_of_searches_are_counted_with_their_repeats_and_paid_once(served_app: Any) -> None:
    serper = Serper()
    serper.faults = [500, 503]
    with served_app(serper.app()) as url:
        first = search(url, ["danube", "volga", "danube"])
        again = search(url, ["danube", "rhine", "volga"])

    assert serper.num_requests == 2 + 3
    assert first.used.metrics()["search_requests"] == 4
    assert again.used.metrics()["search_requests"] == 5
    assert again.paid.total.known_dollars == 0.005
    (stage,) = costs.read_stages(Path(".journal"), PRICES)
    assert stage.spending.tallies["serper"].requests == 5
    assert "serper: requests" in costs.render([stage])


def test_a_search_that_a_recording_answers_is_not_paid(served_app: Any, tmp_path: Path) -> None:
    serper = Serper()
    recording = tmp_path / "searches.sqlite"
    with served_app(serper.app()) as url:
        search(url, ["danube", "volga"], recording=recording)
        Path(".journal/sample-coa.sqlite").unlink()
        replayed = search(url, ["danube", "volga"], recording=recording)

    assert serper.num_requests == 2
    assert replayed.paid.metrics()["search_requests"] == 0


def test_a_cap_in_dollars_counts_searches_too(served_app: Any) -> None:
    serper = Serper()
    capped = replace(PRICES, max_dollars=0.002)
    with served_app(serper.app()) as url:
        search(url, ["danube", "volga"], prices=capped)
        with pytest.raises(CapError, match="max_dollars"):
            search(url, ["rhine"], prices=capped)

    assert serper.num_requests == 2


def test_a_batch_that_would_pass_the_cap_on_calls_is_not_made() -> None:
    inner = ScriptedPolicy(lambda request: "well")
    requests = [Request("Question?", (), 9, 0.6, 1.0, seed) for seed in range(4)]
    with Journal(".journal/batch.sqlite") as journal:
        ledger = Ledger(journal, CostParams(max_calls=3))
        policy = JournaledBatchPolicy(inner, journal, ledger)
        policy.complete_batch(requests[:2])
        policy.complete_batch(requests[:2])
        with pytest.raises(CapError, match="max_calls"):
            policy.complete_batch(requests[2:])

    assert journal.num_recorded == ledger.paid.total.calls == 2
    assert ledger.used.total.calls == 4


def judge(account: JudgeAccount, num_rows: int) -> None:
    """Let the judge score rows with different answers."""
    question = Question("q", "Who?", ("Ada",), "train")

    async def score() -> None:
        opened = account.open_judge()
        assert isinstance(account.policy, CompletionsPolicy)
        async with account.policy:
            for number in range(num_rows):
                row = make_graded(question, protocol.parse(f"</think>\\boxed{{{number}}}"))
                await opened.judge(row)

    with account:
        asyncio.run(score())


def judged_by(asked: tuple[str, ...], *settings: str) -> Params:
    """Return settings in which the judge is the served policy."""
    policy = [setting.replace("teacher", "judge.policy", 1) for setting in asked]
    return Params.load("judge", [*policy, *settings])


def test_the_judge_is_paid_once_and_counted() -> None:
    teacher = PaidTeacher()
    with served(teacher) as asked:
        sections = judged_by(asked)
        judge(JudgeAccount(sections, "rl2"), 3)
        account = JudgeAccount(sections, "rl2")
        judge(account, 4)

    assert len(teacher.charged) == 4
    assert account.ledger is not None
    assert account.ledger.used.metrics()["calls"] == 4
    (stage,) = costs.read_stages(Path(".journal"), CostParams())
    assert stage.name == "judge-rl2"
    assert stage.spending.tallies[MODEL].tokens == teacher.num_tokens


def test_a_cap_holds_for_the_judge_too() -> None:
    teacher = PaidTeacher()
    with served(teacher) as asked:
        sections = judged_by(asked, "costs.max_calls=2")
        for _ in range(2):
            with pytest.raises(CapError, match="max_calls"):
                judge(JudgeAccount(sections, "rl2"), 3)

    assert len(teacher.charged) == 2
