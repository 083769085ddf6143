"""Run the process of the server; `coa review serve` starts and watches it.

    python -m annotate.embedded.process      # settings as one line of JSON on stdin

It runs in the server's own environment. What the process that started it must know goes to stdout,
a line of JSON each: each new account with its password, which is kept nowhere else in plain text,
and that all are made. It ends when that process is gone, and then removes the temporary folder that
the other would have removed.
"""

import asyncio
import json
import os
import secrets
import shutil
import signal
import sys
import threading
import time
import traceback
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


def prepare(settings: dict[str, Any]) -> None:
    """Set what Argilla reads when it is imported.

    Argilla wants a Redis for background jobs, none of which a review needs: webhooks, data sets
    from and to the Hub, and a number of reviewers that is changed later. They stay in the queue.
    """
    os.environ.update(
        ARGILLA_HOME_PATH=settings["state"],
        ARGILLA_SEARCH_ENGINE="embedded",
        ARGILLA_AUTH_SECRET_KEY=settings["secret"],
        TMPDIR=settings["folder"],
        HF_HUB_DISABLE_TELEMETRY="1",
        HF_HUB_OFFLINE="1",
    )
    import fakeredis
    import redis

    redis.from_url = fakeredis.FakeRedis.from_url
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
    """Run the server until a signal stops it."""
    prepare(settings)
    import uvicorn
    from alembic import command
    from alembic.config import Config
    from argilla_server import app
    from argilla_server.database import ALEMBIC_CONFIG_FILE

    command.upgrade(Config(ALEMBIC_CONFIG_FILE), "head")
    asyncio.run(open_database(settings, teller))
    add_keys(app)
    teller.tell(accounts="made")
    uvicorn.run(
        app, host=settings["host"], port=settings["port"], access_log=False, log_level="warning"
    )


def main() -> None:
    """Run the server with the settings from stdin."""
    settings = json.loads(sys.stdin.readline())
    teller = Teller()
    end_with_parent(settings)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    status = 1
    try:
        serve(settings, teller)
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
