"""Draw how true a world model becomes over the steps of SFT 3.

    python -m train.fidelity_curve

Reads results/fidelity/*.json of models that SFT 3 trained, by their steps (`make worlds` trains and
measures them), and writes results/fidelity_curve.png and results/fidelity_curve.md.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coa.errors import InputError
from train.fidelity import COMMAND, FOLDER, Fidelity, Report
from train.intervals import Interval
from train.results import read_json, write_text
from train.table_cells import join_cells
from train.table_picture import save_figure

OUT = Path("results/fidelity_curve.md")
PICTURE = Path("results/fidelity_curve.png")
_FIGURES = {
    "well_formed": "well formed",
    "f1": "overlap",
    "answer_bearing": "answer-bearing",
    "entity_precision": "entity precision",
    "contradictions": "contradictions",
}


def read_reports() -> list[Report]:
    """Read the reports of models of SFT 3, by their steps.

    Raises:
        InputError: there are none, or one is broken.
    """
    reports = []
    for path in sorted(FOLDER.glob("*.json")):
        report = read_json(path, Report, command=COMMAND)
        if report.sft3_steps is not None and report.simulator.startswith("simulated/"):
            reports.append(report)
    if not reports:
        raise InputError(
            "no fidelity of a model of SFT 3 was measured",
            where=FOLDER,
            fix=f"make worlds SEED=0, or {COMMAND} model=data/train/sft3",
        )
    return sorted(reports, key=lambda report: (report.sft3_steps or 0, report.model))


def to_markdown(reports: Sequence[Report]) -> str:
    """Write a row for each report, with known and unknown facts apart."""
    head = ["SFT 3 steps", "model", *_FIGURES.values(), "calibration error"]
    head += ["answer-bearing, known facts", "answer-bearing, unknown facts"]
    lines = [join_cells(head), join_cells(["---"] * len(head))]
    for report in reports:
        cells = [str(report.sft3_steps), Path(report.model).name]
        cells += [_shown(_figure(report.all, name)) for name in _FIGURES]
        cells.append(_shown(report.all.calibration_error))
        cells += [_shown(report.known.answer_bearing), _shown(report.unknown.answer_bearing)]
        lines.append(join_cells(cells))
    return "\n".join(["# Fidelity over the steps of SFT 3", "", *lines, ""])


def _figure(found: Fidelity, name: str) -> Interval | None:
    figure: Interval | None = getattr(found, name)
    return figure


def _shown(figure: object) -> str:
    return "none" if figure is None else str(figure)


def draw(reports: Sequence[Report], path: Path) -> None:
    """Draw all figures, and answer-bearing observations by known and unknown facts.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    for name, title in _FIGURES.items():
        _line(left, [(report, _figure(report.all, name)) for report in reports], title)
    for part in ("all", "known", "unknown"):
        found = [(report, _figure(getattr(report, part), "answer_bearing")) for report in reports]
        _line(right, found, part)
    left.set_title("all held-out searches", fontsize=10)
    right.set_title("answer-bearing, by what is known from pre-training", fontsize=10)
    for axes in (left, right):
        axes.set_xlabel("steps of SFT 3")
        axes.set_ylim(-0.02, 1.02)
        axes.legend(fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _line(axes: Any, found: Sequence[tuple[Report, Interval | None]], title: str) -> None:
    """Draw one figure over the steps; several seeds of a step are points of one line's mean."""
    points: dict[int, list[float]] = {}
    for report, figure in found:
        if figure is not None:
            points.setdefault(report.sft3_steps or 0, []).append(figure.value)
    means = [sum(values) / len(values) for values in points.values()]
    axes.plot(list(points), means, "o-", markersize=4, label=title)


def main(arguments: Sequence[str]) -> str:
    """Write table and picture, and return the summary line."""
    if arguments:
        raise InputError("the command takes no settings", got=" ".join(arguments))
    reports = read_reports()
    write_text(OUT, to_markdown(reports))
    draw(reports, PICTURE)
    first, last = reports[0].sft3_steps, reports[-1].sft3_steps
    return f"{PICTURE}: {len(reports)} models of SFT 3, {first} to {last} steps"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
