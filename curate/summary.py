"""Print what a run of the pipeline made: the funnel from questions to sets, as a table.

    python -m curate.summary

Reads the stages' figures under metrics/.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from coa.errors import ConfigError, InputError
from coa.metrics import FOLDER
from coa.trajectory import FAILED_STOPS

_STAGES = ("questions", "sample_cot", "sample_coa", "grade", "filter", "branch", "assemble")


def read_metrics() -> dict[str, Any]:
    """Read the figures of all stages, by stage.

    Raises:
        InputError: a stage has not run.
    """
    found = {}
    for stage in _STAGES:
        path = FOLDER / f"{stage}.json"
        try:
            found[stage] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(
                f"cannot read {path}", got=error, fix="run the pipeline first: dvc repro"
            ) from error
    return found


def funnel(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Make the rows of the table: the name, the figure of CoT and that of CoA.

    Rows with two zeros are left out.
    """
    cot = metrics["sample_cot"]
    coa = metrics["sample_coa"]
    # Older figures say nothing about how rollouts ended.
    ends_cot = cot.get("stop_reasons", {})
    ends_coa = coa.get("stop_reasons", {})
    filtered_cot = metrics["filter"]["cot"]
    filtered_coa = metrics["filter"]["coa"]
    rows = [
        ("trajectories", cot["trajectories"], coa["trajectories"]),
        ("  correct", f"{cot['correct_rate']:.1%}", f"{coa['correct_rate']:.1%}"),
    ]
    for stop_reason in sorted(FAILED_STOPS):
        rows.append(
            (f"  {stop_reason}", ends_cot.get(stop_reason, 0), ends_coa.get(stop_reason, 0))
        )
    rows.append(("  actions each", cot["actions_per_trajectory"], coa["actions_per_trajectory"]))
    for reason in filtered_cot:
        if reason != "kept":
            rows.append((f"  dropped: {reason}", filtered_cot[reason], filtered_coa[reason]))
    rows.append(("kept", filtered_cot["kept"], filtered_coa["kept"]))
    table: list[tuple[str, str, str]] = []
    for name, left, right in rows:
        if (left, right) != (0, 0):
            table.append((name, _format(left), _format(right)))
    return table


def _format(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def render(metrics: Mapping[str, Any]) -> str:
    """Write the whole table as text."""
    lines = [f"{'':24}{'CoT':>10}{'CoA':>10}"]
    for name, left, right in funnel(metrics):
        lines.append(f"{name:24}{left:>10}{right:>10}")
    branch = metrics["branch"]
    lines.append("")
    lines.append(f"{branch['points']:,} points forked, {branch['paired']:,} pairs:")
    lines.append(
        f"  {branch['act_is_better']:,} where acting is better, "
        f"{branch['think_is_better']:,} where thinking is"
    )
    lines.append("")
    lines.append(f"{'set':10}{'train':>10}{'validation':>12}")
    for name, size in metrics["assemble"].items():
        lines.append(f"{name:10}{size['train']:>10,}{size['validation']:>12,}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> str:
    """Return the table."""
    if arguments:
        raise ConfigError("this command takes no arguments", got=" ".join(arguments))
    return render(read_metrics())


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
