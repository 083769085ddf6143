"""From params.yaml to all that a rollout needs: the policy, the tools, the budgets and the journal around them."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from coa.drivers import OnEnd, roll_out_all, roll_out_batched
from coa.journal import Journal
from coa.journaled import JournaledBatchPolicy, JournaledPolicy, JournaledTool
from coa.microworld.opening import MicroworldParams
from coa.opening import AnyPolicy, SearchParams, TeacherParams, open_library, open_policy
from coa.params import Params
from coa.policy import BatchPolicy, OneByOne, Policy
from coa.rollout import Limits, Run, Task
from coa.tools import Toolbox, library_fingerprint
from coa.tools.opening import ToolsParams
from coa.trajectory import Trajectory

JOURNALS = Path(".journal")
"""Beside data/, not in it: DVC deletes a stage's outputs before it runs the stage again."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """A policy and tools whose every finished call is kept."""

    run: Run
    policy: JournaledPolicy | JournaledBatchPolicy
    tools: Toolbox
    journal: Journal
    concurrency: int

    def roll_out_all(
        self, tasks: Iterable[Task], on_end: OnEnd
    ) -> AsyncGenerator[Trajectory, None]:
        """Roll out the tasks with the driver that fits the policy; trajectories come in the tasks' order.

        `on_end` hears of each as soon as it is over, which may be long before its turn comes.
        """
        most = self.concurrency
        if isinstance(self.policy, JournaledBatchPolicy):
            return roll_out_batched(
                tasks, self.run, self.policy, self.tools, batch_size=most, on_end=on_end
            )
        return roll_out_all(
            tasks, self.run, self.policy, self.tools, concurrency=most, on_end=on_end
        )

    @property
    def one_by_one(self) -> Policy:
        """The policy for a single rollout."""
        return (
            OneByOne(self.policy) if isinstance(self.policy, JournaledBatchPolicy) else self.policy
        )

    @property
    def saved(self) -> str:
        """What the journal did, for a summary line."""
        return f"{self.journal.num_recorded:,} calls made, {self.journal.num_replayed:,} taken from the journal"


@asynccontextmanager
async def open_runtime(
    params: Params,
    journal_name: str,
    *,
    teacher: TeacherParams | None = None,
    limits: Limits | None = None,
    asked_as: Callable[[AnyPolicy], AnyPolicy] | None = None,
) -> AsyncIterator[Runtime]:
    """Open what the sections search, tools and microworld describe; closes it all at the end.

    Args:
        params: the sections.
        journal_name: of the file in .journal/ that keeps the finished calls.
        teacher: the policy; as the section teacher says where none is given.
        limits: of a rollout; as the section rollout says where none are given.
        asked_as: makes of the policy one that is asked otherwise, such as in ReAct's lines.

    Raises:
        ConfigError: a setting is wrong.
        InputError: the search index is missing.
    """
    teacher = teacher or params.section(TeacherParams, "teacher")
    limits = limits or params.section(Limits, "rollout")
    async with AsyncExitStack() as stack:
        journal = stack.enter_context(Journal(JOURNALS / f"{journal_name}.sqlite"))
        policy = open_policy(teacher, params.section(MicroworldParams, "microworld"))
        if close := getattr(policy, "aclose", None):
            stack.push_async_callback(close)
        if asked_as is not None:
            policy = asked_as(policy)
        tools = await open_library(
            params.section(SearchParams, "search"), params.section(ToolsParams, "tools"), stack
        )
        run = Run(policy, teacher.sampling, limits, library_fingerprint(tools))
        kept = {name: JournaledTool(tool, journal) for name, tool in tools.items()}
        yield Runtime(run, _journaled(policy, journal), kept, journal, teacher.concurrency)


def _journaled(policy: AnyPolicy, journal: Journal) -> JournaledPolicy | JournaledBatchPolicy:
    if isinstance(policy, BatchPolicy):
        return JournaledBatchPolicy(policy, journal)
    return JournaledPolicy(policy, journal)
