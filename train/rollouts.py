"""TRL's rollout function for GRPO over the project's own rollout loop: keys of questions in; token ids out.

In rl1 the policy itself writes what a search returns; in rl2 it searches. What is trained are exactly the ids that the
policy sampled in its own turns: nothing is decoded and encoded again on the way.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from coa import rollout
from coa.asking import make_task
from coa.drivers import Environment, roll_out_states, tool_environment
from coa.graded import GradedTrajectory, grade_trajectory
from coa.policy import BatchPolicy, Finish
from coa.policy.local import LocalPolicy
from coa.policy.react_ids import ReactIdsPolicy
from coa.question import Question
from coa.rollout import Limits, RolloutContext, State, Task
from coa.tools import Toolbox, library_fingerprint
from coa.tools.simulated import SimulatedTools
from coa.trajectory import Author, Mode, Sampling
from train import vllm_policy
from train.asking import Asking
from train.settings import RlParams, Stage
from train.stage import StageRun


class Ask(NamedTuple):
    """A question as it is asked."""

    question: Question
    mode: Mode
    """In cot a call of the tool ends the rollout."""


def key_of(ask: Ask) -> str:
    """What stands in TRL's `prompt`, the only column that reaches a rollout function."""
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
    ) -> None:
        self._settings: RlParams = getattr(run.params, run.stage)
        self._name, self._seed = run.workspace.name, run.params.seed
        self._is_react = self._settings.asking is Asking.REACT
        self._tokenizer = tokenizer
        self._prompt = run.prompt(tokenizer, self._settings.react_prompt if self._is_react else "")
        self._asks = {key_of(ask): ask for ask in asks}
        self._limits, self._tools, self._loop = limits, tools, loop
        self._offered = tuple(tools) or ("search",)
        self._simulates = run.stage is Stage.RL1
        self._simulated: float | None = None
        """Exact match of the last rollouts in which the policy wrote the observations."""

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Roll out each prompt once; TRL has repeated them as often as the group is large.

        A rollout's draws follow from the seed, the step, the question and its place in the group alone, so a resumed
        run makes the same ones.
        """
        is_validation = not trainer.model.training
        with _policy(trainer, self._tokenizer, self._name, self._settings.batch_size) as policy:
            step = Sampling(
                trainer.temperature,
                trainer.top_p,
                self._seed * 1_000_003 + trainer.state.global_step,
            )
            first = trainer.accelerator.process_index * len(prompts)
            return self.roll_out(list(prompts), policy, step, first, is_validation=is_validation)

    def roll_out(
        self,
        keys: Sequence[str],
        policy: BatchPolicy,
        sampling: Sampling,
        first: int = 0,
        *,
        is_validation: bool = False,
    ) -> dict[str, Any]:
        """The same with any policy; `first` numbers the rollouts apart from those of other processes.

        In rl1 the policy writes the observations, but for a validation with the real search.
        """
        policy = ReactIdsPolicy(policy, self._offered) if self._is_react else policy
        is_real = bool(self._tools) and (is_validation or not self._simulates)
        simulated = SimulatedTools(policy, max_tokens=self._settings.max_observation_tokens)
        environment: Environment = tool_environment(self._tools) if is_real else simulated
        fingerprint = library_fingerprint(self._tools) if is_real else simulated.fingerprint
        run = RolloutContext(policy, sampling, self._limits, fingerprint)
        states = self._loop.run(self._finish(self._tasks(keys, first), run, policy, environment))
        graded = [
            grade_trajectory(rollout.finish(state), self._asks[key].question)
            for key, state in zip(keys, states, strict=True)
        ]
        columns = [_columns(state) for state in states]
        return {
            "prompt_ids": [prompt for prompt, _, _ in columns],
            "completion_ids": [completion for _, completion, _ in columns],
            "env_mask": [mask for _, _, mask in columns],
            "logprobs": None,
            "graded": graded,
            "logged": {**_of_simulation(simulated.finishes), **self._gap(graded, is_real=is_real)},
        }

    def _gap(self, graded: Sequence[GradedTrajectory], *, is_real: bool) -> dict[str, float]:
        """In rl1, by how much it does better with its own observations than in a validation with the search."""
        accuracy = sum(row.grade.exact_match for row in graded) / max(1, len(graded))
        if not is_real:
            self._simulated = accuracy
        return (
            {"simulated/gap": self._simulated - accuracy}
            if is_real and self._simulated is not None
            else {}
        )

    def _tasks(self, keys: Sequence[str], first: int) -> list[Task]:
        seen: Counter[str] = Counter()
        tasks = []
        for key in keys:
            question, mode = self._asks[key]
            index = first + seen[key]
            tasks.append(
                make_task(
                    question.question_id,
                    question.question,
                    mode,
                    index,
                    self._prompt,
                    self._offered,
                )
            )
            seen[key] += 1
        return tasks

    async def _finish(
        self,
        tasks: Sequence[Task],
        run: RolloutContext,
        policy: BatchPolicy,
        environment: Environment,
    ) -> list[State]:
        return [
            state
            async for state in roll_out_states(
                tasks, run, policy, environment, batch_size=len(tasks)
            )
        ]


@contextmanager
def _policy(trainer: Any, tokenizer: Any, name: str, batch_size: int) -> Iterator[BatchPolicy]:
    """The model in training as a policy: in vLLM, or in this process with its weights gathered."""
    if trainer.args.use_vllm:
        yield vllm_policy.open_policy(trainer, tokenizer, name=name, concurrency=batch_size)
        return
    import torch
    from trl.models.utils import unwrap_model_for_generation

    gathers = trainer.args.ds3_gather_for_generation
    with (
        torch.no_grad(),
        unwrap_model_for_generation(
            trainer.model_wrapped, trainer.accelerator, gather_deepspeed3_params=gathers
        ) as model,
    ):
        was_training = model.training
        model.eval()
        yield LocalPolicy(model, tokenizer, name=name, batch_size=batch_size)
        model.train(was_training)


def _columns(state: State) -> tuple[list[int], list[int], list[int]]:
    """The prompt's ids, the ids after it, and 1 where these are the policy's own.

    What others wrote after the policy's last token takes part in nothing, so it is left out.
    """
    assert state.ids is not None
    mask = [int(author is Author.POLICY) for author, length in state.id_runs for _ in range(length)]
    start = state.num_prompt_tokens
    # TRL would pad a mask that is too short with ones, and train what others wrote.
    assert len(mask) == len(state.ids) > start
    end = max((i + 1 for i in range(start, len(mask)) if mask[i]), default=len(mask))
    return list(state.ids[:start]), list(state.ids[start:end]), mask[start:end]


def _of_simulation(finishes: Counter[Finish]) -> dict[str, float]:
    """Share of the simulated observations that were cut, not closed in time; nothing where there were none."""
    return {"simulated/unclosed": 1 - finishes[Finish.STOP] / finishes.total()} if finishes else {}
