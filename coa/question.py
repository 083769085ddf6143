"""Define the record of a question: what a policy is asked, and which answers are right."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its accepted answers."""

    question_id: str
    """A stable and unique id. It holds no `/`, which separates the parts of a trajectory's id."""
    question: str
    """The text that is asked."""
    gold_answers: tuple[str, ...]
    """Accepted answers: the canonical one first, then its aliases; never empty."""
    split: str
    """train, validation or test."""
    question_type: str = ""
    """The kind of reasoning that is needed, as the source names it: bridge, comparison, ..."""
    num_hops: int | None = None
    """The number of facts that have to be joined, where the source says so."""
    gold_titles: tuple[str, ...] = ()
    """Titles of the passages that hold the facts, where the source says so."""
    source: str = ""
    """The data set that the question comes from: microworld, hotpotqa, ..."""
    also_in: tuple[str, ...] = ()
    """Evaluation sets that hold this question too; such a question never enters a training set."""


def evaluation_set(question: Question) -> str:
    """Name the set that a validation or test question belongs to: `musique test`.

    It is the source and the split; the split alone where no source is known.
    """
    return f"{question.source} {question.split}".strip()
