"""Train SFT stages 2 and 3, and rejection fine-tuning, by token likelihood, on TRL's SFTTrainer.

Stage 2 masks observations out, stage 3 trains their bodies with the closing tags (AutoCoA, section
3); both masks come from who wrote what. Rejection fine-tuning is stage 2 with right trajectories of
a trained student added to its sets. Sequences are packed without padding; no token sees another
sequence.
"""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from coa.records.graded import GradedTrajectory
from coa.settings.stages import Stage
from coa.student.checkpoint import Student
from coa.student.sets import read_split
from coa.student.settings import Arguments
from train.encode import Encoder, Example, to_dataset
from train.stage import StageRun, fit

if TYPE_CHECKING:
    from datasets import Dataset


def train(run: StageRun) -> None:
    """Run stage sft2, sft3 or rft."""
    settings = run.params.sft_of(run.stage)
    student = run.load(settings.init)
    encoder = Encoder(
        student.tokenizer, run.prompt(student.tokenizer), run.params.max_context_tokens
    )
    splits = {
        "train": _encode_split(run, encoder, "train"),
        "validation": _encode_split(run, encoder, "validation"),
    }
    run.report.note_rows(encoder.rows, len(splits["train"]))
    with run.watched(student):
        trainer = make_trainer(run, student, splits, settings.arguments)
        fit(run, trainer, student, (settings.init, *settings.trajectories))


def _encode_split(run: StageRun, encoder: Encoder, split: str) -> "Dataset":
    """Encode one split of all folders, in their order."""
    settings = run.params.sft_of(run.stage)
    trains_world = run.stage is Stage.SFT3

    def examples() -> Iterator[Example | None]:
        for folder in settings.trajectories:
            for row in read_split(folder, split, GradedTrajectory):
                yield encoder.trajectory(row, trains_world=trains_world)

    return to_dataset(examples(), Example)


def make_trainer(
    run: StageRun,
    student: Student,
    splits: Mapping[str, "Dataset"],
    arguments: Arguments,
    *,
    optimizer: Any = None,
) -> Any:
    """Make TRL's trainer over the splits `train` and `validation`, packed without padding.

    An `optimizer` takes the place of the trainer's.
    """
    from trl.trainer.sft_config import SFTConfig

    from train.likelihood_trainer import LikelihoodTrainer

    packed = run.arguments(
        SFTConfig, arguments, max_length=run.params.max_context_tokens, packing=True
    )
    return LikelihoodTrainer(
        model=student.model,
        args=packed,
        train_dataset=splits["train"],
        eval_dataset=splits["validation"] or None,
        processing_class=student.tokenizer,
        peft_config=run.lora(),
        callbacks=run.callbacks,
        optimizers=(optimizer, None),
    )
