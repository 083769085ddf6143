"""Make requests and processes for the tests of the journal."""

import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

from coa.store.journal import CallKind, Journal

ROOT = Path(__file__).parents[1]


def put(journal: Journal, key: str, reply: bytes = b'"reply"') -> None:
    journal.put(key, reply, kind=CallKind.TOOL, who="fingerprint", seconds=0.5)


def damage(path: Path, key: str, reply: bytes) -> None:
    """Write another reply into a row, which no journal would do itself."""
    with sqlite3.connect(path) as connection:
        connection.execute("DROP TRIGGER never_updated")
        connection.execute("UPDATE calls SET reply = ? WHERE key = ?", (reply, key))
    connection.close()


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs `script`; its output can be read line by line."""
    command = [sys.executable, "-u", "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
