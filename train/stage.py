"""Hold what every stage shares while it runs: its settings, its folders and its prompt.

A stage loads its student with `StageRun.load`, tells its rows to `StageRun.report`
(train/reporting.py), makes its trainer from `StageRun.arguments`, and hands it to `fit`
(train/fitting.py).
"""

from pathlib import Path
from typing import Any

from coa.chat_templates import load_prompt
from coa.errors import ConfigError, MissingExtraError
from coa.params import Params
from coa.prompts import Prompt
from coa.stages import Stage
from coa.student.checkpoint import OUT, Student, Workspace, load_student
from coa.student.settings import Arguments, TrainParams
from train.arguments import fsdp_checkpoints, make_arguments, shards_weights
from train.base_files import check_window, window_of
from train.reporting import StageReport

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
        self.workspace = Workspace(_name_of(stage, params))
        self.report = StageReport(stage, params, self.workspace, resolved)
        self.callbacks: list[Any] = []
        """What watches the training (train/watching.py)."""
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
            MissingExtraError: they ask for DeepSpeed or vLLM, which is not installed.
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
            MissingExtraError: peft is not installed.
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


def _name_of(stage: Stage, params: TrainParams) -> str:
    """Name the run: as it is told, or after its stage; a dry run leaves the stage's model alone."""
    if params.name:
        return params.name
    return f"{stage}_dry_run" if params.dry_run else str(stage)
