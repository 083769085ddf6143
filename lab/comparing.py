"""Arrange kept rows for the page: seeds side by side, groups of questions, paired differences."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from coa.intervals import Interval, mean_interval, paired_difference
from coa.student.settings import MonitorSettings
from lab.experiments import find_experiment
from lab.kept import GROUPS, ROLLOUTS, KeptRow, Point, Values, read_row
from lab.records import Experiment, Row
from train.alarms import find_alarms

FOLDER = Path("lab")
_NUM_RESAMPLES = 2000
_SEED = 0


@dataclass(frozen=True, slots=True)
class System:
    """One row of an experiment with all its seeds."""

    row: Row
    seeds: tuple[KeptRow, ...]

    def per_question(self, measure: str, group: str) -> dict[int, float]:
        """Return the mean over the seeds for each question of a group, by the question's place."""
        values: dict[int, list[float]] = defaultdict(list)
        for kept in self.seeds:
            for place, outcome in kept.questions_of(group).items():
                values[place].append(float(outcome[measure] or 0))
        return {place: sum(found) / len(found) for place, found in values.items()}

    def mean(self, measure: str, group: str = "all") -> Interval | None:
        """Return the mean over a group of questions with its interval."""
        values = list(self.per_question(measure, group).values())
        return mean_interval(values, num_resamples=_NUM_RESAMPLES, seed=_SEED)

    def search_rate(self, facts: str) -> float | None:
        """Return P(search given known or unknown), of the facts that it said it needed."""
        searched = 0
        needed = 0
        for outcome in self.outcomes():
            searched += outcome[f"searched_{facts}"] or 0
            needed += outcome[f"needed_{facts}"] or 0
        return searched / needed if needed else None

    def outcomes(self) -> list[Values]:
        """Return the outcomes of all questions, seed after seed."""
        found: list[Values] = []
        for kept in self.seeds:
            found.extend(kept.questions_of("all").values())
        return found


class Comparison(NamedTuple):
    """By how much one system is better than another, in each group of questions."""

    ours: System
    theirs: System
    by_group: dict[str, Interval | None]


@dataclass(frozen=True, slots=True)
class Findings:
    """What there is of an experiment."""

    experiment: Experiment
    systems: tuple[System, ...]
    absent: tuple[Row, ...]
    """Rows that are not run."""
    notes: tuple[str, ...]
    """What was left out, and why."""

    def comparisons(self) -> list[Comparison]:
        """Return the paired differences of exact match of which both sides are there."""
        by_name = {system.row.name: system for system in self.systems}
        found = []
        for ours, theirs in self.experiment.compares:
            if ours in by_name and theirs in by_name:
                found.append(compare(by_name[ours], by_name[theirs]))
        return found


def compare(ours: System, theirs: System) -> Comparison:
    """Compare two systems question by question, over the seeds that both have."""
    shared = {kept.seed for kept in ours.seeds} & {kept.seed for kept in theirs.seeds}
    sides = []
    for system in (ours, theirs):
        seeds = tuple(kept for kept in system.seeds if kept.seed in shared)
        sides.append(System(system.row, seeds))
    by_group = {}
    for group in GROUPS:
        first, second = (side.per_question("exact_match", group) for side in sides)
        by_group[group] = paired_difference(
            [first[place] for place in sorted(first)],
            [second[place] for place in sorted(second)],
            num_resamples=_NUM_RESAMPLES,
            seed=_SEED,
        )
    return Comparison(ours, theirs, by_group)


def find(experiment: Experiment, folder: Path = FOLDER) -> Findings:
    """Read the kept rows of an experiment, and of those that it uses.

    Raises:
        InputError: a file is not a kept row.
    """
    sources = [experiment, *(find_experiment(name) for name in experiment.uses)]
    rows = [(source, row) for source in sources for row in source.rows]
    kept = {(source.name, row.name): _read_seeds(source, row, folder) for source, row in rows}
    everything = [found for seeds in kept.values() for found in seeds]
    systems = []
    absent = []
    notes: dict[str, None] = {}  # a set that keeps the order
    for source, row in rows:
        seeds = kept[source.name, row.name]
        alike = [found for found in seeds if _is_comparable(found, everything[0])]
        if len(alike) < len(seeds):
            others = ", ".join(str(found.seed) for found in seeds if found not in alike)
            notes[
                f"{row.title}, seed {others}: left out, as it was asked other questions or made "
                "with other data than the first row; python -m lab.missing lists it"
            ] = None
        if alike:
            systems.append(System(row, tuple(alike)))
        else:
            absent.append(row)
    return Findings(experiment, tuple(systems), tuple(absent), tuple(notes))


def _read_seeds(experiment: Experiment, row: Row, folder: Path) -> list[KeptRow]:
    files = (folder / experiment.name).glob(f"{row.name}-s[0-9]*.json")
    return sorted((read_row(path) for path in files), key=lambda found: found.seed)


def _is_comparable(row: KeptRow, first: KeptRow) -> bool:
    return (row.common, row.questions) == (first.common, first.questions)


@dataclass(frozen=True, slots=True)
class Watched:
    """What the alarms say of a training that was watched by rollouts, in all its seeds."""

    name: str
    seeds: tuple[int, ...]
    alarms: dict[str, list[int]]
    """The alarms that went off, each with the seeds."""


def watched_trainings(systems: Iterable[System]) -> list[Watched]:
    """Find the alarms of train/alarms.py in the kept curves; rows share trainings."""
    found: dict[str, dict[int, set[str]]] = {}
    for system in systems:
        for kept in system.seeds:
            for training, curves in kept.curves.items():
                history = _history(curves)
                if history and kept.seed not in found.get(training, {}):
                    names = {seen.alarm.name for seen in find_alarms(history, MonitorSettings())}
                    found.setdefault(training, {})[kept.seed] = names
    watched = []
    for training, by_seed in found.items():
        alarms_of: dict[str, list[int]] = {}
        for seed, names in sorted(by_seed.items()):
            for name in sorted(names):
                alarms_of.setdefault(name, []).append(seed)
        watched.append(Watched(training, tuple(sorted(by_seed)), alarms_of))
    return watched


def _history(curves: dict[str, list[Point]]) -> list[dict[str, float]]:
    """Turn the curves of the rollouts back into the entries of a log."""
    entries: dict[float, dict[str, float]] = {}
    for quantity, points in curves.items():
        if quantity.startswith(ROLLOUTS):
            for step, value in points:
                entries.setdefault(step, {"step": step})[quantity] = value
    return [entries[step] for step in sorted(entries)]


def paper_means(row: Row) -> tuple[float, float, float] | None:
    """Return the means of the paper's six figures: single hop, multi hop, all."""
    if not row.paper:
        return None
    return _mean(row.paper[:2]), _mean(row.paper[2:]), _mean(row.paper)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def by_actions(systems: Iterable[System]) -> dict[str, dict[int, tuple[int, int]]]:
    """Count for each system and number of actions the rollouts, and those that are right."""
    found: dict[str, dict[int, tuple[int, int]]] = {}
    for system in systems:
        counts: dict[int, tuple[int, int]] = {}
        for outcome in system.outcomes():
            number = outcome["num_actions"] or 0
            right, total = counts.get(number, (0, 0))
            counts[number] = (right + (outcome["exact_match"] or 0), total + 1)
        found[system.row.title] = dict(sorted(counts.items()))
    return found
