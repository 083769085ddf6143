"""Make the set of pairs that a trained student mined from its own rollouts.

    python -m curate.student_pairs

Reads data/student/branch/pairs.parquet and data/student/grade.parquet. Takes out the pairs that
touch an evaluation set and copies, with the settings of curate.screen, and divides the others by
question as curate.assemble does: a question whose rows stand in the validation split of another set
is never trained on here. Chooses up to `pipeline.student_pairs` of them, as many of each kind as
there are. Writes data/student/assemble/cot_a/{train,validation}.parquet, sorted by id,
data/student/screen/excluded.parquet, which pairs were taken out and why, and to
metrics/student_pairs.json the numbers of all of them.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from coa import tables
from coa.exclusions import Excluded, RowKind
from coa.files import STUDENT_ASSEMBLED, STUDENT_BRANCHED, STUDENT_EXCLUDED, STUDENT_GRADED
from coa.metrics import write_metrics
from coa.pairs import PairKind, PreferencePair
from coa.params import Params
from coa.sets import AssembleParams
from coa.stages import PipelineParams
from curate.assemble import SPLITS, SetSource, choose_rows, pair_source, write_set
from curate.pools import pair_pool
from curate.screen import ScreenParams, pair_rows
from curate.student_set import count_reasons, find_excluded
from curate.verdicts import Revision

PAIRS = STUDENT_BRANCHED / "pairs.parquet"


def make_source(num_pairs: int) -> SetSource:
    """Describe the set; no reviewer sees the student's pairs, so none is revised."""
    revision = Revision()
    pool = pair_pool(PAIRS, STUDENT_GRADED, STUDENT_EXCLUDED, revision)
    return pair_source(PAIRS, num_pairs, pool, revision)


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
    settings = Params.load("assemble", arguments)
    num_asked = settings.section(PipelineParams, "pipeline").student_pairs
    screen = settings.section(ScreenParams, "screen")
    excluded = list(find_excluded(RowKind.PAIR, pair_rows(PAIRS), screen))
    tables.write_table(STUDENT_EXCLUDED, Excluded, excluded)
    source = make_source(num_asked)
    params = replace(settings.section(AssembleParams), allows_fewer=True)
    sizes = write_set(source, choose_rows(source, params), STUDENT_ASSEMBLED)
    num_mined = tables.count_rows(PAIRS)
    num_not_chosen = num_mined - len(excluded) - sum(sizes.values())
    write_metrics(
        "student_pairs",
        {
            "mined": num_mined,
            "excluded": count_reasons(excluded),
            "not_chosen": num_not_chosen,
            "asked": num_asked,
            **count_kinds(STUDENT_ASSEMBLED / source.name),
        },
    )
    if not sizes["train"]:
        print(
            f"WARNING: there is no pair to train on: the student mined {num_mined:,}, "
            f"{len(excluded):,} of them left out. metrics/student_branch.json says what became of "
            f"its points",
            file=sys.stderr,
        )
    shown = f"{sizes['train']:,} of {num_asked:,} train, {sizes['validation']:,} validation"
    rest = f"{len(excluded):,} of {num_mined:,} left out, {num_not_chosen:,} not chosen"
    return f"{STUDENT_ASSEMBLED / source.name}: {shown}; {rest}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
