"""Define what an experiment of the lab is made of: trainings, rows and how to read them."""

from dataclasses import dataclass
from enum import StrEnum

from coa.stages import Stage


class Shows(StrEnum):
    """What a reader of an experiment is to see first."""

    GROUPS = "groups"
    """Exact match by group of questions."""
    ACTIONS = "actions"
    """Exact match by the number of actions."""
    AGREEMENT = "agreement"
    """What the gate before rl1 predicted against what was gained."""
    FIDELITY = "fidelity"
    """How true simulated observations are, over the steps of SFT 3."""


@dataclass(frozen=True, slots=True)
class Training:
    """One training of a chain; a model in data/train/ bears its name."""

    name: str
    stage: Stage
    start: str = ""
    """The training that it starts from; empty for the first."""
    settings: tuple[str, ...] = ()
    """What differs from params.yaml. `{rl_steps}` and the like are places for settings of the
    section `lab`."""
    subset: tuple[str, ...] = ()
    """Settings of `lab.subset`, which makes the set that it trains on; empty where it trains
    on the sets of data/assemble."""
    needs: str = ""
    """Another training whose model its settings name, such as its simulator."""
    is_of_table: bool = False
    """Its rule stands in table.mk: the paper's table has it, too."""


@dataclass(frozen=True, slots=True)
class Row:
    """One system of an experiment."""

    name: str
    title: str
    training: str
    """The last training of its chain."""
    mode: str = "coa"
    settings: tuple[str, ...] = ()
    """Settings of its evaluation alone, such as another search than it was trained with."""
    paper: tuple[float, ...] = ()
    """Exact match of the paper's system on NQ, TriviaQA, HotpotQA, 2WikiMultihopQA, MuSiQue and
    Bamboogle; empty where the paper has no such system."""
    fidelity: tuple[str, ...] | None = None
    """Settings of `coa fidelity`, which compares the observations that its simulator writes with
    real ones; None where that is not measured. The searches are those of the experiment's row
    `sft3`."""

    @property
    def result(self) -> str:
        """Return the name of its result without the seed: experiments share what they share."""
        asked = "".join(setting.rpartition(".")[2] for setting in self.settings)
        kept = "".join(character if character.isalnum() else "_" for character in asked)
        return "_".join(part for part in ("lab", self.training, kept) if part)


@dataclass(frozen=True, slots=True)
class Experiment:
    """One question that the lab answers."""

    name: str
    title: str
    claim: str
    """The claim of the paper, or the condition under which it breaks, that is tested."""
    reading: str
    """How to read the rows."""
    rows: tuple[Row, ...] = ()
    uses: tuple[str, ...] = ()
    """Experiments whose rows it shows again, grouped otherwise."""
    compares: tuple[tuple[str, str], ...] = ()
    """Pairs of names of rows: by how much the first is better than the second."""
    curves: tuple[str, ...] = ()
    """Quantities of the trainings' logs that are drawn."""
    shows: Shows = Shows.GROUPS
    """What its table and its first picture are of."""
    split: str = "validation"
    """Whose questions its rows are asked: those of `test` for a headline alone, with settings that
    were chosen before."""
    num_questions: int = 600
    """Of each evaluation set, as in the section `evaluate`."""
