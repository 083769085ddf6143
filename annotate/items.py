"""Graded trajectories, causes and pairs to the items that reviewers get: the doubtful ones and a random share.

Trajectories: evenly over the causes of failure, and over those that were kept. Pairs: those first where acting is worth
least either way, where several continuations say so. Disputes: answers that were called wrong and share words with an
accepted one, the closest first; each answer to a question once. In the second round: where the first disagreed.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from annotate import layouts
from annotate.settings import AnnotateParams, PushParams
from coa import tables
from coa.adjudication import Standing, decide_all
from coa.errors import InputError
from coa.files import ANALYSED, GRADED, PAIRS
from coa.graded import GradedTrajectory
from coa.grading import normalise
from coa.pairs import PreferencePair
from coa.ranking import seeded_rank
from coa.reviews import ReviewKind, dispute_version, pair_version, read_reviews, trajectory_version

AUDIT, SECOND_ROUND = "audit", "second_round"
_MIN_F1 = 0.3
"""Below it an answer shares too little with the accepted ones to be in dispute."""

Metadata = Mapping[str, str | int | float]


@dataclass(frozen=True, slots=True)
class Item:
    """One item as Argilla gets it."""

    item_id: str
    """Trajectory id or pair id."""
    version: str
    """Of its texts, see `coa.reviews.Review`."""
    fields: Mapping[str, str]
    """HTML by field."""
    metadata: Metadata
    """For filters; nothing that gives an answer away is visible to reviewers."""
    causes: tuple[str, ...] = ()
    """The automatic causes, for a suggestion."""

    @property
    def record_id(self) -> str:
        """The id of Argilla's record: another version is another record, so no response changes its text."""
        return f"{self.item_id}@{self.version}"


def chosen_items(kind: ReviewKind, annotate: AnnotateParams) -> Iterator[Item]:
    """The items of a kind, in the order in which they are worth a reviewer's time.

    Raises:
        InputError: a file is missing or broken.
    """
    candidates = _CANDIDATES[kind](annotate.push)
    if annotate.push.round == 2:
        disputed = _conflicts(kind, annotate)
        reasons = {
            row_id: SECOND_ROUND for row_id in candidates.get_column("row_id") if row_id in disputed
        }
    else:
        reasons = choose(candidates, annotate.push)
    yield from _READERS[kind](reasons)


def _conflicts(kind: ReviewKind, annotate: AnnotateParams) -> set[str]:
    decisions = decide_all(read_reviews(), annotate.adjudication)
    return {it.item_id for it in decisions if it.kind is kind and it.standing is Standing.CONFLICT}


def choose(candidates: pl.DataFrame, params: PushParams) -> dict[str, str]:
    """Ids to the reason of each: the best of each group in turn, and the random share among all."""
    ranked = candidates.with_columns(
        lot=pl.col("row_id").map_elements(
            lambda row_id: seeded_rank(row_id, params.seed, "review"), return_dtype=pl.String
        )
    )
    num_audit = round(params.audit_share * params.num_items)
    audit = ranked.sort("lot").head(num_audit).get_column("row_id")
    others = ranked.filter(~pl.col("row_id").is_in(audit.to_list()))
    turn = pl.int_range(pl.len()).over("group", order_by=["worth", "lot"])
    best = others.with_columns(turn=turn).sort("turn", "group").head(params.num_items - num_audit)
    return dict(best.select("row_id", "group").iter_rows()) | dict.fromkeys(audit, AUDIT)


def _read(path: Path, columns: Sequence[str]) -> pl.LazyFrame:
    tables.require_columns(path, tables.open_parquet(path).schema_arrow.names, columns)
    return pl.scan_parquet(path)


def _trajectories(params: PushParams) -> pl.DataFrame:
    rows = _read(ANALYSED, ["trajectory_id", "cause"]).select(
        row_id="trajectory_id", group=pl.col("cause").fill_null("correct"), worth=pl.lit(0.0)
    )
    if params.causes:
        known = set(rows.select("group").unique().collect().get_column("group"))
        if unknown := set(params.causes) - known:
            raise InputError(
                f"no trajectory failed by {', '.join(sorted(unknown))}",
                where="annotate.push.causes",
                expected=", ".join(sorted(known)),
                fix="name causes that occur, or none for all",
            )
        rows = rows.filter(pl.col("group").is_in(params.causes))
    return rows.collect()


def _pairs(_: PushParams) -> pl.DataFrame:
    act, think = (pl.col(f"num_{arm}_correct") / pl.col(f"num_{arm}") for arm in ("act", "think"))
    return (
        _read(PAIRS, ["pair_id", "kind", "num_act"])
        .select(row_id="pair_id", group="kind", worth=(act - think).abs())
        .collect()
    )


def _disputes(_: PushParams) -> pl.DataFrame:
    trajectory, grade = pl.col("trajectory").struct.field, pl.col("grade").struct.field
    rows = _read(GRADED, ["trajectory", "grade"]).filter(
        ~grade("exact_match")
        & grade("prediction").is_not_null()
        & (grade("cover_exact_match") | (grade("f1") >= _MIN_F1))
    )
    found = rows.select(
        row_id=trajectory("trajectory_id"),
        question=trajectory("question_id"),
        prediction=grade("prediction"),
        group=pl.when(grade("cover_exact_match"))
        .then(pl.lit("contains"))
        .otherwise(pl.lit("overlaps")),
        worth=-grade("f1"),
    ).collect()
    same = pl.col("prediction").map_elements(normalise, return_dtype=pl.String)
    return found.sort("row_id").unique(
        [pl.col("question"), same.alias("same")], keep="first", maintain_order=True
    )


_CANDIDATES = {
    ReviewKind.TRAJECTORY: _trajectories,
    ReviewKind.PAIR: _pairs,
    ReviewKind.DISPUTE: _disputes,
}


def _graded(ids: Iterable[str]) -> Iterator[GradedTrajectory]:
    wanted = set(ids)
    return (
        row
        for row in tables.read_table(GRADED, GradedTrajectory)
        if row.trajectory.trajectory_id in wanted
    )


def _trajectory_items(reasons: Mapping[str, str]) -> Iterator[Item]:
    causes = _causes(reasons)
    for row in _graded(reasons):
        it = row.trajectory
        found = causes.get(it.trajectory_id, ())
        yield Item(
            it.trajectory_id,
            trajectory_version(row),
            layouts.trajectory_fields(row),
            {
                "reason": reasons[it.trajectory_id],
                "mode": str(it.mode),
                "searches": it.num_actions,
                "cause": found[0] if found else "none",
                "f1": row.grade.f1,
                "grade": str(row.grade.verdict),
            },
            found,
        )


def _causes(ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The primary cause first, then what else went wrong."""
    beside = pl.col("contributing").list.eval(pl.element().struct.field("cause"))
    rows = _read(ANALYSED, ["trajectory_id", "cause", "contributing"]).select(
        "trajectory_id", "cause", beside
    )
    found = rows.filter(pl.col("trajectory_id").is_in(list(ids))).collect()
    return {
        row_id: ((cause,) if cause else ()) + tuple(more)
        for row_id, cause, more in found.iter_rows()
    }


def _pair_items(reasons: Mapping[str, str]) -> Iterator[Item]:
    wanted = set(reasons)
    gold = _gold_answers(wanted)
    for pair in tables.read_table(PAIRS, PreferencePair):
        if pair.pair_id in wanted:
            metadata: Metadata = {
                "reason": reasons[pair.pair_id],
                "kind": str(pair.kind),
                "steps_before": len(pair.prefix),
            }
            fields = layouts.pair_fields(pair, gold.get(pair.question_id, ()))
            yield Item(pair.pair_id, pair_version(pair), fields, metadata)


def _gold_answers(pair_ids: set[str]) -> dict[str, tuple[str, ...]]:
    """The accepted answers of the pairs' questions, by question id; a pair's id begins with it."""
    questions = [pair_id.split("/")[0] for pair_id in pair_ids]
    question = pl.col("trajectory").struct.field("question_id")
    rows = _read(GRADED, ["trajectory", "gold_answers"]).filter(question.is_in(questions))
    return {
        name: tuple(gold)
        for name, gold in rows.select(question, "gold_answers").collect().iter_rows()
    }


def _dispute_items(reasons: Mapping[str, str]) -> Iterator[Item]:
    for row in _graded(reasons):
        row_id = row.trajectory.trajectory_id
        metadata: Metadata = {"reason": reasons[row_id], "f1": row.grade.f1}
        yield Item(row_id, dispute_version(row), layouts.dispute_fields(row), metadata)


_READERS = {
    ReviewKind.TRAJECTORY: _trajectory_items,
    ReviewKind.PAIR: _pair_items,
    ReviewKind.DISPUTE: _dispute_items,
}
