"""Run Argilla on this machine with one command: no docker, no Elasticsearch, no Java.

    python -m annotate.serve                       # installs once, then serves until control-C
    python -m annotate.serve action=backup
    python -m annotate.serve action=reset

It is Argilla's own server and page with an embedded search. An engine of ours, in
annotate/embedded, answers from Argilla's SQLite database in place of Elasticsearch, and a Redis
inside the process takes its background jobs. Everything is kept in one folder, `.argilla`. The
passwords of new accounts are shown once.
"""

import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from annotate.environment import pinned_version, server_python
from annotate.settings import Action, AnnotateParams, ServeParams
from annotate.state import State
from coa.errors import ConfigError, ServiceError
from coa.settings.params import Params

_START_SECONDS = 120.0
_STOP_SECONDS = 10.0
_WATCH_SECONDS = 0.5
_QUICK_DEATHS = 5
"""Workers that may die within a minute before the server gives up."""


class Processes:
    """The server and its worker, which are started, watched and stopped together."""

    def __init__(self, python: Path, settings: dict[str, Any], log: IO[bytes]) -> None:
        self._python = python
        self._settings = settings
        self._log = log
        self._worker: subprocess.Popen[bytes] | None = None
        self._deaths: list[float] = []
        self._server = self._start("server")
        self.passwords: dict[str, str] = {}

    def _start(self, role: str) -> subprocess.Popen[bytes]:
        # A session of its own: control-C reaches this process alone, which then stops the others
        # in order.
        process = subprocess.Popen(
            [self._python, "-m", "annotate.embedded.process", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            env=_environment(),
        )
        assert process.stdin
        settings = json.dumps({**self._settings, "parent": os.getpid()})
        process.stdin.write(settings.encode() + b"\n")
        process.stdin.flush()
        return process

    def wait_until_open(self, url: str) -> None:
        """Read what the server reports, wait until its page answers, then start the worker.

        Raises:
            ServiceError: the server ended, or took too long.
        """
        assert self._server.stdout
        for line in self._server.stdout:
            report = json.loads(line)
            if "account" in report:
                self.passwords[report["account"]] = report["password"]
            if "redis_url" in report:
                self._settings["redis_url"] = report["redis_url"]
                break
        deadline = time.monotonic() + _START_SECONDS
        while not answers(url):
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise ServiceError(
                    "Argilla's server did not start", where=url, fix=f"read {self._log.name}"
                )
            time.sleep(0.1)
        self._worker = self._start("worker")

    def watch(self) -> None:
        """Start the worker again whenever it dies; never returns.

        Raises:
            ServiceError: the server died, or the worker again and again.
        """
        while True:
            time.sleep(_WATCH_SECONDS)
            if self._server.poll() is not None:
                raise ServiceError(
                    "Argilla's server died", fix=f"read {self._log.name}, then start it again"
                )
            if self._worker is not None and self._worker.poll() is not None:
                self._note_death()
                self._worker = self._start("worker")

    def _note_death(self) -> None:
        """Count the worker's deaths of the last minute, and give up where there are too many."""
        now = time.monotonic()
        recent = [death for death in self._deaths if death > now - 60]
        self._deaths = [*recent, now]
        if len(self._deaths) > _QUICK_DEATHS:
            raise ServiceError(
                "Argilla's worker dies again and again", fix=f"read {self._log.name}"
            )

    def stop(self) -> None:
        """End both, the worker first; one that does not end in time is killed."""
        for process in (self._worker, self._server):
            if process is None:
                continue
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _environment() -> Mapping[str, str]:
    """Return the environment variables of the server's processes.

    They find our engine, and none of the packages of this process's environment.
    """
    kept = {}
    for name, value in os.environ.items():
        if not name.startswith(("ARGILLA_", "PYTHON")):
            kept[name] = value
    kept["PYTHONPATH"] = str(Path(__file__).parent.parent)
    kept["PYTHONSAFEPATH"] = "1"
    return kept


def answers(url: str) -> bool:
    """Return whether an Argilla server answers at `url`."""
    try:
        with urllib.request.urlopen(f"{url}/api/v1/version", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def url_of(params: ServeParams) -> str:
    """Return the address to open in a browser on this machine."""
    host = "127.0.0.1" if params.host in ("0.0.0.0", "::") else params.host
    if ":" in host:
        host = f"[{host}]"
    return f"http://{host}:{params.port}"


def is_open_to_others(host: str) -> bool:
    """Return whether an address can be reached from elsewhere."""
    try:
        return not ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host != "localhost"


def check_port(params: ServeParams) -> None:
    """Complain about a port that is taken, before anything is started.

    Raises:
        ConfigError: something listens there, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in params.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((params.host, params.port))
        except OSError as error:
            fix = "stop what listens there, or name another: annotate.serve.port"
            raise ConfigError(
                f"cannot listen on {params.host}:{params.port}", got=error.strerror, fix=fix
            ) from error


def welcome(url: str, params: ServeParams, passwords: Mapping[str, str]) -> str:
    """Write what a person reads when the server is ready."""
    lines = [f"Argilla {pinned_version()} with an embedded search is at {url}"]
    if passwords:
        lines.append("new accounts; their passwords are shown this once:")
        lines += [f"  {name:20} {password}" for name, password in passwords.items()]
    if is_open_to_others(params.host):
        lines.append(
            f"warning: {params.host} can be reached from other machines, "
            "and passwords travel unencrypted"
        )
    lines.append("stop it with control-C")
    return "\n".join(lines)


def serve(annotate: AnnotateParams, say: Callable[[str], object]) -> str:
    """Run the server until it is told to stop, and return the summary line.

    Raises:
        ConfigError: the port is taken, or the state is of another version.
        ServiceError: the server does not start, or dies.
    """
    params = annotate.serve
    state = State(Path(params.state))
    with state.lock(), tempfile.TemporaryDirectory(prefix="argilla-") as folder:
        state.check_version(pinned_version(), accepts_upgrade=params.accepts_upgrade)
        check_port(params)
        python = server_python()
        url = url_of(params)
        settings = {
            "state": str(state.folder.resolve()),
            "secret": state.secret(),
            "owner_key": state.owner_key(),
            "host": params.host,
            "port": params.port,
            "redis_url": params.redis_url,
            "folder": folder,
            "workspace": annotate.workspace,
            "owner": params.owner,
            "annotators": list(params.annotators),
        }
        with (state.folder / "server.log").open("ab") as log:
            processes = Processes(python, settings, log)
            try:
                processes.wait_until_open(url)
                state.note_address(url)
                say(welcome(url, params, processes.passwords))
                processes.watch()
            except KeyboardInterrupt:
                pass
            finally:
                processes.stop()
    return f"Argilla at {url} is stopped; everything is in {state.folder}"


def main(arguments: Sequence[str]) -> str:
    """Do what `action` says, and return the summary line."""
    params = Params.load("annotate.serve", arguments)
    annotate = params.section(AnnotateParams, "annotate")
    state = State(Path(annotate.serve.state))
    if annotate.serve.action is Action.BACKUP:
        return f"backup: {state.backup()}"
    if annotate.serve.action is Action.RESET:
        return f"{state.folder} holds no server any more; what it held is in {state.reset()}"
    # Both signals end the server in order, also where a shell lets it ignore the first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    return serve(annotate, lambda text: print(text, flush=True))


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
