"""Run shards on Ray, here or on a cluster; one whose worker or node dies starts again.

A shard on Ray is the stage's own command, as it is by hand: it runs in the project's folder, which
all nodes see under the same path, and keeps its calls in its own folder there. So a shard that
starts again, on whichever node, finds all calls that were finished.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

from coa.errors import CoaError, ConfigError, ServiceError
from coa.progress import Progress, Standing, Traffic
from coa.shards.files import LOG, Shard, read_standing

MAX_STARTS = 4
"""Starts of one shard. A shard that dies more often does so for a reason that stays."""
_OBJECT_STORE_BYTES = 80_000_000
"""About the least that Ray takes: a shard's result is a line."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else it warns of a change to come
}
_SHOWN_EVERY_SECONDS = 1.0


def run_shard(
    project: Path, folder: Path, shard: Shard, module: str, arguments: Sequence[str]
) -> str:
    """Run one shard in a worker; return its error, which another start would not mend, or nothing.

    The folder of all shards is relative to the project's.
    """
    os.chdir(project)
    with (
        (folder / shard.folder / LOG).open("a", encoding="utf-8") as log,
        redirect_stdout(log),
        redirect_stderr(log),
    ):
        try:
            import_module(module).main([*arguments, f"shard={shard.number}/{shard.count}"])
        except CoaError as error:
            return str(error)
    return ""


async def run_on_ray(
    folder: Path, shards: Sequence[Shard], module: str, arguments: Sequence[str], address: str
) -> None:
    """Run all shards, and wait until they are over; the first that fails stops the others.

    With an empty address a cluster is started on this machine, and stopped at the end.

    Raises:
        ConfigError: Ray is not installed.
        ServiceError: There is no cluster at the address.
        CoaError: A shard failed, or died too often. The others are stopped in order.
    """
    with _ray(address, len(shards)) as ray:
        task = ray.remote(num_cpus=1, max_retries=MAX_STARTS - 1)(run_shard)
        running: dict[Shard, Any] = {}
        for shard in shards:
            running[shard] = task.remote(Path.cwd(), folder, shard, module, list(arguments))
        waiting = [asyncio.create_task(_wait(ray, shard, running[shard])) for shard in shards]
        with Progress(f"{folder.name}, {len(shards)} shards", 0, "items") as bar:
            watching = asyncio.create_task(_watch(folder, shards, bar))
            try:
                await asyncio.gather(*waiting)
                _show(folder, shards, bar)
            finally:
                watching.cancel()
                for over in running.values():
                    ray.cancel(over)
                # Each waits for its calls under way; a second signal ends this wait.
                ray.wait(list(running.values()), num_returns=len(running))
                await asyncio.gather(*waiting, return_exceptions=True)


@contextmanager
def _ray(address: str, num_cpus: int) -> Iterator[Any]:
    """Connect to a cluster, or start one on this machine for the length of the block."""
    os.environ.update(_QUIET)
    try:
        import ray
    except ImportError as error:
        raise ConfigError(
            "Ray, which starts the shards, is not installed",
            where="shards.launcher",
            fix="pip install 'ray>=2.60,<3'; or run each shard with its argument, such as "
            "shard=1/4, and then coa merge (docs/scaling.md)",
        ) from error
    own: dict[str, Any] = {}
    if not address:
        own = {
            "num_cpus": num_cpus,
            "include_dashboard": False,
            "object_store_memory": _OBJECT_STORE_BYTES,
        }
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        host, is_known, port = address.rpartition(":")
        if is_known:  # Ray itself tries for minutes
            socket.create_connection((host, int(port)), timeout=10).close()
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise ServiceError(
            "there is no Ray cluster that can be used",
            where=f"shards.ray_address = {address!r}",
            got=str(error).strip().splitlines()[0],
            fix="start one with `ray start --head`, or leave the address empty: then one is "
            "started on this machine",
        ) from error
    for number, handler in handlers.items():  # Ray's own would end this process at once
        signal.signal(number, handler)
    # Where a worker dies, Ray prints a page for those who look after Ray.
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        try:
            yield ray
        finally:
            ray.shutdown()


async def _wait(ray: Any, shard: Shard, running: Any) -> None:
    """Wait for a shard."""
    try:
        failure = await running
    except ray.exceptions.RayTaskError:  # a fault of ours, with its traceback
        raise
    except ray.exceptions.RayError as error:
        name = type(error).__name__
        failure = f"its worker died {MAX_STARTS} times or was stopped, such as for memory: {name}"
    if failure:
        raise CoaError(
            f"{shard} failed, so the others were stopped",
            where=f"ray; {LOG} in the shard's folder shows its output",
            got=failure,
            fix="mend it and run the same command again: finished calls are kept",
        )


async def _watch(folder: Path, shards: Sequence[Shard], bar: Progress) -> None:
    while True:
        _show(folder, shards, bar)
        await asyncio.sleep(_SHOWN_EVERY_SECONDS)


def _show(folder: Path, shards: Sequence[Shard], bar: Progress) -> None:
    """Show in one bar how far all shards are, and what they paid."""
    standings = [read_standing(folder / shard.folder) for shard in shards]
    total = sum(standing.total for standing in standings)
    done = sum(standing.done for standing in standings)
    dollars = sum(standing.dollars for standing in standings)
    if total > bar.total:
        bar.expect(total - bar.total)
    if done > bar.done:  # a shard that started again replays what it had
        bar.add(done - bar.done)
    bar.show(Standing(Traffic(), paid=dollars or None))
