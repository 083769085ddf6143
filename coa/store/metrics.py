"""Write the figures of a stage to a small JSON file under metrics/.

DVC tracks these files, and `dvc metrics show` shows them.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coa.records.trajectory import StopReason
from coa.store.whole_files import write_file

FOLDER = Path("metrics")


def write_metrics(name: str, values: Mapping[str, Any]) -> None:
    """Write metrics/{name}.json.

    Give only values that follow from the data, so that a re-run writes the same bytes.

    Raises:
        OutputError: The file cannot be written.
    """
    path = FOLDER / f"{name}.json"
    write_file(path, json.dumps(values, indent=2) + "\n")


def stop_reason_counts(counts: Mapping[StopReason, int]) -> dict[str, int]:
    """Return how many rollouts ended for each reason, for metrics: all reasons, in order."""
    return {str(reason): counts.get(reason, 0) for reason in StopReason}


def shown_stop_reasons(counts: Mapping[StopReason, int]) -> str:
    """Return how many rollouts ended for each reason that occurs, for a summary line."""
    shown = [f"{counts[reason]:,} {reason}" for reason in StopReason if counts.get(reason)]
    return ", ".join(shown) or "no rollouts"


def rate(part: int, whole: int) -> float:
    """Return a share rounded to four places; 0 where the whole is 0."""
    return round(part / whole, 4) if whole else 0.0
