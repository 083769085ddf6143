"""Run Argilla on this machine with one command: no docker, no Elasticsearch, no Java.

    coa review serve                       # installs once, then serves until control-C

It is Argilla's own server and page with an embedded search. An engine of ours, in
annotate/embedded, answers from Argilla's SQLite database in place of Elasticsearch. Argilla's
background jobs are not run. Everything is kept in one folder, `.argilla`. The passwords of new
accounts are shown once.
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
from annotate.settings import AnnotateParams, ServeParams
from annotate.state import State
from coa.errors import ConfigError, ServiceError
from coa.settings.params import Params

_START_SECONDS = 120.0
_STOP_SECONDS = 10.0


class Server:
    """The process of the server, which is started, watched and stopped."""

    def __init__(self, python: Path, settings: dict[str, Any], log: IO[bytes]) -> None:
        self._log = log
        self.passwords: dict[str, str] = {}
        # The process finds our engine, and none of the packages of this process's environment.
        variables = {}
        for name, value in os.environ.items():
            if not name.startswith(("ARGILLA_", "PYTHON")):
                variables[name] = value
        variables["PYTHONPATH"] = str(Path(__file__).parent.parent)
        variables["PYTHONSAFEPATH"] = "1"
        # A session of its own: control-C reaches this process alone, which then stops the server.
        self._process = subprocess.Popen(
            [python, "-m", "annotate.embedded.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,
            env=variables,
        )
        assert self._process.stdin
        settings = {**settings, "parent": os.getpid()}
        self._process.stdin.write(json.dumps(settings).encode() + b"\n")
        self._process.stdin.flush()

    def wait_until_open(self, url: str) -> None:
        """Read the passwords of new accounts, then wait until the page answers.

        Raises:
            ServiceError: the server ended, or took too long.
        """
        assert self._process.stdout
        for line in self._process.stdout:
            report = json.loads(line)
            if "account" not in report:
                break
            self.passwords[report["account"]] = report["password"]
        deadline = time.monotonic() + _START_SECONDS
        while not answers(url):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise ServiceError(
                    "Argilla's server did not start", where=url, fix=f"read {self._log.name}"
                )
            time.sleep(0.1)

    def watch(self) -> None:
        """Wait until the server dies.

        Raises:
            ServiceError: the server died.
        """
        self._process.wait()
        raise ServiceError(
            "Argilla's server died", fix=f"read {self._log.name}, then start it again"
        )

    def stop(self) -> None:
        """End the server; it is killed if it does not end in time."""
        self._process.terminate()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


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
    """Run the server until a signal stops it, and return the summary line."""
    params = annotate.serve
    state = State(Path(params.state))
    with state.lock(), tempfile.TemporaryDirectory(prefix="argilla-") as folder:
        state.check_version(pinned_version())
        check_port(params)
        python = server_python()
        url = url_of(params)
        settings = {
            "state": str(state.folder.resolve()),
            "secret": state.secret(),
            "owner_key": state.owner_key(),
            "host": params.host,
            "port": params.port,
            "folder": folder,
            "workspace": annotate.workspace,
            "owner": params.owner,
            "annotators": list(params.annotators),
        }
        with (state.folder / "server.log").open("ab") as log:
            server = Server(python, settings, log)
            try:
                server.wait_until_open(url)
                state.note_address(url)
                say(welcome(url, params, server.passwords))
                server.watch()
            except KeyboardInterrupt:
                pass
            finally:
                server.stop()
    return f"Argilla at {url} is stopped; everything is in {state.folder}"


def main(arguments: Sequence[str]) -> str:
    """Run the server until a signal stops it, and return the summary line."""
    params = Params.load("annotate.serve", arguments)
    annotate = params.section(AnnotateParams, "annotate")
    # Both signals end the server in order, also where a shell lets it ignore the first.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    return serve(annotate, lambda text: print(text, flush=True))


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
