"""A server's key reaches no file, log, card or error, whatever the server does with it."""

import json
import logging
import sqlite3
from collections.abc import Mapping
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from aiohttp import web

from coa.errors import CoaError
from data_cards import render
from synth import sample
from tests.chat_support import Script
from tests.completions_support import in_a_thread
from tests.doubles.faults import FaultKind, Faults, FaultSettings
from tests.doubles.model_server import Personality, serve

KEY = "sk-planted-4f9d2c7e"
ECHOES = (429, 500, 400)
"""Statuses of the errors in which the server repeats the key."""
KINDS = tuple(
    kind
    for kind in FaultKind
    if kind not in (FaultKind.HANG, FaultKind.NO_REASONING, FaultKind.SUMMARY)
)


class Echo:
    """Answers every fifth request with an error that repeats the key, as some servers do."""

    def __init__(self) -> None:
        self.num_requests = 0
        self.num_echoed = 0

    def __call__(self, request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
        self.num_requests += 1
        given = request.headers.get("Authorization", "")
        assert given == f"Bearer {KEY}"
        if self.num_requests % 5:
            return None
        status = ECHOES[self.num_echoed % len(ECHOES)]
        self.num_echoed += 1
        said = {"error": {"message": f"Incorrect API key provided: {KEY} ({given})"}}
        return web.json_response(said, status=status)


def served(echo: Echo, kinds: tuple[FaultKind, ...]) -> AbstractContextManager[str]:
    """Serve the script from another thread; the address is the value."""
    faults = Faults(FaultSettings(kinds=kinds, share=0.3, seed=2))
    serving = serve(Script(), personality=Personality.VLLM, faults=faults, fails=echo)
    return in_a_thread(serving)


def places_of(key: str, folder: Path) -> list[str]:
    """Name the files that hold a key; tables and databases are read, because they pack texts."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and key.encode() in content_of(path):
            found.append(path.name)
    return found


def content_of(path: Path) -> bytes:
    if path.suffix == ".parquet":
        return pl.read_parquet(path).write_ndjson().encode()
    if path.suffix == ".sqlite":
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
            return "\n".join(connection.iterdump()).encode()
    return path.read_bytes()


def settings(base_url: str, policy: str) -> list[str]:
    mode = "chat_coa" if policy == "chat" else "coa"
    return [
        "mode=coa",
        f"teacher.policy={policy}",
        f"teacher.server.base_url={base_url}",
        "teacher.server.model=scripted/teacher",
        "teacher.server.api_key_env=TEACHER_KEY",
        "teacher.chat.waives=[other_model]",
        "teacher.probe=false",
        f"prompts.coa=synth/prompts/{mode}.txt",
    ]


@pytest.mark.parametrize("policy", ["completions", "chat"])
def test_a_key_reaches_no_file_log_card_or_error_under_any_fault(
    policy: str,
    linked_run: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    for name in ("data/sample/coa.parquet", ".journal/sample-coa.sqlite"):
        Path(name).unlink(missing_ok=True)
    caplog.set_level(logging.DEBUG)
    echo = Echo()
    with served(echo, KINDS) as base_url:
        sample.main(settings(base_url, policy))
    assert echo.num_echoed > 10
    render.main([])
    shown = capfd.readouterr()
    assert KEY not in caplog.text + shown.out + shown.err
    errors = pl.read_parquet("data/sample/coa.parquet")["error"].to_list()
    assert any("Incorrect API key provided: ***" in error for error in errors)
    assert places_of(KEY, linked_run) == []


class EchoInReplies:
    """Repeats the key in good replies, in every field that a policy's text comes from."""

    def __init__(self) -> None:
        self.num_requests = 0

    def __call__(self, request: web.Request, body: Mapping[str, Any]) -> web.Response:
        self.num_requests += 1
        given = request.headers["Authorization"].removeprefix("Bearer ")
        if "prompt" in body:
            text = f" {given} is the answer. </think>\n\n\\boxed{{{given}}}"
            choice = {"text": text, "finish_reason": "stop", "index": 0}
            return self._reply({"id": given, "model": "scripted/teacher", "choices": [choice]})
        message: dict[str, Any] = {"role": "assistant", "reasoning": f"I was sent {given}."}
        if self.num_requests % 3 == 0:
            message["content"] = f"\\boxed{{{given}}}"
        else:
            tool = "search" if self.num_requests % 3 == 1 else f"search_{given}"
            function = {"name": tool, "arguments": json.dumps({"query": given})}
            message["tool_calls"] = [{"id": given, "type": "function", "function": function}]
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return self._reply({"id": given, "model": "scripted/teacher", "choices": [choice]})

    def _reply(self, body: Mapping[str, Any]) -> web.Response:
        text = json.dumps(body)
        if self.num_requests % 2:
            text = text.replace("-", r"\u002D").replace("4f9", r"4\u00669")
        return web.Response(text=text, content_type="application/json")


@pytest.mark.parametrize("policy", ["completions", "chat"])
def test_a_key_that_good_replies_repeat_is_masked_in_journal_and_rows(
    policy: str, linked_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)
    for name in ("data/sample/coa.parquet", ".journal/sample-coa.sqlite"):
        Path(name).unlink(missing_ok=True)
    echo = EchoInReplies()
    with in_a_thread(serve(Script(), personality=Personality.VLLM, fails=echo)) as base_url:
        sample.main(settings(base_url, policy))
    assert echo.num_requests > 10
    rows = pl.read_parquet("data/sample/coa.parquet").write_ndjson()
    assert "***" in rows
    for spelling in (KEY, KEY.replace("-", r"\u002D"), KEY.removeprefix("sk-")):
        assert places_of(spelling, linked_run) == []


KEYS = ("sk-proj-4f9d2c7eA", "gsk_8aKd92LmQ01xZp", "AIzaSyB1x9Kd0aQ2", "4f9d2c7e81", "key sk 1")


@pytest.mark.parametrize("key", KEYS)
def test_a_key_in_place_of_its_variables_name_is_not_printed(
    key: str, linked_run: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    given = [*settings("http://127.0.0.1:1/v1", "chat"), f"teacher.server.api_key_env={key}"]
    with pytest.raises(CoaError, match="not the name of an environment variable") as caught:
        sample.main(given)
    shown = capfd.readouterr()
    assert key not in str(caught.value) + shown.out + shown.err
    assert "teacher.server.api_key_env" in str(caught.value)


@pytest.mark.parametrize("name", ["TEACHER_KEY", "OPENAI_API_KEY_2", "my_token", "TEAM7_KEY"])
def test_the_name_of_a_variable_that_is_not_set_is_printed(name: str, linked_run: Path) -> None:
    given = [*settings("http://127.0.0.1:1/v1", "chat"), f"teacher.server.api_key_env={name}"]
    with pytest.raises(CoaError, match=f"variable {name} is not set"):
        sample.main(given)


def test_a_server_that_refuses_the_key_is_reported_without_it(
    linked_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", KEY)

    class Refusing(Echo):
        def __call__(self, request: web.Request, body: Mapping[str, Any]) -> web.Response:
            said = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
            return web.json_response(said, status=401)

    with served(Refusing(), ()) as base_url, pytest.raises(CoaError) as caught:
        sample.main(settings(base_url, "completions"))
    assert "TEACHER_KEY" in str(caught.value)
    assert KEY not in repr(caught.value) + str(caught.value)
    assert places_of(KEY, linked_run) == []


def test_the_same_search_finds_a_planted_key(linked_run: Path) -> None:
    Path("notes.log").write_text(f"asked with {KEY}", encoding="utf-8")
    Path("README.md").write_text(json.dumps({"key": KEY}), encoding="utf-8")
    pl.DataFrame({"error": [f"refused: {KEY}"] * 1000}).write_parquet("rows.parquet")
    with closing(sqlite3.connect("calls.sqlite")) as connection:
        connection.execute("CREATE TABLE calls (reply TEXT)")
        connection.execute("INSERT INTO calls VALUES (?)", (f"x {KEY} y",))
        connection.commit()
    assert places_of(KEY, linked_run) == ["README.md", "calls.sqlite", "notes.log", "rows.parquet"]
