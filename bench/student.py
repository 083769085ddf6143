"""Prepare a student and data for the benchmarks of training.

The student is untrained; the data are the sets that `dvc repro` left in data/.
"""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from coa.microworld.pretraining import PretrainingDocument
from coa.policy.prompts import Prompt
from coa.records.graded import GradedTrajectory
from coa.settings.params import Params
from coa.store import tables
from coa.student.checkpoint import Student
from coa.student.sets import read_split
from coa.student.settings import TrainParams
from coa.student.small import new_student
from train.encode import Encoder, Example

NUM_TEXTS = 20_000
"""Number of documents from which the tokenizer takes its words; enough for nearly all words."""


def untrained_student() -> tuple[Student, TrainParams]:
    """Make the default profile's student with random weights; return it with its settings.

    Speed does not depend on the weights.
    """
    params = Params.load("train", []).section(TrainParams)
    texts = ("".join(document.texts) for document in islice(documents(params), NUM_TEXTS))
    return new_student(texts, params.pretrain.student, params.seed), params


def documents(params: TrainParams) -> Iterator[PretrainingDocument]:
    """Read the pre-training text."""
    return tables.read_table(Path(params.pretrain.documents), PretrainingDocument)


def encoder(student: Student, params: TrainParams) -> Encoder:
    """Make the encoder with which the stages turn rows into ids."""
    return Encoder(
        student.tokenizer,
        Prompt.load(Path(params.prompt), params.chat_template),
        params.max_context_tokens,
    )


def trajectories(student: Student, params: TrainParams) -> Iterator[Example]:
    """Encode the trajectories that stage sft2 trains on, as it does."""
    encode = encoder(student, params)
    for folder in params.sft2.trajectories:
        for row in read_split(folder, "train", GradedTrajectory):
            example = encode.trajectory(row, trains_world=False)
            if example:
                yield example
