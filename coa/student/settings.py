"""Describe the section `train` of params.yaml: what each stage starts from, reads and trains with.

`arguments` go as they are to TRL's and transformers' own settings (SFTConfig, GRPOConfig,
TrainingArguments): learning rate, batch size, steps, precision, FSDP, DeepSpeed, vLLM. Nothing of
theirs is renamed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from coa.errors import ConfigError
from coa.settings.stages import Stage
from coa.store.files import ASSEMBLED, MICROWORLD_CORPUS, PRETRAINING_TEXTS, STUDENT_ASSEMBLED
from coa.student.asking import Asking
from coa.student.small import StudentSettings

if TYPE_CHECKING:
    from coa.rollout.loop import Limits

Arguments = Mapping[str, Any]
_RFT_SETS = (
    (ASSEMBLED / "coa").as_posix(),
    (ASSEMBLED / "cot").as_posix(),
    (STUDENT_ASSEMBLED / "coa").as_posix(),
)


@dataclass(frozen=True, slots=True)
class PretrainParams:
    """The model that a chain starts from: another maker's, or one from scratch."""

    base: str = ""
    """A folder or a name on the Hub, brought to data/train/; empty: a new model is trained on the
    microworld's text."""
    revision: str = ""
    """Of the base on the Hub: a commit or branch; empty for the newest."""
    documents: str = PRETRAINING_TEXTS.as_posix()
    """The texts."""
    corpus: str = MICROWORLD_CORPUS.as_posix()
    """Its words are known to the tokenizer, its facts are not trained."""
    student: StudentSettings = field(default_factory=StudentSettings)
    muon_learning_rate: float = 0.02
    """For the matrices inside the layers (Muon); `learning_rate` is for embeddings and norms.
    0: AdamW for all."""
    arguments: Arguments = field(default_factory=dict)
    """The trainer's own settings."""


@dataclass(frozen=True, slots=True)
class Sft1Params:
    """The stage on pairs: when to act."""

    init: str = "data/train/pretrain"
    """The model to start from: a folder, or a name on the Hub."""
    pairs: str = "data/assemble/cot_a"
    """Folder with train.parquet and validation.parquet."""
    alpha: float = 0.2
    """Weight of the chosen side's own likelihood, without which both sides' probabilities may fall
    together."""
    trajectories: tuple[str, ...] = ()
    """Folders with train.parquet: the likelihood of whole right trajectories is trained beside the
    pairs; empty: pairs alone."""
    likelihood_share: float = 0.25
    """With trajectories: their share of the rows of every step."""
    likelihood_weight: float = 1.0
    """With trajectories: weight of their mean loss per token beside that of the pairs."""
    arguments: Arguments = field(default_factory=dict)
    """The trainer's own settings."""

    def __post_init__(self) -> None:
        if not 0 < self.likelihood_share < 1:
            raise ConfigError(
                f"train.sft1.likelihood_share must be between 0 and 1, not {self.likelihood_share}"
            )


@dataclass(frozen=True, slots=True)
class SftParams:
    """The two likelihood stages; what they mask is what makes them two."""

    init: str
    """The model to start from: a folder, or a name on the Hub."""
    trajectories: tuple[str, ...] = ("data/assemble/coa", "data/assemble/cot")
    """Folders with train.parquet and validation.parquet, mixed as they come."""
    arguments: Arguments = field(default_factory=dict)
    """The trainer's own settings."""


class Baseline(StrEnum):
    """What a rollout's reward is compared with."""

    GROUP = "group"
    """The mean of its group, as in the paper."""
    ACTIONS = "actions"
    """The mean of those of its group that acted as often: whether to act is not trained, only what
    follows. With a world model that cannot know the answers, rl1 otherwise teaches not to act."""


@dataclass(frozen=True, slots=True)
class RlParams:
    """The two GRPO stages; where observations come from is what makes them two."""

    init: str
    """The model to start from: a folder, or a name on the Hub."""
    questions: str = "data/assemble/rl"
    """Folder with train.parquet and validation.parquet."""
    cot_share: float = 0.1
    """Share of the questions that are asked without the tool."""
    asking: Asking = Asking.COA
    """coa, or in rl2 react: in ReAct's lines, for a model that has never seen the protocol's
    tags."""
    react_prompt: str = "train/prompts/react.txt"
    """The prompt file for react, in place of `train.prompt`."""
    max_observation_tokens: int = 64
    """rl1: what an observation may cost: where one that the policy does not close is cut, or one
    full of tags."""
    validates_with_search: bool = False
    """rl1: roll out the validation questions with the real search, to see whether what is learned
    holds there."""
    baseline: Baseline = Baseline.GROUP
    """What a rollout's reward is compared with: `group`, the mean of its group, as in the paper;
    `actions`, the mean of those of its group that acted as often, so that whether to act is not
    trained."""
    batch_size: int = 128
    """Rollouts that go through the model together; of vLLM's server, the requests that a process
    has in flight."""
    rewards: Mapping[str, float] = field(
        default_factory=lambda: {"exact_match": 1.0, "format_penalty": 0.1}
    )
    """Weight of each reward of train/rewards.py."""
    later_rewards: Mapping[str, float] = field(default_factory=dict)
    """The weights from `rewards_switch` on; empty: `rewards` to the end."""
    rewards_switch: float = 0.5
    """Where the later rewards begin: below 1 a share of the run, else a step."""
    arguments: Arguments = field(default_factory=dict)
    """The trainer's own settings."""


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """What is watched while a stage trains, and the limits of its alarms."""

    every: float = 0.0
    """Validation questions are rolled out before the first step and each time this share of the
    steps is done: 0.25 is five times in all. 0: never."""
    num_questions: int = 48
    """How many of the split validation, the same ones each time. The standard error of a share of
    48 is 0.07 at most, so an alarm at a change of 0.4 hardly ever goes off by chance."""
    stops: bool = False
    """End the training at an alarm, with the model as it is then; else only warn."""
    patience: int = 3
    """Entries of the log, one after the other, that make an alarm."""
    limits: Mapping[str, float] = field(default_factory=dict)
    """Another limit than its own for an alarm, by name."""


@dataclass(frozen=True, slots=True)
class TrainParams:
    """All stages, and what they share."""

    stage: Stage | None = None
    """Given on the command line: `stage=rl2`."""
    name: str = ""
    """The run's name, under which data/train/ keeps its model; empty: the stage's."""
    launch: str = "python -m"
    """How `dvc repro` starts a stage: `accelerate launch --config_file
    conf/accelerate/fsdp2.yaml -m` on many GPUs."""
    dry_run: bool = False
    """One step of the stage on a tiny random model of the same architecture."""
    prompt: str = "synth/prompts/coa.txt"
    """The prompt file of the student, in all stages; it names the tool and the form of an
    answer."""
    chat_template: str = "{prompt}\n\n"
    """The text around `{prompt}`; empty: the tokenizer's own chat template."""
    max_context_tokens: int = 448
    """Longer rows are left out, counted and reported; never cut. In RL the context budget."""
    max_turn_tokens: int = 0
    """Of the student's rollouts in RL, in the gate and while it is watched: a turn that reaches
    this many tokens ends its rollout; 0: as `rollout` says, which the teacher keeps to as well."""
    lora: Arguments = field(default_factory=dict)
    """peft's LoraConfig; empty: all weights are trained."""
    seed: int = 0
    """Seeds weights, order and draws."""
    monitors: MonitorSettings = field(default_factory=MonitorSettings)
    pretrain: PretrainParams = field(default_factory=PretrainParams)
    sft1: Sft1Params = field(default_factory=Sft1Params)
    sft2: SftParams = field(default_factory=lambda: SftParams("data/train/sft1"))
    sft3: SftParams = field(default_factory=lambda: SftParams("data/train/sft2"))
    rl1: RlParams = field(default_factory=lambda: RlParams("data/train/sft3"))
    rl2: RlParams = field(default_factory=lambda: RlParams("data/train/sft2"))
    rft: SftParams = field(default_factory=lambda: SftParams("data/train/sft1", _RFT_SETS))

    def limit_rollouts(self, teacher: "Limits") -> "Limits":
        """Return the budgets of the student's rollouts: the section `rollout` with its own."""
        return replace(
            teacher,
            max_context_tokens=self.max_context_tokens,
            max_turn_tokens=self.max_turn_tokens or teacher.max_turn_tokens,
        )

    def sft_of(self, stage: Stage) -> SftParams:
        """Return the settings of one of the likelihood stages."""
        return {Stage.SFT2: self.sft2, Stage.SFT3: self.sft3, Stage.RFT: self.rft}[stage]

    def rl_of(self, stage: Stage) -> RlParams:
        """Return the settings of one of the two GRPO stages."""
        return self.rl1 if stage is Stage.RL1 else self.rl2

    def sets_of(self, stage: Stage) -> tuple[str, ...]:
        """Return the folders that a stage trains on."""
        if stage is Stage.PRETRAIN:
            return (self.pretrain.documents,)
        if stage is Stage.SFT1:
            return (self.sft1.pairs, *self.sft1.trajectories)
        if stage in (Stage.RL1, Stage.RL2):
            return (self.rl_of(stage).questions,)
        return self.sft_of(stage).trajectories

    def arguments_of(self, stage: Stage) -> Arguments:
        """Return the trainer's own settings of a stage."""
        if stage is Stage.PRETRAIN:
            return self.pretrain.arguments
        if stage is Stage.SFT1:
            return self.sft1.arguments
        if stage in (Stage.RL1, Stage.RL2):
            return self.rl_of(stage).arguments
        return self.sft_of(stage).arguments

    def initial_models(self) -> dict[Stage, str]:
        """Return the model that each stage starts from; the stage `pretrain` starts from none."""
        return {
            Stage.SFT1: self.sft1.init,
            Stage.SFT2: self.sft2.init,
            Stage.SFT3: self.sft3.init,
            Stage.RL1: self.rl1.init,
            Stage.RL2: self.rl2.init,
            Stage.RFT: self.rft.init,
        }
