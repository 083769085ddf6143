"""Write the page of the lab, reports/lab.html: a table for each experiment, and its differences.

    coa page lab                      # reports/lab.html
    coa page lab folder=lab/smollm    # reports/smollm.html

Reads experiments.yaml and the rows that are kept, and nothing else: no model and no params.yaml
is needed. The page is one file without scripts that needs no network; equal rows give equal bytes.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coa.intervals import Interval, Over, difference_over, mean_interval
from coa.pages.report_page import render_report
from coa.store.whole_files import write_file
from lab.kept import GROUPS, KeptRow, read_row, row_path
from lab.plan import plan_path, read_plan
from lab.records import FOLDER, Experiment, Lab, Row, folder_of, read_lab

REPORTS = Path("reports")
_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class System:
    """One row of an experiment with all its seeds."""

    name: str
    row: Row
    seeds: tuple[KeptRow, ...]

    def mean(self, measure: str, group: str = "all") -> Interval | None:
        """Return the mean over a group of questions; a question counts with its mean over seeds."""
        by_seed = values_of(self.seeds, measure, group)
        if not by_seed:
            return None
        values = [sum(column) / len(column) for column in zip(*by_seed, strict=True)]
        return mean_interval(values)


def values_of(seeds: Sequence[KeptRow], measure: str, group: str) -> list[list[float]]:
    """Return for each seed that was evaluated a number for each question of a group."""
    found = []
    for kept in seeds:
        if kept.num_questions:
            outcomes = kept.questions_of(group).values()
            found.append([float(outcome[measure] or 0) for outcome in outcomes])
    return found


def find_systems(
    lab: Lab, experiment: Experiment, folder: Path = FOLDER
) -> tuple[list[System], list[str]]:
    """Read the kept rows of an experiment, and say which of them are left out or stale.

    Raises:
        InputError: a file is not a kept row.
    """
    systems = []
    notes = []
    asked: dict[str, str] = {}
    for name in experiment.rows:
        row = lab.rows[name]
        seeds = []
        for seed in lab.seeds:
            path = row_path(name, seed, folder)
            if not path.is_file():
                continue
            kept = read_row(path)
            title = f"{row.title}, seed {seed}"
            if kept.common != asked.setdefault("common", kept.common) or (
                kept.questions and kept.questions != asked.setdefault("questions", kept.questions)
            ):
                notes.append(f"{title}: left out, as it was asked other questions, or otherwise")
                continue
            planned = plan_path(name, seed, folder)
            if planned.is_file() and read_plan(name, seed, folder).hash != kept.plan:
                notes.append(f"{title}: made with other settings, data or code than there are now")
            seeds.append(kept)
        systems.append(System(name, row, tuple(seeds)))
    return systems, notes


def compare(ours: System, theirs: System, over: Over, group: str = "all") -> Interval | None:
    """Compare exact match over the seeds that both have; None where that cannot be said."""
    shared = _evaluated(ours) & _evaluated(theirs)
    sides = []
    for system in (ours, theirs):
        seeds = [kept for kept in system.seeds if kept.seed in shared]
        sides.append(values_of(seeds, "exact_match", group))
    return difference_over(over, sides[0], sides[1])


def _evaluated(system: System) -> set[int]:
    return {kept.seed for kept in system.seeds if kept.num_questions}


def describe(lab: Lab, name: str, folder: Path = FOLDER) -> dict[str, Any]:
    """Return what the template shows of an experiment."""
    experiment = lab.experiments[name]
    systems, notes = find_systems(lab, experiment, folder)
    kept = [system for system in systems if system.seeds]
    by_name = {system.name: system for system in kept}
    groups = []
    for group in GROUPS:
        if any(system.mean("exact_match", group) for system in kept):
            groups.append(group)
    differences = []
    for ours, theirs in experiment.compares:
        if ours in by_name and theirs in by_name:
            differences += _differences(by_name[ours], by_name[theirs], groups)
    first = kept[0].row if kept else None
    machines = set()
    for system in kept:
        for found in system.seeds:
            parts = [f"{key} {value}" for key, value in sorted(found.machine.items())]
            machines.add(", ".join(parts))
    targets = []
    for system in systems:
        there = {found.seed for found in system.seeds}
        targets += [f"row@{system.name}-{seed}" for seed in lab.seeds if seed not in there]
    return {
        "name": name,
        "experiment": experiment,
        "groups": groups,
        "knows_facts": "popular" in groups,
        "rows": [_cells(system, experiment, groups) for system in kept],
        "has_paper": any(system.row.paper for system in kept),
        "has_gate": any(found.gate for system in kept for found in system.seeds),
        "differences": differences,
        "notes": notes,
        "machines": sorted(machines),
        "absent": [system.row.title for system in systems if not system.seeds],
        "targets": targets,
        "asked": f"{first.num_questions:,} questions of the split {first.split}" if first else "",
    }


def _cells(system: System, experiment: Experiment, groups: Sequence[str]) -> dict[str, Any]:
    """Return the figures of one row of the table, which the template writes."""
    seeds = system.seeds
    paper = system.row.paper
    logged = []
    for quantity in experiment.shows:
        logged.append(
            [(kept.seed, *kept.logged[quantity]) for kept in seeds if quantity in kept.logged]
        )
    return {
        "title": system.row.title,
        "seeds": [(kept.seed, kept.mean("exact_match")) for kept in seeds],
        "groups": [system.mean("exact_match", group) for group in groups],
        "f1": _average(kept.figures().get("f1") for kept in seeds),
        "forced": _average(kept.mean("is_forced") for kept in seeds),
        "known": _average(kept.search_rate("known") for kept in seeds),
        "unknown": _average(kept.search_rate("unknown") for kept in seeds),
        "actions": _average(kept.mean("num_actions") for kept in seeds),
        "broken": _average(kept.mean("is_broken") for kept in seeds),
        "failed": sum(kept.num_failed for kept in seeds),
        "paper": sum(paper) / len(paper) if paper else None,
        "gate": [(kept.seed, kept.gate) for kept in seeds if kept.gate],
        "logged": logged,
    }


def _average(values: Iterable[float | None]) -> float | None:
    """Return the mean of the seeds' figures; None where no seed has one."""
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


def _differences(ours: System, theirs: System, groups: Sequence[str]) -> list[dict[str, Any]]:
    """Return a line for each way of drawing that the seeds allow."""
    lines = []
    for over in Over:
        cells = [compare(ours, theirs, over, group) for group in groups]
        if any(cells):
            num_seeds = len(_evaluated(ours) & _evaluated(theirs))
            lines.append(
                {
                    "title": f"{ours.row.title} over {theirs.row.title}",
                    "over": f"{over}, {num_seeds} seed{'s' if num_seeds > 1 else ''}",
                    "cells": cells,
                }
            )
    return lines


def main(arguments: Sequence[str]) -> str:
    """Write the page of a lab, and return the summary line."""
    folder = folder_of(arguments)
    lab = read_lab(folder)
    parts = [describe(lab, name, folder) for name in lab.experiments]
    page = render_report(_TEMPLATES, "lab.html", parts=parts, lab=folder)
    out = REPORTS / f"{folder.name}.html"
    write_file(out, page)
    kept = []
    for name in lab.rows:
        if any(row_path(name, seed, folder).is_file() for seed in lab.seeds):
            kept.append(name)
    return f"{out}: {len(kept)} of {len(lab.rows)} rows; open it in a browser"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
