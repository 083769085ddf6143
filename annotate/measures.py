"""Answers of several people, or of people and the program, to figures of agreement; the statistics are NLTK's."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from annotate.layouts import LAYOUTS, Form
from coa.reviews import Agreement, Between, Review, ReviewKind, ReviewQuestion

PROGRAM = "\0program"
"""The coder that stands for us; no account can be called so."""
_MEASURED = frozenset({Form.LABEL, Form.LABELS, Form.RATING})


class CoderAnswer(NamedTuple):
    """One answer to a question, as the statistics want it."""

    coder: str
    item: str
    label: Any


def agreement_of_reviewers(reviews: Sequence[Review]) -> Iterator[Agreement]:
    """The agreement of the first round's reviewers on every question but those with free text."""
    for kind, layout in LAYOUTS.items():
        own = [review for review in reviews if review.kind is kind and review.round == 1]
        for question in layout.questions:
            if question.form in _MEASURED:
                said = [
                    _said(review, question.name, question.form) for review in own if review.answers
                ]
                found = _shared([it for it in said if it is not None])
                if found:
                    yield _measure(kind, question.name, Between.REVIEWERS, "", found, question.form)


def _said(review: Review, question: ReviewQuestion, form: Form) -> CoderAnswer | None:
    values = review.values(question)
    if form is Form.LABELS:  # nothing chosen is an answer too: no cause applies
        return CoderAnswer(
            review.reviewer, f"{review.item_id}@{review.version}", frozenset(values or ("none",))
        )
    if not values:
        return None
    label = int(values[0]) if form is Form.RATING else values[0]
    return CoderAnswer(review.reviewer, f"{review.item_id}@{review.version}", label)


def _shared(said: Sequence[CoderAnswer]) -> list[CoderAnswer]:
    """The answers to items that two coders or more have answered."""
    coders = defaultdict(set)
    for it in said:
        coders[it.item].add(it.coder)
    return [it for it in said if len(coders[it.item]) > 1]


def agreement_with_causes(
    reviews: Iterable[Review], automatic: Mapping[str, frozenset[str]]
) -> Iterator[Agreement]:
    """Each cause by itself: whether reviewers see it where the program does; `automatic` by item id."""
    own = [
        it
        for it in reviews
        if it.kind is ReviewKind.TRAJECTORY and it.round == 1 and it.item_id in automatic
    ]
    causes = {
        cause for it in own for cause in (*it.values(ReviewQuestion.CAUSES), *automatic[it.item_id])
    }
    for cause in sorted(causes):
        people = [
            CoderAnswer(it.reviewer, it.item_id, cause in it.values(ReviewQuestion.CAUSES))
            for it in own
        ]
        program = [
            CoderAnswer(PROGRAM, item, cause in automatic[item])
            for item in {it.item_id for it in own}
        ]
        yield _against(
            ReviewKind.TRAJECTORY, ReviewQuestion.CAUSES, Between.CAUSES, cause, people, program
        )


def agreement_with_grader(
    reviews: Iterable[Review], is_correct: Mapping[str, bool]
) -> Iterator[Agreement]:
    """Whether reviewers call right what the grader calls right; `is_correct` by trajectory id."""
    asked = {
        ReviewKind.TRAJECTORY: ReviewQuestion.ANSWER_RIGHT,
        ReviewKind.DISPUTE: ReviewQuestion.SAME_ANSWER,
    }
    known = [it for it in reviews if it.round == 1 and it.item_id in is_correct]
    for kind, question in asked.items():
        own = [it for it in known if it.kind is kind and it.value(question) not in ("", "unsure")]
        people = [CoderAnswer(it.reviewer, it.item_id, it.value(question) == "yes") for it in own]
        program = [
            CoderAnswer(PROGRAM, item, is_correct[item]) for item in {it.item_id for it in own}
        ]
        if own:
            yield _against(kind, question, Between.GRADER, "", people, program)


def _against(
    kind: ReviewKind,
    question: ReviewQuestion,
    between: Between,
    value: str,
    people: list[CoderAnswer],
    program: list[CoderAnswer],
) -> Agreement:
    """Every answer of a person beside the program's: a person's second opinion is another item to it."""
    label = {it.item: it.label for it in program}
    said = []
    for it in people:
        item = f"{it.item}/{it.coder}"
        said += [CoderAnswer("people", item, it.label), CoderAnswer(PROGRAM, item, label[it.item])]
    found = _measure(kind, question, between, value, said, Form.LABEL)
    return Agreement(
        kind,
        question,
        between,
        value,
        len(program),
        len(people),
        found.equal_share,
        found.alpha,
        found.kappa,
    )


def _measure(
    kind: ReviewKind,
    question: ReviewQuestion,
    between: Between,
    value: str,
    said: Sequence[CoderAnswer],
    form: Form,
) -> Agreement:
    labels: dict[str, dict[str, Any]] = defaultdict(dict)
    for it in said:
        labels[it.item][it.coder] = it.label
    pairs = [pair for given in labels.values() for pair in combinations(given.values(), 2)]
    equal = sum(left == right for left, right in pairs) / len(pairs)
    is_varied = len({it.label for it in said}) > 1
    return Agreement(
        kind,
        question,
        between,
        value,
        len(labels),
        len(said),
        round(equal, 4),
        _alpha(said, form) if is_varied else None,
        _kappa(labels) if is_varied and form is Form.LABEL else None,
    )


def _alpha(said: Sequence[CoderAnswer], form: Form) -> float:
    """Krippendorff's alpha: labels are equal or not, ratings differ as numbers, sets of causes by their overlap."""
    from nltk.metrics.agreement import AnnotationTask
    from nltk.metrics.distance import binary_distance, interval_distance, masi_distance

    distance = {
        Form.LABEL: binary_distance,
        Form.LABELS: masi_distance,
        Form.RATING: interval_distance,
    }[form]
    return round(float(AnnotationTask([tuple(it) for it in said], distance).alpha()), 4)


def _kappa(labels: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Cohen's kappa, the mean over pairs of coders, weighted by the items that both answered."""
    from nltk.metrics.agreement import AnnotationTask

    weighted = items = 0.0
    coders = sorted({coder for given in labels.values() for coder in given})
    for pair in combinations(coders, 2):
        common = {item: given for item, given in labels.items() if set(pair) <= given.keys()}
        values = {given[coder] for given in common.values() for coder in pair}
        if len(values) > 1:
            data = [(coder, item, given[coder]) for item, given in common.items() for coder in pair]
            weighted += len(common) * float(AnnotationTask(data).kappa())
            items += len(common)
    return round(weighted / items, 4) if items else None
