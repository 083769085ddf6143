"""Drive a stage's trainer: go on from the last checkpoint, train, and save what came of it."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coa.errors import ConfigError
from coa.stages import Stage
from coa.student.checkpoint import Student, explaining_writes
from train.stage import StageRun


def fit(
    run: StageRun,
    trainer: Any,
    student: Student,
    inputs: Sequence[str],
    finish: Callable[[], None] | None = None,
) -> None:
    """Train, from the last checkpoint where there is one, and write the model and its report.

    Args:
        run: the stage's run.
        trainer: transformers' Trainer or one derived from it.
        student: its tokenizer is saved beside the trained model.
        inputs: files and folders; a checkpoint made from others is not taken up.
        finish: called when the model is trained and measured, before it is saved.

    Raises:
        ConfigError: the memory does not suffice; says what to change.
        OutputError: a file cannot be written.
    """
    from train.watching import use_training_bar

    run.trainer = trainer
    use_training_bar(trainer)
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
    """Find the checkpoint to go on from.

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

    Every process takes part in collecting the weights. Adapters are merged into them, so that
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
