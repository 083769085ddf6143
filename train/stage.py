"""Run one stage: its folders, its student and prompt, its trainer's settings, and its training.

A stage loads its student with `StageRun.load`, tells its rows to `StageRun.report`
(train/monitors/report.py), makes its trainer from `StageRun.arguments`, and hands it to `fit`,
which resumes from the last checkpoint, trains, and saves what came of it.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coa.errors import ConfigError, MissingExtraError
from coa.policy.chat_templates import load_prompt
from coa.policy.prompts import Prompt
from coa.settings.params import Params
from coa.settings.stages import Stage
from coa.student.checkpoint import OUT, Student, Workspace, explaining_writes, load_student
from coa.student.settings import Arguments, TrainParams
from train.arguments import fsdp_checkpoints, make_arguments, shards_weights
from train.base import check_window, window_of
from train.monitors.report import StageReport

_ALWAYS: Arguments = {
    "report_to": "none",
    "logging_steps": 10,
    "save_steps": 0.2,
    "save_total_limit": 1,
    "activation_checkpointing": False,
    "ddp_find_unused_parameters": False,
}
"""What differs from the libraries' defaults in every stage; a stage's `arguments` overrule it."""


class StageRun:
    """One run of one stage."""

    def __init__(
        self, stage: Stage, params: TrainParams, resolved: str, sections: Params | None = None
    ) -> None:
        self.stage = stage
        self.params = params
        self.resolved = resolved
        """The settings as text, which are written beside the model."""
        self.sections = sections
        """All of params.yaml, for the stages that search while they train."""
        # A dry run does not replace the stage's model.
        own_name = f"{stage}_dry_run" if params.dry_run else str(stage)
        self.workspace = Workspace(params.name or own_name)
        self.report = StageReport(stage, params, self.workspace, resolved)
        self.callbacks: list[Any] = []
        """What is called back while it trains (train/monitors/callbacks.py)."""
        self.trainer: Any = None
        """What trains, from where `fit` starts it."""

    def load(self, init: str) -> Student:
        """Load the student to start from.

        Raises:
            InputError: a stage's model is not there yet.
            ConfigError: there is no such model, or rows may be longer than its positions reach.
        """
        if self.params.dry_run:
            init = self._beginning(init)
        student = load_student(
            init, is_frozen=bool(self.params.lora), is_dry_run=self.params.dry_run
        )
        window = window_of(student.model.config.to_dict())
        self.report.window = window
        check_window(init, window, self.params.max_context_tokens)
        return student

    def _beginning(self, init: str) -> str:
        """Return where the chain of stages begins that leads to a model which is not there yet.

        A dry run needs no stage before it. A model that is there is its own beginning.
        """
        initial: dict[str, str] = {}
        for stage, model in self.params.initial_models().items():
            initial[str(OUT / stage)] = model
        while init in initial and not (Path(init) / "config.json").is_file():
            init = initial.pop(init)
        base = self.params.pretrain.base
        is_pretrained = init == str(OUT / Stage.PRETRAIN)
        if base and is_pretrained and not Path(init).is_dir():
            return base
        return init

    def prompt(self, tokenizer: Any, file: str = "") -> Prompt:
        """Load the student's prompt, or another file's, inside the chat template.

        The thinking is opened at its end.

        Raises:
            ConfigError: no template is given and the tokenizer has none.
        """
        return load_prompt(file or self.params.prompt, self.params.chat_template, tokenizer)

    def arguments(self, kind: type[Any], given: Arguments, **defaults: Any) -> Any:
        """Make the trainer's own settings: `given` over the stage's and the project's defaults.

        Raises:
            ConfigError: the trainer does not know one of them, or refuses its value.
        """
        import torch

        has_gpu = torch.cuda.is_available()
        values = {
            **_ALWAYS,
            **defaults,
            "output_dir": str(self.workspace.checkpoints),
            "seed": self.params.seed,
            "bf16": has_gpu,
            "use_cpu": not has_gpu,
            **given,
        }
        if self.params.dry_run:
            # It proves that a step works, so the smallest will do: in GRPO that is one group.
            values["max_steps"] = 1
            values["gradient_accumulation_steps"] = 1
            if "num_generations" in given:
                values["per_device_train_batch_size"] = given["num_generations"]
        if fsdp_checkpoints():
            values["activation_checkpointing"] = False
        return make_arguments(kind, values, where=f"params.yaml, train.{self.stage}.arguments")

    @contextmanager
    def watched(self, student: Student, react_prompt: str = "") -> Iterator[None]:
        """Add the alarms to the callbacks and, where they are asked for, rollouts before them.

        There are no rollouts where `train.monitors.every` is 0, in a dry run, and where a process
        holds only a part of the weights: its rollouts would have to wait for the other processes.
        """
        from train.monitors.callbacks import Monitor, RolloutWatch

        monitors = self.params.monitors
        is_wanted = monitors.every > 0 and not self.params.dry_run
        if is_wanted and shards_weights():
            print(
                "no rollouts are watched while training: each process holds a part of the weights",
                file=sys.stderr,
            )
            is_wanted = False
        if not is_wanted or self.sections is None:
            self.callbacks.append(Monitor(monitors))
            yield
            return
        # The rollouts need the search and the tools, which a stage without them need not load.
        from train.monitors.watch import open_watch

        prompt = self.prompt(student.tokenizer, react_prompt)
        name = self.workspace.name
        is_react = bool(react_prompt)
        with open_watch(
            self.sections, self.params, name, student.tokenizer, prompt, is_react
        ) as measure:
            # Before the alarms, which read what is logged.
            self.callbacks += [RolloutWatch(monitors.every, measure, self.log), Monitor(monitors)]
            yield

    def log(self, figures: Mapping[str, float]) -> None:
        """Add an entry to the trainer's log, and to the tracker that `report_to` names.

        It is the base class's: `log` of the trainers of pairs and of GRPO adds the means of the
        training steps so far, and begins new ones.
        """
        from transformers import Trainer

        Trainer.log(self.trainer, dict(figures))

    def adapted(self, model: Any) -> Any:
        """Add LoRA adapters to the model, for a trainer that does not add them itself."""
        settings = self.lora()
        if settings is None:
            return model
        from peft import get_peft_model

        return get_peft_model(model, settings)

    def lora(self) -> Any:
        """Make the settings of LoRA; None where all weights are trained.

        Raises:
            ConfigError: one of them is refused, or the weights are sharded.
        """
        if not self.params.lora:
            return None
        if shards_weights():
            # The first process alone merges the adapters into the weights: it must hold them all.
            raise ConfigError(
                "LoRA needs the whole model in each process",
                got="FSDP or ZeRO stage 3",
                fix="launch with conf/accelerate/ddp.yaml or deepspeed_zero2.yaml",
            )
        try:
            from peft import LoraConfig
        except ImportError as error:
            raise MissingExtraError("peft", "train") from error
        try:
            return LoraConfig(**self.params.lora)
        except TypeError as error:
            raise ConfigError(
                "LoraConfig refuses a setting", where="params.yaml, train.lora", got=error
            ) from error


def fit(
    run: StageRun,
    trainer: Any,
    student: Student,
    inputs: Sequence[str],
    finish: Callable[[], None] | None = None,
) -> None:
    """Train, from the last checkpoint where there is one, and write the model and its report.

    A checkpoint that was made from other `inputs` is not used. `finish` is called before the model
    is saved.

    Raises:
        ConfigError: the memory does not suffice; says what to change.
    """
    from transformers import ProgressCallback

    from train.monitors.callbacks import TrainingBar

    run.trainer = trainer
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(TrainingBar)
    checkpoint = _find_checkpoint(run, trainer, inputs)
    if checkpoint:
        print(f"going on from {checkpoint}", file=sys.stderr)
    final: dict[str, float] = {}
    with explaining_memory(run.stage):
        with explaining_writes(run.workspace.checkpoints):
            _train(trainer, checkpoint)
        if trainer.eval_dataset is not None:
            final = trainer.evaluate()
    if finish is not None:
        finish()
    is_saved = _save(run, trainer, student)
    if is_saved:
        run.report.write_trained(trainer.state.log_history, final, trainer.state.global_step)
        run.workspace.clear()


def _find_checkpoint(run: StageRun, trainer: Any, inputs: Sequence[str]) -> str | None:
    """Find the checkpoint to resume from.

    The first process clears what is of no use and notes what the run is; the others find that done.
    """
    with trainer.accelerator.main_process_first():
        run.workspace.check_out()
        if run.params.dry_run and trainer.is_world_process_zero():
            run.workspace.clear()
        return run.workspace.resume_from(run.resolved, inputs)


def _train(trainer: Any, checkpoint: str | None) -> None:
    """Train to the end.

    A checkpoint of the last step is only loaded: the trainer itself would take one step more.
    """
    from transformers import TrainerState

    if checkpoint:
        reached = TrainerState.load_from_json(str(Path(checkpoint) / "trainer_state.json"))
        if reached.global_step >= reached.max_steps:
            trainer._load_from_checkpoint(checkpoint)
            trainer.state = reached
            return
    trainer.train(resume_from_checkpoint=checkpoint)


def _save(run: StageRun, trainer: Any, student: Student) -> bool:
    """Save the trained model; False in a process that is not the first, which saves nothing.

    Every process helps to collect the weights. Adapters are merged into them, so that
    transformers loads the model.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    state = None
    if not run.params.lora:
        sharded = trainer.model if trainer.deepspeed is None else trainer.deepspeed
        state = trainer.accelerator.get_state_dict(sharded)
    if not trainer.is_world_process_zero():
        return False
    if run.params.lora:
        model = model.merge_and_unload()
    run.workspace.save(Student(model, student.tokenizer), state)
    return True


@contextmanager
def explaining_memory(stage: Stage) -> Iterator[None]:
    """Turn what torch says when memory runs out into what to change.

    Raises:
        ConfigError: the memory does not suffice.
    """
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        is_told_by_type = isinstance(error, torch.OutOfMemoryError | MemoryError)
        if not is_told_by_type and "allocate memory" not in str(error):
            raise
        raise ConfigError(
            "out of memory",
            where=f"params.yaml, train.{stage}.arguments",
            got=str(error).partition("\n")[0],
            fix="halve per_device_train_batch_size and double gradient_accumulation_steps; then "
            "activation_checkpointing: true, train.lora, or a smaller train.max_context_tokens",
        ) from error


def leave_process_group() -> None:
    """Wait for the other processes of a training, if there are any, and part from them in order.

    A process that ends while another one still writes can make it abort.
    """
    from torch import distributed

    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
