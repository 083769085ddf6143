"""Write the page of the lab: reports/lab.html, all experiments with their tables and figures.

    python -m lab.page

Reads lab/*/*.json, the rows that are kept, and nothing else: no model and no params.yaml is needed.
The page is one file without scripts that needs no network; equal rows give equal bytes.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from coa.drawing import Picture
from coa.errors import ConfigError
from coa.intervals import Interval
from coa.report_page import render_report
from coa.whole_files import write_file
from lab.comparing import Findings, System, find, paper_means, watched_trainings
from lab.experiments import EXPERIMENTS
from lab.kept import GROUPS
from lab.pictures import curves, group_dots, success_by_actions, watched
from lab.records import Shows
from lab.worlds import Shown, show_agreement, show_fidelity

OUT = Path("reports/lab.html")
_TEMPLATES = Path(__file__).parent / "templates"


def draw(findings: Findings) -> list[tuple[str, Picture]]:
    """Draw the figures of an experiment, each with its caption; none where nothing is run."""
    systems = findings.systems
    if not systems:
        return []
    if findings.experiment.shows is Shows.ACTIONS:
        return [("Exact match by the number of actions.", success_by_actions(systems))]
    groups = ["single hop", "multi hop"]
    if findings.experiment.uses:
        groups = ["popular", "recent"]
    groups = [
        name for name in groups if any(system.mean("exact_match", name) for system in systems)
    ]
    figures = [("Exact match by group of questions.", group_dots(systems, groups or ["all"]))]
    drawn = curves(systems, findings.experiment.curves)
    if drawn is not None:
        figures.append(("From the log of each training; a line for each seed.", drawn))
    drawn = watched(systems)
    if drawn is not None:
        caption = "A few validation questions, asked while training; a line for each seed."
        figures.append((caption, drawn))
    return figures


def show_worlds(findings: Findings) -> Shown | None:
    """Show what simulated searches came to, where the experiment is about them."""
    match findings.experiment.shows:
        case Shows.AGREEMENT:
            return show_agreement(findings.systems)
        case Shows.FIDELITY:
            return show_fidelity(findings.systems)
        case _:
            return None


def table_rows(systems: Sequence[System]) -> list[dict[str, Any]]:
    """Return the cells of the table of systems."""
    found = []
    for system in systems:
        paper = paper_means(system.row)
        found.append(
            {
                "title": system.row.title,
                "seeds": ", ".join(str(kept.seed) for kept in system.seeds),
                "groups": [_percent(system.mean("exact_match", group)) for group in GROUPS],
                "known": _rate(system.search_rate("known")),
                "unknown": _rate(system.search_rate("unknown")),
                "actions": _number(system.mean("num_actions")),
                "broken": _percent(system.mean("is_broken")),
                "failed": sum(kept.num_failed for kept in system.seeds),
                "paper": [f"{value:.1f}" for value in paper] if paper else [""] * 3,
                "commands": sorted({f"{kept.command}, {kept.date}" for kept in system.seeds}),
            }
        )
    return found


def describe(findings: Findings) -> dict[str, Any]:
    """Return what the template shows of an experiment."""
    from markupsafe import Markup

    commands: dict[str, None] = {}  # a set that keeps the order
    rows = table_rows(findings.systems)
    for row in rows:
        commands.update(dict.fromkeys(row["commands"]))
    differences = []
    for ours, theirs, by_group in findings.comparisons():
        cells = [
            (_points(found), found is not None and found.excludes_zero)
            for found in by_group.values()
        ]
        differences.append((ours.row.title, theirs.row.title, cells))
    figures = draw(findings)
    worlds = show_worlds(findings)
    if worlds is not None:
        figures.insert(0, (worlds.table.caption, worlds.picture))
    sources = [findings.experiment.name, *findings.experiment.uses]
    return {
        "experiment": findings.experiment,
        "rows": rows,
        "has_paper": all(any(row["paper"]) for row in rows),
        "differences": differences,
        # SVG that we drew ourselves is the only text that passes unescaped.
        "figures": [(caption, Markup(picture.svg)) for caption, picture in figures],
        "worlds": worlds.table if worlds else None,
        "alarms": alarm_lines(findings.systems),
        "absent": [row.title for row in findings.absent],
        "is_registered": bool(findings.systems or findings.absent),
        "notes": findings.notes,
        "commands": list(commands),
        "to_run": [
            f"make lab EXPERIMENT={name} SEED=0"
            for name in sources
            if any(row in findings.absent for row in _rows_of(name))
        ],
        "num_questions": findings.systems[0].seeds[0].num_questions if findings.systems else 0,
        "split": findings.systems[0].seeds[0].split if findings.systems else "",
    }


def alarm_lines(systems: Sequence[System]) -> list[str]:
    """Say of each training that was watched which alarms went off, or that none did."""
    lines = []
    for training in watched_trainings(systems):
        what = f"{training.name.replace('_', ' ')} (seeds {_listed(training.seeds)})"
        went_off = []
        for name, seeds in training.alarms.items():
            went_off.append(f"{name.replace('_', ' ')} (seeds {_listed(seeds)})")
        lines.append(f"{what}: {', '.join(went_off) or 'none'}")
    return lines


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(str(seed) for seed in seeds)


def _rows_of(name: str) -> Sequence[Any]:
    return next(experiment.rows for experiment in EXPERIMENTS if experiment.name == name)


def render(found: Sequence[Findings]) -> str:
    """Render the page."""
    parts = [describe(findings) for findings in found]
    return render_report(_TEMPLATES, "lab.html", parts=parts, groups=list(GROUPS))


def _percent(found: Interval | None) -> tuple[str, str]:
    """Write a share and its interval, in percent."""
    if found is None:
        return "", ""
    return f"{100 * found.value:.1f}", f"[{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _points(found: Interval | None) -> tuple[str, str]:
    """Write a difference and its interval, in points."""
    if found is None:
        return "", ""
    return f"{100 * found.value:+.1f}", f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]"


def _number(found: Interval | None) -> str:
    return f"{found.value:.2f}" if found else ""


def _rate(found: float | None) -> str:
    return "" if found is None else f"{found:.2f}"


def main(arguments: Sequence[str]) -> str:
    """Write the page and return the summary line."""
    if arguments:
        raise ConfigError("this command takes no arguments", got=" ".join(arguments))
    found = [find(experiment) for experiment in EXPERIMENTS]
    write_file(OUT, render(found))
    num_rows = sum(len(findings.systems) for findings in found if not findings.experiment.uses)
    num_absent = sum(len(findings.absent) for findings in found if not findings.experiment.uses)
    return f"{OUT}: {num_rows} rows, {num_absent} not run; open it in a browser"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
