"""Turn the decisions of reviewers into changes to the sets.

Rows are left out or let in, accepted answers are added, pairs are turned or left out.
`coa assemble` applies the changes and writes the outcome of every reviewed item to
data/assemble/reviewed.parquet. A verdict on a text that has changed since it was reviewed changes
nothing, and neither does a conflict.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from coa.records import protocol
from coa.records.drops import Dropped, DropReason
from coa.records.exclusions import RowKind
from coa.records.graded import GradedTrajectory
from coa.records.grading import Verdict, grade, normalise
from coa.records.pairs import PairKind, PreferencePair
from coa.records.sets import AssembleParams
from coa.settings.params import Params
from coa.store import tables
from coa.store.adjudication import AdjudicationParams, Decision, Standing, decide_all
from coa.store.files import DROPPED, EXCLUDED, KEPT, PAIRS, REVIEWS
from coa.store.reviews import (
    DECISIVE,
    Applied,
    Effect,
    Preference,
    ReviewKind,
    ReviewQuestion,
    Usage,
    dispute_version,
    pair_version,
    read_reviews,
    trajectory_version,
)
from curate.filter import FilterParams, judge
from curate.screen import ScreenParams, open_screen, row_of

MAX_ANSWER_CHARS = 200
"""The greatest length of an accepted answer that a reviewer wrote; a longer text is taken for a
remark in the wrong field."""


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
        """Add the accepted answers of reviewers to a row, and grade it against them."""
        answers = self.answers.get(row.trajectory.question_id, [])
        added = [answer for answer in answers if answer not in row.gold_answers]
        if not added:
            return row
        gold_answers = (*row.gold_answers, *added)
        answer_text = protocol.answer_text(row.trajectory.steps)
        return replace(row, gold_answers=gold_answers, grade=grade(answer_text, gold_answers))

    def pair(self, pair: PreferencePair) -> PreferencePair:
        """Put the sides of a pair in the order that the reviewers want."""
        if pair.pair_id not in self.flipped:
            return pair
        return flipped(pair)


def flipped(pair: PreferencePair) -> PreferencePair:
    """Let the two sides of a pair change places."""
    return replace(
        pair,
        kind=other_kind(pair.kind),
        chosen=pair.rejected,
        rejected=pair.chosen,
        chosen_id=pair.rejected_id,
        rejected_id=pair.chosen_id,
    )


def other_kind(kind: PairKind) -> PairKind:
    """Tell the kind that a pair of `kind` has once its sides have changed places."""
    return PairKind.THINK_IS_BETTER if kind is PairKind.ACT_IS_BETTER else PairKind.ACT_IS_BETTER


class Pools:
    """The rows and pairs that decisions are about, by id."""

    def __init__(
        self,
        decisions: Sequence[Decision],
        kept: Iterable[GradedTrajectory],
        dropped: Iterable[GradedTrajectory],
        pairs: Iterable[PreferencePair],
    ) -> None:
        """Read the rows and hold those in memory that some decision names."""
        ids = {decision.item_id for decision in decisions}
        self.rows = _rows_by_id(kept, ids)
        self.kept_ids = frozenset(self.rows)
        self.rows.update(_rows_by_id(dropped, ids))
        self.pairs: dict[str, PreferencePair] = {}
        for pair in pairs:
            if pair.pair_id in ids:
                self.pairs[pair.pair_id] = pair

    def version(self, decision: Decision) -> str:
        """Compute the version that the decision's item has now; empty where it is gone."""
        if decision.kind is ReviewKind.PAIR:
            pair = self.pairs.get(decision.item_id)
            return pair_version(pair) if pair else ""
        row = self.rows.get(decision.item_id)
        if row is None:
            return ""
        if decision.kind is ReviewKind.DISPUTE:
            return dispute_version(row)
        return trajectory_version(row)


def _rows_by_id(rows: Iterable[GradedTrajectory], ids: set[str]) -> dict[str, GradedTrajectory]:
    """Keep the rows whose ids are wanted."""
    found: dict[str, GradedTrajectory] = {}
    for row in rows:
        trajectory_id = row.trajectory.trajectory_id
        if trajectory_id in ids:
            found[trajectory_id] = row
    return found


def revise(decisions: Iterable[Decision], pools: Pools) -> Revision:
    """Collect what the decisions change.

    What follows from added answers is found by `read_revision`.
    """
    revision = Revision()
    for decision in decisions:
        effect, detail = _effect(decision, pools, revision)
        applied = Applied(decision.item_id, decision.kind, effect, detail, len(decision.reviews))
        revision.applied.append(applied)
    return revision


def _effect(decision: Decision, pools: Pools, revision: Revision) -> tuple[Effect, str]:
    """Apply one decision to `revision`, and return its effect and what the reviewers said."""
    # Without names, because this goes where the sets go.
    said = Counter(review.value(DECISIVE[decision.kind]) for review in decision.reviews)
    votes = ", ".join(f"{count} {value}" for value, count in said.most_common())
    if pools.version(decision) != decision.version:
        return Effect.STALE, votes
    if decision.standing is not Standing.DECIDED:
        return Effect(decision.standing.value), votes
    if decision.kind is ReviewKind.TRAJECTORY:
        return _trajectory_effect(decision, pools, revision), votes
    if decision.kind is ReviewKind.PAIR:
        return _pair_effect(decision, revision), votes
    row = pools.rows[decision.item_id]
    if decision.value != "yes" or not row.grade.prediction:
        return Effect.CONFIRMED, votes
    _add_answer(row, row.grade.prediction, revision)
    return Effect.ANSWER_ADDED, votes


def _trajectory_effect(decision: Decision, pools: Pools, revision: Revision) -> Effect:
    usage = Usage(decision.value)
    is_kept = decision.item_id in pools.kept_ids
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


def _add_answer(row: GradedTrajectory, answer: str, revision: Revision) -> None:
    added = revision.answers.setdefault(row.trajectory.question_id, [])
    accepted = {normalise(other) for other in (*row.gold_answers, *added)}
    if normalise(answer) not in accepted:
        added.append(answer)


def _pair_effect(decision: Decision, revision: Revision) -> Effect:
    preference = Preference(decision.value)
    is_undecided = preference in (Preference.TIE, Preference.BOTH_BAD)
    if is_undecided or decision.most_said(ReviewQuestion.POINT_RIGHT) == "no":
        revision.left_out.add(decision.item_id)
        return Effect.DISCARDED
    if preference is Preference.CHOSEN:
        return Effect.CONFIRMED
    revision.flipped.add(decision.item_id)
    return Effect.FLIPPED


def void_pairs(pairs: Iterable[PreferencePair], revision: Revision) -> Iterator[Applied]:
    """Find the pairs whose rejected side is right by an added answer: they contrast nothing now."""
    for pair in pairs:
        answers = revision.answers.get(pair.question_id, ())
        is_reviewed = pair.pair_id in revision.left_out or pair.pair_id in revision.flipped
        if not answers or is_reviewed:
            continue
        if grade(protocol.answer_text(pair.rejected), answers).verdict is Verdict.CORRECT:
            detail = "both sides are right by an added answer"
            yield Applied(pair.pair_id, ReviewKind.PAIR, Effect.DISCARDED, detail, 0)


def now_right(rows: Iterable[GradedTrajectory], revision: Revision) -> Iterator[GradedTrajectory]:
    """Find the trajectories, among those dropped as wrong, that are right by an added answer."""
    for row in rows:
        trajectory = row.trajectory
        if trajectory.question_id not in revision.answers:
            continue
        if trajectory.trajectory_id in revision.left_out:
            continue
        revised = revision.trajectory(row)
        if revised.grade.verdict is Verdict.CORRECT:
            yield revised


def read_revision(params: Params) -> Revision:
    """Find what the reviews change in the sets of this run."""
    reviews = read_reviews(REVIEWS)
    settings = params.section(AdjudicationParams, "annotate.adjudication")
    decisions = list(decide_all(reviews, settings))
    if not decisions:
        return Revision()
    pools = Pools(
        decisions,
        kept=tables.read_table(KEPT, GradedTrajectory),
        dropped=(dropped.row for dropped in tables.read_table(DROPPED, Dropped)),
        pairs=_read_pairs(params),
    )
    revision = revise(decisions, pools)
    if revision.answers:
        _follow_answers(revision, params)
    return revision


def _read_pairs(params: Params) -> Iterator[PreferencePair]:
    """Read the pairs of this run; none where it makes none, whatever an earlier run left."""
    if params.section(AssembleParams, "assemble").makes_pairs:
        yield from tables.read_table(PAIRS, PreferencePair)


def _follow_answers(revision: Revision, params: Params) -> None:
    """Void the pairs and let in the trajectories that added answers make right."""
    for void in list(void_pairs(_read_pairs(params), revision)):
        revision.left_out.add(void.item_id)
        revision.applied.append(void)
    limits = params.section(FilterParams, "filter")
    dropped = tables.read_table(DROPPED, Dropped)
    wrong = (each.row for each in dropped if each.reason is DropReason.WRONG)
    right = [row for row in now_right(wrong, revision) if judge(row, limits) is None]
    if not right:
        return
    # The screen has seen kept rows only.
    screen = open_screen(params.section(ScreenParams, "screen"), EXCLUDED.parent)
    rows = (row_of(row.trajectory) for row in right)
    refused = {excluded.row_id for excluded in screen.excluded(RowKind.TRAJECTORY, rows)}
    for row in right:
        row_id = row.trajectory.trajectory_id
        if row_id in refused:
            continue
        revision.let_in[row_id] = row
        detail = "an added answer"
        revision.applied.append(Applied(row_id, ReviewKind.TRAJECTORY, Effect.LET_IN, detail, 0))
