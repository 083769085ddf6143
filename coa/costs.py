"""Print what all stages have paid: calls, tokens, seconds and dollars by stage and by model.

    coa costs                        # with the prices of params.yaml, section `costs`
    coa costs 'costs.models={deepseek-chat: {input: 0.28, output: 0.42}}'

Reads the journals in .journal/, also while a run is under way, and writes nothing. A journal holds
each paid call once, those of earlier settings included. Calls that it answered are counted apart.
The shards of a stage count together with it; one that runs now is counted when it is over.
What is kept of trajectories is read from the filter's file, of pairs from the fork's.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import msgspec

from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.trajectory import Author, Mode, Step
from coa.rollout.runtime import JOURNALS
from coa.settings.params import Params
from coa.shards.files import SHARDS, whole_name
from coa.spending.ledger import Spending, Tally, price_journal
from coa.spending.prices import CostParams
from coa.store import tables
from coa.store.files import DATA, FILTERED, KEPT, PAIRS, SAMPLED
from coa.store.journal import CallKind, JournalReader, Runs, add_runs, is_open

_MAX_STAGE = 17
_MAX_MODEL = 19
"""Characters of the names that are shown, so that a line has at most 100 columns."""
_MAX_EXACT = 10_000_000
"""Calls from here on are rounded."""
_LEAST_SHOWN = 0.001
_COSTS = (
    "stage",
    "model or search",
    "calls",
    "context",
    "cached",
    "written",
    "reasoning",
    "seconds",
    "dollars",
)
_YIELDS = (
    "stage",
    "run for",
    "replayed",
    "trajectories/h",
    "kept rows",
    "tokens/kept",
    "dollars/kept",
)
_SECONDS_PER_HOUR = 3600


class Kept(NamedTuple):
    """The rows that were kept of what a stage wrote."""

    num_rows: int
    """Rows that calls in the stage's journals have written."""
    path: Path
    num_others: int
    """Rows that another run has written, whose calls are not there."""


@dataclass(frozen=True, slots=True)
class StageCosts:
    """What one stage paid, and what came of it."""

    name: str
    """The name of its journal."""
    spending: Spending
    runs: Runs
    kept: Kept | None
    """None where it is not known which rows were kept."""
    num_running: int = 0
    """Shards that run now, and that are not counted yet."""


def read_stages(folder: Path, prices: CostParams) -> list[StageCosts]:
    """Read what every stage paid from the journals of a folder."""
    journals: dict[str, list[Path]] = {path.stem: [path] for path in folder.glob("*.sqlite")}
    for path in sorted((folder / SHARDS.name).glob("*/*/*.sqlite")):
        name = whole_name(path.parent.parent.name, path.name)
        journals.setdefault(name, []).append(path)
    stages = []
    for name in sorted(journals):
        spending = Spending()
        runs = Runs()
        num_running = 0
        read: list[Path] = []
        for path in journals[name]:
            if path.parent != folder and is_open(path):
                num_running += 1
                continue
            with JournalReader(path) as journal:
                spending.add(price_journal(journal, prices))
                runs = add_runs(runs, journal.runs())
            read.append(path)
        stages.append(StageCosts(name, spending, runs, count_kept(name, read), num_running))
    return stages


class _Written(msgspec.Struct):
    """The part of a policy's reply that trajectories hold."""

    text: str


def count_kept(stage: str, journals: Sequence[Path]) -> Kept | None:
    """Count the rows that were kept of a stage's; None for stages without such rows.

    A sample's journal is named after its folder and mode (`coa/settings/outputs.py`): `sample-coa`,
    or `student-sample-coa` for data/student/sample, whose filter writes to data/student/filter.
    """
    path, rows = _kept_rows(stage)
    if not path.is_file():
        return None
    wanted: set[int] = set()
    needed: list[list[list[int]]] = []
    for sides in rows:
        needed.append([[hash(text) for text in _stretches(steps)] for steps in sides])
        for side in needed[-1]:
            wanted.update(side)
    found: set[int] = set()
    decoder = msgspec.json.Decoder(_Written)
    for journal in journals:
        with JournalReader(journal) as reader:
            for _, _, reply in reader.replies(CallKind.POLICY):
                with suppress(msgspec.DecodeError):
                    found.add(hash(decoder.decode(reply).text))
    found &= wanted
    num_rows = 0
    for sides_needed in needed:
        num_rows += any(side and found.issuperset(side) for side in sides_needed)
    return Kept(num_rows, path, len(needed) - num_rows)


def _kept_rows(stage: str) -> tuple[Path, Iterator[list[Sequence[Step]]]]:
    """Return the file of a stage's kept rows, and of each row what its stage may have written.

    One side of a pair may be its parent's.
    """
    if stage == "branch":
        pairs = tables.read_table(PAIRS, PreferencePair)
        return PAIRS, ([pair.chosen, pair.rejected] for pair in pairs)
    # A sign inside a folder's name is doubled.
    parts = [part.replace("--", "-") for part in re.split(r"(?<!-)-(?!-)", stage)]
    if len(parts) < 2 or parts[-2] != SAMPLED.name or parts[-1] not in set(Mode):
        return Path(), iter(())
    path = DATA.joinpath(*parts[:-2], FILTERED.name, KEPT.name)
    rows = tables.read_table(path, GradedTrajectory)
    kept = (row.trajectory.steps for row in rows if row.trajectory.mode == parts[-1])
    return path, ([steps] for steps in kept)


def _stretches(steps: Sequence[Step]) -> Iterator[str]:
    """Yield each text that the policy wrote in one reply."""
    for is_own, stretch in groupby(steps, lambda step: step.author is Author.POLICY):
        if is_own:
            yield "".join(step.text for step in stretch)


def cost_rows(stage: StageCosts) -> list[tuple[str, ...]]:
    """Return the rows of a stage in the table of costs: its models, then its engines."""
    models, engines = [], []
    for name, tally in sorted(stage.spending.tallies.items()):
        if not tally.requests:
            models.append((_short(name, _MAX_MODEL), *_figures(tally)))
            continue
        figures = (_calls(tally.requests), *[""] * 4, _number(tally.seconds), _dollars(tally))
        engines.append((f"{name}: requests", *figures))
    rows = []
    label = _short(stage.name, _MAX_STAGE)
    for row in (*models, *engines):
        rows.append((label, *row))
        label = ""
    return rows


def yield_row(stage: StageCosts) -> tuple[str, ...]:
    """Return the row of a stage in the table of what it made."""
    runs = stage.runs
    total = stage.spending.total
    per_hour = runs.rollouts / runs.seconds * _SECONDS_PER_HOUR if runs.seconds else None
    num_kept = stage.kept.num_rows if stage.kept else 0
    dollars = total.known_dollars
    return (
        _short(stage.name, _MAX_STAGE),
        _duration(runs.seconds) if runs.seconds else "",
        _calls(runs.replayed) if runs.number else "",
        _number(per_hour) if runs.rollouts and per_hour else "",
        "" if stage.kept is None else _calls(num_kept),
        _number(total.tokens / num_kept) if num_kept else "",
        f"{dollars / num_kept:,.3g}" if num_kept and dollars is not None else "",
    )


def render(stages: Sequence[StageCosts]) -> str:
    """Return both tables as text of at most 100 columns, and what is not known."""
    rows: list[tuple[str, ...]] = []
    spending = Spending()
    for stage in stages:
        rows.extend(cost_rows(stage))
        spending.add(stage.spending)
    rows.append(("all stages", "", *_figures(spending.total)))
    parts = [
        _table([_COSTS, *rows], num_names=2),
        _table([_YIELDS, *[yield_row(stage) for stage in stages]], num_names=1),
        *_notes(stages, spending),
    ]
    return "\n\n".join(parts)


def _notes(stages: Sequence[StageCosts], spending: Spending) -> list[str]:
    notes = []
    for stage in stages:
        if stage.num_running:
            notes.append(f"{stage.num_running} shards of {stage.name} run now: not counted yet.")
        if stage.kept and stage.kept.num_others:
            others = f"{stage.kept.num_others:,} rows of {stage.kept.path}"
            notes.append(f"{others} are not of {stage.name}'s calls: not counted as kept.")
    if spending.num_free:
        free = f"{spending.num_free:,} calls of tools sent no request"
        notes.append(f"{free}: they are free, and not listed.")
    unpriced = [name for name, tally in sorted(spending.tallies.items()) if tally.unpriced_calls]
    if unpriced:
        names = "\n".join(f"  {name}" for name in unpriced)
        notes.append(f"Without a price in the section costs.models, so without dollars:\n{names}")
    estimated = spending.total.estimated_calls
    if estimated:
        notes.append(f"The tokens of {estimated:,} calls are not the server's own count.")
    return notes


def _figures(tally: Tally) -> tuple[str, ...]:
    counts = (
        tally.context_tokens,
        tally.cached_tokens,
        tally.written_tokens,
        tally.reasoning_tokens,
        tally.seconds,
    )
    return (_calls(tally.calls), *map(_number, counts), _dollars(tally))


def _dollars(tally: Tally) -> str:
    dollars = tally.known_dollars
    if dollars is None:
        return "not known"
    return f"{dollars:,.2f}" if dollars >= 100 else f"{dollars:,.4f}"


def _duration(seconds: float) -> str:
    """Write a time: 12.3 s, or 3:25:45 from a minute on."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _calls(count: int) -> str:
    return f"{count:,}" if count < _MAX_EXACT else _number(count)


def _number(value: float) -> str:
    """Write a count in few signs: 0, 0.25, 950, 12.3 k, 4.56 M."""
    unit = ""
    for size, name in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if value >= size:
            value /= size
            unit = name
            break
    if value < _LEAST_SHOWN:
        return "0"
    shown = f"{value:.3g}" if value < 100 else f"{value:.0f}"
    return f"{shown}{unit}"


def _short(name: str, max_chars: int) -> str:
    return name if len(name) <= max_chars else f"{name[: max_chars - 3]}..."


def _table(rows: Sequence[Sequence[str]], num_names: int) -> str:
    """Align rows of cells, the names to the left and the numbers to the right."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        cells = []
        for i, (cell, width) in enumerate(zip(row, widths, strict=True)):
            cells.append(cell.ljust(width) if i < num_names else cell.rjust(width))
        lines.append(" ".join(cells).rstrip())
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> str:
    """Return the tables."""
    prices = Params.load("costs", arguments).section(CostParams)
    stages = read_stages(JOURNALS, prices)
    if not stages:
        return f"there is no journal in {JOURNALS}/: nothing was paid yet"
    return render(stages)


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
