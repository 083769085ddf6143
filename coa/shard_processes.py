"""Run shards as processes of this machine: one bar over all, and a shard that dies starts again."""

import asyncio
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

from coa.errors import CoaError
from coa.interruption import INTERRUPTED, TERMINATED, tell
from coa.policy import Traffic
from coa.progress import Progress, Standing
from coa.shard_files import Shard, folder_name, read_standing

MAX_STARTS = 4
"""Starts of one shard. A shard that dies more often does so for a reason that stays."""
LOG = "log.txt"
_SHOWN_EVERY_SECONDS = 1.0


async def run_processes(
    folder: Path, shards: Sequence[Shard], module: str, arguments: Sequence[str]
) -> None:
    """Run a command once for each shard, all at the same time.

    Args:
        folder: The folder of all shards.
        shards: The shards to run.
        module: The module of the stage's command.
        arguments: The command's arguments without `shard`.

    Raises:
        CoaError: A shard failed, or died too often. The others are stopped in order.
    """
    runs = []
    for shard in shards:
        command = [sys.executable, "-m", module, *arguments, f"shard={shard.number}/{shard.count}"]
        runs.append(_run(shard, folder / folder_name(shard), command))
    await run_together(folder, shards, runs)


async def run_together(
    folder: Path, shards: Sequence[Shard], runs: Sequence[Coroutine[Any, Any, None]]
) -> None:
    """Wait for the runs of all shards behind one bar; the first error cancels the others."""
    title = f"{folder.name}, {len(shards)} shards"
    with Progress(title, 0, "items") as bar:
        tasks = [asyncio.create_task(run) for run in runs]
        watching = asyncio.create_task(_watch(folder, shards, bar))
        try:
            await asyncio.gather(*tasks)
            show(folder, shards, bar)
        finally:
            watching.cancel()
            for task in tasks:
                # A signal has cancelled all of them by now, and a second time would kill the shards
                # that still wait for their calls.
                if not task.cancelling():
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _watch(folder: Path, shards: Sequence[Shard], bar: Progress) -> None:
    while True:
        show(folder, shards, bar)
        await asyncio.sleep(_SHOWN_EVERY_SECONDS)


def show(folder: Path, shards: Sequence[Shard], bar: Progress) -> None:
    """Show in one bar how far all shards are, and what they paid."""
    standings = [read_standing(folder, shard) for shard in shards]
    total = sum(standing.total for standing in standings)
    done = sum(standing.done for standing in standings)
    dollars = sum(standing.dollars for standing in standings)
    if total > bar.total:
        bar.expect(total - bar.total)
    if done > bar.done:  # a shard that started again replays what it had
        bar.add(done - bar.done)
    bar.show(Standing(Traffic(), paid=dollars or None))


async def _run(shard: Shard, folder: Path, command: Sequence[str]) -> None:
    """Run one shard, again where it dies."""
    folder.mkdir(parents=True, exist_ok=True)
    for _ in range(MAX_STARTS):
        with (folder / LOG).open("wb") as log:
            # A session of its own: control-C goes to this process, which passes it on.
            process = await asyncio.create_subprocess_exec(
                *command, stdout=log, stderr=log, start_new_session=True
            )
            code = await _wait(process)
        if code == 0:
            return
        if code > 0 and code not in (INTERRUPTED, TERMINATED):
            raise failed(shard, folder / LOG, _last_error(folder / LOG))
        tell(f"\n{shard} died (exit status {code}) and is started again")
    raise failed(shard, folder / LOG, f"it died {MAX_STARTS} times, the last time with {code}")


async def _wait(process: asyncio.subprocess.Process) -> int:
    """Wait for a process; when cancelled, stop it in order, and the second time at once."""
    try:
        return await process.wait()
    except asyncio.CancelledError:
        process.terminate()
        try:
            await process.wait()
        except asyncio.CancelledError:
            process.kill()
        raise


def failed(shard: Shard, where: object, got: str) -> CoaError:
    """Return the error of a shard that failed."""
    return CoaError(
        f"{shard} failed, so the others were stopped",
        where=where,
        got=got,
        fix="mend it and run the same command again: finished calls are kept",
    )


def _last_error(log: Path) -> str:
    """Return the error that a shard ended with, in one line."""
    text = log.read_text(encoding="utf-8", errors="replace")
    _, found, error = text.rpartition("error: ")
    lines = (error if found else text).split("\n")
    return "; ".join(line.strip() for line in lines[-8:] if line.strip())
