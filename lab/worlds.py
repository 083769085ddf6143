"""Show what simulated searches came to: the gate's predictions, and fidelity.

Rows of these experiments keep the reports that their trainings wrote beside the model (gate.json,
searches.json), and what evaluation.fidelity measured.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from coa.drawing import INK, QUIET, Picture, new_figure, save_picture, show_percent
from coa.intervals import Interval
from coa.student.verdict import GateReport, Prediction
from lab.comparing import System, compare
from lab.kept import KeptRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BLUE, _RED = "#2f77a3", "#b5412f"
_MARKERS = "osD^vP"
_FEWEST = {Prediction.HARM: 3, Prediction.GAIN: 2}
"""As many measured harms and gains there should be, or an agreement proves nothing."""
_FEWEST_TRIALS = 8
_FIDELITY = {
    "well_formed": "well formed",
    "f1": "overlap",
    "answer_bearing": "answer-bearing",
    "entity_precision": "entity precision",
    "contradictions": "contradictions",
}
"""The figures of a report of evaluation.fidelity, with their titles."""


class Table(NamedTuple):
    """What an experiment shows beside exact match."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str


class Shown(NamedTuple):
    """A table and its picture."""

    table: Table
    picture: Picture


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of rl1: what the gate said, and what exact match did."""

    name: str
    simulator: str
    report: GateReport
    gain: Interval
    searches_before: float
    """Actions a question."""
    searches_after: float

    @property
    def measured(self) -> Prediction | None:
        """Return what came of it; None where it is within noise."""
        if not self.gain.excludes_zero:
            return None
        return Prediction.GAIN if self.gain.value > 0 else Prediction.HARM

    @property
    def agrees(self) -> bool:
        """Tell whether the sign of the change is the predicted one."""
        return (self.gain.value > 0) == (self.report.prediction is Prediction.GAIN)


def find_trials(systems: Sequence[System]) -> list[Trial]:
    """Find the runs of rl1 whose model was also evaluated before, by what they gained."""
    trials = []
    for system in systems:
        for kept in system.seeds:
            if "gate" not in kept.reports:
                continue
            report = msgspec.convert(kept.reports["gate"], GateReport)
            before = _before(report, kept, systems)
            if before is None:
                continue
            one_seed = System(system.row, (kept,))
            gain = compare(one_seed, System(system.row, (before,))).by_group["all"]
            assert gain is not None
            name = f"{system.row.title}, seed {kept.seed}"
            simulator, _, _ = system.row.title.partition(", from ")
            actions = [_actions(row) for row in (before, kept)]
            trials.append(Trial(name, simulator, report, gain, *actions))
    return sorted(trials, key=lambda trial: trial.gain.value)


def _before(report: GateReport, after: KeptRow, systems: Iterable[System]) -> KeptRow | None:
    """Find the row of the very weights that rl1 started from."""
    for system in systems:
        for kept in system.seeds:
            if (kept.model, kept.seed) == (report.model_fingerprint, after.seed):
                return kept
    return None


def _actions(row: KeptRow) -> float:
    found = row.metrics["all"]["num_actions"]
    return found.value if found else 0.0


def summarise(trials: Sequence[Trial]) -> str:
    """Say how often the gate was right, and whether that proves anything."""
    right = sum(trial.agrees for trial in trials)
    counts = {kind: sum(trial.measured is kind for trial in trials) for kind in Prediction}
    text = (
        f"The gate is right in {right} of {len(trials)} runs; beyond noise, "
        f"{counts[Prediction.HARM]} harm and {counts[Prediction.GAIN]} gain."
    )
    is_enough = len(trials) >= _FEWEST_TRIALS and all(
        counts[kind] >= least for kind, least in _FEWEST.items()
    )
    if not is_enough:
        text += (
            f" That proves nothing yet: it takes {_FEWEST_TRIALS} runs, 3 that harm, 2 that gain."
        )
    return text


def show_agreement(systems: Sequence[System]) -> Shown | None:
    """Hold what the gate predicted against what rl1 gained; None where no run has both."""
    trials = find_trials(systems)
    if not trials:
        return None
    rows = []
    for trial in trials:
        report = trial.report
        rows.append(
            [
                trial.name,
                _share(report.answer_bearing),
                _share(report.closed_book),
                _share(report.pays),
                str(report.prediction),
                _points(trial.gain),
                f"{trial.searches_before:.2f} to {trial.searches_after:.2f}",
                "yes" if trial.agrees else "no",
            ]
        )
    head = (
        "run",
        "P(answer in observation given search)",
        "closed book",
        "a search brings",
        "predicted",
        "gain, points",
        "searches a question",
        "agrees",
    )
    with new_figure(4.6) as figure:
        axes = figure.subplots()
        axes.axhline(0, color=QUIET, linewidth=1)
        _draw_trials(axes, trials)
        axes.set_xlabel("P(answer in observation | search) before rl1")
        axes.set_ylabel("exact match gained by rl1")
        axes.set_title("blue: the gate predicts a gain; red: a harm", loc="left", fontsize=10)
        return Shown(Table(head, rows, summarise(trials)), save_picture(figure))


def show_fidelity(systems: Iterable[System]) -> Shown | None:
    """Show how true simulated observations are; None where it was not measured."""
    rows = []
    curves: dict[str, dict[int, list[float]]] = {title: {} for title in _FIDELITY.values()}
    parts: dict[str, dict[int, list[float]]] = {"all": {}, "known": {}, "unknown": {}}
    for system in systems:
        reports = [kept.reports["fidelity"] for kept in system.seeds if "fidelity" in kept.reports]
        if not reports:
            continue
        steps = reports[0]["sft3_steps"] if _is_model(reports[0]) else None
        cells = [system.row.title, "" if steps is None else str(steps)]
        for name, title in _FIDELITY.items():
            cells.append(_spread(_figures(reports, "all", name)))
            if steps is not None:
                curves[title].setdefault(steps, []).extend(_values(reports, "all", name))
        errors = [report["all"]["calibration_error"] for report in reports]
        cells.append(_percent([error for error in errors if error is not None]))
        for part in ("known", "unknown"):
            cells.append(_spread(_figures(reports, part, "answer_bearing")))
        if steps is not None:
            for part, line in parts.items():
                line.setdefault(steps, []).extend(_values(reports, part, "answer_bearing"))
        rows.append(cells)
    if not rows:
        return None
    head = ["simulator", "steps of SFT 3", *(f"{title}, %" for title in _FIDELITY.values())]
    head += ["calibration error, %", "answer-bearing, known facts, %", "unknown facts, %"]
    caption = (
        "Simulated observations beside real ones, on held-out searches. In brackets: of one seed "
        "the 95% interval, of several the lowest and the highest."
    )
    with new_figure(3.6) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        _draw_lines(left, curves, "all held-out searches")
        _draw_lines(right, parts, "answer-bearing, by what is known from pre-training")
        return Shown(Table(head, rows, caption), save_picture(figure))


def _is_model(report: Any) -> bool:
    return report["sft3_steps"] is not None and report["simulator"].startswith("simulated/")


def _figures(reports: Iterable[Any], part: str, name: str) -> list[Interval]:
    found = [report[part][name] for report in reports]
    return [msgspec.convert(figure, Interval) for figure in found if figure is not None]


def _values(reports: Iterable[Any], part: str, name: str) -> list[float]:
    return [figure.value for figure in _figures(reports, part, name)]


def _draw_lines(axes: "Axes", lines: dict[str, dict[int, list[float]]], title: str) -> None:
    for name, points in lines.items():
        drawn = sorted((steps, _mean(values)) for steps, values in points.items() if values)
        if drawn:
            axes.plot(*zip(*drawn, strict=True), "o-", markersize=4, label=name)
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel("steps of SFT 3")
    axes.set_ylim(-0.02, 1.02)
    axes.tick_params(length=0)
    show_percent(axes.yaxis)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK)


def _draw_trials(axes: "Axes", trials: Iterable[Trial]) -> None:
    """Draw a marker for each run: its form is the simulator, its colour the prediction."""
    markers: dict[str, str] = {}
    for trial in trials:
        bearing = trial.report.answer_bearing
        place = bearing.value if bearing else 0.0
        colour = _BLUE if trial.report.prediction is Prediction.GAIN else _RED
        marker = markers.setdefault(trial.simulator, _MARKERS[len(markers) % len(_MARKERS)])
        error = [[trial.gain.value - trial.gain.low], [trial.gain.high - trial.gain.value]]
        axes.errorbar([place], [trial.gain.value], yerr=error, fmt=marker, color=colour)
    for simulator, marker in markers.items():
        axes.plot([], [], marker, color=QUIET, label=simulator)
    axes.legend(loc="lower right", fontsize=8, frameon=False, labelcolor=INK)
    axes.set_xlim(-0.02, 1.02)
    axes.tick_params(length=0)
    show_percent(axes.yaxis)


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return fmean(found) if found else 0.0


def _percent(values: Sequence[float]) -> str:
    return f"{100 * _mean(values):.1f}" if values else ""


def _spread(figures: Sequence[Interval]) -> str:
    """Write a mean over seeds in percent, with how far it may be off."""
    if not figures:
        return ""
    values = [figure.value for figure in figures]
    low, high = min(values), max(values)
    if len(figures) == 1:
        low, high = figures[0].low, figures[0].high
    return f"{_percent(values)} [{100 * low:.1f}, {100 * high:.1f}]"


def _share(interval: Interval | None) -> str:
    return "none" if interval is None else str(interval)


def _points(found: Interval) -> str:
    return f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
