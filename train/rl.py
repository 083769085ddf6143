"""RL stages 1 and 2: GRPO (TRL) over the project's own rollout loop, from questions to a model in data/train/.

rl1 lets the policy itself write what a search returns; rl2 searches. Both train exactly the ids that the policy sampled
in its own turns: nothing is decoded and encoded again on the way, and what others wrote takes no part in the loss, the
KL or the entropy. Advantage, loss type, KL and temperature are GRPOConfig's own settings (`train.rl2.arguments`).
"""

import asyncio
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from typing import Any

from coa.errors import ConfigError
from coa.factory import SearchParams, open_library
from coa.microworld.factory import MicroworldParams
from coa.microworld.questions import SOURCE
from coa.microworld.world import World, make_world
from coa.params import Params
from coa.question import Question
from coa.ranking import seeded_rank
from coa.rollout import Limits
from coa.tools import Toolbox
from coa.tools.factory import ToolsParams
from coa.trajectory import Mode
from train import fidelity, vllm_policy
from train.arguments import uses_fsdp
from train.asking import Asking
from train.checkpoint import Student
from train.encode import RowTally, read_split
from train.grpo import trainer_class
from train.monitors import Monitor
from train.rewards import reward_functions
from train.rollouts import Ask, Rollouts, key_of
from train.settings import RlParams, Stage
from train.stage import StageRun

_NOT_HONOURED: dict[str, Any] = {
    "use_transformers_paged": False,
    "use_transformers_continuous_batching": False,
    "top_k": 0,
    "min_p": None,
    "repetition_penalty": 1.0,
    "generation_kwargs": None,
    "chat_template_kwargs": None,
}
"""Settings of GRPOConfig that the loop would ignore, with the only values that they may have."""


def train(run: StageRun) -> None:
    """Run stage rl1 or rl2."""
    assert run.sections is not None
    settings: RlParams = getattr(run.params, run.stage)
    check_asking(settings.asking, run.stage)
    budget = run.sections.section(Limits, "rollout")
    limits = Limits(budget.max_actions, run.params.max_context_tokens, budget.max_answer_tokens)
    searches = run.stage is Stage.RL2 or (settings.validates_with_search and not run.params.dry_run)
    student = run.load(settings.init)
    if run.stage is Stage.RL1 and not run.params.dry_run:
        for doubt in fidelity.gate(settings.init):
            print(f"WARNING before rl1: {doubt}", file=sys.stderr)
    # One event loop for all steps: the connections of a search client live in it.
    with asyncio.Runner() as loop, _opened(loop, run.sections if searches else None) as tools:
        splits = ("train",) if run.params.dry_run else ("train", "validation")
        asks = {split: _read_asks(settings, split, run.params.seed) for split in splits}
        run.report_rows(RowTally(Counter(kept=len(asks["train"]))))
        rollouts = Rollouts(
            run,
            student.tokenizer,
            [ask for part in asks.values() for ask in part],
            limits,
            tools,
            loop,
        )
        run.callbacks.append(Monitor(run.params.monitors))
        trainer = make_trainer(run, student, asks, rollouts)
        run.fit(trainer, student, (settings.init, settings.questions))
        if trainer.is_world_process_zero():
            run.summary = f"{run.workspace.out}: {_summary(trainer.state.log_history)}"


@contextmanager
def _opened(loop: asyncio.Runner, sections: Params | None) -> Iterator[Toolbox]:
    """The library, for many runs of one loop. A task holds it: an MCP connection has to end where it began."""
    if sections is None:
        yield {}
        return
    settings = (sections.section(SearchParams, "search"), sections.section(ToolsParams, "tools"))
    opened: list[Toolbox] = []
    is_over = asyncio.Event()

    async def hold(is_open: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            opened.append(await open_library(*settings, stack))
            is_open.set()
            await is_over.wait()

    async def start() -> asyncio.Task[None]:
        is_open = asyncio.Event()
        holder = asyncio.create_task(hold(is_open))
        await asyncio.wait(
            {holder, asyncio.create_task(is_open.wait())}, return_when=asyncio.FIRST_COMPLETED
        )
        if holder.done():
            holder.result()
        return holder

    async def end(holder: asyncio.Task[None]) -> None:
        is_over.set()
        await holder

    holder = loop.run(start())
    try:
        yield opened[0]
    finally:
        loop.run(end(holder))


def check_asking(asking: Asking, stage: Stage) -> None:
    """Refuse a way of asking that the stage does not have.

    Raises:
        ConfigError: cot, of which `cot_share` decides; or react in rl1, where an observation is simulated in tags.
    """
    known = [Asking.COA, Asking.REACT] if stage is Stage.RL2 else [Asking.COA]
    if asking not in known:
        advice = {
            Asking.COT: f"train.{stage}.cot_share says how many are asked without the tool",
            Asking.REACT: "train rl2: what rl1 invents stands between the protocol's tags",
        }
        raise ConfigError(
            "the stage cannot ask so",
            where=f"params.yaml, train.{stage}.asking",
            expected=" or ".join(known),
            got=asking,
            fix=advice[asking],
        )


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
    ranked = sorted(
        questions,
        key=lambda question: seeded_rank(question.question_id, seed, "cot_share"),
    )
    num_cot = round(cot_share * len(ranked))
    return [
        Ask(question, Mode.COT if i < num_cot else Mode.COA) for i, question in enumerate(ranked)
    ]


def make_trainer(
    run: StageRun, student: Student, asks: Mapping[str, Sequence[Ask]], rollouts: Rollouts
) -> Any:
    """TRL's trainer with our rollouts and rewards.

    Raises:
        ConfigError: a setting is refused, or one that the rollouts would ignore is set.
    """
    from datasets import Dataset

    settings: RlParams = getattr(run.params, run.stage)
    rewards = reward_functions(settings.rewards, run.params.rubric, _world_of(run, asks))
    arguments = _arguments(run, settings, list(rewards.values()))
    # TRL's rollout functions are new, and its unwrapping uses a name that transformers renames: nothing to act on.
    warnings.filterwarnings("ignore", "You are using 'rollout_func'")
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    keys = {
        split: Dataset.from_list([{"prompt": key_of(ask)} for ask in part])
        for split, part in asks.items()
        if part
    }
    trainer = trainer_class(settings.baseline)(
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


def _world_of(run: StageRun, asks: Mapping[str, Sequence[Ask]]) -> World | None:
    """The microworld, where all questions are about it."""
    if run.sections is None or any(
        ask.question.source != SOURCE for part in asks.values() for ask in part
    ):
        return None
    return make_world(run.sections.section(MicroworldParams, "microworld").world)


def _arguments(run: StageRun, settings: RlParams, weights: list[float]) -> Any:
    from trl.trainer.grpo_config import GRPOConfig

    arguments = run.arguments(
        GRPOConfig,
        settings.arguments,
        reward_weights=weights,
        num_generations_eval=1,
        logging_steps=1,
        max_completion_length=run.params.max_context_tokens,
        per_device_eval_batch_size=64,
        vllm_importance_sampling_correction=False,
        # TRL would spread the reference model over all GPUs before FSDP shards it.
        **({"model_init_kwargs": {"device_map": None}} if uses_fsdp() else {}),
    )
    for name, only in (
        _NOT_HONOURED | (vllm_policy.NOT_HONOURED if arguments.use_vllm else {})
    ).items():
        if (got := getattr(arguments, name)) != only:
            where = f"params.yaml, train.{run.stage}.arguments.{name}"
            raise ConfigError(
                "rollouts do not honour a setting", where=where, expected=only, got=got
            )
    return arguments
