"""What is wrong with a server's settings is said before a run asks or writes anything."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from coa.errors import ConfigError, ServiceError
from coa.policy.chat.families import ChatSettings
from coa.policy.chat.policy import ChatPolicy
from coa.policy.completions import CompletionsPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import serve
from coa.policy.server_settings import ServerSettings
from coa.settings.params import Params
from curate import branch, grade
from evaluation import evaluate
from synth import sample
from tests.completions_support import ask, request, run
from train.judging import JudgeAccount

UNSET = "KEY_THAT_NOBODY_SET"
KEY = "teacher.server.api_key_env"


def files_of(folder: Path) -> Mapping[Path, int]:
    """All files of a folder and when each was written; not those of the current process."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["completions", "chat"])
def test_a_key_that_is_not_set_ends_a_run_before_it_writes_anything(
    linked_run: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv(UNSET, " ")
    before = files_of(linked_run)
    settings = [f"teacher.policy={kind}", "teacher.server.model=m", f"{KEY}={UNSET}"]
    said = rf"{UNSET} is not set[\s\S]*where: {KEY}\n[\s\S]*export {UNSET}"
    with pytest.raises(ConfigError, match=said):
        sample.main(["mode=cot", "out=data/keyless", *settings])
    assert files_of(linked_run) == before


@pytest.mark.parametrize(
    ("main", "section", "more"),
    [
        (
            evaluate.main,
            "evaluate.policy",
            ["name=keyless", "evaluate.prompts.coa=synth/prompts/coa.txt"],
        ),
        (grade.main, "judge.policy", []),
        (branch.main, "branch.policy", []),
    ],
)
def test_a_key_that_is_not_set_is_said_to_be_missing_in_its_section(
    linked_run: Path, main: Callable[[list[str]], str], section: str, more: list[str]
) -> None:
    told = [f"{section}.policy=completions", f"{section}.server.model=m"]
    with pytest.raises(ConfigError, match="is not set") as caught:
        main([*more, *told, f"{section}.server.api_key_env={UNSET}"])
    assert caught.value.details["where"] == f"{section}.server.api_key_env"


def test_a_judge_without_its_key_is_refused_before_its_journal_is_made(linked_run: Path) -> None:
    asked = {"policy": "completions", "server.model": "m", "server.api_key_env": UNSET}
    sections = Params.load("judge", [f"judge.policy.{key}={value}" for key, value in asked.items()])
    with (
        JudgeAccount(sections, "rl") as account,
        pytest.raises(ConfigError, match="is not set"),
    ):
        account.open_judge()
    assert account.ledger is None and not list(Path(".journal").glob("judge-*"))


@pytest.mark.parametrize("policy_type", ["completions", "chat"])
def test_a_name_that_does_not_resolve_is_said_at_once(policy_type: str) -> None:
    url = "http://no-such-host.invalid:8000/v1"
    settings = ServerSettings(url, "tiny", patience_minutes=10)

    async def ask_nobody() -> None:
        chat = ChatPolicy(settings, ChatSettings())
        async with chat if policy_type == "chat" else CompletionsPolicy(settings) as policy:
            await policy.complete(request())

    started = time.monotonic()
    with pytest.raises(ServiceError) as caught:
        run(ask_nobody())
    assert time.monotonic() - started < 30
    said = str(caught.value)
    assert "does not resolve" in said and url in said and "correct the host" in said


def test_of_several_servers_a_misspelt_one_is_left_alone_once_another_has_answered() -> None:
    async def ask_both() -> list[str]:
        texts = []
        async with serve(ScriptedPolicy(["one", "two", "three"])) as base_url:
            addresses = (base_url, "http://no-such-host.invalid:8000/v1")
            settings = ServerSettings(addresses, "scripted", patience_minutes=1)
            async with CompletionsPolicy(settings) as policy:
                for _ in range(3):
                    texts.append((await policy.complete(request())).text)
        return texts

    assert run(ask_both()) == ["one", "two", "three"]


def stream(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
    text = 'data: {"choices": [{"text": "yes"}]}\n\ndata: [DONE]\n\n'
    return web.Response(text=text, content_type="text/event-stream")


def test_a_stream_is_refused_by_name_with_advice() -> None:
    with pytest.raises(ConfigError, match=r"streams its reply[\s\S]*remove `stream`"):
        run(ask([], settings={"extra_body": {"stream": True}}, fails=stream))
