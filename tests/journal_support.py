"""Make requests and processes for the tests of the journal."""

import subprocess
import sys
import textwrap
from pathlib import Path

from coa.journal import CallKind, Journal

ROOT = Path(__file__).parents[1]


def put(journal: Journal, key: str, reply: bytes = b'"reply"') -> None:
    journal.put(key, reply, kind=CallKind.TOOL, who="fingerprint", seconds=0.5)


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs `script`; its output can be read line by line."""
    command = [sys.executable, "-u", "-c", textwrap.dedent(script), *map(str, arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
