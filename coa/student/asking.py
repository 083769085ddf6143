"""Name the ways in which a model is asked, in evaluation and in RL alike."""

from dataclasses import dataclass
from enum import StrEnum


class Asking(StrEnum):
    """A way to ask the questions."""

    COA = "coa"
    """The search and the other open tools are offered."""
    COT = "cot"
    """No action: a search ends the rollout."""
    REACT = "react"
    """They are offered in ReAct's lines (coa/policy/react.py)."""


@dataclass(frozen=True, slots=True)
class AskingPrompts:
    """The prompt file of each way of asking."""

    coa: str = "synth/prompts/coa.txt"
    """With the tool."""
    cot: str = "synth/prompts/cot.txt"
    """Without it."""
    react: str = "train/prompts/react.txt"
    """In the form of ReAct."""
