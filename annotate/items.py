"""Choose the items that reviewers get: the doubtful ones and a random share.

Trajectories are chosen evenly over the causes of failure, and over those that were kept. Pairs:
those first where it is least certain which side is better, by the interval of the worth of acting,
or by the counts where no worth was measured. Disputes are answers that were called wrong and share
words with an accepted one, the closest first; each answer to a question once. The second round has
the items on which the first one disagreed; it alone shows what was measured at a pair's point.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from annotate import layouts
from annotate.first_round import first_verdicts, notes_of_second_round, show_verdicts
from annotate.settings import AnnotateParams, PushParams
from coa.errors import InputError
from coa.records.graded import GradedTrajectory
from coa.records.grading import normalise
from coa.records.pairs import PreferencePair
from coa.records.ranking import seeded_rank
from coa.store import tables
from coa.store.adjudication import Standing, decide_all
from coa.store.files import ANALYSED, GRADED, PAIRS
from coa.store.reviews import (
    ReviewKind,
    dispute_version,
    pair_version,
    read_reviews,
    trajectory_version,
)

AUDIT = "audit"
SECOND_ROUND = "second_round"
_MIN_F1 = 0.3
"""Below it an answer shares too little with the accepted ones to be in dispute."""

Metadata = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Item:
    """One item as Argilla gets it."""

    item_id: str
    """Trajectory id or pair id."""
    version: str
    """The version of its texts, see `coa.store.reviews.Review`."""
    fields: Mapping[str, str]
    """HTML by field."""
    metadata: Metadata
    """For filters; nothing that gives an answer away is visible to reviewers."""

    @property
    def record_id(self) -> str:
        """Make the id of Argilla's record.

        Another version is another record, so the text behind a response never changes.
        """
        return f"{self.item_id}@{self.version}"


def chosen_items(kind: ReviewKind, annotate: AnnotateParams) -> Iterator[Item]:
    """Yield the chosen items of a kind, in the order of their file."""
    candidates = {
        ReviewKind.TRAJECTORY: _trajectories,
        ReviewKind.PAIR: _pairs,
        ReviewKind.DISPUTE: _disputes,
    }[kind](annotate.push)
    verdicts: Mapping[tuple[str, str], Counter[str]] = {}
    if annotate.push.round == 2:
        reviews = read_reviews()
        disputed = set()
        for decision in decide_all(reviews, annotate.adjudication):
            if decision.kind is kind and decision.standing is Standing.CONFLICT:
                disputed.add(decision.item_id)
        ids = candidates.get_column("row_id")
        reasons = {row_id: SECOND_ROUND for row_id in ids if row_id in disputed}
        verdicts = first_verdicts(reviews, kind)
    else:
        reasons = choose(candidates, annotate.push)
    if kind is ReviewKind.PAIR:
        yield from _pair_items(reasons, verdicts)
    else:
        yield from _graded_items(kind, reasons, verdicts)


def _graded_items(
    kind: ReviewKind, reasons: Mapping[str, str], verdicts: Mapping[tuple[str, str], Counter[str]]
) -> Iterator[Item]:
    """Yield the chosen trajectories, or the answers in dispute."""
    causes: dict[str, str | None] = {}
    if kind is ReviewKind.TRAJECTORY:
        rows = tables.scan(ANALYSED, ["trajectory_id", "cause"])
        wanted = rows.filter(pl.col("trajectory_id").is_in(list(reasons)))
        causes = dict(wanted.select("trajectory_id", "cause").collect().iter_rows())
    for row in tables.read_table(GRADED, GradedTrajectory):
        trajectory = row.trajectory
        row_id = trajectory.trajectory_id
        if row_id not in reasons:
            continue
        is_dispute = kind is ReviewKind.DISPUTE
        version = dispute_version(row) if is_dispute else trajectory_version(row)
        notes = show_verdicts(verdicts.get((row_id, version), Counter()), {})
        metadata: Metadata = {"reason": reasons[row_id], "f1": row.grade.f1 or 0.0}
        if is_dispute:
            yield Item(row_id, version, layouts.dispute_fields(row, notes), metadata)
            continue
        overlap = {} if row.grade.f1 is None else {"f1": row.grade.f1}
        metadata = {
            **overlap,
            "reason": reasons[row_id],
            "mode": str(trajectory.mode),
            "searches": trajectory.num_actions,
            "cause": causes.get(row_id) or "none",
            "grade": str(row.grade.verdict),
        }
        yield Item(row_id, version, layouts.trajectory_fields(row, notes), metadata)


def _pair_items(
    reasons: Mapping[str, str], verdicts: Mapping[tuple[str, str], Counter[str]]
) -> Iterator[Item]:
    """Yield the chosen pairs, with the accepted answers; an id begins with its question's."""
    question_ids = [pair_id.split("/")[0] for pair_id in reasons]
    question_id = pl.col("trajectory").struct.field("question_id")
    rows = tables.scan(GRADED, ["trajectory", "gold_answers"])
    asked = rows.filter(question_id.is_in(question_ids)).select(question_id, "gold_answers")
    gold = dict(asked.collect().iter_rows())
    for pair in tables.read_table(PAIRS, PreferencePair):
        if pair.pair_id not in reasons:
            continue
        metadata: Metadata = {
            "reason": reasons[pair.pair_id],
            "kind": str(pair.kind),
            "steps_before": len(pair.prefix),
        }
        version = pair_version(pair)
        notes: Sequence[str] = ()
        if reasons[pair.pair_id] == SECOND_ROUND:
            notes = notes_of_second_round(pair, verdicts.get((pair.pair_id, version), Counter()))
        fields = layouts.pair_fields(pair, tuple(gold.get(pair.question_id, ())), notes)
        yield Item(pair.pair_id, version, fields, metadata)


def choose(candidates: pl.DataFrame, params: PushParams) -> dict[str, str]:
    """Choose the best of each group in turn, and a random share of all.

    Args:
        candidates: Rows with `row_id`, `group` and `worth`; the least worth is the best.
        params: The number of items, the random share and the seed.

    Returns:
        The chosen ids, each with the reason why it was chosen.
    """
    drawn = pl.col("row_id").map_elements(
        lambda row_id: seeded_rank(row_id, params.seed, "review"), return_dtype=pl.String
    )
    ranked = candidates.with_columns(drawn=drawn)
    num_audit = round(params.audit_share * params.num_items)
    audit = ranked.sort("drawn").head(num_audit).get_column("row_id")
    others = ranked.filter(~pl.col("row_id").is_in(audit.to_list()))
    turn = pl.int_range(pl.len()).over("group", order_by=["worth", "drawn"])
    in_turn = others.with_columns(turn=turn).sort("turn", "group")
    best = in_turn.head(params.num_items - num_audit)
    reasons = dict(best.select("row_id", "group").iter_rows())
    for row_id in audit:
        reasons[row_id] = AUDIT
    return reasons


def _trajectories(params: PushParams) -> pl.DataFrame:
    rows = tables.scan(ANALYSED, ["trajectory_id", "cause"]).select(
        row_id="trajectory_id", group=pl.col("cause").fill_null("correct"), worth=pl.lit(0.0)
    )
    if params.causes:
        known = set(rows.select("group").unique().collect().get_column("group"))
        unknown = set(params.causes) - known
        if unknown:
            raise InputError(
                f"no trajectory failed by {', '.join(sorted(unknown))}",
                where="annotate.push.causes",
                expected=", ".join(sorted(known)),
                fix="name causes that occur, or none for all",
            )
        rows = rows.filter(pl.col("group").is_in(params.causes))
    return rows.collect()


def _pairs(_: PushParams) -> pl.DataFrame:
    act = pl.col("num_act_correct") / pl.col("num_act")
    think = pl.col("num_think_correct") / pl.col("num_think")
    margin = (act - think).abs()
    rows = tables.scan(PAIRS, ["pair_id", "kind", "num_act"])
    if "worth" in rows.collect_schema():  # not in older files
        worth = pl.col("worth").struct.field
        # How far the interval stays off zero; below 0 where it holds zero.
        from_zero = pl.max_horizontal(worth("low"), -worth("high"))
        margin = pl.coalesce(from_zero, margin)
    return rows.select(row_id="pair_id", group="kind", worth=margin).collect()


def _disputes(_: PushParams) -> pl.DataFrame:
    trajectory = pl.col("trajectory").struct.field
    grade = pl.col("grade").struct.field
    contains_accepted = grade("cover_exact_match")
    is_in_dispute = (
        ~grade("exact_match")
        & grade("prediction").is_not_null()
        & (contains_accepted | (grade("f1") >= _MIN_F1))
    )
    rows = tables.scan(GRADED, ["trajectory", "grade"]).filter(is_in_dispute)
    group = pl.when(contains_accepted).then(pl.lit("contains")).otherwise(pl.lit("overlaps"))
    found = rows.select(
        row_id=trajectory("trajectory_id"),
        question=trajectory("question_id"),
        prediction=grade("prediction"),
        group=group,
        worth=-grade("f1"),
    ).collect()
    same = pl.col("prediction").map_elements(normalise, return_dtype=pl.String).alias("same")
    in_order = found.sort("row_id")
    return in_order.unique([pl.col("question"), same], keep="first", maintain_order=True)
