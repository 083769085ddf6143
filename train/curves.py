"""A trainer's log to files: JSON lines, a picture, and a table for `dvc plots`."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coa.errors import writing_error

_NOT_CURVES = ("step", "epoch", "total_flos", "num_tokens")
_MAX_PANELS = 12

Entry = dict[str, Any]


def write_log(path: Path, history: Sequence[Entry]) -> None:
    """One JSON object a line, in the order of the steps.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")
    except OSError as error:
        raise writing_error(path, error) from error


def write_curves(picture: Path, table: Path, history: Sequence[Entry], title: str) -> None:
    """Draw every quantity that was logged over the steps, and write the same as CSV.

    Raises:
        OutputError: a file cannot be written.
    """
    names = curve_names(history)
    write_table(table, history, names)
    try:
        _draw(picture, names, history, title)
    except OSError as error:
        raise writing_error(picture, error) from error


def write_table(path: Path, history: Sequence[Entry], names: Sequence[str]) -> None:
    """The quantities `names` of a log as CSV, a row for each entry that has one of them.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, ["step", *names], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(entry for entry in history if any(name in entry for name in names))
    except OSError as error:
        raise writing_error(path, error) from error


def curve_names(history: Sequence[Entry]) -> list[str]:
    """The quantities that were logged at least twice and at more than one value, the losses first."""
    values: dict[str, list[float]] = {}
    for entry in history:
        for name, value in entry.items():
            if isinstance(value, int | float) and name not in _NOT_CURVES and not name.startswith("train_"):
                values.setdefault(name, []).append(value)
    names = [name for name, found in values.items() if len(found) > 1 and not name.endswith(("runtime", "per_second"))]
    return sorted(names, key=lambda name: (not name.endswith("loss"), name))


def _draw(path: Path, names: Sequence[str], history: Sequence[Entry], title: str) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = list(names)[:_MAX_PANELS]
    rows = max(1, -(-len(shown) // 3))
    figure, axes = pyplot.subplots(rows, 3, figsize=(12, 2.6 * rows), squeeze=False, layout="constrained")
    for axis, name in zip(axes.flat, shown, strict=False):
        points = [(entry["step"], entry[name]) for entry in history if name in entry and "step" in entry]
        axis.plot(*zip(*points, strict=True), linewidth=1.2)
        axis.set_title(name, fontsize=9)
        axis.tick_params(labelsize=8)
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_axis_off()
    figure.suptitle(f"{title}: training log over steps", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})
    pyplot.close(figure)
