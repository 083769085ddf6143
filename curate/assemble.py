"""Filtered trajectories, pairs and questions to the sets: exact sizes, stratified, no question in two splits.

    python -m curate.assemble

Reads data/filter/kept.parquet, data/branch/pairs.parquet and data/questions.parquet, without the rows of
data/screen/excluded.parquet and with what the reviews in data/reviews.parquet change (curate.verdicts). Writes
data/assemble/{set}/{train,validation}.parquet for the sets cot_a (pairs, SFT stage 1), coa and cot (SFT stages 2 and
3) and rl (questions that no trajectory was sampled for), each sorted by id, and what became of each reviewed item to
data/assemble/reviewed.parquet. (AutoCoA, section 3: 1.5K pairs, 5K CoA, 1K CoT, 4,608 for RL.)
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from coa import tables
from coa.errors import InputError
from coa.files import ASSEMBLED, EXCLUDED, GRADED, KEPT, PAIRS, QUESTIONS
from coa.graded import GradedTrajectory
from coa.metrics import write_metrics
from coa.pairs import PairKind, PreferencePair
from coa.params import Params
from coa.question import Question
from coa.ranking import seeded_rank
from coa.reviews import Applied
from coa.trajectory import Mode
from curate.revising import read_revision
from curate.strata import Candidate, choose
from curate.verdicts import Revision, other_kind

OUT = ASSEMBLED
REVIEWED = OUT / "reviewed.parquet"


@dataclass(frozen=True, slots=True)
class AssembleParams:
    """How large the sets are."""

    num_cot_a: int = 1_500
    """Pairs of the train split."""
    num_coa: int = 5_000
    """CoA trajectories of the train split."""
    num_cot: int = 1_000
    """CoT trajectories of the train split."""
    num_rl: int = 4_608
    """Questions for reinforcement learning in the train split."""
    validation_share: float = 0.04
    """Share of the train questions whose rows go to the validation split instead, the same
    questions in every set. A set's validation split is this share of its size, as far as the rows
    reach."""
    seed: int = 0
    """Chooses the rows and the questions of the validation split."""


class Pool(NamedTuple):
    """What a set is chosen from."""

    candidates: list[Candidate]
    screened: dict[str, int]
    """How many rows curate.screen took out of it, by reason."""
    num_reviewed_out: int = 0
    """How many rows reviewers took out of it."""


class SetSource(NamedTuple):
    """A set, where its rows come from and which way they are counted."""

    name: str
    record: type[Any]
    path: Path
    size: int
    pool: Pool
    row_id: Callable[[Any], str]
    remedy: str
    """What to do when the pool is too small."""
    revise: Callable[[Any], Any]
    """A row to what its set gets."""
    more: Sequence[Any] = ()
    """Rows that reviewers let in, beside those at `path`."""


def screened(rows: pl.LazyFrame, excluded: Path, what: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """The rows, known by their first column, that curate.screen left in, and how many it took by reason."""
    columns = tables.open_parquet(excluded).schema_arrow.names
    tables.require_columns(excluded, columns, ["row_id", "what", "reason"])
    taken = pl.scan_parquet(excluded).filter(pl.col("what") == what).select("row_id", "reason")
    own = rows.collect_schema().names()[0]
    reasons = (
        taken.join(rows, left_on="row_id", right_on=own, how="semi")
        .group_by("reason")
        .len()
        .sort("reason")
    )
    left = rows.join(taken, left_on=own, right_on="row_id", how="anti", maintain_order="left")
    return left.collect(), dict(reasons.collect().iter_rows())


def trajectory_pool(path: Path, mode: Mode, excluded: Path, revision: Revision) -> Pool:
    """The trajectories of one mode with those let in, balanced over hops, actions and question type."""
    field = pl.col("trajectory").struct.field
    rows = pl.scan_parquet(path).select(
        field("trajectory_id"),
        field("question_id"),
        field("mode"),
        "num_hops",
        field("num_actions"),
        "question_type",
    )
    left, reasons = screened(rows.filter(pl.col("mode") == mode), excluded, "trajectory")
    candidates = [
        Candidate(row_id, question_id, (), tuple(stratum))
        for row_id, question_id, _, *stratum in left.iter_rows()
    ]
    candidates += [
        Candidate(
            it.trajectory_id, it.question_id, (), (row.num_hops, it.num_actions, row.question_type)
        )
        for row in let_in(mode, revision)
        for it in [row.trajectory]
    ]
    return _reviewed(Pool(candidates, reasons), revision)


def let_in(mode: Mode, revision: Revision) -> list[GradedTrajectory]:
    """The trajectories of a mode that reviewers let in."""
    return [row for row in revision.let_in.values() if row.trajectory.mode is mode]


def _reviewed(pool: Pool, revision: Revision) -> Pool:
    left = [candidate for candidate in pool.candidates if candidate.row_id not in revision.left_out]
    return Pool(left, pool.screened, len(pool.candidates) - len(left))


def pair_pool(path: Path, graded: Path, excluded: Path, revision: Revision) -> Pool:
    """The pairs: as many of each kind as there are, balanced over the hops and type of their question."""
    field = pl.col("trajectory").struct.field
    questions = pl.scan_parquet(graded).select(
        trajectory_id=field("trajectory_id"), hops="num_hops", type="question_type"
    )
    rows = pl.scan_parquet(path).select("pair_id", "question_id", "trajectory_id", "kind")
    joined = rows.join(questions, on="trajectory_id", how="left").select(
        "pair_id", "question_id", "kind", "hops", "type"
    )
    left, reasons = screened(joined, excluded, "pair")
    candidates = [
        Candidate(pair, question, (_kind(kind, pair in revision.flipped),), tuple(stratum))
        for pair, question, kind, *stratum in left.iter_rows()
    ]
    return _reviewed(Pool(candidates, reasons), revision)


def _kind(kind: str, is_flipped: bool) -> str:
    return other_kind(PairKind(kind)) if is_flipped else kind


def question_pool(path: Path, graded: Path, excluded: Path) -> Pool:
    """The train questions that no trajectory was sampled for, balanced over hops and type."""
    sampled = (
        pl.scan_parquet(graded)
        .select(question_id=pl.col("trajectory").struct.field("question_id"))
        .unique()
    )
    rows = (
        pl.scan_parquet(path)
        .filter(pl.col("split") == "train")
        .join(sampled, on="question_id", how="anti")
    )
    left, reasons = screened(
        rows.select("question_id", "num_hops", "question_type"), excluded, "question"
    )
    ordered = left.sort("question_id").iter_rows()
    return Pool(
        [Candidate(question, question, (), (hops, kind)) for question, hops, kind in ordered],
        reasons,
    )


def _trajectory_id(row: GradedTrajectory) -> str:
    return row.trajectory.trajectory_id


def sources(params: AssembleParams, revision: Revision) -> list[SetSource]:
    """The four sets."""
    more_rows = "raise sample.num_questions or sample.num_rollouts, or loosen the rules in `filter`"
    coa, cot = (trajectory_pool(KEPT, mode, EXCLUDED, revision) for mode in (Mode.COA, Mode.COT))
    pairs, questions = (
        pair_pool(PAIRS, GRADED, EXCLUDED, revision),
        question_pool(QUESTIONS, GRADED, EXCLUDED),
    )
    return [
        SetSource(
            "cot_a",
            PreferencePair,
            PAIRS,
            params.num_cot_a,
            pairs,
            lambda row: row.pair_id,
            "raise branch.max_parents, branch.points_per_trajectory or branch.num_continuations",
            revision.pair,
        ),
        SetSource(
            "coa",
            GradedTrajectory,
            KEPT,
            params.num_coa,
            coa,
            _trajectory_id,
            more_rows,
            revision.trajectory,
            let_in(Mode.COA, revision),
        ),
        SetSource(
            "cot",
            GradedTrajectory,
            KEPT,
            params.num_cot,
            cot,
            _trajectory_id,
            more_rows,
            revision.trajectory,
            let_in(Mode.COT, revision),
        ),
        SetSource(
            "rl",
            Question,
            QUESTIONS,
            params.num_rl,
            questions,
            lambda row: row.question_id,
            "lower sample.num_questions, or bring more questions",
            lambda row: row,
        ),
    ]


def split_candidates(
    pool: Iterable[Candidate], params: AssembleParams
) -> dict[str, list[Candidate]]:
    """Candidates by split; a question's split follows from its id alone, so it is the same in every set."""
    limit = int(params.validation_share * 16**8)
    split: dict[str, list[Candidate]] = {"train": [], "validation": []}
    for candidate in pool:
        is_held_out = int(seeded_rank(candidate.question_id, params.seed, "split")[:8], 16) < limit
        split["validation" if is_held_out else "train"].append(candidate)
    return split


def choose_rows(source: SetSource, params: AssembleParams) -> dict[str, set[str]]:
    """Ids of the rows of each split: exactly as many as asked for in train, in the same measure in validation.

    Raises:
        InputError: the pool is too small.
    """
    split = split_candidates(source.pool.candidates, params)
    if len(split["train"]) < source.size:
        raise InputError(
            f"there are too few rows for the set {source.name!r}",
            where=source.path,
            expected=f"assemble.num_{source.name} = {source.size:,}",
            got=f"{len(split['train']):,} in the train split{_taken(source.pool)}",
            fix=f"{source.remedy}; or lower assemble.num_{source.name}",
        )
    held_out = round(source.size * params.validation_share)
    sizes = {"train": source.size, "validation": held_out}
    return {name: choose(pool, sizes[name], params.seed) for name, pool in split.items()}


def _taken(pool: Pool) -> str:
    """How many rows the screen and the reviewers took, where they took any."""
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in pool.screened.items())
    screen = f"; the screen took {sum(pool.screened.values()):,} of both splits ({reasons}), see {EXCLUDED}"
    reviews = f"; reviewers took {pool.num_reviewed_out:,}, see {REVIEWED}"
    return (screen if pool.screened else "") + (reviews if pool.num_reviewed_out else "")


def write_set(source: SetSource, chosen: dict[str, set[str]]) -> dict[str, int]:
    """Copy the chosen rows of each split to its file, sorted by id; returns the sizes."""
    sizes = {}
    for name, ids in chosen.items():
        pool = chain(tables.read_table(source.path, source.record), source.more)
        rows = (source.revise(row) for row in pool if source.row_id(row) in ids)
        path = OUT / source.name / f"{name}.parquet"
        sizes[name] = tables.write_table(path, source.record, _sorted_rows(rows, source.row_id))
    return sizes


def _sorted_rows(rows: Iterator[Any], row_id: Callable[[Any], str]) -> list[Any]:
    """A set is small by design (thousands of rows): it is sorted in memory."""
    return sorted(rows, key=row_id)


def main(arguments: Sequence[str]) -> str:
    """Assemble the four sets; the summary line is returned."""
    settings = Params.load("assemble", arguments)
    params, revision = settings.section(AssembleParams), read_revision(settings)
    chosen = [(source, choose_rows(source, params)) for source in sources(params, revision)]
    sizes = {source.name: write_set(source, rows) for source, rows in chosen}
    tables.write_table(REVIEWED, Applied, revision.applied)
    write_metrics("assemble", sizes)
    return f"{OUT}: " + ", ".join(f"{size['train']:,} {name}" for name, size in sizes.items())


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
