"""Assemble the training sets from the filtered trajectories, the pairs and the questions.

    coa assemble

Reads data/filter/kept.parquet, data/branch/pairs.parquet and data/questions.parquet, leaves out
the rows of data/screen/excluded.parquet, and applies the reviews in data/reviews.parquet
(curate.verdicts). Writes data/assemble/{set}/{train,validation}.parquet for up to four sets: cot_a
(pairs, SFT stage 1), coa and cot (SFT stages 2 and 3) and rl (questions that no trajectory was
sampled for). Each file is sorted by id. Writes the outcome of each reviewed item to
data/assemble/reviewed.parquet.

The train splits have exactly the sizes asked for, the rows are stratified, and no question is in
two splits. (AutoCoA, section 3: 1.5K pairs, 5K CoA, 1K CoT, 4,608 for RL.) A set of size 0 is not
built; without pairs, data/branch is not read. With `assemble.allows_fewer` a set is as large as it
can be, and one without a train row is not built.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from coa.errors import InputError, writing_error
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.ranking import seeded_rank
from coa.records.sets import AssembleParams
from coa.records.trajectory import Mode
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import ASSEMBLED, DROPPED, EXCLUDED, GRADED, KEPT, PAIRS, QUESTIONS
from coa.store.metrics import write_metrics
from coa.store.output_folder import working_folder
from coa.store.reviews import Applied
from curate.pools import Pool, count_drops, let_in, pair_pool, question_pool, trajectory_pool
from curate.strata import Candidate, choose
from curate.verdicts import Revision, read_revision

OUT = ASSEMBLED
REVIEWED = OUT / "reviewed.parquet"
SPLITS = ("train", "validation")


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


def sources(params: AssembleParams, revision: Revision) -> Iterator[SetSource]:
    """Describe the sets that are asked for; of the others no file is read."""
    if params.makes_pairs:
        pairs = pair_pool(PAIRS, GRADED, EXCLUDED, revision)
        yield pair_source(PAIRS, params.num_cot_a, pairs, revision)
    for mode, size in ((Mode.COA, params.num_coa), (Mode.COT, params.num_cot)):
        if size:
            yield SetSource(
                name=str(mode),
                record=GradedTrajectory,
                path=KEPT,
                size=size,
                pool=trajectory_pool(KEPT, mode, EXCLUDED, revision),
                row_id=lambda row: str(row.trajectory.trajectory_id),
                remedy="raise sample.num_questions or sample.num_rollouts, or loosen the rules in "
                "`filter`",
                revise=revision.trajectory,
                more=let_in(mode, revision),
            )
    if params.num_rl:
        yield SetSource(
            name="rl",
            record=Question,
            path=QUESTIONS,
            size=params.num_rl,
            pool=question_pool(QUESTIONS, GRADED, EXCLUDED),
            row_id=lambda question: str(question.question_id),
            remedy="lower sample.num_questions, or bring more questions",
            revise=lambda question: question,  # Reviews are about trajectories and pairs.
        )


def pair_source(path: Path, size: int, pool: Pool, revision: Revision) -> SetSource:
    """Describe a set of pairs."""
    return SetSource(
        name="cot_a",
        record=PreferencePair,
        path=path,
        size=size,
        pool=pool,
        row_id=lambda pair: str(pair.pair_id),
        remedy="raise branch.max_parents, branch.points_per_trajectory or branch.num_continuations",
        revise=revision.pair,
    )


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
    `validation_share` of that number, as far as its rows reach. With `allows_fewer` the train split
    gets all of its rows where they are fewer, and the validation split its share of them.

    Returns:
        The ids of the rows by the name of the split.

    Raises:
        InputError: the pool is too small.
    """
    split = split_candidates(source.pool.candidates, params)
    num_train = len(split["train"])
    if num_train < source.size and not params.allows_fewer:
        name = f"assemble.num_{source.name}"
        raise InputError(
            f"there are too few rows for the set {source.name!r}",
            where=source.path,
            expected=f"{name} = {source.size:,}",
            got=f"{num_train:,} in the train split{_losses(source.pool)}",
            fix=f"{source.remedy}; or set assemble.allows_fewer: true; or lower {name}",
        )
    size = min(source.size, num_train)
    held_out = round(size * params.validation_share)
    return {
        "train": choose(split["train"], size, params.seed),
        "validation": choose(split["validation"], held_out, params.seed),
    }


def _losses(pool: Pool) -> str:
    """Say how many rows the screen and the reviewers took, where they took any."""
    text = ""
    if pool.screened:
        total = sum(pool.screened.values())
        text += f"; the screen took {total:,} of both splits ({_counted(pool.screened)}), "
        text += f"see {EXCLUDED}"
    if pool.num_reviewed_out:
        text += f"; reviewers took {pool.num_reviewed_out:,}, see {REVIEWED}"
    return text


def _counted(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())


def write_set(source: SetSource, chosen: dict[str, set[str]], folder: Path) -> dict[str, int]:
    """Copy the chosen rows of each split to its file, sorted by id, and return the sizes."""
    sizes: dict[str, int] = {}
    for name, ids in chosen.items():
        rows: list[Any] = []
        for row in chain(tables.read_table(source.path, source.record), source.more):
            if source.row_id(row) in ids:
                rows.append(source.revise(row))
        # A set is small by design (thousands of rows), so it is sorted in memory.
        rows.sort(key=source.row_id)
        path = folder / source.name / f"{name}.parquet"
        sizes[name] = tables.write_table(path, source.record, rows)
    return sizes


def replace_set(name: str, made: Path) -> None:
    """Put the files of a set from the folder `made` in the place of those of an earlier run.

    A set that was not made is removed.

    Raises:
        OutputError: the files cannot be moved.
    """
    folder = OUT / name
    try:
        for split in SPLITS:
            path = folder / f"{split}.parquet"
            new = made / name / path.name
            if new.exists():
                folder.mkdir(parents=True, exist_ok=True)
                new.replace(path)
            else:
                path.unlink(missing_ok=True)
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    except OSError as error:
        raise writing_error(folder, error) from error


def say_empty(source: SetSource) -> str:
    """Say that no row is left for a set, and what took them."""
    text = f"{source.name}: no row is left"
    if source.record is GradedTrajectory:
        dropped = count_drops(DROPPED, Mode(source.name))
        if dropped:
            total = sum(dropped.values())
            text += f"; the filter dropped {total:,} ({_counted(dropped)}), see {DROPPED}"
    return text + _losses(source.pool)


def say_sizes(sizes: Mapping[str, Mapping[str, int]]) -> str:
    """Say how large the sets are, and which are smaller than asked for."""
    totals: list[str] = []
    for name, size in sizes.items():
        if size["train"]:
            fewer = f" of {size['asked']:,}" if size["train"] < size["asked"] else ""
            totals.append(f"{size['train']:,}{fewer} {name}")
    return ", ".join(totals) or "no set was built, nothing can be trained"


def main(arguments: Sequence[str]) -> str:
    """Assemble the sets and return the summary line."""
    settings = Params.load("assemble", arguments)
    params = settings.section(AssembleParams)
    revision = read_revision(settings)
    # All sets are chosen before the first is written: a pool that is too small leaves no files.
    chosen = [(source, choose_rows(source, params)) for source in sources(params, revision)]
    sizes: dict[str, dict[str, int]] = {}
    empty: list[str] = []
    # A full disk or a kill while rows are written leaves the earlier sets as they were.
    with working_folder(OUT) as made:
        for source, rows in chosen:
            if rows["train"]:
                written = write_set(source, rows, made)
            else:
                written = dict.fromkeys(SPLITS, 0)
                empty.append(say_empty(source))
            sizes[source.name] = {"asked": source.size, **written}
        for name in params.sizes:
            replace_set(name, made)
    tables.write_table(REVIEWED, Applied, revision.applied)
    write_metrics("assemble", sizes)
    return "; ".join([f"{OUT}: {say_sizes(sizes)}", *empty])


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
