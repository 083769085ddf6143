"""Define which stages a run can have, and the section `pipeline` that names them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

import msgspec


class TrajectorySource(StrEnum):
    """Where trajectories come from."""

    SAMPLE = "sample"
    """A teacher writes them: section `teacher`."""
    INGEST = "ingest"
    """They are read from files of others: section `ingest`."""


class Stage(StrEnum):
    """What is trained (AutoCoA, section 3)."""

    PRETRAIN = "pretrain"
    """The model to start from: a small one, trained from scratch on the microworld's text, or
    another maker's."""
    SFT1 = "sft1"
    """When to act: a loss on pairs that share a prefix and part at one point."""
    SFT2 = "sft2"
    """How to act: likelihood of trajectories, observations masked out."""
    SFT3 = "sft3"
    """The world model: the same with observations trained."""
    RL1 = "rl1"
    """GRPO in which the policy itself writes the observations."""
    RL2 = "rl2"
    """GRPO with the real search."""
    RFT = "rft"
    """Rejection fine-tuning: SFT 2 with right trajectories of a trained student added."""


TRAINING_MODULES = {
    Stage.PRETRAIN: "train.pretrain",
    Stage.SFT1: "train.sft1",
    Stage.SFT2: "train.sft",
    Stage.SFT3: "train.sft",
    Stage.RL1: "train.rl",
    Stage.RL2: "train.rl",
    Stage.RFT: "train.sft",
}
"""Each stage's module, imported when it is chosen: so rl2 does not depend on the code of sft1."""


@dataclass(frozen=True, slots=True)
class PipelineParams:
    """Which stages `dvc repro` has; after a change, `coa params` writes dvc.yaml."""

    trajectories: tuple[TrajectorySource, ...] = (TrajectorySource.SAMPLE,)
    """Where trajectories come from: `sample`, a teacher writes them; `ingest`, files of others are
    read; or both."""
    training: tuple[Stage, ...] = ()
    """The training stages; without any the line ends with sets and cards."""
    student: str | None = None
    """The trained model that samples train questions again: a training stage, or the name of a
    folder in data/train/ that another run wrote; null for none."""
    student_questions: int = 200
    """Train questions that the student is asked."""
    student_rollouts: int = 1
    """Rollouts of the student for each question."""
    student_pairs: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Most pairs of the train split of data/student/assemble/cot_a, which the student mines from
    its own rollouts. 0: it mines none."""
    student_continuations: Annotated[int, msgspec.Meta(ge=1)] = 8
    """Most continuations of each arm that the student writes at one of its points."""
