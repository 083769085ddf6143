"""Run the server's process or its worker's; `annotate.serve` starts and watches both.

    python -m annotate.embedded.process server|worker      # settings as one line of JSON on stdin

Both run in the server's own environment. What the process that started them must know goes to
stdout, a line of JSON each: where Redis listens, and each new account with its password, which is
kept nowhere else in plain text. Both end when that process is gone, and then remove the temporary
folder that it would have removed.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from itertools import count
from pathlib import Path
from typing import Any, NoReturn

KEYS = Path(__file__).parent / "review_keys.js"
_PARENT_SECONDS = 1.0
"""How often a process looks whether its parent is still there."""


class Teller:
    """A channel to the process that started this one; all else that is printed goes to the log."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def tell(self, **values: str) -> None:
        """Send a line."""
        print(json.dumps(values), file=self._out, flush=True)


def end_with_parent(settings: dict[str, Any]) -> None:
    """End this process when the one that started it is gone: no other would stop it."""

    def watch() -> None:
        while os.getppid() == settings["parent"]:
            time.sleep(_PARENT_SECONDS)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10 * _PARENT_SECONDS)
        leave(settings, 1)

    threading.Thread(target=watch, daemon=True).start()


def leave(settings: dict[str, Any], status: int) -> NoReturn:
    """End this process at once; if its parent is gone, remove the temporary folder first.

    Connections of the database have threads of their own that would keep the process alive.
    """
    if os.getppid() != settings["parent"]:
        shutil.rmtree(settings["folder"], ignore_errors=True)
    os._exit(status)


def start_redis(folder: str) -> str:
    """Start a Redis inside this process, on a socket in `folder`, and return its address.

    Jobs are pickles: whoever can write to their queue runs code here. A port, even on this machine
    alone, is open to every account on it, so the socket is a file in a folder of this user's own.
    """
    from fakeredis import TcpFakeServer
    from redis.exceptions import ResponseError

    clients = count(1)

    class FileServer(TcpFakeServer):  # type: ignore[misc]
        """A server that listens on a file in place of a port."""

        address_family = socket.AF_UNIX
        request_queue_size = 128  # one client more is refused; the default of 5 is too few

        def get_request(self) -> tuple[socket.socket, Any]:
            connection, _ = self.socket.accept()
            return connection, ("local", next(clients))

    path = Path(folder) / "redis"
    server = FileServer(str(path), server_type="redis")
    handler: Any = server.RequestHandlerClass

    class Handler(handler):  # type: ignore[misc]
        """A handler that goes on after an error, as Redis does.

        The one of fakeredis hangs up, which resets what a client sends next.
        """

        def setup(self) -> None:
            super().setup()
            read_response = self.current_client.read_response

            def read() -> Any:
                try:
                    return read_response()
                except ResponseError as error:
                    return error

            self.current_client.read_response = read

    server.RequestHandlerClass = Handler
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"unix://{path}?db=0"


def prepare(settings: dict[str, Any]) -> None:
    """Set the environment variables that Argilla reads when it is imported."""
    os.environ.update(
        ARGILLA_HOME_PATH=settings["state"],
        ARGILLA_SEARCH_ENGINE="embedded",
        ARGILLA_REDIS_URL=settings["redis_url"],
        ARGILLA_AUTH_SECRET_KEY=settings["secret"],
        TMPDIR=settings["folder"],
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_OFFLINE="1",
    )
    import annotate.embedded.engine  # noqa: F401  registers the engine


async def ensure_accounts(settings: dict[str, Any], teller: Teller) -> None:
    """Make the workspace and the accounts that are missing; tell the passwords of the new ones."""
    from argilla_server.contexts import accounts
    from argilla_server.database import AsyncSessionLocal
    from argilla_server.models import User, UserRole, Workspace, WorkspaceUser

    roles = dict.fromkeys(settings["annotators"], UserRole.annotator)
    roles[settings["owner"]] = UserRole.owner
    async with AsyncSessionLocal() as database:
        workspace = await Workspace.get_by(database, name=settings["workspace"])
        workspace = workspace or await Workspace.create(database, name=settings["workspace"])
        for name, role in roles.items():
            user = await accounts.get_user_by_username(database, name)
            if user is None:
                password = secrets.token_urlsafe(12)
                key = {"api_key": settings["owner_key"]} if role is UserRole.owner else {}
                user = await User.create(
                    database,
                    first_name=name,
                    username=name,
                    role=role,
                    workspaces=[],
                    password_hash=accounts.hash_password(password),
                    **key,
                )
                teller.tell(account=name, password=password)
            membership = {"workspace_id": workspace.id, "user_id": user.id}
            if await WorkspaceUser.get_by(database, **membership) is None:
                await WorkspaceUser.create(database, **membership)


async def open_database(settings: dict[str, Any], teller: Teller) -> None:
    """Bring accounts and the table of words in order, then let go of the database's connections."""
    from argilla_server.database import async_engine

    from annotate.embedded import words

    words.create(str(Path(settings["state"]) / "argilla.db"))
    await ensure_accounts(settings, teller)
    await async_engine.dispose()


def add_keys(app: Any) -> None:
    """Put review_keys.js on every page: Argilla's own keys reach the questions, not the record.

    Argilla serves its pages from a copy that it makes at each start, in the temporary folder of
    this process.
    """
    folders = [
        route.app.directory for route in app.routes if getattr(route, "name", "") == "static"
    ]
    (folder,) = folders
    pages = Path(folder)
    (pages / KEYS.name).write_bytes(KEYS.read_bytes())
    script = f'<script src="/{KEYS.name}"></script>'
    for page in pages.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        page.write_text(text.replace("</body>", f"{script}</body>"), encoding="utf-8")


def serve(settings: dict[str, Any], teller: Teller) -> None:
    """Run the server until it is told to stop."""
    settings["redis_url"] = settings["redis_url"] or start_redis(settings["folder"])
    prepare(settings)
    import uvicorn
    from alembic import command
    from alembic.config import Config
    from argilla_server import app
    from argilla_server.database import ALEMBIC_CONFIG_FILE

    command.upgrade(Config(ALEMBIC_CONFIG_FILE), "head")
    asyncio.run(open_database(settings, teller))
    add_keys(app)
    teller.tell(redis_url=settings["redis_url"])
    uvicorn.run(
        app, host=settings["host"], port=settings["port"], access_log=False, log_level="warning"
    )


def work(settings: dict[str, Any], _: Teller) -> None:
    """Run Argilla's background jobs until told to stop."""
    prepare(settings)
    from argilla_server.jobs.queues import DEFAULT_QUEUE, HIGH_QUEUE, REDIS_CONNECTION
    from rq import SimpleWorker

    SimpleWorker([HIGH_QUEUE, DEFAULT_QUEUE], connection=REDIS_CONNECTION).work(
        logging_level="WARNING"
    )


def main() -> None:
    """Run the role that is named, with the settings from stdin."""
    settings = json.loads(sys.stdin.readline())
    teller = Teller()
    end_with_parent(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    status = 1
    try:
        {"server": serve, "worker": work}[sys.argv[1]](settings, teller)
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0
    finally:
        error = sys.exc_info()[1]
        if error:
            traceback.print_exception(error)
        leave(settings, status)


if __name__ == "__main__":
    main()
