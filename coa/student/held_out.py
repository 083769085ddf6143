"""Choose the held-out questions that an evaluation asks, and those that watch a training."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from coa.errors import ConfigError
from coa.records.question import Question
from coa.store.files import QUESTIONS

if TYPE_CHECKING:
    from coa.student.evaluate_settings import EvaluateParams


def shown_set(name: str) -> str:
    """Return the name of an evaluation set, for questions without a source too."""
    return name or "without a source"


def choose_held_out(questions: Iterable[Question], params: "EvaluateParams") -> list[Question]:
    """Choose the questions that are asked, so many of each evaluation set, sorted by id.

    The choice in a set follows from the seed and the ids alone. Of several sets one that has fewer
    questions than asked for is asked whole.

    Raises:
        ConfigError: the split is train's, has none of the sets, or there is a single set with fewer
            questions than asked for.
    """
    by_split: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_split[question.split].append(question)
    if params.split == "train" or not by_split[params.split]:
        raise _unusable_split(params, by_split)
    sets = _choose_sets(by_split[params.split], params)

    def draw(question: Question) -> bytes:
        return hashlib.sha256(f"{params.seed}/{question.question_id}".encode()).digest()

    chosen: list[Question] = []
    for part in sets.values():
        chosen += sorted(part, key=draw)[: params.num_questions or None]
    return sorted(chosen, key=lambda question: question.question_id)


def _unusable_split(
    params: "EvaluateParams", by_split: Mapping[str, Sequence[Question]]
) -> ConfigError:
    """Say which splits there are, and which of them can be asked."""
    sizes = {split: len(part) for split, part in by_split.items() if part}
    shown = [f"{size:,} {split}" for split, size in sorted(sizes.items())]
    usable = [f"split={name}" for name in ("validation", "test") if name in sizes]
    fix = f"set {' or '.join(usable)}"
    if not usable:
        fix = "bring questions of the split validation or test, for the measure alone"
    return ConfigError(
        f"the split {params.split!r} cannot be evaluated on",
        where=QUESTIONS,
        expected=f"{params.num_questions or 'any'} questions, none of them for training",
        got=f"questions: {', '.join(shown) or 'none'}",
        fix=fix,
    )


def _choose_sets(
    questions: Iterable[Question], params: "EvaluateParams"
) -> dict[str, list[Question]]:
    """Part the questions of the split by their source, and keep the sets that are asked."""
    there: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        there[question.source].append(question)
    shown = [f"{shown_set(name)} ({len(there[name]):,} questions)" for name in sorted(there)]
    for name in params.sets:
        if name not in there:
            raise ConfigError(
                f"the split {params.split!r} has no evaluation set {name!r}",
                where="evaluate.sets",
                expected=f"sources of its questions: {', '.join(shown)}",
                got=name,
            )
    sets = {name: there[name] for name in params.sets or sorted(there)}
    if len(sets) == 1:
        (part,) = sets.values()
        size = len(part)
        if size < params.num_questions:
            raise ConfigError(
                f"the split {params.split!r} cannot be evaluated on: it has too few questions",
                where=QUESTIONS,
                expected=f"{params.num_questions:,} questions of {shown_set(*sets)}",
                got=f"{size:,}",
                fix=f"set num_questions={size} or fewer; 0 asks all {size:,}",
            )
    return sets


def choose_watched(questions: Iterable[Question], number: int) -> list[Question]:
    """Choose the validation questions by which trainings are watched; their ids alone decide.

    Raises:
        ConfigError: there is no validation question.
    """

    def draw(question: Question) -> bytes:
        return hashlib.sha256(question.question_id.encode()).digest()

    held_out = [question for question in questions if question.split == "validation"]
    if not held_out:
        raise ConfigError(
            "there is no question to watch a training by",
            where=QUESTIONS,
            expected="questions of the split validation",
            fix="name a file of them in questions.files with `split: validation`, or set train "
            "questions aside (`num_validation: 50` in an entry), after which others are sampled; "
            "train.monitors.every=0 watches none",
        )
    return sorted(held_out, key=draw)[:number]
