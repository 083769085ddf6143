"""Make TRL's trainer of token likelihood, for pre-training and for the SFT stages alike."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from coa.student.checkpoint import Student
from coa.student.settings import Arguments
from train.stage import StageRun

if TYPE_CHECKING:
    from datasets import Dataset


def make_trainer(
    run: StageRun,
    student: Student,
    splits: Mapping[str, "Dataset"],
    arguments: Arguments,
    *,
    optimizer: Any = None,
    kind: Any = None,
) -> Any:
    """Make TRL's trainer over `train` and `validation`, packed without padding.

    Args:
        run: gives the settings that all stages share.
        student: what is trained.
        splits: the sequences, by split.
        arguments: the trainer's own settings.
        optimizer: in place of the trainer's.
        kind: a class derived from TRL's trainer, in place of it.
    """
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    packed = run.arguments(
        SFTConfig, arguments, max_length=run.params.max_context_tokens, packing=True
    )
    return (kind or SFTTrainer)(
        model=student.model,
        args=packed,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"] or None,
        processing_class=student.tokenizer,
        peft_config=run.lora(),
        callbacks=run.callbacks,
        optimizers=(optimizer, None),
    )
