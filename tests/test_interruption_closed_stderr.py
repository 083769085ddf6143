"""A signal stops a run whose stderr nobody reads any more."""

import os
import signal
import subprocess
import sys
from pathlib import Path

WORK = """
import asyncio, sys
from coa.interruption import Interrupted, run_interruptible

async def work():
    print("begun", flush=True)
    try:
        await asyncio.sleep(60)
    finally:
        print("ended in order", flush=True)

try:
    run_interruptible(work())
except Interrupted as stopped:
    print(stopped.status, flush=True)
"""


def test_the_first_signal_stops_a_run_whose_stderr_is_a_closed_pipe(root: Path) -> None:
    reading, writing = os.pipe()
    running = subprocess.Popen(
        [sys.executable, "-c", WORK], cwd=root, stdout=subprocess.PIPE, stderr=writing, text=True
    )
    os.close(writing)
    os.close(reading)
    with running as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "begun\n"
            process.send_signal(signal.SIGTERM)
            told, _ = process.communicate(timeout=20)
        finally:
            process.kill()
    assert told == f"ended in order\n{128 + signal.SIGTERM}\n"
