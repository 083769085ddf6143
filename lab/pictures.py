"""Draw the figures of the lab's page: dots with intervals, curves, and success by actions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coa.drawing import (
    INK,
    QUIET,
    Picture,
    label_rows,
    new_figure,
    save_picture,
    show_percent,
    write_instead,
)
from lab.comparing import System, by_actions

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLOURS = ("#2f77a3", "#bf5517", "#5f8a2f", "#8a6fb8", "#8d1f3c", "#1f7a70", "#6b757f")
_MARKERS = "osD^vPX"
_DASHES = ("-", "--", ":")
"""Of the lines for which there are not colours enough."""
_ENOUGH = 5
"""Rollouts that a point of a curve needs at least; fewer say nothing."""
_WATCHED = {
    "eval_rollouts/exact_match": "exact match",
    "eval_rollouts/broken": "broken texts",
    "eval_rollouts/searched_known": "searches for known facts",
    "eval_rollouts/searched_unknown": "searches for unknown facts",
}
"""What is drawn of the rollouts while training (train/watching.py), with the panels' titles."""
_Line = Sequence[tuple[float, float]]
_Panels = dict[str, dict[str, list[_Line]]]
"""The title of a panel, the name of its lines, and one line for each seed."""


def group_dots(systems: Sequence[System], groups: Sequence[str]) -> Picture:
    """Draw exact match with its interval: a line for each system, a colour for each group."""
    with new_figure(0.9 + 0.42 * max(1, len(systems))) as figure:
        axes = figure.subplots()
        for number, group in enumerate(groups):
            offset = (number - (len(groups) - 1) / 2) * 0.2
            colour = _COLOURS[number]
            axes.plot([], [], _MARKERS[number], color=colour, label=group, markersize=6)
            for place, system in enumerate(systems):
                found = system.mean("exact_match", group)
                if found is None:
                    continue
                y = place + offset
                axes.plot([found.low, found.high], [y, y], color=colour, linewidth=1.6)
                axes.plot(found.value, y, _MARKERS[number], color=colour, markersize=6)
        axes.set_ylim(-0.6, len(systems) - 0.4)
        label_rows(axes, [system.row.title for system in systems])
        axes.set_xlim(left=0)
        axes.set_xlabel("exact match, 95% interval over questions")
        show_percent(axes.xaxis)
        _legend(axes, len(groups))
        return save_picture(figure)


def curves(systems: Sequence[System], quantities: Sequence[str]) -> Picture | None:
    """Draw quantities over the steps of the trainings that logged them; None where none did.

    A training is drawn once, a panel each; several seeds are several lines.
    """
    panels: _Panels = {}
    for training, quantity, line in _logged(systems):
        if quantity in quantities:
            panels.setdefault(training.replace("_", " "), {}).setdefault(quantity, []).append(line)
    return _draw_panels(panels)


def watched(systems: Sequence[System]) -> Picture | None:
    """Draw what was measured by rollouts while training; None where nothing was.

    A measure has a panel, and a training a colour; several seeds are several lines.
    """
    panels: _Panels = {title: {} for title in _WATCHED.values()}
    for training, quantity, line in _logged(systems):
        if quantity in _WATCHED:
            name = training.replace("_", " ")
            panels[_WATCHED[quantity]].setdefault(name, []).append(line)
    return _draw_panels({title: found for title, found in panels.items() if found}, shares=True)


def _logged(systems: Sequence[System]) -> Iterator[tuple[str, str, _Line]]:
    """Yield the training, the quantity and the line of each curve; rows share trainings."""
    seen: set[tuple[str, int]] = set()
    for system in systems:
        for kept in system.seeds:
            for training, logged in kept.curves.items():
                if (training, kept.seed) in seen:
                    continue
                seen.add((training, kept.seed))
                for quantity, line in logged.items():
                    yield training, quantity, line


def _draw_panels(panels: _Panels, *, shares: bool = False) -> Picture | None:
    """Draw lines over steps, two panels beside each other; a name has one colour.

    Args:
        panels: What is drawn.
        shares: Whether all values are shares, from 0 to 1.
    """
    if not panels:
        return None
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    drawn: dict[str, Any] = {}
    num_rows = -(-len(panels) // 2)
    with new_figure(0.6 + 2.2 * num_rows) as figure:
        grid = figure.subplots(num_rows, 2, squeeze=False, sharey=True)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, (title, panel) in zip(grid.flat, panels.items(), strict=False):
            axes.set_title(title, loc="left", fontsize=10)
            for name, lines in panel.items():
                again, place = divmod(names.index(name), len(_COLOURS))
                style: Any = {"color": _COLOURS[place], "linestyle": _DASHES[again % len(_DASHES)]}
                for points in lines:
                    (drawn[name],) = axes.plot(*zip(*points, strict=True), linewidth=1.4, **style)
            axes.set_xlabel("step")
            axes.tick_params(length=0)
            if shares:
                axes.set_ylim(-0.03, 1.03)
                show_percent(axes.yaxis)
        place_of_legend: Any = {"loc": "outside upper left", "ncols": 5, "frameon": False}
        figure.legend(drawn.values(), drawn, fontsize=9, labelcolor=INK, **place_of_legend)
        return save_picture(figure)


def success_by_actions(systems: Sequence[System]) -> Picture:
    """Draw exact match by number of actions, a line with its intervals for each system."""
    counts = by_actions(systems)
    with new_figure(4.2) as figure:
        axes = figure.subplots()
        for number, (title, by_number) in enumerate(counts.items()):
            _draw_line(axes, number, title, by_number, width=len(counts))
        if not counts:
            write_instead(axes, "No system is there.")
            return save_picture(figure)
        axes.set_ylim(0, 1)
        axes.set_xlabel(f"number of actions (points of at least {_ENOUGH} rollouts)")
        axes.set_xticks(range(1 + max(max(by_number) for by_number in counts.values())))
        axes.tick_params(length=0)
        show_percent(axes.yaxis)
        _legend(axes, 4)
        return save_picture(figure)


def _draw_line(
    axes: "Axes", number: int, title: str, counts: Mapping[int, tuple[int, int]], width: int
) -> None:
    from scipy.stats import binomtest

    places: list[float] = []
    rates: list[float] = []
    below: list[float] = []
    above: list[float] = []
    for actions, (right, total) in counts.items():
        if total < _ENOUGH:
            continue
        interval = binomtest(right, total).proportion_ci(method="wilson")
        rate = right / total
        places.append(actions + 0.04 * (number - (width - 1) / 2))
        rates.append(rate)
        below.append(max(rate - interval.low, 0))
        above.append(max(interval.high - rate, 0))
    axes.errorbar(
        places,
        rates,
        [below, above],
        fmt=f"{_MARKERS[number % len(_MARKERS)]}-",
        color=_COLOURS[number % len(_COLOURS)],
        ecolor=QUIET,
        elinewidth=0.8,
        linewidth=1.4,
        markersize=4,
        label=title,
    )


def _legend(axes: "Axes", columns: int) -> None:
    axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
