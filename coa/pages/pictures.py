"""Make figures in the style of the reports, and save each as SVG and PNG.

Text in the SVG stays text. Equal figures give equal bytes.
"""

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

INK, QUIET, GRID = "#1f2933", "#55606b", "#dfe4e8"
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: searchable, and small
    "svg.hashsalt": "errors",  # ids in the file follow from its content
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],  # comes with matplotlib: the same on every machine
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": QUIET,
    "axes.edgecolor": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": QUIET,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_WIDTH = 8.6
_DPI = 120


class Picture(NamedTuple):
    """A drawn chart."""

    svg: str
    """An `svg` element without date and XML head, so that a page can hold it."""
    png: bytes


def write_counts(
    axes: "Axes", places: Sequence[float], counts: Sequence[int], shares: Sequence[float]
) -> None:
    """Write each count and share next to its bar."""
    widest = max(shares, default=1)
    for place, count, share in zip(places, counts, shares, strict=True):
        axes.text(
            share + 0.01 * widest,
            place,
            f"{count:,}  ({share:.1%})",
            va="center",
            fontsize=9,
            color=QUIET,
        )
    axes.set_xticks([])


def label_rows(axes: "Axes", labels: Sequence[str]) -> None:
    """Label the rows of horizontal bars, the first one on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def write_instead(axes: "Axes", text: str) -> None:
    """Write a text where there is nothing to draw."""
    axes.text(0, 0.5, text, transform=axes.transAxes, va="center", color=QUIET)
    axes.set_axis_off()


def show_percent(axis: "Axis") -> None:
    """Write the numbers of an axis as percentages."""
    axis.set_major_formatter(lambda share, _: f"{share:.0%}")


@contextmanager
def new_figure(height: float) -> Iterator["Figure"]:
    """Provide a figure of a height in inches; within the block the project's style holds."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(_WIDTH, height), layout="constrained")


def save_picture(figure: "Figure") -> Picture:
    """Save a figure as SVG and PNG."""
    svg = io.StringIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    png = io.BytesIO()
    figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None}, facecolor="white")
    _, _, without_declaration = svg.getvalue().partition("?>")
    _, _, element = without_declaration.partition(">")  # what ends here is the document type
    return Picture(element.strip(), png.getvalue())
