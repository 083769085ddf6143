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
    for name in ("data/sample/coa.parquet", "data/journal/coa.sqlite"):
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
