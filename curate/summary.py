"""What a run of the pipeline made, as a table: the funnel from questions to sets.

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
    """The figures of all stages, by stage.

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
    """The rows of the table: what, in CoT, in CoA."""
    cot, coa = metrics["sample_cot"], metrics["sample_coa"]
    # Older figures say nothing of how rollouts ended.
    ends_cot, ends_coa = cot.get("stop_reasons", {}), coa.get("stop_reasons", {})
    kept_cot, kept_coa = metrics["filter"]["cot"], metrics["filter"]["coa"]
    rows = [
        ("trajectories", cot["trajectories"], coa["trajectories"]),
        ("  correct", f"{cot['correct_rate']:.1%}", f"{coa['correct_rate']:.1%}"),
        *(
            (f"  {reason}", ends_cot.get(reason, 0), ends_coa.get(reason, 0))
            for reason in sorted(FAILED_STOPS)
        ),
        ("  actions each", cot["actions_per_trajectory"], coa["actions_per_trajectory"]),
        *(
            (f"  dropped: {reason}", kept_cot[reason], kept_coa[reason])
            for reason in kept_cot
            if reason != "kept"
        ),
        ("kept", kept_cot["kept"], kept_coa["kept"]),
    ]
    return [
        (name, _shown(left), _shown(right)) for name, left, right in rows if (left, right) != (0, 0)
    ]


def _shown(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def render(metrics: Mapping[str, Any]) -> str:
    """The whole table as text."""
    lines = [f"{'':24}{'CoT':>10}{'CoA':>10}"]
    lines += [f"{name:24}{left:>10}{right:>10}" for name, left, right in funnel(metrics)]
    branch = metrics["branch"]
    lines += ["", f"{branch['points']:,} points forked, {branch['paired']:,} pairs:"]
    lines += [
        f"  {branch['act_is_better']:,} where acting is better, {branch['think_is_better']:,} where thinking is"
    ]
    lines += ["", f"{'set':10}{'train':>10}{'validation':>12}"]
    lines += [
        f"{name:10}{size['train']:>10,}{size['validation']:>12,}"
        for name, size in metrics["assemble"].items()
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> str:
    """The table."""
    if arguments:
        raise ConfigError("this command takes no arguments", got=" ".join(arguments))
    return render(read_metrics())


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
