"""What every stage shares while it runs: its settings, its folders, its prompt and how its trainer is driven.

`StageRun.fit` resumes from the last checkpoint, trains, and writes the model, the resolved params, the log and the
curves; a stage only makes its trainer.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from coa.errors import ConfigError, InputError, MissingExtraError
from coa.metrics import write_metrics
from coa.params import Params
from coa.prompts import Prompt
from coa.tokens import PieceEncoder
from coa.whole_files import write_file
from train.arguments import fsdp_checkpoints, make_arguments, shards_weights
from train.checkpoint import OUT, Student, Workspace, explaining_writes, load_student
from train.curves import write_curves, write_log, write_table
from train.encode import RowTally
from train.settings import Arguments, Stage, TrainParams
from train.templates import own_template

_ALWAYS: Arguments = {
    "report_to": "none",
    "logging_steps": 10,
    "save_steps": 0.2,
    "save_total_limit": 1,
    "activation_checkpointing": False,
    "ddp_find_unused_parameters": False,
}
"""What differs from the libraries' defaults in every stage; a stage's `arguments` overrule it."""
_SHOWN = 5
"""Rows named in a summary; metrics/ names all."""


class StageRun:
    """One run of one stage."""

    def __init__(
        self, stage: Stage, params: TrainParams, resolved: str, sections: Params | None = None
    ) -> None:
        self.stage = stage
        self.params = params
        self.sections = sections
        """All of params.yaml, for the stages that search while they train."""
        self.workspace = Workspace(params.name or (f"{stage}_dry_run" if params.dry_run else stage))
        self.callbacks: list[Any] = []
        """What watches the training (train/monitors.py)."""
        self.summary = ""
        """The line that a person wants to read last; set when the stage is done."""
        self._resolved = resolved
        self._rows = RowTally()
        self._window: int | None = None
        """Tokens that the student can read; None where its positions have no end."""

    def load(self, init: str) -> Student:
        """The student to start from.

        Raises:
            ConfigError: there is none, or rows may be longer than its positions reach.
        """
        if self.params.dry_run:
            init = self._beginning(init)
        student = load_student(
            init, is_frozen=bool(self.params.lora), is_dry_run=self.params.dry_run
        )
        self._window = window = getattr(student.model.config, "max_position_embeddings", None)
        if window is not None and self.params.max_context_tokens > window:
            expected = f"train.max_context_tokens of at most {window}"
            raise ConfigError(
                "the model's context is too short",
                where=init,
                expected=expected,
                got=self.params.max_context_tokens,
            )
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
        """The student's prompt, or that of another file, inside its chat template, the thinking opened.

        Raises:
            ConfigError: no template is given and the tokenizer has none.
        """
        prompt = Prompt.load(
            Path(file or self.params.prompt), self.params.chat_template or own_template(tokenizer)
        )
        return prompt.for_policy(PieceEncoder(tokenizer))

    def report_rows(self, rows: RowTally) -> None:
        """Say how many rows are trained on, how many were left out and whose text was lost.

        Raises:
            InputError: all were left out; says what would let them in.
            TextLostError: the tokenizer gives the text of none back.
        """
        self._rows = rows
        left_out = [
            f"{count:,} {reason.replace('_', ' ')}"
            for reason, count in rows.counts.items()
            if reason != "kept" and count
        ]
        if left_out:
            limit = f"train.max_context_tokens = {self.params.max_context_tokens}"
            print(f"left out: {', '.join(left_out)} ({limit})", file=sys.stderr)
        for row_id, error in islice(rows.lost.items(), _SHOWN):
            where, expected, got = (error.details[name] for name in ("where", "expected", "got"))
            print(f"  {row_id}: {where} is {expected}, back comes {got}", file=sys.stderr)
        if rows.counts["kept"]:
            return
        if rows.lost and rows.counts["text_lost"] == rows.counts.total():
            raise next(iter(rows.lost.values()))
        raise InputError(
            "no row can be trained",
            expected=f"rows of at most {self.params.max_context_tokens} tokens",
            got=dict(rows.counts),
            fix=self._advice(rows),
        )

    def _advice(self, rows: RowTally) -> str:
        """Say what would let rows in, where all were left out."""
        if not rows.counts.total():
            return "the set is empty: make the sets again, `dvc repro assemble`"
        needed = rows.shortest_too_long
        if not needed:
            return f"nothing in the rows is the policy's: check the files of train.{self.stage}"
        shortest = f"the shortest row has {needed} tokens"
        if self.stage is Stage.PRETRAIN:
            sizes = "train.max_context_tokens and train.pretrain.student.max_context"
            return f"{shortest}: set {sizes} to as many or more"
        if self._window is None:
            return f"set train.max_context_tokens to {needed} or more"
        if needed <= self._window:
            return (
                f"set train.max_context_tokens to {needed} or more; "
                f"the student reads {self._window}"
            )
        return (
            f"{shortest}, the student reads {self._window}: start from a model with a longer "
            f"context (train.{self.stage}.init), or leave long rows out of the sets"
        )

    def arguments(self, kind: type[Any], given: Arguments, **defaults: Any) -> Any:
        """The trainer's own settings: `given` over the stage's and the project's defaults.

        Raises:
            ConfigError: the trainer does not know one of them, or refuses its value.
            MissingExtraError: they ask for DeepSpeed or vLLM, which is not installed.
        """
        import torch

        has_gpu = torch.cuda.is_available()
        here = {
            "output_dir": str(self.workspace.checkpoints),
            "seed": self.params.seed,
            "bf16": has_gpu,
            "use_cpu": not has_gpu,
        }
        # A dry run proves that a step works, so the smallest will do: in GRPO that is one group.
        smallest = {"max_steps": 1, "gradient_accumulation_steps": 1}
        if "num_generations" in given:
            smallest["per_device_train_batch_size"] = given["num_generations"]
        values = {
            **_ALWAYS,
            **defaults,
            **here,
            **given,
            **(smallest if self.params.dry_run else {}),
        }
        if fsdp_checkpoints():
            values["activation_checkpointing"] = False
        return make_arguments(kind, values, where=f"params.yaml, train.{self.stage}.arguments")

    def adapted(self, model: Any) -> Any:
        """The model with its LoRA adapters, for a trainer that does not add them itself."""
        settings = self.lora()
        if settings is None:
            return model
        from peft import get_peft_model

        return get_peft_model(model, settings)

    def lora(self) -> Any:
        """Settings of LoRA; None where all weights are trained.

        Raises:
            ConfigError: one of them is refused, or the weights are sharded.
        """
        if not self.params.lora:
            return None
        if shards_weights():
            # The first process alone merges the adapters into the weights: it must hold all of them.
            fix = "launch with conf/accelerate/ddp.yaml or deepspeed_zero2.yaml"
            raise ConfigError(
                "LoRA needs the whole model in each process", got="FSDP or ZeRO stage 3", fix=fix
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
        self,
        trainer: Any,
        student: Student,
        inputs: tuple[str, ...],
        finish: Callable[[], None] | None = None,
    ) -> None:
        """Train, from the last checkpoint where there is one, and write what came of it.

        Args:
            trainer: transformers' Trainer or one derived from it.
            student: its tokenizer is saved beside the trained model.
            inputs: files and folders; a checkpoint made from others is not taken up.
            finish: called when the model is trained and measured, before it is saved.

        Raises:
            ConfigError: the memory does not suffice; says what to change.
        """
        # The first process clears what is of no use and notes what the run is; the others find that done.
        with trainer.accelerator.main_process_first():
            self.workspace.check_out()
            if self.params.dry_run and trainer.is_world_process_zero():
                self.workspace.clear()
            checkpoint = self.workspace.resume_from(self._resolved, inputs)
        if checkpoint:
            print(f"going on from {checkpoint}", file=sys.stderr)
        with explaining_memory(self.stage):
            with explaining_writes(self.workspace.checkpoints):
                _train(trainer, checkpoint)
            final = trainer.evaluate() if trainer.eval_dataset is not None else {}
        if finish is not None:
            finish()
        model = trainer.accelerator.unwrap_model(trainer.model)
        # Every process takes part in collecting the weights; adapters are merged, so that transformers loads the model.
        sharded = trainer.model if trainer.deepspeed is None else trainer.deepspeed
        state = None if self.params.lora else trainer.accelerator.get_state_dict(sharded)
        if not trainer.is_world_process_zero():
            return
        self.workspace.save(
            Student(model.merge_and_unload() if self.params.lora else model, student.tokenizer),
            state,
        )
        self._write_report(trainer.state.log_history, final)
        self.workspace.clear()
        loss = f", validation loss {final['eval_loss']:.3f}" if "eval_loss" in final else ""
        steps, kept = trainer.state.global_step, self._rows.counts["kept"]
        trained = f"{steps:,} steps on {kept:,} rows{self._without()}{loss}"
        self.summary = f"{self.workspace.out}: {trained}"

    def _without(self) -> str:
        """Name the rows whose text was lost, as far as they fit on a line."""
        if not self._rows.lost:
            return ""
        names = list(self._rows.lost)
        more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
        return f", without {', '.join(names[:_SHOWN])}{more}, whose text the tokenizer loses"

    def _write_report(self, history: list[dict[str, float]], final: Mapping[str, float]) -> None:
        out = self.workspace.out
        write_log(out / "log.jsonl", history)
        name = self.workspace.name
        # Another chain's figures stay beside its model; metrics/ is for the stages of `dvc repro`.
        plots = Path("metrics") / f"train_{name}.csv" if name == self.stage else out / "curves.csv"
        write_curves(out / "curves.png", plots, history, name)
        if name == self.stage:
            lost = {row_id: error.details["where"] for row_id, error in self._rows.lost.items()}
            figures = {"text_lost": lost} if lost else {}
            rows = dict(self._rows.counts)
            write_metrics(f"train_{name}", {"rows": rows, **figures, **_rounded(final)})
        self.write_params()

    def report_fetched(self, origin: str) -> None:
        """Write what a stage leaves beside a model, for one that was fetched and not trained.

        Raises:
            OutputError: a file cannot be written.
        """
        if self.workspace.name == self.stage:
            write_metrics(f"train_{self.stage}", {"base": origin})
            write_table(Path("metrics") / f"train_{self.stage}.csv", [], ["loss"])
        self.write_params()
        self.summary = f"{self.workspace.out}: {origin}"

    def write_params(self) -> None:
        """Write the resolved settings beside the model, last of all: a folder that has them is whole.

        Raises:
            OutputError: the file cannot be written.
        """
        write_file(self.workspace.out / "params.yaml", self._resolved)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {
        name: round(value, 4)
        for name, value in values.items()
        if not name.endswith(("runtime", "per_second"))
    }


def _train(trainer: Any, checkpoint: str | None) -> None:
    """Train to the end; a checkpoint of the last step is only loaded: the trainer itself would take one step more."""
    from transformers import TrainerState

    reached: Any = checkpoint and TrainerState.load_from_json(
        str(Path(checkpoint) / "trainer_state.json")
    )
    if reached and reached.global_step >= reached.max_steps:
        trainer._load_from_checkpoint(checkpoint)
        trainer.state = reached
    else:
        trainer.train(resume_from_checkpoint=checkpoint)


@contextmanager
def explaining_memory(stage: Stage) -> Iterator[None]:
    """Turn what torch says when memory runs out into what to change."""
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        is_memory = isinstance(
            error, torch.OutOfMemoryError | MemoryError
        ) or "allocate memory" in str(error)
        if not is_memory:
            raise
        fix = (
            "halve per_device_train_batch_size and double gradient_accumulation_steps; "
            "then activation_checkpointing: true, train.lora, or a smaller train.max_context_tokens"
        )
        where = f"params.yaml, train.{stage}.arguments"
        raise ConfigError(
            "out of memory", where=where, got=str(error).partition("\n")[0], fix=fix
        ) from error
