"""Make the set of pairs that a trained student mined from its own rollouts.

    python -m curate.student_pairs

Reads data/student/branch/pairs.parquet and data/student/grade.parquet. Takes out the pairs that
touch an evaluation set and copies, with the settings of `coa screen`, and divides the others by
question as curate.assemble does: a question whose rows are in the validation split of another set
is never trained on here. Chooses up to `pipeline.student_pairs` of them, as many of each kind as
there are. Writes data/student/assemble/cot_a/{train,validation}.parquet, sorted by id,
data/student/branch/excluded.parquet, which pairs were taken out and why, and to
metrics/student_branch_pairs.json the numbers of all of them (`graded=`, `mined=` and `out=` name
others).
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from coa.records.exclusions import Excluded, RowKind
from coa.records.pairs import PairKind, PreferencePair
from coa.records.ranking import seeded_rank
from coa.records.sets import AssembleParams
from coa.settings.outputs import check_folder, check_inputs, metrics_name
from coa.settings.params import Params
from coa.settings.stages import PipelineParams
from coa.store import tables
from coa.store.files import STUDENT_ASSEMBLED, STUDENT_BRANCHED, STUDENT_GRADED
from coa.store.metrics import write_metrics
from curate.assemble import SPLITS, choose_rows, pair_source, write_set
from curate.pools import pair_pool
from curate.screen import ScreenParams, open_screen, pair_rows
from curate.student_set import count_reasons
from curate.verdicts import Revision, flipped


@dataclass(frozen=True, slots=True)
class StudentPairsParams:
    """What the set of the student's pairs is made of."""

    graded: str = STUDENT_GRADED.as_posix()
    """The student's rollouts with their grades."""
    mined: str = STUDENT_BRANCHED.as_posix()
    """The folder under data/ with its pairs, which gets those that are left out, too; it names the
    metrics."""
    out: str = (STUDENT_ASSEMBLED / "cot_a").as_posix()
    """The folder under data/ that gets the set."""
    shuffles_sides: bool = False
    """For a control: in a random half of the pairs the rejected side is called the chosen one."""


def shuffle_sides(pair: PreferencePair) -> PreferencePair:
    """Let the two sides change places, in one half of all pairs by their ids.

    What acting is worth there is left out, for it no longer agrees with the sides.
    """
    if int(seeded_rank(pair.pair_id, 0, "sides"), 16) % 2:
        return pair
    return replace(flipped(pair), worth=None)


def count_kinds(folder: Path) -> dict[str, dict[str, int]]:
    """Count the pairs of each kind in both splits of a set."""
    found: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        counts = {str(kind): 0 for kind in PairKind}
        for pair in tables.read_table(folder / f"{split}.parquet", PreferencePair):
            counts[pair.kind] += 1
        found[split] = counts
    return found


def main(arguments: Sequence[str]) -> str:
    """Make the set and return the summary line."""
    params = Params.load("student_pairs", arguments)
    settings = params.section(StudentPairsParams)
    check_folder(settings.out, "curate.student_pairs")
    check_inputs(params, f"{settings.out}/train.parquet", "graded", "mined")
    name = metrics_name(settings.mined, "pairs")
    out = Path(settings.out)
    pairs = Path(settings.mined) / "pairs.parquet"
    left_out = Path(settings.mined) / "excluded.parquet"
    num_asked = params.section(PipelineParams, "pipeline").student_pairs
    screen = params.section(ScreenParams, "screen")
    excluded = list(open_screen(screen, pairs.parent).excluded(RowKind.PAIR, pair_rows(pairs)))
    tables.write_table(left_out, Excluded, excluded)
    revision = Revision()  # No reviewer sees the student's pairs.
    pool = pair_pool(pairs, Path(settings.graded), left_out, revision)
    source = pair_source(pairs, num_asked, pool, revision)._replace(name=out.name)
    if settings.shuffles_sides:
        source = source._replace(revise=shuffle_sides)
    sizing = replace(params.section(AssembleParams, "assemble"), allows_fewer=True)
    sizes = write_set(source, choose_rows(source, sizing), out.parent)
    num_mined = tables.count_rows(pairs)
    num_not_chosen = num_mined - len(excluded) - sum(sizes.values())
    write_metrics(
        name,
        {
            "mined": num_mined,
            "excluded": count_reasons(excluded),
            "not_chosen": num_not_chosen,
            "asked": num_asked,
            **count_kinds(out),
        },
    )
    if not sizes["train"]:
        print(
            f"WARNING: there is no pair to train on: the student mined {num_mined:,}, "
            f"{len(excluded):,} of them left out. {settings.mined}/points.parquet says what became "
            f"of its points",
            file=sys.stderr,
        )
    shown = f"{sizes['train']:,} of {num_asked:,} train, {sizes['validation']:,} validation"
    rest = f"{len(excluded):,} of {num_mined:,} left out, {num_not_chosen:,} not chosen"
    return f"{out}: {shown}; {rest}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
