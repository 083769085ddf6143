"""Hold exact match against the real searches that a training took: the frontier of mixtures.

    python -m train.frontier

Reads results/evaluate/*.json of models with searches.json beside them, which every RL run writes,
and writes results/frontier.md and results/frontier.png.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from coa.errors import InputError
from train.intervals import Interval
from train.outcomes import Result
from train.result_files import FOLDER, read_result
from train.results import write_text
from train.spending import FILE
from train.table_cells import escape, join_cells, show_percent
from train.table_picture import Dot, draw_dots

OUT = Path("results/frontier.md")
PICTURE = Path("results/frontier.png")


class Trained(NamedTuple):
    """An RL run: what its searches came to, and how good its model is."""

    result: Result
    searches: Mapping[str, Any]

    @property
    def exact_match(self) -> Interval:
        """Return its exact match."""
        found = self.result.metrics["exact_match"]
        assert found is not None
        return found

    @property
    def num_real(self) -> int:
        """Return the real searches of its training, without those of validations."""
        return int(self.searches["real"]) - int(self.searches["validation"])


def find_trained(results: Sequence[Result]) -> list[Trained]:
    """Find the results of RL runs that were counted, by their real searches."""
    found = []
    for result in results:
        path = Path(result.setting.model or "-") / FILE
        if path.is_file():
            found.append(Trained(result, json.loads(path.read_bytes())))
    return sorted(found, key=lambda run: (run.num_real, run.result.setting.name))


def to_markdown(runs: Sequence[Trained]) -> str:
    """Write a row for each run."""
    head = ["run", "exact match", "searches known", "searches unknown", "real searches"]
    head += ["simulated", "seconds real", "seconds simulated", "dollars", "dollars saved"]
    lines = [join_cells(head), join_cells(["---"] * len(head))]
    for run in runs:
        spent = run.searches
        cells = [escape(run.result.setting.name), show_percent(run.exact_match)]
        for rate in (run.result.search_rate_known, run.result.search_rate_unknown):
            cells.append("" if rate is None else f"{rate:.2f}")
        cells += [f"{run.num_real:,}", f"{spent['simulated']:,}"]
        for name in ("real_seconds", "simulated_seconds", "dollars", "saved_dollars"):
            cells.append(f"{spent[name]:,.2f}")
        lines.append(join_cells(cells))
    return "\n".join(["# Exact match and what it took in searches", "", *lines, ""])


def main(arguments: Sequence[str]) -> str:
    """Write table and picture, and return the summary line."""
    if arguments:
        raise InputError("the command takes no settings", got=" ".join(arguments))
    runs = find_trained([read_result(path) for path in sorted(FOLDER.glob("*.json"))])
    if not runs:
        raise InputError(
            "no model of an RL run was evaluated", where=FOLDER, fix="make worlds SEED=0"
        )
    write_text(OUT, to_markdown(runs))
    dots = [Dot(run.result.setting.name, run.num_real, run.exact_match) for run in runs]
    draw_dots(dots, PICTURE, "real searches of the training", "exact match, %")
    return f"{OUT}: {len(runs)} runs of RL, {runs[0].num_real:,} to {runs[-1].num_real:,} searches"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
