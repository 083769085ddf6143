"""RL stages 1 and 2: GRPO (TRL) over the project's own rollout loop, from questions to a model in data/train/.

rl1 lets the policy itself write what a search returns; rl2 searches. Both train exactly the ids that the policy sampled
in its own turns: nothing is decoded and encoded again on the way, and what others wrote takes no part in the loss, the
KL or the entropy. Advantage, loss type, KL and temperature are GRPOConfig's own settings (`train.rl2.arguments`).
"""

import asyncio
import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from coa import rollout
from coa.asking import task_of
from coa.drivers import Environment, roll_out_states, tool_environment
from coa.errors import ConfigError
from coa.graded import grade_trajectory
from coa.opening import SearchParams, open_search_tool
from coa.policy import BatchPolicy, Finish
from coa.policy.local import LocalPolicy
from coa.question import Question
from coa.rollout import Limits, Run, State, Task
from coa.tools.search import SearchTool
from coa.tools.simulated import SimulatedTools
from coa.trajectory import Author, Mode, Sampling
from train import vllm_policy
from train.arguments import uses_fsdp
from train.checkpoint import Student
from train.encode import read_split
from train.monitors import Monitor
from train.rewards import reward_functions
from train.settings import RlParams, Stage
from train.stage import StageRun

_NOT_HONOURED: dict[str, Any] = {
    "use_transformers_paged": False, "use_transformers_continuous_batching": False,
    "top_k": 0, "min_p": None, "repetition_penalty": 1.0, "generation_kwargs": None, "chat_template_kwargs": None,
}  # fmt: skip
"""Settings of GRPOConfig that the loop would ignore, with the only values that they may have."""


class Ask(NamedTuple):
    """A question as it is asked."""

    question: Question
    mode: Mode
    """In cot a call of the tool ends the rollout."""


def train(run: StageRun) -> None:
    """Run stage rl1 or rl2."""
    assert run.sections is not None
    settings: RlParams = getattr(run.params, run.stage)
    budget = run.sections.section(Limits, "rollout")
    limits = Limits(budget.max_actions, run.params.max_context_tokens, budget.max_answer_tokens)
    search = run.sections.section(SearchParams, "search") if run.stage is Stage.RL2 else None
    student = run.load(settings.init)
    # One event loop for all steps: the connections of a search client live in it.
    with asyncio.Runner() as loop:
        tool = open_search_tool(search) if search else None
        splits = ("train",) if run.params.dry_run else ("train", "validation")
        asks = {split: _read_asks(settings, split, run.params.seed) for split in splits}
        run.report_rows({"kept": len(asks["train"])})
        rollouts = Rollouts(run, student.tokenizer, [ask for part in asks.values() for ask in part], limits, tool, loop)
        run.callbacks.append(Monitor(run.params.monitors))
        trainer = make_trainer(run, student, asks, rollouts)
        run.fit(trainer, student, (settings.init, settings.questions))
        run.summary = f"{run.workspace.out}: {_summary(trainer.state.log_history)}"
        if tool:
            loop.run(tool.aclose())


def _summary(history: Sequence[Mapping[str, Any]]) -> str:
    """From where to where the rewards went, a tenth of the steps at either end."""
    steps = [entry for entry in history if "reward" in entry]
    size = max(1, len(steps) // 10)
    shown = []
    for title, name in (
        ("reward", "reward"),
        ("exact match", "rewards/exact_match/mean"),
        ("searches", "searches/mean"),
    ):
        values = [entry[name] for entry in steps if entry.get(name) is not None]
        if values:
            ends = (sum(part) / len(part) for part in (values[:size], values[-size:]))
            shown.append(f"{title} {' to '.join(f'{value:.2f}' for value in ends)}")
    return f"{len(steps):,} steps, {', '.join(shown)}"


def _read_asks(settings: RlParams, split: str, seed: int) -> list[Ask]:
    return choose_modes(read_split(settings.questions, split, Question), settings.cot_share, seed)


def choose_modes(questions: Iterable[Question], cot_share: float, seed: int) -> list[Ask]:
    """Which questions are asked without the tool; it follows from the seed and the ids alone.

    Raises:
        ConfigError: the share is not one.
    """
    if not 0 <= cot_share <= 1:
        raise ConfigError("cot_share is not a share", expected="0 to 1", got=cot_share)
    ranked = sorted(questions, key=lambda question: hashlib.sha256(f"{seed}/{question.question_id}".encode()).digest())
    num_cot = round(cot_share * len(ranked))
    return [Ask(question, Mode.COT if i < num_cot else Mode.COA) for i, question in enumerate(ranked)]


def make_trainer(run: StageRun, student: Student, asks: Mapping[str, Sequence[Ask]], rollouts: "Rollouts") -> Any:
    """TRL's trainer with our rollouts and rewards.

    Raises:
        ConfigError: a setting is refused, or one that the rollouts would ignore is set.
    """
    from datasets import Dataset
    from trl.trainer.grpo_trainer import GRPOTrainer

    settings: RlParams = getattr(run.params, run.stage)
    rewards = reward_functions(settings.rewards, run.params.rubric)
    arguments = _arguments(run, settings, list(rewards.values()))
    # TRL's rollout functions are new, and its unwrapping uses a name that transformers renames: nothing to act on.
    warnings.filterwarnings("ignore", "You are using 'rollout_func'")
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    keys = {split: Dataset.from_list([{"prompt": _key(ask)} for ask in part]) for split, part in asks.items() if part}
    kind: Any = GRPOTrainer
    trainer = kind(
        model=student.model,
        reward_funcs=list(rewards),
        args=arguments,
        train_dataset=keys["train"],
        eval_dataset=keys.get("validation"),
        processing_class=student.tokenizer,
        peft_config=run.lora(),
        rollout_func=rollouts,
        callbacks=run.callbacks,
    )
    if trainer.is_fsdp_enabled and trainer.accelerator.num_processes > 1 and not arguments.use_vllm:
        # Its ranks meet at every layer, and rollouts differ in length: they would wait for each other for ever.
        fix = "set use_vllm: true, or use DDP or DeepSpeed, whose weights are gathered for the rollouts"
        raise ConfigError("rollouts need the whole model in each process", got="FSDP", fix=fix)
    return trainer


def _arguments(run: StageRun, settings: RlParams, weights: list[float]) -> Any:
    from trl.trainer.grpo_config import GRPOConfig

    arguments = run.arguments(
        GRPOConfig, settings.arguments, reward_weights=weights, num_generations_eval=1, logging_steps=1,
        max_completion_length=run.params.max_context_tokens, per_device_eval_batch_size=64,
        vllm_importance_sampling_correction=False,
        # TRL would spread the reference model over all GPUs before FSDP shards it.
        **({"model_init_kwargs": {"device_map": None}} if uses_fsdp() else {}),
    )  # fmt: skip
    for name, only in (_NOT_HONOURED | (vllm_policy.NOT_HONOURED if arguments.use_vllm else {})).items():
        if (got := getattr(arguments, name)) != only:
            where = f"params.yaml, train.{run.stage}.arguments.{name}"
            raise ConfigError("rollouts do not honour a setting", where=where, expected=only, got=got)
    return arguments


def _key(ask: Ask) -> str:
    """What stands in TRL's `prompt`, the only column that reaches a rollout function."""
    return f"{ask.question.question_id}/{ask.mode}"


class Rollouts:
    """TRL's rollout function: keys of questions in; ids, who wrote them, and graded records out."""

    def __init__(
        self, run: StageRun, tokenizer: Any, asks: Iterable[Ask], limits: Limits, tool: SearchTool | None,
        loop: asyncio.Runner,
    ) -> None:  # fmt: skip
        self._settings: RlParams = getattr(run.params, run.stage)
        self._name, self._seed = run.workspace.name, run.params.seed
        self._tokenizer, self._prompt = tokenizer, run.prompt(tokenizer)
        self._asks = {_key(ask): ask for ask in asks}
        self._limits, self._tool, self._loop = limits, tool, loop

    def __call__(self, prompts: Sequence[str], trainer: Any) -> dict[str, Any]:
        """Roll out each prompt once; TRL has repeated them as often as the group is large.

        A rollout's draws follow from the seed, the step, the question and its place in the group alone, so a resumed
        run makes the same ones.
        """
        with _policy(trainer, self._tokenizer, self._name, self._settings.batch_size) as policy:
            step = Sampling(trainer.temperature, trainer.top_p, self._seed * 1_000_003 + trainer.state.global_step)
            first = trainer.accelerator.process_index * len(prompts)
            return self.roll_out(list(prompts), policy, step, first)

    def roll_out(self, keys: Sequence[str], policy: BatchPolicy, sampling: Sampling, first: int = 0) -> dict[str, Any]:
        """The same with any policy; `first` numbers the rollouts apart from those of other processes."""
        simulated = SimulatedTools(policy, max_tokens=self._settings.max_observation_tokens)
        environment: Environment = simulated if self._tool is None else tool_environment({self._tool.name: self._tool})
        fingerprint = simulated.fingerprint if self._tool is None else self._tool.fingerprint
        run = Run(policy, sampling, self._limits, fingerprint)
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
            "unclosed": _unclosed_share(simulated.finishes),
        }

    def _tasks(self, keys: Sequence[str], first: int) -> list[Task]:
        seen: Counter[str] = Counter()
        tasks = []
        for key in keys:
            question, mode = self._asks[key]
            index = first + seen[key]
            tasks.append(task_of(question.question_id, question.question, mode, index, self._prompt))
            seen[key] += 1
        return tasks

    async def _finish(
        self, tasks: Sequence[Task], run: Run, policy: BatchPolicy, environment: Environment
    ) -> list[State]:
        return [state async for state in roll_out_states(tasks, run, policy, environment, batch_size=len(tasks))]


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
    """The prompt's ids, all ids after it, and 1 where these are the policy's own."""
    assert state.ids is not None
    mask = [int(author is Author.POLICY) for author, length in state.id_runs for _ in range(length)]
    start = state.num_prompt_tokens
    # TRL would pad a mask that is too short with ones, and train what others wrote.
    assert len(mask) == len(state.ids) > start
    return list(state.ids[:start]), list(state.ids[start:]), mask[start:]


def _unclosed_share(finishes: Counter[Finish]) -> float | None:
    """Share of the simulated observations that the policy did not close; None where there were none."""
    return 1 - finishes[Finish.STOP] / finishes.total() if finishes else None
