"""Train RL stages 1 and 2: GRPO (TRL) over the project's own rollout loop.

    coa train stage=rl1     # a simulator writes what a search returns
    coa train stage=rl2     # with the real search

A stage goes from questions to a model in data/train/. Read `train` from top to bottom; what happens
within a step is in rollouts.py (questions to ids), rewards.py (records to numbers) and grpo.py (how
TRL weighs and batches them). Exactly the ids that the policy sampled in its own turns are trained:
nothing is decoded and encoded again on the way, and what others wrote takes no part in the loss,
the KL or the entropy. Advantage, loss type, KL and temperature are GRPOConfig's own settings
(`train.rl2.arguments`).

What differs from the paper (AutoCoA, section 3), or may differ by a setting:

1. The reward is a weighted sum of named rewards (`train.rl2.rewards`). The paper's is that of
   conf/7b.yaml, exact match and a format penalty. The microworld's rl1 pays recall and searches in
   place of right answers (`recalled`, `acted`): with the paper's reward it learns not to search.
2. The baseline of an advantage may be the mean of those rollouts of a group that acted as often
   (`baseline: actions`). The paper's, the mean of the whole group, is the default.
3. A rollout in which a tool or a server failed has no reward, and stays out of its group's mean.
4. The paper names no share of the questions that are asked without search; here it is `cot_share`.
5. rl1 starts only with the gate's verdict that a simulated search pays (`coa gate`). Its validation
   may search, to see whether what is learned holds there (`validates_with_search`).
6. rl2 may ask in ReAct's lines, for a model that has never seen the protocol's tags
   (`asking: react`).
7. The section `simulator` may let others than the policy write observations.
8. What is paid may change on the way (`later_rewards`).
"""

import asyncio
import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from coa.errors import ConfigError
from coa.records.question import Question
from coa.records.ranking import seeded_rank
from coa.records.trajectory import Mode
from coa.rollout.loop import Limits
from coa.rollout.simulators.factory import open_simulator
from coa.rollout.simulators.settings import SimulatorParams
from coa.search.tool import SearchTool
from coa.settings.stages import Stage
from coa.store.whole_files import write_file
from coa.student.asking import Asking
from coa.student.checkpoint import Student
from coa.student.held_tools import HeldTools
from coa.student.knowledge import NOBODY_CAN_TELL, open_probe
from coa.student.sets import read_split
from coa.student.settings import RlParams
from coa.student.verdict import FILE as GATE
from coa.student.verdict import require_gain
from coa.tools import Toolbox
from train import vllm_policy
from train.arguments import uses_fsdp
from train.encode import RowTally
from train.grpo import trainer_class
from train.monitors import spending
from train.monitors.spending import SearchBill, price_of_request
from train.rewards import JUDGE, all_weights, check_stages, reward_functions, weights_at
from train.rollouts import Ask, Rollouts, key_of
from train.stage import StageRun, fit

if TYPE_CHECKING:
    from coa.judging.judge import Judge

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
    settings = run.params.rl_of(run.stage)
    check_asking(settings.asking, run.stage)
    check_stages(settings, where=f"params.yaml, train.{run.stage}")
    limits = run.params.limit_rollouts(run.sections.section(Limits, "rollout"))

    # The model to start from, and in rl1 what is known of the world that it practises in.
    student = run.load(settings.init)
    simulator = run.sections.section(SimulatorParams, "simulator")
    verdict = require_gain(settings.init, simulator) if _simulates(run) else None

    with ExitStack() as stack:
        # One event loop for all steps: the connections of a search client live in it.
        loop = stack.enter_context(asyncio.Runner())
        tools: Toolbox = {}
        if _searches(run, settings):
            tools = stack.enter_context(HeldTools(loop, run.sections))

        # The questions, each with the way in which it is asked.
        asks = {"train": _read_asks(settings, "train", run.params.seed)}
        if not run.params.dry_run:
            asks["validation"] = _read_asks(settings, "validation", run.params.seed)
        num_train = len(asks["train"])
        run.report.note_rows(RowTally(Counter(kept=num_train)), num_train)

        # The trainer, which calls the rollouts in every step.
        all_asks = [ask for part in asks.values() for ask in part]
        bill = SearchBill(price_of_request(run.sections) if tools else 0.0)
        simulate = None
        if _simulates(run):
            simulate = open_simulator(simulator, max_tokens=settings.max_observation_tokens)
        rollouts = Rollouts(
            run,
            student.tokenizer,
            all_asks,
            limits,
            tools,
            loop,
            simulate=simulate,
            bill=bill,
        )
        is_react = settings.asking is Asking.REACT
        stack.enter_context(run.watched(student, settings.react_prompt if is_react else ""))
        run.callbacks.append(bill)
        if JUDGE in all_weights(settings):
            from train.judging import JudgeAccount

            account = stack.enter_context(JudgeAccount(run.sections, run.workspace.name))
            trainer = make_trainer(run, student, asks, rollouts, account.open_judge)
            run.report.judge_ledger = account.ledger
        else:
            trainer = make_trainer(run, student, asks, rollouts)
        fit(run, trainer, student, (settings.init, settings.questions))
        is_first = trainer.is_world_process_zero()
        spent = bill.close(run.workspace.out, is_first=is_first)
        if verdict is not None and is_first:
            found = json.dumps(asdict(verdict), indent=2)
            write_file(run.workspace.out / GATE, f"{found}\n")
        if is_first:
            done = _summary(trainer.state.log_history)
            run.report.summary = f"{run.workspace.out}: {done}; {spending.shown(spent)}"


def _simulates(run: StageRun) -> bool:
    """Tell whether there is a simulator: in rl1, but for a dry run, which has no other model."""
    return run.stage is Stage.RL1 and not run.params.dry_run


def check_asking(asking: Asking, stage: Stage) -> None:
    """Refuse a way of asking that the stage does not have.

    Raises:
        ConfigError: cot, of which `cot_share` decides; or react in rl1, where an observation is
            simulated in tags.
    """
    known = [Asking.COA, Asking.REACT] if stage is Stage.RL2 else [Asking.COA]
    if asking not in known:
        advice = {
            Asking.COT: f"train.{stage}.cot_share says how many are asked without the tool",
            Asking.REACT: "train rl2: what rl1 invents is between the protocol's tags",
        }
        raise ConfigError(
            "the stage cannot ask so",
            where=f"params.yaml, train.{stage}.asking",
            expected=" or ".join(known),
            got=asking,
            fix=advice[asking],
        )


def _searches(run: StageRun, settings: RlParams) -> bool:
    """Tell whether the stage searches: rl2 always, rl1 in its validation."""
    if run.stage is Stage.RL2:
        return True
    return settings.validates_with_search and not run.params.dry_run


def _read_asks(settings: RlParams, split: str, seed: int) -> list[Ask]:
    return choose_modes(read_split(settings.questions, split, Question), settings.cot_share, seed)


def choose_modes(questions: Iterable[Question], cot_share: float, seed: int) -> list[Ask]:
    """Choose which questions are asked without the tool; seed and ids alone decide.

    Raises:
        ConfigError: the share is not one.
    """
    if not 0 <= cot_share <= 1:
        raise ConfigError("cot_share is not a share", expected="0 to 1", got=cot_share)

    def rank(question: Question) -> str:
        return seeded_rank(question.question_id, seed, "cot_share")

    ranked = sorted(questions, key=rank)
    num_cot = round(cot_share * len(ranked))
    without_tool = [Ask(question, Mode.COT) for question in ranked[:num_cot]]
    with_tool = [Ask(question, Mode.COA) for question in ranked[num_cot:]]
    return [*without_tool, *with_tool]


def make_trainer(
    run: StageRun,
    student: Student,
    asks: Mapping[str, Sequence[Ask]],
    rollouts: Rollouts,
    open_judge: "Callable[[], Judge] | None" = None,
) -> Any:
    """Make TRL's trainer with our rollouts and rewards.

    Raises:
        ConfigError: a setting is refused, or one that the rollouts would ignore is set.
    """
    from datasets import Dataset

    settings = run.params.rl_of(run.stage)
    probe = NOBODY_CAN_TELL
    if run.sections is not None:
        questions = [ask.question for part in asks.values() for ask in part]
        probe = open_probe(questions, run.sections)
    rewards = reward_functions(all_weights(settings), probe, open_judge)
    arguments = _arguments(run, settings, list(rewards.values()))
    # TRL's rollout functions are new, and its unwrapping uses a name that transformers renames:
    # nothing to act on.
    warnings.filterwarnings("ignore", "You are using 'rollout_func'")
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    datasets: dict[str, Dataset] = {}
    for split, part in asks.items():
        if part:
            datasets[split] = Dataset.from_list([{"prompt": key_of(ask)} for ask in part])
    trainer = trainer_class(
        settings.baseline, weights_at(settings, [reward.__name__ for reward in rewards])
    )(
        model=student.model,
        reward_funcs=list(rewards),
        args=arguments,
        train_dataset=datasets["train"],
        eval_dataset=datasets.get("validation"),
        processing_class=student.tokenizer,
        peft_config=run.lora(),
        rollout_func=rollouts,
        callbacks=run.callbacks,
    )
    _check_whole_model(trainer, uses_vllm=arguments.use_vllm)
    return trainer


def _arguments(run: StageRun, settings: RlParams, weights: list[float]) -> Any:
    """Make TRL's settings."""
    from trl.trainer.grpo_config import GRPOConfig

    defaults: dict[str, Any] = {
        "reward_weights": weights,
        "num_generations_eval": 1,
        "logging_steps": 1,
        "max_completion_length": run.params.max_context_tokens,
        "per_device_eval_batch_size": 64,
        "vllm_importance_sampling_correction": False,
    }
    if uses_fsdp():
        # TRL would spread the reference model over all GPUs before FSDP shards it.
        defaults["model_init_kwargs"] = {"device_map": None}
    arguments = run.arguments(GRPOConfig, settings.arguments, **defaults)

    not_honoured = dict(_NOT_HONOURED)
    if arguments.use_vllm:
        not_honoured.update(vllm_policy.NOT_HONOURED)
    for name, only in not_honoured.items():
        got = getattr(arguments, name)
        if got != only:
            where = f"params.yaml, train.{run.stage}.arguments.{name}"
            raise ConfigError(
                "rollouts do not honour a setting", where=where, expected=only, got=got
            )
    return arguments


def _check_whole_model(trainer: Any, *, uses_vllm: bool) -> None:
    """Refuse FSDP without vLLM.

    The ranks of FSDP meet at every layer, and rollouts differ in length: they would wait for each
    other for ever.
    """
    if trainer.is_fsdp_enabled and trainer.accelerator.num_processes > 1 and not uses_vllm:
        raise ConfigError(
            "rollouts need the whole model in each process",
            got="FSDP",
            fix="set use_vllm: true, or use DDP or DeepSpeed, "
            "whose weights are gathered for the rollouts",
        )


def _summary(history: Sequence[Mapping[str, Any]]) -> str:
    """Say from where to where the rewards went: the means of a tenth of the steps at either end."""
    steps = [entry for entry in history if "reward" in entry]
    size = max(1, len(steps) // 10)
    titles = {
        "reward": "reward",
        "rewards/exact_match/mean": "exact match",
        "searches/mean": "searches",
    }
    for name in steps[-1] if steps else ():
        if name.startswith("calls/") and name != f"calls/{SearchTool.name}":
            titles[name] = f"calls of {name.removeprefix('calls/')}"
    shown = []
    for name, title in titles.items():
        values = [entry[name] for entry in steps if entry.get(name) is not None]
        if values:
            first = sum(values[:size]) / len(values[:size])
            last = sum(values[-size:]) / len(values[-size:])
            shown.append(f"{title} {first:.2f} to {last:.2f}")
    return f"{len(steps):,} steps, {', '.join(shown)}"
