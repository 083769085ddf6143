"""Token likelihood: pre-training and SFT stages 2 and 3, one code path on TRL's SFTTrainer.

Stage 2 masks observations out, stage 3 trains their bodies with the closing tags (AutoCoA, section 3); both masks come
from who wrote what. Sequences are packed without padding; no token sees another sequence.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from coa.graded import GradedTrajectory
from train.checkpoint import Student
from train.encode import Encoder, Example, read_split, to_dataset
from train.settings import Arguments, SftParams, Stage
from train.stage import StageRun

if TYPE_CHECKING:
    from datasets import Dataset


def train(run: StageRun) -> None:
    """Run stage sft2 or sft3."""
    settings: SftParams = getattr(run.params, run.stage)
    student = run.load(settings.init)
    encoder = Encoder(
        student.tokenizer, run.prompt(student.tokenizer), run.params.max_context_tokens
    )
    trains_world = run.stage is Stage.SFT3
    splits = {}
    for split in ("train", "validation"):
        rows = (
            row
            for folder in settings.trajectories
            for row in read_split(folder, split, GradedTrajectory)
        )
        splits[split] = to_dataset(
            (encoder.trajectory(row, trains_world=trains_world) for row in rows), Example
        )
    run.report_rows(encoder.rows)
    trainer = make_trainer(run, student, splits, settings.arguments)
    run.fit(trainer, student, (settings.init, *settings.trajectories))


def make_trainer(
    run: StageRun,
    student: Student,
    splits: Mapping[str, "Dataset"],
    arguments: Arguments,
    *,
    optimizer: Any = None,
    kind: Any = None,
) -> Any:
    """TRL's trainer, or one of a `kind` derived from it, over `train` and `validation`, packed without padding."""
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    return (kind or SFTTrainer)(
        model=student.model,
        args=run.arguments(
            SFTConfig, arguments, max_length=run.params.max_context_tokens, packing=True
        ),
        train_dataset=splits["train"],
        eval_dataset=splits["validation"] or None,
        processing_class=student.tokenizer,
        peft_config=run.lora(),
        callbacks=run.callbacks,
        optimizers=(optimizer, None),
    )
