"""Draw the rows of the table as bars with their intervals."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from coa.errors import writing_error
from coa.intervals import Interval
from coa.whole_files import replacing

BLUE = "#2f77a3"


class Panel(NamedTuple):
    """The bars of one group of questions."""

    bars: Sequence[tuple[str, Interval]]
    """A label and an exact match; the first is on top."""
    caption: str


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draw the panels, one below the other.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    heights = [0.6 + 0.4 * len(panel.bars) for panel in panels]
    figure = Figure(figsize=(7.5, sum(heights)), layout="constrained")
    grid = figure.subplots(len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        _draw_bars(axes, panel)
    save_figure(figure, path)


def save_figure(figure: Any, path: Path) -> None:
    """Write a figure as PNG; equal figures give equal bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=120, metadata={"Software": None})
    except OSError as error:
        raise writing_error(path, error) from error


def _draw_bars(axes: Any, panel: Panel) -> None:
    labels = [label for label, _ in panel.bars]
    values = [100 * found.value for _, found in panel.bars]
    errors = [
        [100 * (found.value - found.low) for _, found in panel.bars],
        [100 * (found.high - found.value) for _, found in panel.bars],
    ]
    axes.barh(
        range(len(labels)),
        values,
        xerr=errors,
        color=BLUE,
        ecolor="#1f2933",
        capsize=3,
        height=0.65,
    )
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)  # from the top
    if not any(found.high for _, found in panel.bars):
        axes.set_xlim(0, 1)
    axes.set_xlabel(panel.caption)
    axes.spines[["top", "right"]].set_visible(False)
