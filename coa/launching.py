"""Start the shards of a stage as the settings say, before the stage merges them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from coa.errors import ConfigError
from coa.interruption import run_interruptible
from coa.shard_files import FINISHED, PROGRESS, Shard, folder_name
from coa.shard_processes import run_processes
from coa.shards import Launcher, ShardRun

_LOCAL = "local"
"""A kind of policy, whose module is not imported: the filter does not depend on policies."""


class Asked(Protocol):
    """The settings of a policy, such as `coa.factory.TeacherParams`."""

    @property
    def policy(self) -> str:
        """Return the kind of the policy."""


def launch_shards(
    work: ShardRun, module: str, arguments: Sequence[str], *policies: Asked | None
) -> ShardRun:
    """Run all shards of a stage, where the settings name a launcher and no shard was asked for.

    A stage whose policy is a model in its own process stays one process: shards would load the
    model several times, and share out its batches in another way.

    Args:
        work: What the stage's command is to do.
        module: The stage's module, whose command does one shard.
        arguments: The command's arguments.
        policies: The policies that the stage asks, the judge's too.

    Returns:
        What is left to do: the merge after a launch, else `work` itself.

    Raises:
        ConfigError: There are shards and nobody to start them.
        CoaError: A shard failed; the others were stopped.
    """
    settings = work.settings
    is_local = any(policy and policy.policy == _LOCAL for policy in policies)
    if work.is_part or work.shard.is_merge or settings.num_shards == 1 or is_local:
        return work
    if settings.launcher is Launcher.NONE:
        raise ConfigError(
            f"the stage has {settings.num_shards} shards and nobody starts them",
            where="shards.launcher",
            expected="processes or ray; or shards.num_shards=1",
            fix=f"or start each by hand: python -m {module} ... shard=1/{settings.num_shards}, and "
            "then python -m coa.merge",
        )
    shards = [Shard(number, settings.num_shards) for number in range(1, settings.num_shards + 1)]
    for shard in shards:
        for name in (FINISHED, PROGRESS):
            (work.all_shards / folder_name(shard) / name).unlink(missing_ok=True)
    if settings.launcher is Launcher.RAY:
        from coa.shard_ray import run_on_ray

        running = run_on_ray(work.all_shards, shards, module, arguments, settings.ray_address)
    else:
        running = run_processes(work.all_shards, shards, module, arguments)
    run_interruptible(running)
    return replace(work, shard=Shard(is_merge=True))
