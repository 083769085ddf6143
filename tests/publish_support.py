"""Publish to a local Hub through the real clients, for the tests of publishing."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.store import tables
from data_cards.catalogue import SetName, local_path
from tests.hub.server import create_app

pytest.importorskip("datasets")
pytest.importorskip("linkify_it")
ROOT = Path(__file__).parent.parent
TOKEN = "hf_for_this_test_alone"


def environment_of(**extra: str) -> dict[str, str]:
    """What a command of the project needs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PATH": path,
        "PYTHONPATH": str(ROOT),
        **extra,
    }


class Breaking:
    """Stands between client and server: counts requests, and breaks them off where told to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.breaks: Callable[[str], bool] = lambda request: False
        self.requests: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = f"{scope['method']} {scope['path']}"
            self.requests.append(request)
            if self.breaks(request):
                await send({"type": "http.response.start", "status": 500, "headers": []})
                await send({"type": "http.response.body", "body": b"broken off"})
                return
        await self._app(scope, receive, send)


WORKER = """
import contextlib, io, json, os, sys, traceback
for line in sys.stdin:
    asked = json.loads(line)
    os.environ["HF_TOKEN"] = asked["token"]
    os.chdir(asked["folder"])
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            exec(asked["code"], {"arguments": asked["arguments"]})
        except SystemExit as exit:
            code = exit.code
        except BaseException:
            traceback.print_exc()
            code = 70
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=sys.__stdout__, flush=True)
"""


class Done(NamedTuple):
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


class Hub:
    """Runs a local Hub in a thread, and in one process the programs that use it by HF_ENDPOINT.

    The programs share one process because the libraries take seconds to be imported.
    """

    def __init__(self, folder: Path) -> None:
        self._contents = folder / "contents"
        self.network = Breaking(create_app(folder, owner="me", token=TOKEN))
        self._server = uvicorn.Server(
            uvicorn.Config(self.network, log_level="error", access_log=False)
        )
        listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.variables = {
            "HF_ENDPOINT": self.url,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HOME": str(folder / "home"),
        }
        self._worker = subprocess.Popen(
            [sys.executable, "-c", WORKER],
            env=environment_of(**self.variables),
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        assert self._worker.stdin and self._worker.stdout
        self._worker.stdin.close()
        self._worker.wait(20)
        self._worker.stdout.close()
        self._server.should_exit = True
        self._thread.join(10)

    def forget_contents(self) -> None:
        """Be as if nothing had ever been uploaded, for a test that counts uploads."""
        for path in self._contents.iterdir():
            path.unlink()

    def run(self, code: str, *arguments: str, folder: Path = ROOT, token: str = TOKEN) -> Done:
        """Run a program."""
        assert self._worker.stdin and self._worker.stdout
        asked = {"code": code, "arguments": arguments, "folder": str(folder), "token": token}
        print(json.dumps(asked), file=self._worker.stdin, flush=True)
        return Done(*json.loads(self._worker.stdout.readline()))


def commit(folder: Path, environment: dict[str, str]) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for command in (["git", "add", "--all"], ["git", *who, "commit", "--quiet", "-m", "all"]):
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


def publish(project: Path, hub: Hub, name: str, *arguments: str, token: str = TOKEN) -> Done:
    code = "from coa.cli import run; from data_cards.publish import main; run(main, arguments)"
    repository = [f"repository={name}"] if name else []
    done = hub.run(code, *repository, *arguments, folder=project, token=token)
    assert "Traceback" not in done.stderr, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done


def ask(hub: Hub, expression: str) -> Any:
    """What a program that uses the real clients finds, as JSON."""
    code = (
        "import json, huggingface_hub, datasets\napi = huggingface_hub.HfApi()\n"
        f"print(json.dumps({expression}))"
    )
    done = hub.run(code)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def history(hub: Hub, name: str) -> list[str]:
    return list(
        ask(hub, f"[c.title for c in api.list_repo_commits({name!r}, repo_type='dataset')]")
    )


def uploads(hub: Hub) -> int:
    return sum(request.startswith("PUT") for request in hub.network.requests)


def change_a_row(project: Path) -> str:
    """Change one row of a set, and bring cards, lock and git up to date."""
    path = project / local_path(SetName.COA, "train")
    first, *rest = tables.read_table(path, GradedTrajectory)
    rows = [replace(first, trajectory=replace(first.trajectory, error="changed")), *rest]
    tables.write_table(path, GradedTrajectory, rows)
    environment = environment_of()
    subprocess.run(
        ["dvc", "repro", "--quiet"], cwd=project, env=environment, check=True, capture_output=True
    )
    commit(project, environment)
    return first.trajectory.trajectory_id


def rows_come_back_equal(project: Path, hub: Hub, repository: str) -> None:
    loaded = "{n: {s: list(rows) for s, rows in datasets.load_dataset(%r, n).items()} for n in %s}"
    found = ask(hub, loaded % (repository, [str(name) for name in SetName]))
    kinds = {SetName.COT_A: PreferencePair, SetName.RL: Question}
    for name in SetName:
        for split in ("train", "validation"):
            rows = tables.read_table(
                project / local_path(name, split), kinds.get(name, GradedTrajectory)
            )
            records = [json.loads(msgspec.json.encode(row)) for row in rows]
            assert [record_of(row) for row in found[name][split]] == records


def record_of(row: dict[str, Any]) -> dict[str, Any]:
    """Return our record of a published row."""
    if "pair" in row:
        return dict(row["pair"])
    return {key: row[key] for key in row if key not in ("id", "messages", "tools", "prompt")}


def swap(path: Path) -> None:
    """Put a row of somebody's own into a set, as a run that goes on beside would."""
    first, *rest = tables.read_table(path, GradedTrajectory)
    swapped = replace(first, trajectory=replace(first.trajectory, error="write to ann@example.org"))
    new = path.with_name("new")
    tables.write_table(new, GradedTrajectory, [swapped, *rest])
    new.replace(path)
