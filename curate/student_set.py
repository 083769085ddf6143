"""Make the set of right trajectories that a trained student wrote, for the stage `rft`.

    python -m curate.student_set

Reads data/student/filter/kept.parquet. Takes out the rows that touch an evaluation set and copies,
with the settings of `coa screen`, and divides the others by question as curate.assemble does: a
question whose rows are in the validation split of another set is never trained on here. Writes
data/student/assemble/coa/{train,validation}.parquet, sorted by id, and to
metrics/student_assemble.json what was taken, and why the rest was not (`kept=` and `out=` name
others).
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coa.records.exclusions import Excluded, ExclusionReason, RowKind
from coa.records.graded import GradedTrajectory
from coa.records.sets import AssembleParams
from coa.records.trajectory import Mode
from coa.settings.outputs import check_folder, check_inputs, metrics_name
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import STUDENT_ASSEMBLED, STUDENT_KEPT
from coa.store.metrics import write_metrics
from curate.assemble import split_candidates
from curate.screen import ScreenParams, open_screen, row_of
from curate.strata import Candidate


@dataclass(frozen=True, slots=True)
class StudentSetParams:
    """What the set of the student's trajectories is made of."""

    kept: str = STUDENT_KEPT.as_posix()
    """The trajectories that passed the filter."""
    out: str = (STUDENT_ASSEMBLED / "coa").as_posix()
    """The folder under data/ that gets the set; the folder above it names the metrics."""


def count_reasons(excluded: Iterable[Excluded]) -> dict[str, int]:
    """Count excluded rows by reason; a reason that took none is there with 0."""
    reasons = Counter(row.reason for row in excluded)
    return {str(reason): reasons[reason] for reason in ExclusionReason}


def divide(
    rows: Iterable[GradedTrajectory], params: AssembleParams
) -> dict[str, list[GradedTrajectory]]:
    """Divide rows into the splits; each question is in the split that it has in every set."""
    by_id = {row.trajectory.trajectory_id: row for row in rows}
    candidates: list[Candidate] = []
    for row_id in sorted(by_id):
        question_id = by_id[row_id].trajectory.question_id
        candidates.append(Candidate(row_id, question_id, group=(), stratum=()))
    found: dict[str, list[GradedTrajectory]] = {}
    for split, chosen in split_candidates(candidates, params).items():
        found[split] = [by_id[candidate.row_id] for candidate in chosen]
    return found


def main(arguments: Sequence[str]) -> str:
    """Make the set and return the summary line."""
    params = Params.load("student_set", arguments)
    settings = params.section(StudentSetParams)
    check_folder(settings.out, "curate.student_set")
    check_inputs(params, f"{settings.out}/train.parquet", "kept")
    out = Path(settings.out)
    name = metrics_name(out.parent.as_posix())
    kept = tables.read_table(Path(settings.kept), GradedTrajectory)
    rows = [row for row in kept if row.trajectory.mode is Mode.COA]
    screened = (row_of(row.trajectory) for row in rows)
    screen = params.section(ScreenParams, "screen")
    found = open_screen(screen, out.parent).excluded(RowKind.TRAJECTORY, screened)
    excluded = list(found)
    left_out = {row.row_id for row in excluded}
    others = [row for row in rows if row.trajectory.trajectory_id not in left_out]
    sizes: dict[str, int] = {}
    for split, chosen in divide(others, params.section(AssembleParams, "assemble")).items():
        sizes[split] = tables.write_table(out / f"{split}.parquet", GradedTrajectory, chosen)
    write_metrics(name, {"kept": len(rows), "excluded": count_reasons(excluded), **sizes})
    if not sizes["train"]:
        print(
            f"WARNING: there is nothing to train on: {len(rows):,} kept trajectories, "
            f"{len(excluded):,} of them left out. The metrics of the filter say why others were "
            f"dropped",
            file=sys.stderr,
        )
    shown = ", ".join(f"{size:,} {split}" for split, size in sizes.items())
    return f"{out}: {shown}; {len(excluded):,} of {len(rows):,} left out"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
