"""Print what a run of the pipeline made: the funnel from questions to sets, as a table.

    coa summary

Reads the stages' figures under metrics/.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from coa.errors import ConfigError, InputError
from coa.records.sets import AssembleParams
from coa.records.trajectory import FAILED_STOPS
from coa.settings.params import Params
from coa.settings.stages import PipelineParams, TrajectorySource
from coa.store.metrics import FOLDER

_NAME_WIDTH = 30


def stages_of(params: Params) -> list[str]:
    """List the stages of this run whose figures are shown; others may have run before."""
    stages = ["questions", "grade", "filter", "assemble"]
    if TrajectorySource.SAMPLE in params.section(PipelineParams, "pipeline").trajectories:
        stages += ["sample_cot", "sample_coa"]
    if params.section(AssembleParams, "assemble").makes_pairs:
        stages.append("branch")
    return stages


def read_metrics() -> dict[str, Any]:
    """Read the figures of all stages of this run, by stage.

    Raises:
        ConfigError: the settings are missing or wrong.
        InputError: a stage has not run.
    """
    found = {}
    for stage in stages_of(Params.load("summary")):
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

    Rows with two zeros are left out. How rollouts ended is known only of those that were sampled.
    """
    graded = metrics["grade"]
    rows = [
        ("trajectories", graded["cot_trajectories"], graded["coa_trajectories"]),
        ("  correct", f"{graded['cot_correct_rate']:.1%}", f"{graded['coa_correct_rate']:.1%}"),
    ]
    if "sample_cot" in metrics:
        cot = metrics["sample_cot"]
        coa = metrics["sample_coa"]
        # Older figures say nothing about how rollouts ended.
        ends_cot = cot.get("stop_reasons", {})
        ends_coa = coa.get("stop_reasons", {})
        for stop_reason in sorted(FAILED_STOPS):
            rows.append(
                (f"  {stop_reason}", ends_cot.get(stop_reason, 0), ends_coa.get(stop_reason, 0))
            )
        actions = "actions_per_trajectory"
        rows.append(("  actions each", f"{cot[actions]:.1f}", f"{coa[actions]:.1f}"))
    filtered_cot = metrics["filter"]["cot"]
    filtered_coa = metrics["filter"]["coa"]
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
    lines = [f"{'':{_NAME_WIDTH}}{'CoT':>10}{'CoA':>10}"]
    for name, left, right in funnel(metrics):
        lines.append(f"{name:{_NAME_WIDTH}}{left:>10}{right:>10}")
    lines.append("")
    if "branch" in metrics:
        branch = metrics["branch"]
        lines.append(f"{branch['points']:,} points forked, {branch['paired']:,} pairs:")
        lines.append(
            f"  {branch['act_is_better']:,} where acting is better, "
            f"{branch['think_is_better']:,} where thinking is"
        )
        lines.append("")
    return "\n".join([*lines, *_sets(metrics["assemble"])])


def _sets(sizes: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Write the sets that were built, what they lack, and which were asked for and have no row."""
    built: list[str] = []
    empty: list[str] = []
    for name, size in sizes.items():
        asked = size.get("asked", size["train"])  # Older figures do not say.
        if not size["train"]:
            empty.append(f"{name}: no row is left of {asked:,} that were asked for")
            continue
        fewer = f"  of {asked:,} asked for" if size["train"] < asked else ""
        built.append(f"{name:10}{size['train']:>10,}{size['validation']:>12,}{fewer}")
    if not built:
        return ["No set was built, nothing can be trained.", *empty]
    return [f"{'set':10}{'train':>10}{'validation':>12}", *built, *empty]


def main(arguments: Sequence[str]) -> str:
    """Return the table."""
    if arguments:
        raise ConfigError("this command takes no arguments", got=" ".join(arguments))
    return render(read_metrics())


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
