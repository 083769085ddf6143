"""The question: what a policy is asked, and what counts as a right answer."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Question:
    """One question with its accepted answers."""

    question_id: str
    """Stable and unique; free of `/`, which separates the parts of a trajectory's id."""
    question: str
    """The text that is asked."""
    gold_answers: tuple[str, ...]
    """Accepted answers, the canonical one first, aliases after it; never empty."""
    split: str
    """train, validation or test."""
    question_type: str = ""
    """What kind of reasoning it needs, as its source calls it: bridge, comparison, ..."""
    num_hops: int | None = None
    """How many facts have to be joined, where the source says so."""
    gold_titles: tuple[str, ...] = ()
    """Titles of the passages that hold the facts, where the source says so."""
    source: str = ""
    """Where it comes from: microworld, hotpotqa, ..."""
    also_in: tuple[str, ...] = ()
    """Evaluation sets that hold this question too; such a question never enters a training set."""
