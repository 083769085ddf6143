"""What commands print may quote a model or the web; it never acts on the terminal."""

import subprocess
import sys
from pathlib import Path

import pytest

from coa.terminal import printable

HOSTILE = "a\x1b[2Jb\x1b]0;title\x07c\x9b31md\u202ee\u2066f\rg\ud83d"
SHOWN = r"a\x1b[2Jb\x1b]0;title\x07c\x9b31md\u202ee\u2066f\x0dg\ud83d"


COMMAND = """
import logging, sys
from coa.cli import run
from coa.errors import ServiceError
hostile = {hostile!a}
def main(arguments):
    logging.getLogger("web").warning("says %s", hostile)
    if arguments == ["fail"]:
        raise ServiceError("the server refuses", got=hostile)
    if arguments == ["stop"]:
        from coa.interruption import Interrupted
        raise Interrupted(15)
    return hostile
run(main, sys.argv[1:])
"""


@pytest.mark.parametrize(("argument", "status"), [("go", 0), ("fail", 1), ("stop", 143)])
def test_every_command_prints_so(root: Path, argument: str, status: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", COMMAND.format(hostile=HOSTILE), argument],
        cwd=root,
        capture_output=True,
    )
    printed = (done.stdout + done.stderr).decode()
    assert done.returncode == status, printed
    assert f"says {SHOWN}" in printed
    assert printed.count(SHOWN) == (1 if argument == "stop" else 2)
    assert not {"\x1b", "\x07", "\x9b", "\r", "\u202e"} & set(printed)


def test_what_acts_on_a_terminal_is_spelled_out_and_the_rest_stays() -> None:
    assert printable(HOSTILE) == SHOWN
    plain = "Zürich 東京 نص\n\ttab, \\x1b as it is written"
    assert printable(plain) == plain
