"""Run shards on the nodes of a Ray cluster, which starts a shard again where a worker or node dies.

A shard writes to its own node's disk. Each finished call is sent at once to the ledger, an actor
beside the process that launched the shards, which keeps it in the journal of the shard there. A
shard that starts again, on whichever node, first takes its calls from the ledger. So a dead worker
or node loses the calls in flight and those that had not arrived. All nodes see the project's folder
under the same path and read from it; only the launcher's node writes there.
"""

import asyncio
import os
import signal
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from coa.errors import CoaError, MissingExtraError
from coa.journal import Journal, Row
from coa.shard_files import JOURNAL, JUDGED, MIRROR, Mirror, Shard, folder_name
from coa.shard_processes import MAX_STARTS, failed, run_together
from coa.whole_files import write_file


class Ledger:
    """The calls and the small files of all shards, kept where the shards were launched."""

    def __init__(self, folder: Path) -> None:
        """Keep everything below `folder`, in a folder for each shard."""
        self._folder = folder
        self._journals: dict[tuple[Shard, str], Journal] = {}
        self._opened = ExitStack()

    def rows(self, shard: Shard, name: str) -> list[Row]:
        """Return the calls that a shard finished before, of one of its journals."""
        path = self._folder / folder_name(shard) / name
        return list(self._journal(shard, name).rows()) if path.exists() else []

    def put(self, shard: Shard, name: str, row: Row) -> None:
        """Keep a finished call."""
        self._journal(shard, name).put_rows([row])

    def write(self, shard: Shard, name: str, content: bytes) -> None:
        """Keep a small file."""
        write_file(self._folder / folder_name(shard) / name, content)

    def write_part(self, shard: Shard, name: str, offset: int, content: bytes) -> None:
        """Keep a part of a large file; the first part comes first and replaces an earlier file."""
        path = self._folder / folder_name(shard) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            file.write(content)

    def sync(self) -> None:
        """Return once everything that was sent before is kept."""

    def close(self) -> None:
        """Close the journals, so that they can be merged."""
        self._opened.close()

    def _journal(self, shard: Shard, name: str) -> Journal:
        if (shard, name) not in self._journals:
            path = self._folder / folder_name(shard) / name
            journal = self._opened.enter_context(Journal(path, is_alone=True))
            self._journals[shard, name] = journal
        return self._journals[shard, name]


def run_shard(
    folder: Path, shard: Shard, module: str, arguments: Sequence[str], ledger: Any
) -> str:
    """Run one shard on a node; return its error, which another start would not mend, or nothing.

    Args:
        folder: The folder of all shards, in the project's folder.
        shard: The shard.
        module: The module of the stage.
        arguments: Its arguments without `shard`.
        ledger: The actor with the methods of `Ledger`.
    """
    import ray

    project = folder.parent.parent.parent
    os.chdir(project)
    with tempfile.TemporaryDirectory() as scratch:
        own = Path(scratch) / folder.name / folder_name(shard)
        for name in (JOURNAL, JUDGED):
            rows = ray.get(ledger.rows.remote(shard, name))
            if rows:
                with Journal(own / name, is_alone=True) as journal:
                    journal.put_rows(rows)
        MIRROR.set(
            Mirror(
                Path(scratch),
                partial(ledger.put.remote, shard),
                partial(ledger.write.remote, shard),
                partial(ledger.write_part.remote, shard),
            )
        )
        try:
            import_module(module).main([*arguments, f"shard={shard.number}/{shard.count}"])
        except CoaError as error:
            return str(error)
        finally:
            ray.get(ledger.sync.remote())
    return ""


async def run_on_ray(
    folder: Path, shards: Sequence[Shard], module: str, arguments: Sequence[str], address: str
) -> None:
    """Run all shards on a cluster, and wait until they are over.

    Args:
        folder: The folder of all shards.
        shards: The shards to run.
        module: The module of the stage.
        arguments: Its arguments without `shard`.
        address: Of the cluster; empty: one is started on this machine, and stopped at the end.

    Raises:
        MissingExtraError: Ray is not installed.
        CoaError: A shard failed, or died too often. The others are stopped in order.
    """
    try:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
    except ImportError as error:
        raise MissingExtraError("ray", "ray") from error
    started = {} if address else {"include_dashboard": False, "num_cpus": len(shards)}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    ray.init(address=address or "local", log_to_driver=False, logging_level="warning", **started)
    for number, handler in handlers.items():  # Ray's own would end this process at once
        signal.signal(number, handler)
    try:
        here = ray.get_runtime_context().get_node_id()
        beside_us = NodeAffinitySchedulingStrategy(here, soft=False)
        actor = ray.remote(num_cpus=0, scheduling_strategy=beside_us)(Ledger)
        ledger = actor.remote(folder.absolute())
        task = ray.remote(num_cpus=1, max_retries=MAX_STARTS - 1)(run_shard)
        runs = []
        for shard in shards:
            place = folder.absolute()
            over = task.remote(place, shard, module, list(arguments), ledger)
            runs.append(_wait(shard, over))
        try:
            await run_together(folder, shards, runs)
        finally:
            ray.get(ledger.close.remote())
    finally:
        ray.shutdown()


async def _wait(shard: Shard, over: Any) -> None:
    """Wait for a shard; when cancelled, stop it in order."""
    import ray

    try:
        failure = await over
    except asyncio.CancelledError:
        ray.cancel(over)
        ray.wait([over])
        raise
    except ray.exceptions.RayError as error:
        last = str(error).strip().splitlines()[-1]
        raise failed(shard, "ray", f"it died {MAX_STARTS} times or was stopped: {last}") from error
    if failure:
        raise failed(shard, "ray", failure)
