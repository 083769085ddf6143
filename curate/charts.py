"""Counts to charts: SVG for the page, whose text is text, and PNG for cards; equal counts give equal bytes."""

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from coa.causes import Cause
from coa.trajectory import Mode
from curate.tallies import ArmOutcomes, FunnelStep, Tallies

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, QUIET, GRID = "#1f2933", "#55606b", "#dfe4e8"
MODE_COLOURS = {Mode.COT: "#8a6fb8", Mode.COA: "#2f77a3"}
MODE_NAMES = {Mode.COT: "CoT", Mode.COA: "CoA"}
CAUSE_COLOURS = {
    Cause.TOOL_FAILURE: "#3d4650",
    Cause.FORGED_OBSERVATION: "#8d1f3c",
    Cause.TRUNCATED: "#6b757f",
    Cause.BUDGET: "#929ca6",
    Cause.FORMAT: "#b9c1c9",
    Cause.GRADED_WRONG: "#e0bb28",
    Cause.REASONING_SLIP: "#5f8a2f",
    Cause.FALSE_RECALL: "#54408c",
    Cause.KNOWLEDGE_GAP: "#a596cf",
    Cause.NEVER_SEARCHED: "#1d4b70",
    Cause.BAD_QUERY: "#3b8fc2",
    Cause.RETRIEVAL_MISS: "#9ccbe6",
    Cause.EVIDENCE_IGNORED: "#bf5517",
    Cause.DISTRACTOR_FOLLOWED: "#f0a976",
    Cause.REPEATED_SEARCH: "#1f7a70",
    Cause.NEEDLESS_SEARCH: "#7fc4bb",
    Cause.UNKNOWN: "#dde0e3",
}
"""Alike causes have alike colours: grey for form, violet for memory, blue for searching, orange for reading. Within a
family they differ in lightness, so that no pair of neighbours depends on hue alone."""
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
_Z = 1.96
"""Normal quantile of a 95% interval."""
_MEANINGS = {
    ArmOutcomes(True, True): "either way",
    ArmOutcomes(False, True): "only acting helps",
    ArmOutcomes(True, False): "only thinking helps",
    ArmOutcomes(False, False): "neither",
}


class Picture(NamedTuple):
    """One drawn chart."""

    svg: str
    """An `svg` element, without date and XML head, so that it can stand in a page."""
    png: bytes


def funnel(tallies: Tallies) -> Picture:
    """Horizontal bars, one for each mode and step, as shares of what was sampled; the counts stand beside them."""
    steps = [left for left in FunnelStep if any(tallies.funnel[mode, left] for mode in Mode)] or [
        FunnelStep.SAMPLED
    ]
    with _figure(0.6 + 0.62 * len(steps)) as figure:
        axes = figure.subplots()
        height = 0.8 / max(len(tallies.modes), 1)
        for k, mode in enumerate(tallies.modes):
            whole = tallies.funnel[mode, FunnelStep.SAMPLED]
            places = [i + (k - (len(tallies.modes) - 1) / 2) * height for i in range(len(steps))]
            counts = [tallies.funnel[mode, left] for left in steps]
            shares = [count / whole for count in counts]
            axes.barh(
                places, shares, height * 0.9, color=MODE_COLOURS[mode], label=MODE_NAMES[mode]
            )
            _counts_beside(axes, places, counts, shares)
        _rows(axes, steps)
        axes.set_xlim(0, 1.24)
        if tallies.modes:
            axes.legend(
                loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False, fontsize=9
            )
        return _picture(figure)


def cause_bars(modes: Mapping[str, Mapping[Cause, int]]) -> Picture:
    """For each mode horizontal bars of its causes, as shares of its failures."""
    sizes = [len(counts) for counts in modes.values()] or [1]
    with _figure(0.55 * len(sizes) + 0.33 * sum(sizes)) as figure:
        panels = figure.subplots(len(sizes), 1, height_ratios=sizes, squeeze=False)[:, 0]
        if not modes:
            _say(panels[0], "No trajectory failed.")
        for axes, (name, counts) in zip(panels, modes.items(), strict=False):
            whole = sum(counts.values())
            shares = [count / whole for count in counts.values()]
            axes.barh(
                range(len(shares)), shares, 0.72, color=[CAUSE_COLOURS[cause] for cause in counts]
            )
            _counts_beside(axes, range(len(shares)), list(counts.values()), shares)
            _rows(axes, [cause_name(cause) for cause in counts])
            axes.set_xlim(0, max(shares) * 1.28)
            axes.set_title(f"{name}: {whole:,} failed", loc="left", fontsize=10)
        return _picture(figure)


def stacked_causes(groups: Mapping[str, Mapping[Cause, int]]) -> Picture:
    """One bar a group, divided by cause; each adds up to 100%."""
    causes = [
        cause for cause in CAUSE_COLOURS if any(counts.get(cause) for counts in groups.values())
    ]
    with _figure(1.1 + 0.42 * len(groups) + 0.24 * math.ceil(len(causes) / 4)) as figure:
        axes = figure.subplots()
        totals = [max(sum(counts.values()), 1) for counts in groups.values()]
        left = [0.0] * len(groups)
        for cause in causes:
            shares = [
                counts.get(cause, 0) / total
                for counts, total in zip(groups.values(), totals, strict=True)
            ]
            look: Any = {
                "color": CAUSE_COLOURS[cause],
                "edgecolor": "white",
                "label": cause_name(cause),
            }
            axes.barh(range(len(groups)), shares, 0.72, left, **look)
            left = [start + share for start, share in zip(left, shares, strict=True)]
        _rows(axes, [f"{name}  (n={total:,})" for name, total in zip(groups, totals, strict=True)])
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        _percent(axes, "x")
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
        return _picture(figure)


def quadrants(
    same_questions: Mapping[ArmOutcomes, int], forks: Mapping[ArmOutcomes, int]
) -> Picture:
    """Two by two: thinking right or wrong against acting right or wrong, on the same questions and from forks."""
    tables = {
        "CoT and CoA rollouts of the same question": same_questions,
        "Forks: both arms from one point": forks,
    }
    with _figure(
        2.6 if any(map(sum, (same_questions.values(), forks.values()))) else 0.9
    ) as figure:
        for axes, (title, counts) in zip(figure.subplots(1, 2), tables.items(), strict=True):
            axes.set_title(title, loc="left", fontsize=10)
            if sum(counts.values()):
                _square(axes, counts)
            else:
                _say(axes, "Nothing to compare.")
        return _picture(figure)


def _square(axes: "Axes", counts: Mapping[ArmOutcomes, int]) -> None:
    from matplotlib.patches import Rectangle

    whole = sum(counts.values())
    for sides, meaning in _MEANINGS.items():
        x, y = 0 if sides.acting else 1, 1 if sides.thinking else 0
        differs = sides.thinking != sides.acting
        colour = "#f1f3f5" if not differs else "#d5e7f2" if sides.acting else "#e6dff2"
        axes.add_patch(Rectangle((x + 0.01, y + 0.01), 0.98, 0.98, color=colour))
        count = counts.get(sides, 0)
        axes.text(
            x + 0.5,
            y + 0.58,
            f"{count:,}  ({count / whole:.1%})",
            ha="center",
            va="center",
            fontsize=11,
        )
        axes.text(x + 0.5, y + 0.3, meaning, ha="center", va="center", fontsize=9, color=QUIET)
    axes.set(xlim=(0, 2), ylim=(0, 2))
    axes.set_xticks([0.5, 1.5], ["acting right", "acting wrong"])
    axes.set_yticks([0.5, 1.5], ["thinking\nwrong", "thinking\nright"])
    axes.grid(visible=False)
    axes.tick_params(length=0, colors=QUIET)
    axes.spines[:].set_visible(False)


def by_actions(totals: Mapping[int, int], correct: Mapping[int, int]) -> Picture:
    """Two panels by number of actions: the share that is correct, and how the correct ones are spread (Figure 3)."""
    numbers = sorted(totals)
    with _figure(3.0) as figure:
        left, right = figure.subplots(1, 2)
        left.set_title("Success rate", loc="left", fontsize=10)
        right.set_title("Share of the correct trajectories", loc="left", fontsize=10)
        if not numbers:
            _say(left, "No trajectory had the tool.")
            _say(right, "")
            return _picture(figure)
        rates = [correct.get(n, 0) / totals[n] for n in numbers]
        bounds = [wilson(correct.get(n, 0), totals[n]) for n in numbers]
        errors = [[max(rate - low, 0) for rate, (low, _) in zip(rates, bounds, strict=True)]]
        errors.append([max(high - rate, 0) for rate, (_, high) in zip(rates, bounds, strict=True)])
        colour = MODE_COLOURS[Mode.COA]
        left.errorbar(
            numbers,
            rates,
            errors,
            fmt="o-",
            color=colour,
            ecolor="#7fa9c2",
            capsize=2,
            markersize=4,
        )
        left.set_ylim(0, 1)
        all_correct = sum(correct.values()) or 1
        right.bar(numbers, [correct.get(n, 0) / all_correct for n in numbers], 0.72, color=colour)
        for axes in (left, right):
            axes.set_xlabel("number of actions")
            axes.set_xticks(_ticks(numbers))
            axes.grid(visible=False, axis="x")
            axes.tick_params(length=0)
            _percent(axes, "y")
        return _picture(figure)


def _ticks(numbers: Sequence[int]) -> list[int]:
    step = math.ceil((numbers[-1] - numbers[0] + 1) / 12)
    return list(range(numbers[0], numbers[-1] + 1, step))


def wilson(part: int, whole: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927), which stays within 0 and 1 and holds for few trials."""
    if not whole:
        return 0.0, 1.0
    share, z2 = part / whole, _Z * _Z
    centre = share + z2 / (2 * whole)
    spread = _Z * math.sqrt(share * (1 - share) / whole + z2 / (4 * whole * whole))
    return max(0.0, (centre - spread) / (1 + z2 / whole)), min(
        1.0, (centre + spread) / (1 + z2 / whole)
    )


def cause_name(cause: Cause) -> str:
    """A cause as people read it."""
    return cause.replace("_", " ")


def _counts_beside(
    axes: "Axes", places: Sequence[float], counts: Sequence[int], shares: Sequence[float]
) -> None:
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


def _rows(axes: "Axes", labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def _say(axes: "Axes", text: str) -> None:
    axes.text(0, 0.5, text, transform=axes.transAxes, va="center", color=QUIET)
    axes.set_axis_off()


def _percent(axes: "Axes", which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_formatter(lambda share, _: f"{share:.0%}")


@contextmanager
def _figure(height: float) -> Iterator["Figure"]:
    """A figure of so many inches in the house's style, as long as the block lasts."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(_WIDTH, height), layout="constrained")


def _picture(figure: "Figure") -> Picture:
    svg, png = io.StringIO(), io.BytesIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
    figure.savefig(png, format="png", dpi=_DPI, metadata={"Software": None}, facecolor="white")
    return Picture(svg.getvalue().partition("?>")[2].partition(">")[2].strip(), png.getvalue())
