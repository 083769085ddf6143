"""Write a trainer's log as files: JSON lines and a picture."""

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
    "calls",
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
_ROUNDING = 1e-6
"""Values that differ by less than this share of their size are drawn as one."""

Entry = dict[str, Any]
Point = tuple[float, float]
"""A step, and what was measured there."""


class Curve(NamedTuple):
    """One quantity over the steps, on the rows of training and on those of the validation split."""

    training: list[Point]
    validation: list[Point]


def write_log(path: Path, history: Sequence[Entry]) -> None:
    """Write one JSON object a line, in the order of the steps.

    Raises:
        OutputError: the file cannot be written.
    """
    write_file(path, "".join(json.dumps(entry) + "\n" for entry in history))


def write_curves(picture: Path, history: Sequence[Entry], title: str) -> None:
    """Draw what was logged over the steps as PNG.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        _draw(picture, history, title)
    except OSError as error:
        raise writing_error(picture, error) from error


def panels(history: Sequence[Entry]) -> dict[str, dict[str, Curve]]:
    """Choose what the picture shows: for each panel's title its curves by name.

    Quantities of one kind, `searches/known` and `searches/unknown`, share a panel. Left out are
    quantities that never change, times and spreads, and the panels for which there is no place, the
    less telling ones; the log has them.
    """
    names: set[str] = set()
    for entry in history:
        names.update(name.removeprefix("eval_") for name in entry)
    found: dict[str, dict[str, Curve]] = {}
    for name in sorted(names):
        curve = Curve(_points(history, name), _points(history, f"eval_{name}"))
        if not _is_left_out(name) and _varies(curve):
            title, _, line = name.partition("/")
            found.setdefault(title, {})[line.removesuffix("/mean") or name] = curve

    places = {title: place for place, title in enumerate(_ORDER)}

    def rank(title: str) -> tuple[int, str]:
        return places.get(title, len(places)), title

    chosen = sorted(found, key=rank)[:_MAX_PANELS]
    return {title: found[title] for title in chosen}


def _is_left_out(name: str) -> bool:
    return name in _NOT_CURVES or name.startswith("train_") or name.endswith(_NOT_DRAWN)


def _varies(curve: Curve) -> bool:
    values = {value for _, value in [*curve.training, *curve.validation]}
    return len(values) > 1


def _points(history: Sequence[Entry], name: str) -> list[Point]:
    points: list[Point] = []
    for entry in history:
        value = entry.get(name)
        if "step" in entry and isinstance(value, int | float):
            points.append((entry["step"], value))
    return points


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
    values = [value for curve in curves.values() for _, value in curve.training + curve.validation]
    size = max(map(abs, values), default=0)
    if values and max(values) - min(values) <= _ROUNDING * size:
        axis.set_ylim(values[0] - (size or 1), values[0] + (size or 1))
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=8)
    if list(curves) != [title]:
        axis.legend(fontsize=6)
