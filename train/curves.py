"""A trainer's log to files: JSON lines, a picture, and a table for `dvc plots`."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from coa.errors import writing_error
from coa.whole_files import replacing, write_file

_NOT_CURVES = ("step", "epoch", "total_flos", "num_tokens")
_NOT_DRAWN = ("runtime", "per_second", "/std", "_time", "terminated_length", "clipped_ratio")
_MAX_PANELS = 12
_ORDER = (
    "reward",
    "rewards",
    "accuracy",
    "searches",
    "format",
    "simulated",
    "loss",
    "logps",
    "pair_accuracy",
    "mean_token_accuracy",
    "completions",
    "entropy",
    "kl",
    "reward_std",
    "frac_reward_zero_std",
    "grad_norm",
)
"""Panels of the picture, the most telling first."""

Entry = dict[str, Any]
Point = tuple[float, float]
"""A step, and what was measured there."""


class Curve(NamedTuple):
    """One quantity over the steps, on the rows of training and on those of the validation split."""

    training: list[Point]
    validation: list[Point]


def write_log(path: Path, history: Sequence[Entry]) -> None:
    """One JSON object a line, in the order of the steps.

    Raises:
        OutputError: the file cannot be written.
    """
    write_file(path, "".join(json.dumps(entry) + "\n" for entry in history))


def write_curves(picture: Path, table: Path, history: Sequence[Entry], title: str) -> None:
    """Draw what was logged over the steps, and write all of it as CSV.

    Raises:
        OutputError: a file cannot be written.
    """
    names = curve_names(history)
    write_table(table, history, names)
    try:
        _draw(picture, history, title)
    except OSError as error:
        raise writing_error(picture, error) from error


def write_table(path: Path, history: Sequence[Entry], names: Sequence[str]) -> None:
    """The quantities `names` of a log as CSV, a row for each entry that has one of them.

    Raises:
        OutputError: the file cannot be written.
    """
    lines = io.StringIO(newline="")
    writer = csv.DictWriter(lines, ["step", *names], extrasaction="ignore")
    writer.writeheader()
    writer.writerows(entry for entry in history if any(name in entry for name in names))
    write_file(path, lines.getvalue())


def curve_names(history: Sequence[Entry]) -> list[str]:
    """The quantities that were logged at least twice, the losses first."""
    values: dict[str, list[float]] = {}
    for entry in history:
        for name, value in entry.items():
            if (
                isinstance(value, int | float)
                and name not in _NOT_CURVES
                and not name.startswith("train_")
            ):
                values.setdefault(name, []).append(value)
    names = [
        name
        for name, found in values.items()
        if len(found) > 1 and not name.endswith(("runtime", "per_second"))
    ]
    return sorted(names, key=lambda name: (not name.endswith("loss"), name))


def panels(history: Sequence[Entry]) -> dict[str, dict[str, Curve]]:
    """What the picture shows: for each panel's title its curves by name.

    Quantities of one kind, `searches/known` and `searches/unknown`, share a panel. Left out are quantities that never
    change, times and spreads, and the panels for which there is no place, the less telling ones; the table has them.
    """
    found: dict[str, dict[str, Curve]] = {}
    for name in sorted({name.removeprefix("eval_") for entry in history for name in entry}):
        curve = Curve(_points(history, name), _points(history, f"eval_{name}"))
        if not _is_left_out(name) and len({value for points in curve for _, value in points}) > 1:
            title, _, line = name.partition("/")
            found.setdefault(title, {})[line.removesuffix("/mean") or name] = curve
    places = {title: place for place, title in enumerate(_ORDER)}
    chosen = sorted(found, key=lambda title: (places.get(title, len(places)), title))[:_MAX_PANELS]
    return {title: found[title] for title in chosen}


def _is_left_out(name: str) -> bool:
    return name in _NOT_CURVES or name.startswith("train_") or name.endswith(_NOT_DRAWN)


def _points(history: Sequence[Entry], name: str) -> list[Point]:
    numbers = (
        entry for entry in history if "step" in entry and isinstance(entry.get(name), int | float)
    )
    return [(entry["step"], entry[name]) for entry in numbers]


def _draw(path: Path, history: Sequence[Entry], title: str) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = panels(history)
    rows = max(1, -(-len(shown) // 3))
    figure, axes = pyplot.subplots(
        rows, 3, figsize=(12, 2.6 * rows), squeeze=False, layout="constrained"
    )
    for axis, (name, curves) in zip(axes.flat, shown.items(), strict=False):
        _draw_panel(axis, name, curves)
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_axis_off()
    figure.suptitle(f"{title}: training log over steps (dots: validation)", fontsize=10)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _draw_panel(axis: Any, title: str, curves: Mapping[str, Curve]) -> None:
    for number, (label, curve) in enumerate(curves.items()):
        color = f"C{number}"
        axis.plot([], [], color=color, label=label)
        if curve.training:
            axis.plot(*zip(*curve.training, strict=True), color=color, linewidth=1.2)
        if curve.validation:
            axis.plot(*zip(*curve.validation, strict=True), "o", color=color, markersize=4)
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=8)
    if list(curves) != [title]:
        axis.legend(fontsize=6)
