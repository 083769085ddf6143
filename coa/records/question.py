"""Define the record of a question: what a policy is asked, and which answers are right."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Criterion:
    """One thing that an answer to an open-ended question should do."""

    text: str
    """What a judge looks for: `names a drawback of masking`."""
    weight: float = 1.0
    """Above 0. The score of an answer is the weight of the criteria that it meets, as a share."""


@dataclass(frozen=True, slots=True)
class Question:
    """One question, with its accepted answers or a rubric."""

    question_id: str
    """A stable and unique id. It holds no `/`, which separates the parts of a trajectory's id."""
    question: str
    """The text that is asked."""
    gold_answers: tuple[str, ...]
    """Accepted answers: the canonical one first, then its aliases. It is empty only for an
    open-ended question, which has a rubric."""
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
    rubric: tuple[Criterion, ...] = ()
    """By what a judge grades an answer where there is no accepted one (docs/evaluation.md)."""


def known_answers(question: Question) -> tuple[str, ...]:
    """Return what a script that knows the answers may say: those, or all that a rubric wants."""
    criteria = "; ".join(criterion.text for criterion in question.rubric)
    return question.gold_answers or (criteria,)


def evaluation_set(question: Question) -> str:
    """Name the set that a validation or test question belongs to: `musique test`.

    It is the source and the split; the split alone where no source is known.
    """
    return f"{question.source} {question.split}".strip()
