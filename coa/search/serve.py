"""Serve an index folder in every dialect that trainers speak (docs/search.md).

    coa search serve index=data/index port=8000 [workers=2] [default_dialect=flashrag]
        [engine=hybrid ...]

Starts in a second and serves from disk: all workers share the mapped files. A bearer token is
demanded where the environment variable COA_SEARCH_TOKEN holds one. SIGTERM finishes what is in
flight; with several workers SIGHUP replaces them one after another, so that they open an index that
was built again.
"""

import multiprocessing
import multiprocessing.process
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import uvicorn
from starlette.types import ASGIApp
from uvicorn.supervisors import Multiprocess

from coa.errors import ConfigError, unknown_name
from coa.network.listener import BACKLOG, listen
from coa.search import Finder
from coa.search.app import Serving, create_app
from coa.search.connections import RequestLimits, server_config
from coa.search.dense.settings import DenseSettings
from coa.search.factory import IN_PROCESS, open_finder
from coa.search.settings import Dialect, EngineKind, SearchParams
from coa.search.wire import bearer_token
from coa.settings.params import Params
from coa.store.files import INDEX

_PARAMS_VARIABLE = "COA_SEARCH_SERVE"
"""Environment variable that carries the settings to the workers, which are separate processes."""
_STOP_SECONDS = 30
"""How long requests in flight may take after SIGTERM."""


@dataclass(frozen=True, slots=True)
class ServeParams:
    """Settings of the search server."""

    index: str = INDEX.as_posix()
    """The folder that `coa search index` wrote."""
    engine: EngineKind = EngineKind.EMBEDDED
    """`embedded`, `dense` or `hybrid`; the section `search.dense` describes the last two."""
    host: str = "127.0.0.1"
    """The address to listen on; `0.0.0.0` lets other machines in."""
    port: int = 8000
    """0 takes any free one."""
    workers: int = 1
    """Processes that answer; they share the mapped index."""
    threads: int = 1
    """Threads of a worker that search."""
    default_dialect: Dialect = Dialect.SEARCH_R1
    """Dialect of requests on paths without one that could belong to several."""
    limits: RequestLimits = field(default_factory=RequestLimits)
    """What may be asked for."""

    def __post_init__(self) -> None:
        if self.engine not in IN_PROCESS:
            raise unknown_name("engine", self.engine, IN_PROCESS, where="serve.engine")
        for name, least in (("port", 0), ("workers", 1), ("threads", 1)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(
                    f"serve.{name} is too small", expected=f"at least {least}", got=value
                )
        for name in RequestLimits.__dataclass_fields__:
            value = getattr(self.limits, name)
            if not value > 0:
                raise ConfigError(f"serve.limits.{name} must be positive", got=value)


@dataclass(frozen=True, slots=True)
class _Served:
    """All settings of a worker."""

    serve: ServeParams
    dense: DenseSettings

    def open(self) -> Finder:
        """Open the engine that is served."""
        return open_finder(self.serve.engine, Path(self.serve.index), self.dense)


def app_from_environment() -> ASGIApp:
    """Create one worker's application from the settings that `main` left in the environment."""
    served = msgspec.json.decode(os.environ[_PARAMS_VARIABLE], type=_Served)
    params = served.serve
    supervisor = multiprocessing.parent_process()
    if supervisor:
        threading.Thread(target=_end_with, args=(supervisor,), daemon=True).start()
    serving = Serving(
        default_dialect=params.default_dialect,
        threads=params.threads,
        limits=params.limits,
        token=bearer_token(),
    )
    return create_app(served.open(), serving)


def _end_with(supervisor: multiprocessing.process.BaseProcess) -> None:
    """End this worker when its supervisor is gone, so that it does not keep the port."""
    supervisor.join()
    os.kill(os.getpid(), signal.SIGTERM)


def main(arguments: Sequence[str]) -> str:
    """Serve until a signal ends it and return the summary line."""
    loaded = Params.load("serve", arguments)
    params = loaded.section(ServeParams)
    settings = _Served(params, loaded.section(SearchParams, "search").dense)
    what = _describe(settings)
    bearer_token()  # raises here, not in each worker, if the token cannot be sent
    os.environ[_PARAMS_VARIABLE] = msgspec.json.encode(settings).decode()
    listener = listen(params.host, params.port, "serve.port")
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    served = f"{what} at http://{shown}:{port}"
    print(f"serving {served}", file=sys.stderr, flush=True)
    _run(params, listener)
    return f"served {served}"


def _describe(settings: _Served) -> str:
    """Say what is served; it raises here, not in each worker, if something is missing."""
    engine = settings.open()
    return f"{engine.num_passages:,} passages ({engine.fingerprint})"


def _run(params: ServeParams, listener: socket.socket) -> None:
    config = server_config(
        "coa.search.serve:app_from_environment",
        params.limits,
        factory=True,
        workers=params.workers,
        backlog=BACKLOG,
        log_level="warning",
        timeout_graceful_shutdown=_STOP_SECONDS,
    )
    # uvicorn raises the signal again when it is done; for us that is a normal end.
    signal.signal(signal.SIGTERM, lambda *_: None)
    if params.workers == 1:
        uvicorn.Server(config).run(sockets=[listener])
    else:
        Multiprocess(config, sockets=[listener]).run()


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
