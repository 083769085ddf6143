"""The reviews and the rows that they are about, read from their files, to the revision of the sets.

Where there are no reviews, no other file is read.
"""

from collections.abc import Iterator
from pathlib import Path

from coa import tables
from coa.adjudication import AdjudicationParams, decide_all
from coa.drops import Dropped, DropReason
from coa.exclusions import Excluded, RowKind
from coa.files import DROPPED, EXCLUDED, KEPT, PAIRS, QUESTIONS, REVIEWS
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.params import Params
from coa.reviews import Applied, Effect, ReviewKind, read_reviews
from curate.evaluation_files import read_evaluation
from curate.filter import FilterParams, judge
from curate.overlap import EvaluationSets
from curate.screen import Screen, ScreenParams, read_marks, row_of
from curate.verdicts import Pools, Revision, now_right, revise, void_pairs


def read_revision(params: Params) -> Revision:
    """What the reviews change in this run's sets.

    Raises:
        InputError: a file is missing or broken.
        ConfigError: a section that is needed has a bad value.
    """
    decisions = list(
        decide_all(
            read_reviews(REVIEWS), params.section(AdjudicationParams, "annotate.adjudication")
        )
    )
    if not decisions:
        return Revision()
    kept = tables.read_table(KEPT, GradedTrajectory)
    dropped = (it.row for it in tables.read_table(DROPPED, Dropped))
    revision = revise(
        decisions, Pools(decisions, kept, dropped, tables.read_table(PAIRS, PreferencePair))
    )
    if revision.answers:
        _follow_answers(revision, params)
    return revision


def _follow_answers(revision: Revision, params: Params) -> None:
    """Void the pairs and let in the trajectories that added answers make right."""
    for void in list(void_pairs(tables.read_table(PAIRS, PreferencePair), revision)):
        revision.left_out.add(void.item_id)
        revision.applied.append(void)
    right = list(_passing(revision, params.section(FilterParams, "filter")))
    refused = (
        {it.row_id for it in _screened(right, params.section(ScreenParams, "screen"))}
        if right
        else set()
    )
    for row in right:
        row_id = row.trajectory.trajectory_id
        if row_id not in refused:
            revision.let_in[row_id] = row
            revision.applied.append(
                Applied(row_id, ReviewKind.TRAJECTORY, Effect.LET_IN, "an added answer", 0)
            )


def _passing(revision: Revision, params: FilterParams) -> Iterator[GradedTrajectory]:
    wrong = (it.row for it in tables.read_table(DROPPED, Dropped) if it.reason is DropReason.WRONG)
    return (row for row in now_right(wrong, revision) if judge(row, params) is None)


def _screened(rows: list[GradedTrajectory], params: ScreenParams) -> Iterator[Excluded]:
    """The rows that touch an evaluation set, or that repeat one another: the screen has seen kept rows only."""
    evaluation = read_evaluation(QUESTIONS, Path(params.evaluation), params.evaluation_columns)
    sets = EvaluationSets(evaluation, run_words=params.ngram_words)
    screen = Screen(params, read_marks(QUESTIONS), sets, EXCLUDED.parent)
    return screen.excluded(RowKind.TRAJECTORY, (row_of(row.trajectory) for row in rows))
