"""Reviews to what they change in the sets: rows left out or let in, accepted answers added, pairs turned or left out.

`curate.assemble` applies it and writes what became of every reviewed item to data/assemble/reviewed.parquet. A verdict
on a text that has changed since it was reviewed changes nothing, and neither does a conflict.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from coa import protocol
from coa.adjudication import Decision, Standing
from coa.graded import GradedTrajectory
from coa.grading import Verdict, grade, normalise
from coa.pairs import PairKind, PreferencePair
from coa.reviews import (
    DECISIVE,
    Applied,
    Effect,
    Preference,
    ReviewKind,
    ReviewQuestion,
    Usage,
    dispute_version,
    pair_version,
    trajectory_version,
)

MAX_ANSWER_CHARS = 200
"""An accepted answer that a reviewer wrote is no longer; more is taken for a remark that stands in the wrong field."""


@dataclass(slots=True)
class Revision:
    """The changes to the sets; rows pass through it on their way."""

    left_out: set[str] = field(default_factory=set)
    """Ids of trajectories and pairs."""
    flipped: set[str] = field(default_factory=set)
    """Ids of pairs."""
    answers: dict[str, list[str]] = field(default_factory=dict)
    """Accepted answers to be added, by question id."""
    let_in: dict[str, GradedTrajectory] = field(default_factory=dict)
    """Trajectories that join the kept ones, by id; as few as there are reviews."""
    applied: list[Applied] = field(default_factory=list)

    def trajectory(self, row: GradedTrajectory) -> GradedTrajectory:
        """The row as its set gets it: with the added answers, and graded against them."""
        added = [
            it
            for it in self.answers.get(row.trajectory.question_id, ())
            if it not in row.gold_answers
        ]
        if not added:
            return row
        gold = (*row.gold_answers, *added)
        return replace(
            row, gold_answers=gold, grade=grade(protocol.answer_text(row.trajectory.steps), gold)
        )

    def pair(self, pair: PreferencePair) -> PreferencePair:
        """The pair as its set gets it: the sides in the order that the reviewers want."""
        if pair.pair_id not in self.flipped:
            return pair
        return replace(
            pair,
            kind=other_kind(pair.kind),
            chosen=pair.rejected,
            rejected=pair.chosen,
            chosen_id=pair.rejected_id,
            rejected_id=pair.chosen_id,
        )


def other_kind(kind: PairKind) -> PairKind:
    """The kind of a pair whose sides have changed places."""
    return PairKind.THINK_IS_BETTER if kind is PairKind.ACT_IS_BETTER else PairKind.ACT_IS_BETTER


class Pools:
    """The rows that decisions are about, found by id."""

    def __init__(
        self,
        decisions: Sequence[Decision],
        kept: Iterable[GradedTrajectory],
        dropped: Iterable[GradedTrajectory],
        pairs: Iterable[PreferencePair],
    ) -> None:
        """Only rows that some decision names are held in memory."""
        ids = {decision.item_id for decision in decisions}
        self.rows = {
            it.trajectory.trajectory_id: it for it in kept if it.trajectory.trajectory_id in ids
        }
        self.kept_ids = frozenset(self.rows)
        self.rows |= {
            it.trajectory.trajectory_id: it for it in dropped if it.trajectory.trajectory_id in ids
        }
        self.pairs = {it.pair_id: it for it in pairs if it.pair_id in ids}

    def version(self, decision: Decision) -> str:
        """The version that the decision's item has now; empty where it is gone."""
        if decision.kind is ReviewKind.PAIR:
            pair = self.pairs.get(decision.item_id)
            return pair_version(pair) if pair else ""
        row = self.rows.get(decision.item_id)
        version_of = dispute_version if decision.kind is ReviewKind.DISPUTE else trajectory_version
        return version_of(row) if row else ""


def revise(decisions: Iterable[Decision], pools: Pools) -> Revision:
    """Collect what the decisions change.

    What follows from added answers is found in curate/revising.py.
    """
    revision = Revision()
    for decision in decisions:
        effect, detail = _effect(decision, pools, revision)
        applied = Applied(decision.item_id, decision.kind, effect, detail, len(decision.reviews))
        revision.applied.append(applied)
    return revision


def _effect(decision: Decision, pools: Pools, revision: Revision) -> tuple[Effect, str]:
    said = _said(decision)
    if pools.version(decision) != decision.version:
        return Effect.STALE, said
    if decision.standing is not Standing.DECIDED:
        return Effect(decision.standing.value), said
    act = {
        ReviewKind.TRAJECTORY: _trajectory_effect,
        ReviewKind.PAIR: _pair_effect,
        ReviewKind.DISPUTE: _dispute_effect,
    }[decision.kind]
    return act(decision, pools, revision), said


def _said(decision: Decision) -> str:
    """What was said how often; without names, for this goes where the sets go."""
    said = Counter(review.value(DECISIVE[decision.kind]) for review in decision.reviews)
    return ", ".join(f"{count} {value}" for value, count in said.most_common())


def _trajectory_effect(decision: Decision, pools: Pools, revision: Revision) -> Effect:
    usage, is_kept = Usage(decision.value), decision.item_id in pools.kept_ids
    if usage is Usage.KEEP:
        return Effect.CONFIRMED if is_kept else Effect.STAYS_OUT
    if usage is Usage.DROP:
        revision.left_out.add(decision.item_id)
        return Effect.DROPPED if is_kept else Effect.CONFIRMED
    answer = " ".join(decision.most_said(ReviewQuestion.ACCEPTED_ANSWER).split())
    row = pools.rows[decision.item_id]
    if not answer or len(answer) > MAX_ANSWER_CHARS:
        revision.left_out.add(decision.item_id)
        return Effect.NOT_FIXED
    _add_answer(row, answer, revision)
    if revision.trajectory(row).grade.verdict is not Verdict.CORRECT:
        revision.left_out.add(decision.item_id)
    return Effect.ANSWER_ADDED


def _dispute_effect(decision: Decision, pools: Pools, revision: Revision) -> Effect:
    row = pools.rows[decision.item_id]
    if decision.value != "yes" or not row.grade.prediction:
        return Effect.CONFIRMED
    _add_answer(row, row.grade.prediction, revision)
    return Effect.ANSWER_ADDED


def _add_answer(row: GradedTrajectory, answer: str, revision: Revision) -> None:
    added = revision.answers.setdefault(row.trajectory.question_id, [])
    if normalise(answer) not in map(normalise, (*row.gold_answers, *added)):
        added.append(answer)


def _pair_effect(decision: Decision, pools: Pools, revision: Revision) -> Effect:
    preference = Preference(decision.value)
    if (
        preference in (Preference.TIE, Preference.BOTH_BAD)
        or decision.most_said(ReviewQuestion.POINT_RIGHT) == "no"
    ):
        revision.left_out.add(decision.item_id)
        return Effect.DISCARDED
    if preference is Preference.CHOSEN:
        return Effect.CONFIRMED
    revision.flipped.add(decision.item_id)
    return Effect.FLIPPED


def void_pairs(pairs: Iterable[PreferencePair], revision: Revision) -> Iterator[Applied]:
    """Pairs whose rejected side is right by an added answer: they contrast nothing any more."""
    for pair in pairs:
        answers = revision.answers.get(pair.question_id, ())
        if not answers or pair.pair_id in revision.left_out | revision.flipped:
            continue
        if grade(protocol.answer_text(pair.rejected), answers).verdict is Verdict.CORRECT:
            yield Applied(
                pair.pair_id,
                ReviewKind.PAIR,
                Effect.DISCARDED,
                "both sides are right by an added answer",
                0,
            )


def now_right(rows: Iterable[GradedTrajectory], revision: Revision) -> Iterator[GradedTrajectory]:
    """The trajectories among those dropped as wrong that are right by an added answer."""
    for row in rows:
        it = row.trajectory
        if it.question_id in revision.answers and it.trajectory_id not in revision.left_out:
            revised = revision.trajectory(row)
            if revised.grade.verdict is Verdict.CORRECT:
                yield revised


def count_effects(applied: Iterable[Applied]) -> Mapping[Effect, int]:
    """How often each effect occurred."""
    found = list(applied)
    return {effect: sum(it.effect is effect for it in found) for effect in Effect}
