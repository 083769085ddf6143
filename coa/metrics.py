"""The figures of a stage: one small JSON file each under metrics/, tracked by DVC and shown by `dvc metrics show`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coa.errors import writing_error
from coa.trajectory import StopReason

FOLDER = Path("metrics")


def write_metrics(name: str, values: Mapping[str, Any]) -> None:
    """Write metrics/{name}.json; only what follows from the data belongs there, so that a re-run writes the same bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    path = FOLDER / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise writing_error(path, error) from error


def stop_reason_counts(counts: Mapping[StopReason, int]) -> dict[str, int]:
    """Return how many rollouts ended for each reason, for metrics: all reasons, in order."""
    return {str(reason): counts.get(reason, 0) for reason in StopReason}


def shown_stop_reasons(counts: Mapping[StopReason, int]) -> str:
    """Return how many rollouts ended for each reason that occurs, for a summary line."""
    return ", ".join(f"{counts[it]:,} {it}" for it in StopReason if counts.get(it)) or "no rollouts"


def rate(part: int, whole: int) -> float:
    """A share rounded to four places; 0 of nothing."""
    return round(part / whole, 4) if whole else 0.0
