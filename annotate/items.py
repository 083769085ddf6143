"""Choose the items that reviewers get: the doubtful ones and a random share.

Trajectories are chosen evenly over the causes of failure, and over those that were kept. Pairs:
those first where it is least certain which side is better, by the interval of the worth of acting,
or by the counts where no worth was measured. Disputes are answers that were called wrong and share
words with an accepted one, the closest first; each answer to a question once. The second round has
the items on which the first one disagreed; it alone shows what was measured at a pair's point.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    candidates = _CANDIDATES[kind](annotate.push)
    if annotate.push.round == 2:
        reasons = _second_round(candidates, _conflicts(kind, annotate))
    else:
        reasons = choose(candidates, annotate.push)
    yield from _READERS[kind](reasons)


def _second_round(candidates: pl.DataFrame, disputed: set[str]) -> dict[str, str]:
    """Return the candidates on which the first round disagreed, as ids with their reason."""
    reasons = {}
    for row_id in candidates.get_column("row_id"):
        if row_id in disputed:
            reasons[row_id] = SECOND_ROUND
    return reasons


def _conflicts(kind: ReviewKind, annotate: AnnotateParams) -> set[str]:
    """Return the ids of a kind's items on which the reviewers disagree."""
    found = set()
    for decision in decide_all(read_reviews(), annotate.adjudication):
        if decision.kind is kind and decision.standing is Standing.CONFLICT:
            found.add(decision.item_id)
    return found


def choose(candidates: pl.DataFrame, params: PushParams) -> dict[str, str]:
    """Choose the best of each group in turn, and a random share of all.

    Args:
        candidates: Rows with `row_id`, `group` and `worth`; the least worth is the best.
        params: The number of items, the random share and the seed.

    Returns:
        The chosen ids, each with the reason why it was chosen.
    """

    def draw(row_id: str) -> str:
        return seeded_rank(row_id, params.seed, "review")

    drawn = pl.col("row_id").map_elements(draw, return_dtype=pl.String)
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


def _read(path: Path, columns: Sequence[str]) -> pl.LazyFrame:
    tables.require_columns(path, tables.open_parquet(path).schema_arrow.names, columns)
    return pl.scan_parquet(path)


def _trajectories(params: PushParams) -> pl.DataFrame:
    rows = _read(ANALYSED, ["trajectory_id", "cause"]).select(
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
    rows = _read(PAIRS, ["pair_id", "kind", "num_act"])
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
    rows = _read(GRADED, ["trajectory", "grade"]).filter(is_in_dispute)
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


_CANDIDATES = {
    ReviewKind.TRAJECTORY: _trajectories,
    ReviewKind.PAIR: _pairs,
    ReviewKind.DISPUTE: _disputes,
}


def _graded(ids: Iterable[str]) -> Iterator[GradedTrajectory]:
    wanted = set(ids)
    for row in tables.read_table(GRADED, GradedTrajectory):
        if row.trajectory.trajectory_id in wanted:
            yield row


def _verdicts_for(
    reasons: Mapping[str, str], kind: ReviewKind
) -> Mapping[tuple[str, str], Counter[str]]:
    """Return what the first round said; nothing for the first round itself."""
    is_second_round = SECOND_ROUND in reasons.values()
    return first_verdicts(read_reviews(), kind) if is_second_round else {}


def _trajectory_items(reasons: Mapping[str, str]) -> Iterator[Item]:
    causes = _causes(reasons)
    verdicts = _verdicts_for(reasons, ReviewKind.TRAJECTORY)
    for row in _graded(reasons):
        trajectory = row.trajectory
        row_id = trajectory.trajectory_id
        overlap = {} if row.grade.f1 is None else {"f1": row.grade.f1}
        metadata: Metadata = {
            **overlap,
            "reason": reasons[row_id],
            "mode": str(trajectory.mode),
            "searches": trajectory.num_actions,
            "cause": causes.get(row_id) or "none",
            "grade": str(row.grade.verdict),
        }
        version = trajectory_version(row)
        notes = show_verdicts(verdicts.get((row_id, version), Counter()), {})
        fields = layouts.trajectory_fields(row, notes)
        yield Item(row_id, version, fields, metadata)


def _causes(ids: Iterable[str]) -> dict[str, str | None]:
    """Return the primary cause of each trajectory."""
    rows = _read(ANALYSED, ["trajectory_id", "cause"])
    wanted = rows.filter(pl.col("trajectory_id").is_in(list(ids))).select("trajectory_id", "cause")
    return dict(wanted.collect().iter_rows())


def _pair_items(reasons: Mapping[str, str]) -> Iterator[Item]:
    wanted = set(reasons)
    gold = _gold_answers(wanted)
    verdicts = _verdicts_for(reasons, ReviewKind.PAIR)
    for pair in tables.read_table(PAIRS, PreferencePair):
        if pair.pair_id not in wanted:
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
        fields = layouts.pair_fields(pair, gold.get(pair.question_id, ()), notes)
        yield Item(pair.pair_id, version, fields, metadata)


def _gold_answers(pair_ids: set[str]) -> dict[str, tuple[str, ...]]:
    """Return the accepted answers by question id; a pair's id begins with its question's."""
    question_ids = [pair_id.split("/")[0] for pair_id in pair_ids]
    question_id = pl.col("trajectory").struct.field("question_id")
    rows = _read(GRADED, ["trajectory", "gold_answers"]).filter(question_id.is_in(question_ids))
    found = {}
    for name, gold in rows.select(question_id, "gold_answers").collect().iter_rows():
        found[name] = tuple(gold)
    return found


def _dispute_items(reasons: Mapping[str, str]) -> Iterator[Item]:
    verdicts = _verdicts_for(reasons, ReviewKind.DISPUTE)
    for row in _graded(reasons):
        row_id = row.trajectory.trajectory_id
        version = dispute_version(row)
        metadata: Metadata = {"reason": reasons[row_id], "f1": row.grade.f1 or 0.0}
        notes = show_verdicts(verdicts.get((row_id, version), Counter()), {})
        yield Item(row_id, version, layouts.dispute_fields(row, notes), metadata)


_READERS = {
    ReviewKind.TRAJECTORY: _trajectory_items,
    ReviewKind.PAIR: _pair_items,
    ReviewKind.DISPUTE: _dispute_items,
}
