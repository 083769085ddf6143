"""Read the reviews and the rows that they are about, and find what they change in the sets.

Where there are no reviews, no other file is read.
"""

from collections.abc import Iterator
from pathlib import Path

from coa import tables
from coa.adjudication import AdjudicationParams, decide_all
from coa.drops import Dropped, DropReason
from coa.evaluation_questions import read_evaluation
from coa.exclusions import Excluded, RowKind
from coa.files import DROPPED, EXCLUDED, KEPT, PAIRS, QUESTIONS, REVIEWS
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.params import Params
from coa.reviews import Applied, Effect, ReviewKind, read_reviews
from coa.sets import AssembleParams
from curate.filter import FilterParams, judge
from curate.overlap import EvaluationSets
from curate.screen import Screen, ScreenParams, read_marks, row_of
from curate.verdicts import Pools, Revision, now_right, revise, void_pairs


def read_revision(params: Params) -> Revision:
    """Find what the reviews change in the sets of this run.

    Raises:
        InputError: a file is missing or broken.
        ConfigError: a section that is needed has a bad value.
    """
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
    right = list(_passing(revision, params.section(FilterParams, "filter")))
    if not right:
        return
    screened = _screened(right, params.section(ScreenParams, "screen"))
    refused = {excluded.row_id for excluded in screened}
    for row in right:
        row_id = row.trajectory.trajectory_id
        if row_id in refused:
            continue
        revision.let_in[row_id] = row
        detail = "an added answer"
        revision.applied.append(Applied(row_id, ReviewKind.TRAJECTORY, Effect.LET_IN, detail, 0))


def _passing(revision: Revision, params: FilterParams) -> Iterator[GradedTrajectory]:
    """Find the rows that were dropped as wrong, are right now, and pass the filter."""
    for row in now_right(_dropped_as_wrong(), revision):
        if judge(row, params) is None:
            yield row


def _dropped_as_wrong() -> Iterator[GradedTrajectory]:
    for dropped in tables.read_table(DROPPED, Dropped):
        if dropped.reason is DropReason.WRONG:
            yield dropped.row


def _screened(rows: list[GradedTrajectory], params: ScreenParams) -> Iterator[Excluded]:
    """Find the rows that touch an evaluation set, or that repeat one another.

    The screen has seen kept rows only.
    """
    evaluation = read_evaluation(QUESTIONS, Path(params.evaluation), params.evaluation_columns)
    sets = EvaluationSets(evaluation, run_words=params.ngram_words)
    screen = Screen(params, read_marks(QUESTIONS), sets, EXCLUDED.parent)
    return screen.excluded(RowKind.TRAJECTORY, (row_of(row.trajectory) for row in rows))
