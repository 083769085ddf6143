"""Roll out one question from Python, in a script or in a notebook (docs/daily_use.md).

    from coa.api import ask
    row = ask("Who leads Villa Pellin?")
    row = ask("What is 17 * 23?", policy=lambda text: my_model(text), tools=[my_function])

Policy, tools and budgets are those of params.yaml in the working directory; without that file both
are to be given. Calls of that policy and of its tools are kept in .journal/api.sqlite and paid for
once. Those of a policy that you bring are not kept, because it may change under the same name.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from inspect import getdoc, isroutine
from pathlib import Path
from typing import Any

from coa.policy import Encoder, Policy
from coa.policy.prompts import Prompt, PromptParams
from coa.policy.scripted import policy_of
from coa.records.trajectory import Mode, Trajectory
from coa.rollout.drivers import roll_out
from coa.rollout.factory import TeacherParams, template_of
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.rollout.runtime import open_runtime
from coa.rollout.tasks import make_task
from coa.rollout.toolbox import toolbox_of
from coa.settings.params import PARAMS_FILE, Params
from coa.tools import Tool, Toolbox, library_fingerprint

_JOURNAL = "api"
_PROMPT = """\
Answer the question. Think step by step. Tools help you, and what they return is shown:
{tools}
Then close your thoughts with {think_close} and give the short answer in \\boxed{}.

Question: {question}
"""


def ask(
    question: str,
    *settings: str,
    mode: Mode = Mode.COA,
    policy: Policy | Callable[[str], str] | None = None,
    tools: Sequence[Tool | Callable[[str], object]] | None = None,
) -> Trajectory:
    """Roll out a question.

    Args:
        question: The question.
        settings: Settings that differ from params.yaml, such as `teacher.policy=local`.
        mode: With the tools, or without.
        policy: Any policy, in place of the teacher of the settings; or a function that is given the
            text so far and returns its continuation.
        tools: Tools, in place of those of the settings; or functions from one text to another,
            whose docstrings the prompt shows, unless the prompt of the settings shows these tools.

    Raises:
        ConfigError: A setting is wrong.
        InputError: The search index is missing.
    """
    params = _load(settings, needs_file=policy is None or tools is None)
    files = params.section(PromptParams, "prompts")
    file = files.coa if mode is Mode.COA else files.cot
    template = template_of(params.section(TeacherParams))
    prompt = Prompt.load(Path(file), template)
    given = None if tools is None else toolbox_of(tools)
    if tools is not None and given is not None and {*prompt.shown_tools} != {*given}:
        prompt = Prompt.of(_prompt_of(tools, given), template)

    def task_for(encoder: Encoder, names: tuple[str, ...]) -> Task:
        return make_task("ask", question, mode, 0, prompt.for_policy(encoder), names)

    return _in_own_loop(_run(task_for, params, policy, given))


def run_task(
    task: Task, *settings: str, policy: Policy | Callable[[str], str] | None = None
) -> Trajectory:
    """Roll out a task that exists already, such as a fork of a trajectory.

    Raises:
        ConfigError: A setting is wrong.
        InputError: The search index is missing.
    """
    params = Params.load("teacher", settings)
    return _in_own_loop(_run(lambda *_: task, params, policy, None))


def _load(settings: Sequence[str], *, needs_file: bool) -> Params:
    if needs_file or PARAMS_FILE.exists():
        return Params.load("teacher", settings)
    return Params.of({}, PARAMS_FILE, "teacher").override(settings)


def _prompt_of(parts: Sequence[Any], tools: Toolbox) -> str:
    """Write a prompt that shows the tags of tools and the first lines of their docstrings."""
    lines = []
    for part, name in zip(parts, tools, strict=True):
        about = (getdoc(part) or name).partition("\n")[0]
        shown = about.replace("{", "(").replace("}", ")")
        lines.append(f"{{open_{name}}} your input {{close_{name}}} : {shown}")
    return _PROMPT.replace("{tools}", "\n".join(lines))


async def _run(
    task_for: Callable[[Encoder, tuple[str, ...]], Task],
    params: Params,
    asked: Policy | Callable[[str], str] | None,
    tools: Toolbox | None,
) -> Trajectory:
    policy: Any = policy_of(asked) if isroutine(asked) else asked
    if policy is not None and tools is not None:
        sampling = params.section(TeacherParams).sampling
        limits = params.section(Limits, "rollout")
        run = RolloutContext(policy, sampling, limits, library_fingerprint(tools))
        return await roll_out(task_for(policy, tuple(tools)), run, policy, tools)
    async with open_runtime(params, _JOURNAL, tools=tools) as runtime:
        names = tuple(runtime.tools)
        if policy is None:
            task = task_for(runtime.run.encoder, names)
            return await roll_out(task, runtime.run, runtime.unbatched_policy, runtime.tools)
        run = replace(runtime.run, encoder=policy)
        return await roll_out(task_for(policy, names), run, policy, runtime.tools)


def _in_own_loop(rolling: Coroutine[None, None, Trajectory]) -> Trajectory:
    """Run a coroutine in a thread of its own: a notebook has an event loop under way."""
    with ThreadPoolExecutor(max_workers=1) as pool:
        return pool.submit(asyncio.run, rolling).result()
