"""Assemble the training sets from the filtered trajectories, the pairs and the questions.

    python -m curate.assemble

Reads data/filter/kept.parquet, data/branch/pairs.parquet and data/questions.parquet, leaves out
the rows of data/screen/excluded.parquet, and applies the reviews in data/reviews.parquet
(curate.verdicts). Writes data/assemble/{set}/{train,validation}.parquet for four sets: cot_a
(pairs, SFT stage 1), coa and cot (SFT stages 2 and 3) and rl (questions that no trajectory was
sampled for). Each file is sorted by id. Writes what became of each reviewed item to
data/assemble/reviewed.parquet.

The train splits have exactly the sizes asked for, the rows are stratified, and no question is in
two splits. (AutoCoA, section 3: 1.5K pairs, 5K CoA, 1K CoT, 4,608 for RL.)
"""

import sys
from collections.abc import Callable, Iterable, Sequence
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
    """The rows from which a set is chosen."""

    candidates: list[Candidate]
    screened: dict[str, int]
    """Numbers of rows that curate.screen took out, by reason."""
    num_reviewed_out: int = 0
    """Number of rows that reviewers took out."""


class SetSource(NamedTuple):
    """A set: its name and size, where its rows come from, and how they are changed."""

    name: str
    record: type[Any]
    path: Path
    size: int
    pool: Pool
    row_id: Callable[[Any], str]
    remedy: str
    """What the user can do when the pool is too small."""
    revise: Callable[[Any], Any]
    """Changes a row as the reviewers decided."""
    more: Sequence[Any] = ()
    """Rows that reviewers let in, in addition to those at `path`."""


def screened(rows: pl.LazyFrame, excluded: Path, what: str) -> tuple[pl.DataFrame, dict[str, int]]:
    """Take out the rows that curate.screen excluded.

    Args:
        rows: A table whose first column is the id of the row.
        excluded: The file that curate.screen wrote.
        what: The kind of the rows, as that file names it.

    Returns:
        The other rows, in their order, and the number of rows taken out for each reason.
    """
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
    """Collect the trajectories of one mode, those that reviewers let in included.

    Their strata are the number of hops, the number of actions and the question type.
    """
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
    candidates: list[Candidate] = []
    for row_id, question_id, _, *stratum in left.iter_rows():
        candidates.append(
            Candidate(row_id=row_id, question_id=question_id, group=(), stratum=tuple(stratum))
        )
    for row in let_in(mode, revision):
        trajectory = row.trajectory
        candidates.append(
            Candidate(
                row_id=trajectory.trajectory_id,
                question_id=trajectory.question_id,
                group=(),
                stratum=(row.num_hops, trajectory.num_actions, row.question_type),
            )
        )
    return _without_left_out(candidates, reasons, revision)


def let_in(mode: Mode, revision: Revision) -> list[GradedTrajectory]:
    """List the trajectories of a mode that reviewers let in."""
    return [row for row in revision.let_in.values() if row.trajectory.mode is mode]


def _without_left_out(
    candidates: list[Candidate], reasons: dict[str, int], revision: Revision
) -> Pool:
    """Make a pool of the candidates that reviewers did not leave out."""
    left = [candidate for candidate in candidates if candidate.row_id not in revision.left_out]
    return Pool(left, reasons, num_reviewed_out=len(candidates) - len(left))


def pair_pool(path: Path, graded: Path, excluded: Path, revision: Revision) -> Pool:
    """Collect the pairs.

    The two kinds of pair are groups of equal size, as far as each reaches. The strata are the
    number of hops and the type of the question.
    """
    field = pl.col("trajectory").struct.field
    questions = pl.scan_parquet(graded).select(
        trajectory_id=field("trajectory_id"), hops="num_hops", type="question_type"
    )
    rows = pl.scan_parquet(path).select("pair_id", "question_id", "trajectory_id", "kind")
    joined = rows.join(questions, on="trajectory_id", how="left").select(
        "pair_id", "question_id", "kind", "hops", "type"
    )
    left, reasons = screened(joined, excluded, "pair")
    candidates: list[Candidate] = []
    for pair_id, question_id, kind, *stratum in left.iter_rows():
        if pair_id in revision.flipped:
            kind = other_kind(PairKind(kind))
        candidates.append(
            Candidate(
                row_id=pair_id, question_id=question_id, group=(kind,), stratum=tuple(stratum)
            )
        )
    return _without_left_out(candidates, reasons, revision)


def question_pool(path: Path, graded: Path, excluded: Path) -> Pool:
    """Collect the train questions that no trajectory was sampled for.

    The strata are the number of hops and the question type.
    """
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
    candidates: list[Candidate] = []
    for question_id, num_hops, question_type in left.sort("question_id").iter_rows():
        candidates.append(
            Candidate(
                row_id=question_id,
                question_id=question_id,
                group=(),
                stratum=(num_hops, question_type),
            )
        )
    return Pool(candidates, reasons)


def _trajectory_id(row: GradedTrajectory) -> str:
    return row.trajectory.trajectory_id


def _pair_id(pair: PreferencePair) -> str:
    return pair.pair_id


def _question_id(question: Question) -> str:
    return question.question_id


def _unchanged(question: Question) -> Question:
    """Return a question as it is: reviews are about trajectories and pairs."""
    return question


def sources(params: AssembleParams, revision: Revision) -> list[SetSource]:
    """Describe the four sets."""
    more_rows = "raise sample.num_questions or sample.num_rollouts, or loosen the rules in `filter`"
    more_pairs = (
        "raise branch.max_parents, branch.points_per_trajectory or branch.num_continuations"
    )
    coa_pool = trajectory_pool(KEPT, Mode.COA, EXCLUDED, revision)
    cot_pool = trajectory_pool(KEPT, Mode.COT, EXCLUDED, revision)
    return [
        SetSource(
            name="cot_a",
            record=PreferencePair,
            path=PAIRS,
            size=params.num_cot_a,
            pool=pair_pool(PAIRS, GRADED, EXCLUDED, revision),
            row_id=_pair_id,
            remedy=more_pairs,
            revise=revision.pair,
        ),
        SetSource(
            name="coa",
            record=GradedTrajectory,
            path=KEPT,
            size=params.num_coa,
            pool=coa_pool,
            row_id=_trajectory_id,
            remedy=more_rows,
            revise=revision.trajectory,
            more=let_in(Mode.COA, revision),
        ),
        SetSource(
            name="cot",
            record=GradedTrajectory,
            path=KEPT,
            size=params.num_cot,
            pool=cot_pool,
            row_id=_trajectory_id,
            remedy=more_rows,
            revise=revision.trajectory,
            more=let_in(Mode.COT, revision),
        ),
        SetSource(
            name="rl",
            record=Question,
            path=QUESTIONS,
            size=params.num_rl,
            pool=question_pool(QUESTIONS, GRADED, EXCLUDED),
            row_id=_question_id,
            remedy="lower sample.num_questions, or bring more questions",
            revise=_unchanged,
        ),
    ]


def split_candidates(
    pool: Iterable[Candidate], params: AssembleParams
) -> dict[str, list[Candidate]]:
    """Divide candidates by split.

    A question's split follows from its id and the seed alone, so it is the same in every set.
    """
    limit = int(params.validation_share * 16**8)
    train: list[Candidate] = []
    validation: list[Candidate] = []
    for candidate in pool:
        rank = seeded_rank(candidate.question_id, params.seed, "split")
        if int(rank[:8], 16) < limit:
            validation.append(candidate)
        else:
            train.append(candidate)
    return {"train": train, "validation": validation}


def choose_rows(source: SetSource, params: AssembleParams) -> dict[str, set[str]]:
    """Choose the rows of each split.

    The train split gets exactly as many rows as its set asks for, the validation split
    `validation_share` of that number, as far as its rows reach.

    Returns:
        The ids of the rows by the name of the split.

    Raises:
        InputError: the pool is too small.
    """
    split = split_candidates(source.pool.candidates, params)
    if len(split["train"]) < source.size:
        raise InputError(
            f"there are too few rows for the set {source.name!r}",
            where=source.path,
            expected=f"assemble.num_{source.name} = {source.size:,}",
            got=f"{len(split['train']):,} in the train split{_losses(source.pool)}",
            fix=f"{source.remedy}; or lower assemble.num_{source.name}",
        )
    held_out = round(source.size * params.validation_share)
    return {
        "train": choose(split["train"], source.size, params.seed),
        "validation": choose(split["validation"], held_out, params.seed),
    }


def _losses(pool: Pool) -> str:
    """Say how many rows the screen and the reviewers took, where they took any."""
    text = ""
    if pool.screened:
        total = sum(pool.screened.values())
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in pool.screened.items())
        text += f"; the screen took {total:,} of both splits ({reasons}), see {EXCLUDED}"
    if pool.num_reviewed_out:
        text += f"; reviewers took {pool.num_reviewed_out:,}, see {REVIEWED}"
    return text


def write_set(source: SetSource, chosen: dict[str, set[str]]) -> dict[str, int]:
    """Copy the chosen rows of each split to its file, sorted by id, and return the sizes."""
    sizes: dict[str, int] = {}
    for name, ids in chosen.items():
        rows: list[Any] = []
        for row in chain(tables.read_table(source.path, source.record), source.more):
            if source.row_id(row) in ids:
                rows.append(source.revise(row))
        # A set is small by design (thousands of rows), so it is sorted in memory.
        rows.sort(key=source.row_id)
        path = OUT / source.name / f"{name}.parquet"
        sizes[name] = tables.write_table(path, source.record, rows)
    return sizes


def main(arguments: Sequence[str]) -> str:
    """Assemble the four sets and return the summary line."""
    settings = Params.load("assemble", arguments)
    params = settings.section(AssembleParams)
    revision = read_revision(settings)
    # All sets are chosen before the first is written: a pool that is too small leaves no files.
    chosen = [(source, choose_rows(source, params)) for source in sources(params, revision)]
    sizes: dict[str, dict[str, int]] = {}
    for source, rows in chosen:
        sizes[source.name] = write_set(source, rows)
    tables.write_table(REVIEWED, Applied, revision.applied)
    write_metrics("assemble", sizes)
    totals = [f"{size['train']:,} {name}" for name, size in sizes.items()]
    return f"{OUT}: {', '.join(totals)}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
