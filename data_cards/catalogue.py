"""The sets that get a card: their names, where they lie here, and where they will lie once they are published."""

from enum import StrEnum
from pathlib import Path

ASSEMBLED = Path("data/assemble")
SPLITS = ("train", "validation")


class SetName(StrEnum):
    """A set, in the order in which training uses them."""

    COT_A = "cot_a"
    """Pairs that teach when to act."""
    COA = "coa"
    """Trajectories that teach how to act."""
    COT = "cot"
    """Trajectories that reason without acting."""
    RL = "rl"
    """Questions for reinforcement learning."""


HAS_TRAJECTORIES = (SetName.COA, SetName.COT)
"""The sets whose rows are graded trajectories; their names are also the names of their modes."""

TITLES = {
    SetName.COT_A: "pairs that teach when to search",
    SetName.COA: "trajectories that search",
    SetName.COT: "trajectories that reason without a tool",
    SetName.RL: "questions for reinforcement learning",
}

TASKS = {
    SetName.COT_A: ("text-generation", "question-answering"),
    SetName.COA: ("text-generation", "question-answering"),
    SetName.COT: ("text-generation", "question-answering"),
    SetName.RL: ("question-answering",),
}
"""The Hub's names for what a set is for."""

TAGS = {
    SetName.COT_A: ("preference", "dpo"),
    SetName.COA: ("sft", "tool-use"),
    SetName.COT: ("sft", "chain-of-thought"),
    SetName.RL: ("grpo",),
}


def local_path(name: SetName, split: str) -> Path:
    """Where a split of a set lies in this project."""
    return ASSEMBLED / name / f"{split}.parquet"


def published_path(name: SetName, split: str) -> str:
    """Where a split of a set lies in its repository on the Hub."""
    return f"data/{name}/{split}.parquet"
