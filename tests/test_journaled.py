"""Repeat no finished call: what the journal answers, and what a call is known by."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coa.errors import ServiceError
from coa.microworld.factory import MicroworldParams
from coa.policy import Completion, Finish, Policy, Request, RequestError
from coa.policy.completions import CompletionsPolicy
from coa.policy.react import as_react
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server_settings import ServerSettings
from coa.records.trajectory import Outcome
from coa.rollout.factory import PolicyKind, TeacherParams, open_policy
from coa.spending.journaled import JournaledBatchPolicy, JournaledPolicy, JournaledTool, policy_key
from coa.spending.ledger import Ledger
from coa.spending.prices import CostParams
from coa.store.journal import CallKind, Journal, request_key
from coa.store.model_files import fingerprint_model
from coa.tools import ToolReply
from tests.journal_support import damage, put


def request(seed: int = 0, **changes: object) -> Request:
    return Request("Question: ...\n", (), 64, 0.6, 1.0, **{"seed": seed, **changes})  # type: ignore[arg-type]


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


def test_a_second_run_asks_the_policy_nothing(journal_path: Path) -> None:
    with Journal(journal_path) as journal:
        first = ScriptedPolicy(["one", "two"])
        policy = JournaledPolicy(first, journal)
        replies = [asyncio.run(policy.complete(request(seed))) for seed in (1, 2)]

    with Journal(journal_path) as journal:
        policy = JournaledPolicy(ScriptedPolicy([]), journal)

        assert [asyncio.run(policy.complete(request(seed))) for seed in (1, 2)] == replies
        assert (journal.num_replayed, journal.num_recorded) == (2, 0)


def test_a_completion_comes_back_whole(journal_path: Path) -> None:
    completion = Completion("é\n</think>", Finish.LENGTH, 3, 7, (1, 2, 3))

    class Exact(ScriptedPolicy):
        async def complete(self, request: Request) -> Completion:
            return completion

    with Journal(journal_path) as journal:
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
def test_another_request_is_another_call(journal_path: Path, change: dict[str, object]) -> None:
    fields = {
        "context": "c",
        "stop": (),
        "max_tokens": 64,
        "temperature": 0.6,
        "top_p": 1.0,
        "seed": 0,
    }
    with Journal(journal_path) as journal:
        policy = JournaledPolicy(ScriptedPolicy(["one", "two"]), journal)
        first = asyncio.run(policy.complete(Request(**fields)))  # type: ignore[arg-type]
        second = asyncio.run(policy.complete(Request(**fields | change)))  # type: ignore[arg-type]

    assert (first.text, second.text) == ("one", "two")


@pytest.mark.parametrize("error", [RequestError("too long"), ServiceError("no server")], ids=repr)
def test_errors_of_the_policy_are_not_recorded(journal_path: Path, error: Exception) -> None:
    with Journal(journal_path) as journal:
        policy = JournaledPolicy(BrokenPolicy(error), journal)
        with pytest.raises(type(error)):
            asyncio.run(policy.complete(request()))

        assert asyncio.run(policy.complete(request())).text == "well"
        assert journal.num_recorded == 1


def test_a_batch_asks_only_for_what_is_missing_and_keeps_the_order(journal_path: Path) -> None:
    inner = ScriptedPolicy(["b", "a and c"])
    with Journal(journal_path) as journal:
        policy = JournaledBatchPolicy(inner, journal)
        policy.complete_batch([request(2)])

        replies = policy.complete_batch([request(1), request(2), request(1)])

    assert [reply.text for reply in replies] == ["a and c", "b", "a and c"]
    assert inner.requests == [request(2), request(1)]


def test_identical_calls_in_flight_are_made_once(journal_path: Path) -> None:
    tool = CountingTool(lambda argument: ToolReply(Outcome.OK, f"about {argument}", ("p1",)))

    async def ask(journal: Journal) -> list[ToolReply]:
        # Two wrappers: what is in flight belongs to the journal.
        tools = [JournaledTool(tool, journal), JournaledTool(tool, journal)]
        return await asyncio.gather(*(tools[i % 2].call(f"query {i % 3}") for i in range(300)))

    with Journal(journal_path) as journal:
        replies = asyncio.run(ask(journal))

    assert sorted(tool.calls) == ["query 0", "query 1", "query 2"]
    assert replies == [ToolReply(Outcome.OK, f"about query {i % 3}", ("p1",)) for i in range(300)]


def test_a_call_whose_caller_gave_up_is_kept(journal_path: Path) -> None:
    tool = CountingTool(lambda argument: ToolReply(Outcome.OK, "late"))

    async def ask_impatiently(journaled: JournaledTool) -> ToolReply:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(journaled.call("query"), 0.001)
        await asyncio.sleep(0.05)
        return await journaled.call("query")

    with Journal(journal_path) as journal:
        reply = asyncio.run(ask_impatiently(JournaledTool(tool, journal)))

    assert (reply.text, tool.calls) == ("late", ["query"])


@pytest.mark.parametrize("outcome", Outcome)
def test_only_a_tools_own_failure_is_tried_again(journal_path: Path, outcome: Outcome) -> None:
    tool = CountingTool(lambda argument: ToolReply(outcome, "text"))
    with Journal(journal_path) as journal:
        journaled = JournaledTool(tool, journal)
        replies = [asyncio.run(journaled.call("query")) for _ in range(2)]

    assert replies == [ToolReply(outcome, "text")] * 2
    assert len(tool.calls) == (2 if outcome is Outcome.ERROR else 1)


def test_a_reply_with_a_lone_surrogate_reads_live_as_it_will_be_replayed(
    journal_path: Path,
) -> None:
    tool = CountingTool(lambda argument: ToolReply(Outcome.OK, "broken \ud83d emoji, é"))
    with Journal(journal_path) as journal:
        live, replayed = (
            asyncio.run(JournaledTool(tool, journal).call("query \ud83d")) for _ in range(2)
        )

    assert live == replayed == ToolReply(Outcome.OK, "broken ? emoji, é")


def test_a_recorded_reply_that_cannot_be_read_is_named_and_asked_for_once_more(
    journal_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    key = request_key(CallKind.TOOL, "search", "corpus-1", "query")
    tool = CountingTool(lambda argument: ToolReply(Outcome.OK, "text"))
    with Journal(journal_path) as journal:
        put(journal, key, b'{"outcome":"unheard of"}')
    for _ in range(2):
        with Journal(journal_path) as journal:
            reply = asyncio.run(JournaledTool(tool, journal).call("query"))
            assert reply == ToolReply(Outcome.OK, "text")

    assert tool.calls == ["query"]
    (told,) = caplog.messages
    assert f"{journal_path}, key {key}: the recorded reply cannot be read" in told


@pytest.mark.parametrize(
    "recorded",
    [
        b'{"text":"a","finish":"end","num_tokens":true}',
        b'{"text":"a","finish":"end","num_tokens":3,"num_context_tokens":true}',
        b'{"text":"a","finish":"end","num_tokens":9223372036854775808}',
        b'{"text":"a","finish":"end","num_tokens":3,"usage":{"context_tokens":-1,'
        b'"written_tokens":3}}',
        b'{"text":"a","finish":"end","num_tokens":3,"ids":[1,99999999999]}',
        b'{"text":"a"',
        b"\xff",
        b"",
        b"[" * 5000,
    ],
)
def test_one_bad_row_of_an_old_journal_costs_one_call(journal_path: Path, recorded: bytes) -> None:
    policy = ScriptedPolicy(["first", "second"])
    keys = [policy_key(policy, request(seed)) for seed in (1, 2)]
    with Journal(journal_path) as journal:
        put(journal, keys[0])
        damage(journal_path, keys[0], recorded)
        prices = CostParams(max_calls=10)
        journaled = JournaledPolicy(policy, journal, Ledger(journal, prices))
        replies = [asyncio.run(journaled.complete(request(seed))) for seed in (1, 2, 1)]

    assert [reply.text for reply in replies] == ["first", "second", "first"]
    assert policy.requests == [request(1), request(2)]


def test_a_batch_asks_again_for_a_reply_that_cannot_be_read(journal_path: Path) -> None:
    policy = ScriptedPolicy(["first"])
    with Journal(journal_path) as journal:
        put(journal, policy_key(policy, request()), b"{}")
        journaled = JournaledBatchPolicy(policy, journal)
        for _ in range(2):
            (reply,) = journaled.complete_batch([request()])
            assert reply.text == "first"


def test_a_reply_that_no_later_run_could_read_is_not_recorded(journal_path: Path) -> None:
    class Odd(ScriptedPolicy):
        async def complete(self, request: Request) -> Completion:
            return Completion("text", Finish.END, num_tokens=2**63)

    with Journal(journal_path) as journal:
        with pytest.raises(RequestError, match="cannot be recorded"):
            asyncio.run(JournaledPolicy(Odd([]), journal).complete(request()))
        assert not list(journal.calls())


MODEL = "Qwen/Qwen2.5-7B-Instruct"
ASKED = Request("Question: ...\n<think>\n", ("</end_search>",), 64, 0.6, 1.0, 7)
KEY = "f1470fcfd49f15ec5fee93d5671e5b8e"
"""Of `ASKED` to `MODEL`, as journals had it before policies had an identity."""


def served(deployment: str = "", **changes: Any) -> CompletionsPolicy:
    return CompletionsPolicy(ServerSettings(model=MODEL, **changes), deployment=deployment)


def test_keys_of_default_settings_are_those_of_journals_that_exist() -> None:
    assert policy_key(served(), ASKED) == KEY
    assert policy_key(ScriptedPolicy([], MODEL), ASKED) == KEY
    with_ids = replace(ASKED, context_ids=(1, 2, 3))
    assert policy_key(served(), with_ids) == "8d926e4006a2000c8aac02a939560fc4"
    tool_key = request_key(CallKind.TOOL, "search", "corpus-1", "danube")
    assert tool_key == "a0768e7a55c59793ba66bc27e750eda6"


@pytest.mark.parametrize(
    "changes",
    [
        {"base_url": "http://10.0.0.7:9000/v1"},
        {"api_key_env": "ANOTHER_KEY"},
        {"timeout_seconds": 5.0},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_a_run_may_move_to_another_host(changes: Mapping[str, Any]) -> None:
    assert policy_key(served(**changes), ASKED) == KEY


def test_what_is_sent_besides_the_request_is_another_call() -> None:
    keys = [
        policy_key(served(extra_body=body), ASKED)
        for body in ({}, {"top_k": 20}, {"top_k": 40}, {"top_k": 40, "min_p": 0.1})
    ]
    assert len(set(keys)) == 4
    assert policy_key(served(extra_body={"min_p": 0.1, "top_k": 40}), ASKED) == keys[-1]


def test_two_deployments_of_one_model_name_are_two_teachers() -> None:
    def teacher(name: str) -> Any:
        params = TeacherParams(
            policy=PolicyKind.COMPLETIONS, name=name, server=ServerSettings(model=MODEL)
        )
        return open_policy(params, MicroworldParams())

    keys = [policy_key(teacher(name), ASKED) for name in ("", "fp8", "awq")]
    assert keys[0] == KEY
    assert len(set(keys)) == 3


def test_weights_in_a_served_folder_are_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "student"
    folder.mkdir()
    settings = ServerSettings(model=str(folder))
    keys = []
    for weights in (b"first", b"trained again"):
        (folder / "model.safetensors").write_bytes(weights)
        keys.append(policy_key(CompletionsPolicy(settings), ASKED))
    assert len(set(keys)) == 2
    assert CompletionsPolicy(settings).identity == {"weights": fingerprint_model(str(folder))}


def test_a_wrapped_policy_keeps_its_identity(tmp_path: Path) -> None:
    policy = served(extra_body={"top_k": 20})
    with Journal(tmp_path / "journal.sqlite") as journal:
        wrapped = [as_react(policy), JournaledPolicy(policy, journal)]
    assert [it.identity for it in wrapped] == [policy.identity] * 2


class Deployed(ScriptedPolicy):
    """A script behind which there are weights."""

    def __init__(self, text: str, weights: str) -> None:
        super().__init__(lambda request: text, "student")
        self._weights = weights

    @property
    def identity(self) -> Mapping[str, object]:
        return {"weights": self._weights}


def test_other_weights_under_the_same_name_are_asked_again(tmp_path: Path) -> None:
    def ask(policy: Policy) -> str:
        with Journal(tmp_path / "journal.sqlite") as journal:
            return asyncio.run(JournaledPolicy(policy, journal).complete(ASKED)).text

    assert [ask(Deployed("one", "a")), ask(Deployed("two", "b"))] == ["one", "two"]
    assert ask(Deployed("three", "a")) == "one"


def test_identical_requests_in_flight_reach_the_policy_once(journal_path: Path) -> None:
    async def ask(policy: JournaledPolicy) -> list[Completion]:
        return await asyncio.gather(*(policy.complete(request()) for _ in range(50)))

    with Journal(journal_path) as journal:
        replies = asyncio.run(ask(JournaledPolicy(ScriptedPolicy(["once"]), journal)))

    assert {reply.text for reply in replies} == {"once"}


def test_another_policy_is_another_call(journal_path: Path) -> None:
    with Journal(journal_path) as journal:
        texts = [
            asyncio.run(
                JournaledPolicy(ScriptedPolicy([name], name), journal).complete(request())
            ).text
            for name in ("teacher", "student")
        ]

    assert texts == ["teacher", "student"]
