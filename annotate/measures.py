"""Compute how far people agree with each other or with the program; the statistics are NLTK's."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any, NamedTuple

from annotate.layouts import LAYOUTS, Form
from coa.store.reviews import Agreement, Between, Review, ReviewKind, ReviewQuestion

PROGRAM = "\0program"
"""The name of the program as a coder; no account can be called so."""
_NUMBER = re.compile(r"\d{1,4}")
_MEASURED = frozenset({Form.LABEL, Form.LABELS, Form.RATING})


class CoderAnswer(NamedTuple):
    """An answer to a question, as the statistics want it."""

    coder: str
    item: str
    label: Any


class _About(NamedTuple):
    """The columns of `Agreement` that say what is measured."""

    kind: ReviewKind
    question: ReviewQuestion
    between: Between
    value: str = ""


def agreement_of_reviewers(reviews: Sequence[Review]) -> Iterator[Agreement]:
    """Yield the agreement of the first round's reviewers on every question without free text."""
    for kind, layout in LAYOUTS.items():
        own = [review for review in reviews if review.kind is kind and review.round == 1]
        for question in layout.questions:
            if question.form not in _MEASURED:
                continue
            answers: list[CoderAnswer] = []
            coders: defaultdict[str, set[str]] = defaultdict(set)
            for review in own:
                label = _label(review, question.name, question.form)
                if label is not None:
                    item = f"{review.item_id}@{review.version}"
                    answers.append(CoderAnswer(review.reviewer, item, label))
                    coders[item].add(review.reviewer)
            shared = [answer for answer in answers if len(coders[answer.item]) > 1]
            if shared:
                about = _About(kind, question.name, Between.REVIEWERS)
                yield _measure(about, shared, question.form)


def _label(review: Review, question: ReviewQuestion, form: Form) -> Any:
    """Return what a review answers to a question; None for nothing."""
    values = review.values(question)
    if not review.answers:
        return None
    if form is Form.LABELS:
        # Nothing chosen is an answer too: no cause applies.
        return frozenset(values or ("none",))
    if not values:
        return None
    return int(values[0]) if form is Form.RATING else values[0]


def agreement_with_causes(
    reviews: Iterable[Review], automatic: Mapping[str, frozenset[str]]
) -> Iterator[Agreement]:
    """Yield for each cause how far the first round sees it in a trajectory where the program does.

    `automatic` has the program's causes by item id.
    """
    own = []
    causes: set[str] = set()
    for review in reviews:
        is_first = review.kind is ReviewKind.TRAJECTORY and review.round == 1
        if is_first and review.item_id in automatic:
            own.append(review)
            causes.update(review.values(ReviewQuestion.CAUSES))
            causes.update(automatic[review.item_id])
    items = {review.item_id for review in own}
    for cause in sorted(causes):
        people = []
        for review in own:
            is_seen = cause in review.values(ReviewQuestion.CAUSES)
            people.append(CoderAnswer(review.reviewer, review.item_id, is_seen))
        about = _About(ReviewKind.TRAJECTORY, ReviewQuestion.CAUSES, Between.CAUSES, cause)
        yield _against(about, people, {item: cause in automatic[item] for item in items})


def agreement_with_steps(
    reviews: Iterable[Review], blamed: Mapping[str, int]
) -> Iterator[Agreement]:
    """Yield how far the first round blames the step that the analysis blames, counted from 1."""
    people = []
    for review in reviews:
        number = _NUMBER.search(review.value(ReviewQuestion.FIRST_BAD_STEP))
        is_first = review.kind is ReviewKind.TRAJECTORY and review.round == 1
        if is_first and number and review.item_id in blamed:
            people.append(CoderAnswer(review.reviewer, review.item_id, int(number[0])))
    if people:
        about = _About(ReviewKind.TRAJECTORY, ReviewQuestion.FIRST_BAD_STEP, Between.CAUSES)
        yield _against(about, people, blamed)


def agreement_with_grader(
    reviews: Iterable[Review], is_correct: Mapping[str, bool]
) -> Iterator[Agreement]:
    """Yield how far the first round calls right what the grader calls right."""
    asked = {
        ReviewKind.TRAJECTORY: ReviewQuestion.ANSWER_RIGHT,
        ReviewKind.DISPUTE: ReviewQuestion.SAME_ANSWER,
    }
    known = [review for review in reviews if review.round == 1 and review.item_id in is_correct]
    for kind, question in asked.items():
        people = []
        for review in known:
            verdict = review.value(question)
            if review.kind is kind and verdict not in ("", "unsure"):
                people.append(CoderAnswer(review.reviewer, review.item_id, verdict == "yes"))
        if people:
            yield _against(_About(kind, question, Between.GRADER), people, is_correct)


def _against(about: _About, people: Sequence[CoderAnswer], program: Mapping[str, Any]) -> Agreement:
    """Compare every answer of a person with the program's, by item.

    Two people's answers to one item count as answers to two items.
    """
    answers = []
    for answer in people:
        item = f"{answer.item}/{answer.coder}"
        answers.append(CoderAnswer("people", item, answer.label))
        answers.append(CoderAnswer(PROGRAM, item, program[answer.item]))
    found = _measure(about, answers, Form.LABEL)
    num_items = len({answer.item for answer in people})
    return replace(found, num_items=num_items, num_answers=len(people))


def _measure(about: _About, answers: Sequence[CoderAnswer], form: Form) -> Agreement:
    """Compute the figures of agreement; alpha and kappa need answers that differ."""
    labels: dict[str, dict[str, Any]] = defaultdict(dict)
    for answer in answers:
        labels[answer.item][answer.coder] = answer.label
    num_pairs = 0
    num_equal = 0
    for given in labels.values():
        for left, right in combinations(given.values(), 2):
            num_pairs += 1
            num_equal += left == right
    is_varied = len({answer.label for answer in answers}) > 1
    return Agreement(
        *about,
        len(labels),
        len(answers),
        round(num_equal / num_pairs, 4),
        _alpha(answers, form) if is_varied else None,
        _kappa(labels) if is_varied and form is Form.LABEL else None,
    )


def _alpha(answers: Sequence[CoderAnswer], form: Form) -> float:
    """Compute Krippendorff's alpha.

    Labels are equal or not, ratings differ as numbers, and sets of causes by their overlap.
    """
    from nltk.metrics.agreement import AnnotationTask
    from nltk.metrics.distance import binary_distance, interval_distance, masi_distance

    distances = {
        Form.LABEL: binary_distance,
        Form.LABELS: masi_distance,
        Form.RATING: interval_distance,
    }
    task = AnnotationTask([tuple(answer) for answer in answers], distances[form])
    return round(float(task.alpha()), 4)


def _kappa(labels: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Compute Cohen's kappa.

    It is the mean over pairs of coders, weighted by the number of items that both answered.
    """
    from nltk.metrics.agreement import AnnotationTask

    coders: set[str] = set()
    for given in labels.values():
        coders.update(given)
    weighted_sum = 0.0
    num_items = 0.0
    for left, right in combinations(sorted(coders), 2):
        data = []
        for item, given in labels.items():
            if left in given and right in given:
                data.append((left, item, given[left]))
                data.append((right, item, given[right]))
        is_varied = len({label for _, _, label in data}) > 1
        if is_varied:
            num_common = len(data) // 2
            weighted_sum += num_common * float(AnnotationTask(data).kappa())
            num_items += num_common
    return round(weighted_sum / num_items, 4) if num_items else None
