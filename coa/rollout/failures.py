"""Stop a run early in which every rollout fails, with the words of the server that refuses."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from coa.errors import ServiceError
from coa.records.trajectory import StopReason, Trajectory

NUM_FIRST = 20
"""Some refused requests are usual, say contexts that are too long. So many at the head of a run
without one success mean a wrong setting, and refused requests cost next to nothing."""

_ADVICE = {
    StopReason.POLICY_ERROR: "see above what the policy's server says; most often the context is "
    "longer than its window (lower max_context_tokens), a filter withholds the text, or the server "
    "does not take a field of extra_body",
    StopReason.TOOL_ERROR: "see above what the tool says, and check its settings and its server",
}
"""The stop reasons of rollouts that failed, and what to do."""


async def stop_if_all_fail(
    rows: AsyncGenerator[Trajectory, None],
) -> AsyncGenerator[Trajectory, None]:
    """Pass trajectories on until it is clear that nothing succeeds.

    Raises:
        ServiceError: the first `NUM_FIRST` of them have failed, or all where there are fewer.
    """
    num_rows = 0
    failed: list[Trajectory] = []
    async with aclosing(rows):
        async for row in rows:
            if row.stop_reason in _ADVICE and len(failed) == num_rows < NUM_FIRST:
                failed.append(row)
            num_rows += 1
            if len(failed) == NUM_FIRST:
                raise _all_failed(failed)
            yield row
    if failed and len(failed) == num_rows:
        raise _all_failed(failed)


def _all_failed(failed: list[Trajectory]) -> ServiceError:
    last = failed[-1]
    return ServiceError(
        f"the first {len(failed):,} rollouts all failed, so no others are tried",
        where=f"{last.trajectory_id}, {last.stop_reason}",
        got=last.error,
        fix=f"{_ADVICE[last.stop_reason]}; then run the same command again",
    )
