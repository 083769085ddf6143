"""Define the record of a row that must not enter a training set, as `coa screen` writes it."""

from dataclasses import dataclass
from enum import StrEnum


class RowKind(StrEnum):
    """The kind of a row."""

    TRAJECTORY = "trajectory"
    PAIR = "pair"
    QUESTION = "question"
    """A train question that no trajectory was sampled for."""


class ExclusionReason(StrEnum):
    """The reason why a row is left out: the first one that applies."""

    MARKED = "marked"
    """The question itself names an evaluation set that holds it (`also_in`)."""
    EVALUATION_QUESTION = "evaluation_question"
    """An evaluation set holds the question, in the same words."""
    EVALUATION_NGRAM = "evaluation_ngram"
    """The question, or the policy's text, shares a run of words around a name with an evaluation
    question."""
    EVALUATION_NEAR = "evaluation_near"
    """The question is an evaluation question with some words changed, moved, put in or left out."""
    NEAR_DUPLICATE = "near_duplicate"
    """The text nearly repeats another row of the same kind, which stays."""


@dataclass(frozen=True, slots=True)
class Excluded:
    """A row that must not enter a training set."""

    row_id: str
    """Trajectory id, pair id or question id."""
    question_id: str
    what: RowKind
    reason: ExclusionReason
    detail: str
    """What matched: the evaluation sets, or the id and set of the evaluation question, or the id of
    the row that stays."""


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """An evaluation set, with the numbers of rows that match it; all of them are left out."""

    name: str
    """A split of the questions, the stem of a file, or what `also_in` says."""
    num_questions: int
    """Questions that were compared; 0 for a set that only `also_in` names."""
    num_trajectories: int
    """Kept trajectories."""
    num_pairs: int
    """Preference pairs."""
    num_train_questions: int
    """Train questions that no trajectory was sampled for."""
