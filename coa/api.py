"""Roll out one question from Python, in a script or in a notebook (docs/api.md).

    from coa.api import ask
    row = ask("Who leads Villa Pellin?")

Policy, tools and budgets are those of params.yaml, which must be in the working directory. Calls of
that policy and of its tools are kept in .journal/api.sqlite and paid for once. Those of a policy
that you bring are not kept, because it may change under the same name.
"""

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from coa.policy import Policy
from coa.policy.prompts import Prompt, PromptParams
from coa.records.trajectory import Mode, Trajectory
from coa.rollout.drivers import roll_out
from coa.rollout.factory import TeacherParams, template_of
from coa.rollout.loop import Task
from coa.rollout.runtime import open_runtime
from coa.rollout.tasks import make_task
from coa.settings.params import Params

_JOURNAL = "api"


def ask(
    question: str, *settings: str, mode: Mode = Mode.COA, policy: Policy | None = None
) -> Trajectory:
    """Roll out a question.

    Args:
        question: The question.
        settings: Settings that differ from params.yaml, such as `teacher.policy=local`.
        mode: With the tools, or without.
        policy: Any policy, in place of the teacher of the settings.

    Raises:
        ConfigError: A setting is wrong.
        InputError: The search index is missing.
    """
    params = Params.load("teacher", settings)
    files = params.section(PromptParams, "prompts")
    file = files.coa if mode is Mode.COA else files.cot
    prompt = Prompt.load(Path(file), template_of(params.section(TeacherParams)))
    return _in_own_loop(_ask(question, mode, prompt, params, policy))


def run_task(task: Task, *settings: str, policy: Policy | None = None) -> Trajectory:
    """Roll out a task that exists already, such as a fork of a trajectory.

    Raises:
        ConfigError: A setting is wrong.
        InputError: The search index is missing.
    """
    params = Params.load("teacher", settings)
    return _in_own_loop(_run(task, params, policy))


async def _ask(
    question: str, mode: Mode, prompt: Prompt, params: Params, policy: Policy | None
) -> Trajectory:
    async with open_runtime(params, _JOURNAL) as runtime:
        encoded = prompt.for_policy(policy or runtime.run.encoder)
        tools = tuple(runtime.tools)
    return await _run(make_task("ask", question, mode, 0, encoded, tools), params, policy)


async def _run(task: Task, params: Params, policy: Policy | None) -> Trajectory:
    async with open_runtime(params, _JOURNAL) as runtime:
        if policy is None:
            return await roll_out(task, runtime.run, runtime.unbatched_policy, runtime.tools)
        return await roll_out(task, replace(runtime.run, encoder=policy), policy, runtime.tools)


def _in_own_loop(rolling: Coroutine[None, None, Trajectory]) -> Trajectory:
    """Run a coroutine in a thread of its own: a notebook has an event loop under way."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, rolling).result()
