"""Draw counts as charts: SVG for the page, PNG for cards. Equal counts give equal bytes."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from coa.pages.pictures import (
    QUIET,
    Picture,
    label_rows,
    new_figure,
    save_picture,
    show_percent,
    write_counts,
    write_instead,
)
from coa.records.causes import Cause
from coa.records.trajectory import Mode
from curate.reports.tallies import (
    ArmOutcomes,
    FunnelStep,
    MeanWorth,
    PointTallies,
    Tallies,
    in_order_of_hops,
    most_frequent,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NO_CAUSE = "no cause blamed"
MODE_COLOURS = {Mode.COT: "#8a6fb8", Mode.COA: "#2f77a3"}
_ACT_COLOUR = MODE_COLOURS[Mode.COA]
_THINK_COLOUR = MODE_COLOURS[Mode.COT]
_OPEN_COLOUR = "#929ca6"
"""Of the worth of acting where it is not known to be above or below zero."""
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
"""Related causes have related colours: grey for form, violet for memory, blue for searching, orange
for reading. Within a family they differ in lightness, so that no pair of neighbours depends on hue
alone."""
_MEANINGS = {
    ArmOutcomes(True, True): "either way",
    ArmOutcomes(False, True): "only acting helps",
    ArmOutcomes(True, False): "only thinking helps",
    ArmOutcomes(False, False): "neither",
}
_MEANING_COLOURS = {
    ArmOutcomes(True, True): "#f1f3f5",
    ArmOutcomes(False, True): "#d5e7f2",
    ArmOutcomes(True, False): "#e6dff2",
    ArmOutcomes(False, False): "#f1f3f5",
}


def funnel(tallies: Tallies) -> Picture:
    """Draw a horizontal bar for each mode and step: the share of the sampled rollouts.

    The count is written next to its bar.
    """
    modes = tallies.modes
    steps = list(FunnelStep)  # also those that no rollout passed
    if not any((mode, FunnelStep.KEPT) in tallies.funnel for mode in Mode):
        steps.remove(FunnelStep.KEPT)  # it is not known
    with new_figure(0.6 + 0.62 * len(steps) if modes else 0.9) as figure:
        axes = figure.subplots()
        if not modes:
            write_instead(axes, "There is no trajectory.")
            return save_picture(figure)
        height = 0.8 / len(modes)
        for k, mode in enumerate(modes):
            offset = (k - (len(modes) - 1) / 2) * height
            num_sampled = tallies.funnel[mode, FunnelStep.SAMPLED]
            places: list[float] = []
            counts: list[int] = []
            shares: list[float] = []
            for i, step in enumerate(steps):
                count = tallies.funnel[mode, step]
                places.append(i + offset)
                counts.append(count)
                shares.append(count / num_sampled)
            axes.barh(
                places, shares, height * 0.9, color=MODE_COLOURS[mode], label=MODE_NAMES[mode]
            )
            write_counts(axes, places, counts, shares)
        label_rows(axes, steps)
        axes.set_xlim(0, 1.24)
        axes.legend(
            loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=2, frameon=False, fontsize=9
        )
        return save_picture(figure)


def cause_bars(modes: Mapping[str, Mapping[Cause, int]]) -> Picture:
    """Draw a panel for each mode: a horizontal bar for each cause, as a share of the failures."""
    sizes = [len(counts) for counts in modes.values()]
    if not sizes:
        sizes = [1]
    with new_figure(0.55 * len(sizes) + 0.33 * sum(sizes)) as figure:
        panels = figure.subplots(len(sizes), 1, height_ratios=sizes, squeeze=False)[:, 0]
        if not modes:
            write_instead(panels[0], "No trajectory failed.")
        # One scale: bars of two panels can be compared.
        widest_of = [max(counts.values()) / sum(counts.values()) for counts in modes.values()]
        widest = max(widest_of, default=1.0)
        for axes, (name, counts) in zip(panels, modes.items(), strict=False):
            num_failed = sum(counts.values())
            shares: list[float] = []
            colours: list[str] = []
            labels: list[str] = []
            for cause, count in counts.items():
                shares.append(count / num_failed)
                colours.append(CAUSE_COLOURS[cause])
                labels.append(cause_name(cause))
            places = range(len(shares))
            axes.barh(places, shares, 0.72, color=colours)
            write_counts(axes, places, list(counts.values()), shares)
            label_rows(axes, labels)
            axes.set_xlim(0, widest * 1.28)
            axes.set_title(f"{name}: {num_failed:,} failed", loc="left", fontsize=10)
        return save_picture(figure)


def stacked_causes(groups: Mapping[str, Mapping[Cause, int]]) -> Picture:
    """Draw one bar for each group, divided by cause; each adds up to 100%."""
    totals: list[int] = []
    labels: list[str] = []
    found: set[Cause] = set()
    for name, counts in groups.items():
        total = max(sum(counts.values()), 1)
        totals.append(total)
        labels.append(f"{name}  (n={total:,})")
        for cause, count in counts.items():
            if count:
                found.add(cause)
    causes = [cause for cause in CAUSE_COLOURS if cause in found]
    with new_figure(1.1 + 0.42 * len(groups) + 0.24 * math.ceil(len(causes) / 4)) as figure:
        axes = figure.subplots()
        starts = [0.0] * len(groups)
        for cause in causes:
            shares: list[float] = []
            for counts, total in zip(groups.values(), totals, strict=True):
                shares.append(counts.get(cause, 0) / total)
            axes.barh(
                range(len(groups)),
                shares,
                0.72,
                starts,
                color=CAUSE_COLOURS[cause],
                edgecolor="white",
                label=cause_name(cause),
            )
            starts = [start + share for start, share in zip(starts, shares, strict=True)]
        label_rows(axes, labels)
        axes.set_xlim(0, 1)
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
        show_percent(axes.xaxis)
        figure.legend(loc="outside lower center", ncols=4, frameon=False, fontsize=9)
        return save_picture(figure)


def quadrants(
    same_questions: Mapping[ArmOutcomes, int], forks: Mapping[ArmOutcomes, int] | None
) -> Picture:
    """Draw two squares of thinking right or wrong against acting right or wrong.

    The left one is about rollouts of the same questions, the right one about forks; it is left out
    where `forks` is None.
    """
    has_counts = any(same_questions.values()) or any((forks or {}).values())
    with new_figure(2.6 if has_counts else 0.9) as figure:
        left, right = figure.subplots(1, 2)
        _draw_square(left, "CoT and CoA rollouts of the same question", same_questions)
        if forks is None:
            right.set_axis_off()
        else:
            _draw_square(right, "Forks: both arms from one point", forks)
        return save_picture(figure)


def _draw_square(axes: "Axes", title: str, counts: Mapping[ArmOutcomes, int]) -> None:
    from matplotlib.patches import Rectangle

    axes.set_title(title, loc="left", fontsize=10)
    whole = sum(counts.values())
    if not whole:
        write_instead(axes, "Nothing to compare.")
        return
    for sides, meaning in _MEANINGS.items():
        x = 0 if sides.acting else 1
        y = 1 if sides.thinking else 0
        colour = _MEANING_COLOURS[sides]
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
    """Draw two panels by number of actions, as in Figure 3 of the paper.

    The left one shows the share of the trajectories that is correct, the right one how the correct
    ones are spread.
    """
    numbers = sorted(totals)
    with new_figure(3.0) as figure:
        left, right = figure.subplots(1, 2)
        left.set_title("Success rate", loc="left", fontsize=10)
        right.set_title("Share of the correct trajectories", loc="left", fontsize=10)
        if not numbers:
            write_instead(left, "No trajectory had the tool.")
            write_instead(right, "")
            return save_picture(figure)
        all_correct = sum(correct.values())
        rates: list[float] = []
        errors_below: list[float] = []
        errors_above: list[float] = []
        shares: list[float] = []
        for number in numbers:
            num_correct = correct.get(number, 0)
            rate = num_correct / totals[number]
            low, high = wilson(num_correct, totals[number])
            rates.append(rate)
            errors_below.append(max(rate - low, 0))
            errors_above.append(max(high - rate, 0))
            shares.append(num_correct / all_correct if all_correct else 0.0)
        colour = MODE_COLOURS[Mode.COA]
        left.errorbar(
            numbers,
            rates,
            [errors_below, errors_above],
            fmt="o-",
            color=colour,
            ecolor="#7fa9c2",
            capsize=2,
            markersize=4,
        )
        left.set_ylim(0, 1)
        panels = [left]
        if all_correct:
            right.bar(numbers, shares, 0.72, color=colour)
            panels.append(right)
        else:
            write_instead(right, "No trajectory is correct.")
        step = math.ceil((numbers[-1] - numbers[0] + 1) / 12)  # at most twelve ticks
        for axes in panels:
            axes.set_xlabel("number of actions")
            axes.set_xticks(range(numbers[0], numbers[-1] + 1, step))
            axes.grid(visible=False, axis="x")
            axes.tick_params(length=0)
            show_percent(axes.yaxis)
        return save_picture(figure)


def worth_dots(points: PointTallies) -> Picture:
    """Draw a dot with its interval for each cause, number of hops and, of several, tool.

    A dot is blue where the interval says that acting is better, violet where it says that thinking
    is, and grey where it does not say. The dot of a lone point is hollow: it has no interval.
    """
    panels = {
        "By the cause that is blamed at the point": most_frequent(points.worths_by_cause),
        "By the number of facts to be joined": in_order_of_hops(points.worths_by_hops),
    }
    if len(points.worths_by_tool) > 1:
        panels["By tool"] = most_frequent(points.worths_by_tool)
    sizes = [len(groups) for groups in panels.values()]
    with new_figure(0.5 + 0.55 * len(sizes) + 0.33 * sum(sizes)) as figure:
        drawn = figure.subplots(len(sizes), 1, height_ratios=sizes, sharex=True, squeeze=False)
        for axes, (title, groups) in zip(drawn[:, 0], panels.items(), strict=True):
            axes.set_title(title, loc="left", fontsize=10)
            _draw_groups(axes, groups)
        drawn[-1, 0].set_xlabel("worth of acting:  below 0 thinking is better,  above 0 acting is")
        return save_picture(figure)


def _draw_groups(axes: "Axes", groups: Sequence[MeanWorth]) -> None:
    """Draw a row for each group, the first one on top."""
    axes.axvline(0, color=QUIET, linewidth=0.8)
    labels: list[str] = []
    for place, group in enumerate(groups):
        colour = _OPEN_COLOUR
        if group.num_points > 1 and group.low > 0:
            colour = _ACT_COLOUR
        elif group.num_points > 1 and group.high < 0:
            colour = _THINK_COLOUR
        axes.plot([group.low, group.high], [place, place], color=colour, linewidth=2)
        is_lone = group.num_points == 1
        fill = "white" if is_lone else colour
        axes.plot(group.mean, place, "o", color=colour, markerfacecolor=fill, markersize=6)
        labels.append(f"{_printable(group.name)}  (n={group.num_points:,})")
    axes.set_ylim(-0.6, len(groups) - 0.4)
    label_rows(axes, labels)


def _printable(name: str) -> str:
    """Write a name in characters that the font of the pictures has; `?` for others."""
    plain = name.replace("_", " ").encode("ascii", "replace").decode("ascii")
    kept = [character if character.isprintable() else "?" for character in plain]
    return "".join(kept) or NO_CAUSE


def wilson(part: int, whole: int) -> tuple[float, float]:
    """Compute the 95% interval of a share (Wilson 1927)."""
    if not whole:
        return 0.0, 1.0
    from scipy.stats import binomtest

    interval = binomtest(part, whole).proportion_ci(method="wilson")
    return float(interval.low), float(interval.high)


def cause_name(cause: Cause) -> str:
    """Write a cause for people."""
    return cause.replace("_", " ")
