"""Roll out questions for GRPO, through the project's own loop: TRL's keys in, token ids out.

In rl1 a simulator writes what a search returns, in AutoCoA the policy itself; in rl2 it searches.
What is trained are exactly the ids that the policy sampled in its own turns.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

from coa.policy import AnyPolicy, Finish
from coa.policy.local.model import LocalPolicy
from coa.policy.react import in_react
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.question import Question
from coa.records.trajectory import FAILED_STOPS, Author, Mode, Sampling, count_actions
from coa.rollout import loop as rollout
from coa.rollout.drivers import Environment, roll_out_states, tool_environment
from coa.rollout.loop import Limits, RolloutContext, State, Task
from coa.rollout.simulated import SimulatedTools
from coa.rollout.simulators.factory import MakeSimulator
from coa.rollout.tasks import make_task
from coa.rollout.toolbox import own_tools
from coa.search.tool import SearchTool
from coa.settings.stages import Stage
from coa.student.asking import Asking
from coa.tools import Toolbox, library_fingerprint
from coa.tools.settings import ToolsParams
from train import vllm_policy
from train.monitors.spending import SearchBill
from train.stage import StageRun

_SEED_STRIDE = 1_000_003
"""Keeps the draws of two seeds apart for as many steps."""


class Ask(NamedTuple):
    """A question as it is asked."""

    question: Question
    mode: Mode
    """In cot a call of the tool ends the rollout."""


def key_of(ask: Ask) -> str:
    """Return what is in TRL's `prompt`, the only column that reaches a rollout function."""
    return f"{ask.question.question_id}/{ask.mode}"


class Rollouts:
    """TRL's rollout function: keys of questions in; ids, who wrote them, and graded records out."""

    def __init__(
        self,
        run: StageRun,
        tokenizer: Any,
        asks: Iterable[Ask],
        limits: Limits,
        tools: Toolbox,
        loop: asyncio.Runner,
        *,
        simulate: MakeSimulator | None = None,
        bill: SearchBill | None = None,
    ) -> None:
        self._settings = run.params.rl_of(run.stage)
        self._name = run.workspace.name
        self._seed = run.params.seed
        self._simulates = run.stage is Stage.RL1
        self._is_react = self._settings.asking is Asking.REACT
        self._tokenizer = tokenizer
        self._prompt = run.prompt(tokenizer, self._settings.react_prompt if self._is_react else "")
        self._asks = {key_of(ask): ask for ask in asks}
        self._limits = limits
        self._tools = tools
        self._offered = tuple(tools) or _simulated_tools(run)
        self._loop = loop
        self._simulate = simulate or self._let_policy_write
        self._bill = bill or SearchBill()
        self._simulated_accuracy: float | None = None
        """Exact match of the last rollouts with simulated observations."""

    def _let_policy_write(self, policy: AnyPolicy) -> SimulatedTools:
        return SimulatedTools(policy, max_tokens=self._settings.max_observation_tokens)

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Roll out each prompt once; TRL has repeated them as often as the group is large.

        A rollout's draws follow from the seed, the step, the question and its place in the group
        alone, so a resumed run makes the same ones.
        """
        step = Sampling(
            temperature=trainer.temperature,
            top_p=trainer.top_p,
            seed=self._seed * _SEED_STRIDE + trainer.state.global_step,
        )
        first = trainer.accelerator.process_index * len(prompts)
        is_validation = not trainer.model.training
        size = self._settings.batch_size
        with _open_policy(trainer, self._tokenizer, self._name, size) as policy:
            return self.roll_out(prompts, policy, step, first, is_validation=is_validation)

    def roll_out(
        self,
        keys: Sequence[str],
        policy: AnyPolicy,
        sampling: Sampling,
        first: int = 0,
        *,
        is_validation: bool = False,
    ) -> dict[str, Any]:
        """Roll out the questions of some keys with any policy.

        In rl1 a simulator writes the observations, except in a validation where the real search is
        open. `first` numbers the rollouts apart from those of other processes.
        """
        if self._is_react:
            policy = in_react(policy, self._offered)
        searches = bool(self._tools) and (is_validation or not self._simulates)
        finishes: Counter[Finish] = Counter()
        in_turns = False
        if searches:
            environment: Environment = tool_environment(self._tools)
            fingerprint = library_fingerprint(self._tools)
        else:
            simulator = self._simulate(policy)
            environment, fingerprint = simulator, simulator.fingerprint
            finishes = simulator.finishes
            in_turns = simulator.is_in_process

        before = replace(self._bill.total)
        environment = self._bill.counted(environment, is_real=searches, is_validation=is_validation)
        context = RolloutContext(policy, sampling, self._limits, fingerprint)
        tasks = self._make_tasks(keys, first)
        states = self._loop.run(_finish(tasks, context, policy, environment, in_turns=in_turns))

        graded = []
        for key, state in zip(keys, states, strict=True):
            graded.append(grade_trajectory(rollout.finish(state), self._asks[key].question))
        logged: dict[str, float] = {}
        if finishes:
            logged["simulated/unclosed"] = 1 - finishes[Finish.STOP] / finishes.total()
        if is_validation or not searches:
            logged.update(self._gap(graded, searches=searches))
        logged.update(self._bill.logged(self._bill.total.since(before)))
        logged.update(_calls_by_tool(graded, self._offered))
        return {**_columns(states), "logprobs": None, "graded": graded, "logged": logged}

    def _make_tasks(self, keys: Sequence[str], first: int) -> list[Task]:
        """Number the rollouts of each question from `first` on."""
        seen: Counter[str] = Counter()
        tasks = []
        for key in keys:
            question, mode = self._asks[key]
            task = make_task(
                question.question_id,
                question.question,
                mode,
                first + seen[key],
                self._prompt,
                self._offered,
            )
            tasks.append(task)
            seen[key] += 1
        return tasks

    def _gap(self, graded: Sequence[GradedTrajectory], *, searches: bool) -> dict[str, float]:
        """Compare rl1's accuracy with simulated observations and in a validation that searches."""
        matches = [row.grade.exact_match for row in graded if row.grade.exact_match is not None]
        accuracy = sum(matches) / max(1, len(matches))
        if not searches:
            self._simulated_accuracy = accuracy
            return {}
        if self._simulated_accuracy is None:
            return {}
        return {"simulated/gap": self._simulated_accuracy - accuracy}


async def _finish(
    tasks: Sequence[Task],
    context: RolloutContext,
    policy: AnyPolicy,
    environment: Environment,
    *,
    in_turns: bool,
) -> list[State]:
    """Roll out all tasks together; the states come in the order of the tasks."""
    states = roll_out_states(
        tasks, context, policy, environment, batch_size=len(tasks), in_turns=in_turns
    )
    return [state async for state in states]


@contextmanager
def _open_policy(trainer: Any, tokenizer: Any, name: str, batch_size: int) -> Iterator[AnyPolicy]:
    """Give the model in training as a policy: in vLLM, or here with its weights gathered."""
    if trainer.args.use_vllm:
        with ThreadPoolExecutor(batch_size) as threads:
            yield vllm_policy.open_policy(trainer, tokenizer, name=name, threads=threads)
        return
    import torch
    from trl.models.utils import unwrap_model_for_generation

    unwrapped = unwrap_model_for_generation(
        trainer.model_wrapped,
        trainer.accelerator,
        gather_deepspeed3_params=trainer.args.ds3_gather_for_generation,
    )
    with torch.no_grad(), unwrapped as model:
        was_training = model.training
        model.eval()
        yield LocalPolicy(model, tokenizer, name=name, batch_size=batch_size)
        model.train(was_training)


def _columns(states: Sequence[State]) -> dict[str, Any]:
    """Return of each rollout the prompt's ids, those after it, and which of these are the policy's.

    What others wrote after the policy's last token has no effect, so it is left out.
    """
    columns: dict[str, list[list[int]]] = {"prompt_ids": [], "completion_ids": [], "env_mask": []}
    for state in states:
        assert state.ids is not None
        mask: list[int] = []
        for author, length in state.id_runs:
            mask += [int(author is Author.POLICY)] * length
        start = state.num_prompt_tokens
        # TRL would pad a mask that is too short with ones, and train what others wrote.
        assert len(mask) == len(state.ids) > start
        end = len(mask)
        if any(mask[start:]):
            while not mask[end - 1]:
                end -= 1
        columns["prompt_ids"].append(list(state.ids[:start]))
        columns["completion_ids"].append(list(state.ids[start:end]))
        columns["env_mask"].append(mask[start:end])
    return columns


def _calls_by_tool(rows: Sequence[GradedTrajectory], tools: Sequence[str]) -> dict[str, float]:
    """Average the calls of each tool over the rollouts that had them; nothing for search alone."""
    offered = []
    for row in rows:
        has_failed = row.trajectory.stop_reason in FAILED_STOPS
        if row.trajectory.mode is Mode.COA and not has_failed:
            offered.append(row.trajectory)
    if len(tools) < 2 or not offered:
        return {}
    calls = {}
    for tool in tools:
        total = sum(count_actions(trajectory, tool) for trajectory in offered)
        calls[f"calls/{tool}"] = total / len(offered)
    return calls


def _simulated_tools(run: StageRun) -> tuple[str, ...]:
    """Name the tools whose observations are simulated, as rl2 offers them."""
    if run.sections is None:
        return (SearchTool.name,)
    return (SearchTool.name, *own_tools(run.sections.section(ToolsParams, "tools")))
