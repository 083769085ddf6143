"""Keep a review server's secrets, state and packages: one server, one version, a backup."""

import json
import re
from pathlib import Path

import pytest

from annotate import (
    deployment,
    environment,
    serve,
)
from annotate.settings import AnnotateParams, ServeParams
from annotate.state import State
from coa.errors import ConfigError, InputError


def test_access_comes_from_the_environment_or_from_the_server_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate = AnnotateParams(serve=ServeParams(state=str(tmp_path / "state")))
    for name in (deployment.URL, deployment.KEY, deployment.HEADERS):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="no Argilla to talk to"):
        deployment.access(annotate)
    state = State(tmp_path / "state")
    key = state.owner_key()
    state.note_address("http://127.0.0.1:1")
    assert deployment.access(annotate) == ("http://127.0.0.1:1", key, {})
    monkeypatch.setenv(deployment.URL, "https://team.example")
    with pytest.raises(ConfigError, match="no key"):
        deployment.access(annotate)
    monkeypatch.setenv(deployment.KEY, "k")
    monkeypatch.setenv(deployment.HEADERS, json.dumps({"Authorization": "Bearer t"}))
    assert deployment.access(annotate) == (
        "https://team.example",
        "k",
        {"Authorization": "Bearer t"},
    )


def test_headers_that_cannot_be_read_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        (deployment.URL, "u"),
        (deployment.KEY, "k"),
        (deployment.HEADERS, "Bearer sesame"),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as raised:
        deployment.access(AnnotateParams())
    assert "sesame" not in str(raised.value)


def test_secrets_are_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    assert state.secret() == state.secret() != state.owner_key()
    assert (tmp_path / "state").stat().st_mode & 0o77 == 0
    assert all(path.stat().st_mode & 0o77 == 0 for path in (tmp_path / "state").iterdir())


def test_one_server_at_a_time_uses_a_state_folder(tmp_path: Path) -> None:
    with (
        State(tmp_path).lock(),
        pytest.raises(InputError, match="a server is using"),
        State(tmp_path).lock(),
    ):
        pass
    with State(tmp_path).lock():
        pass


def test_a_state_of_another_version_is_refused(tmp_path: Path) -> None:
    state = State(tmp_path)
    (tmp_path / "argilla.db").touch()
    (tmp_path / "version").write_text("2.7.0")
    with pytest.raises(ConfigError, match="belongs to another version") as raised:
        state.check_version("2.8.0")
    assert "got: 2.7.0" in str(raised.value)
    assert (tmp_path / "version").read_text() == "2.7.0"


def test_addresses_that_others_can_reach_are_warned_about() -> None:
    assert "unencrypted" not in serve.welcome("u", ServeParams(), {})
    assert "unencrypted" in serve.welcome("u", ServeParams(host="0.0.0.0"), {})
    assert [
        serve.is_open_to_others(host)
        for host in ("127.0.0.1", "::1", "localhost", "10.0.0.1", "box")
    ] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_the_lock_pins_every_package_exactly() -> None:
    lines = [
        line
        for line in environment.LOCK.read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.match(r"[\w.-]+==[\w.]+( ; .+)?$", line) for line in lines), lines
    assert environment.pinned_version() == "2.8.0"
