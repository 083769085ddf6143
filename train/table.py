"""Write all results as one table and one picture, and say what differs beyond noise.

    python -m train.table

Reads results/evaluate/*.json; writes results/table.md and results/table.png, in the order of the
paper's Table 1, with a part for each set of questions. Results `sft2-s0`, `sft2-s1`, ... are the
seeds of one row: a question counts with its mean over them. Rows that have no result are left out.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from coa.errors import ConfigError, InputError, writing_error
from coa.params import Params
from coa.whole_files import replacing
from train.intervals import Interval, mean_interval, paired_difference
from train.outcomes import FOLDER, MEASURES, Outcome, Result, read_result
from train.results import write_text

OUT = Path("results/table.md")
PICTURE = Path("results/table.png")
_SEED = re.compile(r"-s[0-9]+\Z")
_PERCENT = {
    "exact_match": "EM",
    "cover_exact_match": "cover EM",
    "f1": "F1",
    "exact_match_no_search_needed": "EM, no search needed",
    "exact_match_search_needed": "EM, search needed",
    "needless_search": "needless search",
    "broken_format": "broken format",
}
"""Columns in percent; the actions a question are not a share."""


@dataclass(frozen=True, slots=True)
class TableParams:
    """Which rows are in the table, and which of them are compared."""

    rows: dict[str, str] = field(default_factory=dict)
    """The name of a result to the system it is, in the order of the table; other results follow
    under their names."""
    compares: tuple[tuple[str, str], ...] = ()
    """Pairs of names: by how much the first is better than the second."""
    seed: int = 0
    """Of the bootstrap."""
    num_resamples: int = 2000
    """Of the bootstrap."""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One system: its seeds side by side."""

    name: str
    title: str
    results: tuple[Result, ...]

    def outcomes(self) -> list[Outcome]:
        """Return what became of every question, seed after seed."""
        found: list[Outcome] = []
        for result in self.results:
            found.extend(result.rows())
        return found

    def per_question(self, measure: str) -> dict[str, float]:
        """Return the mean over the seeds for each question to which the measure applies."""
        values: dict[str, list[float]] = defaultdict(list)
        for outcome in self.outcomes():
            value = MEASURES[measure](outcome)
            if value is not None:
                values[outcome.question_id].append(float(value))
        return {question_id: sum(found) / len(found) for question_id, found in values.items()}


def arrange(results: Iterable[Result], titles: dict[str, str]) -> list[ResultRow]:
    """Group results into rows, in the order of the titles; what they do not name follows.

    Raises:
        InputError: the results are not about the same search.
    """
    by_name: dict[str, list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda result: result.setting.name):
        by_name[_SEED.sub("", result.setting.name)].append(result)
    _check_comparable(chain.from_iterable(by_name.values()))
    names = [name for name in titles if name in by_name]
    names += [name for name in sorted(by_name) if name not in titles]
    return [ResultRow(name, titles.get(name, name), tuple(by_name[name])) for name in names]


def by_questions(results: Iterable[Result]) -> list[list[Result]]:
    """Part the results by the questions that were asked, validation first.

    Only results on equal questions can be compared.
    """
    groups: dict[tuple[bool, str, str], list[Result]] = defaultdict(list)
    for result in results:
        setting = result.setting
        groups[setting.split != "validation", setting.split, setting.questions].append(result)
    return [groups[key] for key in sorted(groups)]


def _check_comparable(results: Iterable[Result]) -> None:
    """Refuse results that were made with another search; without a tool there is none."""
    found: dict[str, str] = {}
    for result in results:
        if result.setting.search:
            found.setdefault(result.setting.search, result.setting.name)
    if len(found) > 1:
        raise InputError(
            "results cannot be in one table: they differ in search",
            got=", ".join(f"{name}: {value}" for value, name in found.items()),
            fix=f"evaluate again, or move the others out of {FOLDER}",
        )


def difference(
    first: ResultRow, second: ResultRow, measure: str, params: TableParams
) -> Interval | None:
    """Measure by how much `first` is better, question by question."""
    ours = first.per_question(measure)
    theirs = second.per_question(measure)
    shared = sorted(ours.keys() & theirs.keys())
    return paired_difference(
        [ours[key] for key in shared],
        [theirs[key] for key in shared],
        num_resamples=params.num_resamples,
        seed=params.seed,
    )


_HEAD = """## {num:,} questions of the split {split}

Questions `{questions}`, search `{search}`. In percent, with 95% bootstrap intervals over \
questions; a question counts
with its mean over the seeds."""
_DIFFERENCES = """### Paired differences

In points of exact match, question by question; bold where the interval excludes zero."""
_BY_HOPS = """### Exact match by hops

By the number of facts that a question joins; in brackets the number of rollouts."""
_BY_ACTIONS = """### Exact match by actions

By the number of actions that the rollout took; in brackets the number of rollouts."""


def write_markdown(rows: Sequence[ResultRow], params: TableParams) -> str:
    """Write the part of the page about one set of questions."""
    first = rows[0].results[0]
    searches = [row.results[0].setting.search for row in rows if row.results[0].setting.search]
    head = _HEAD.format(
        num=first.num_questions,
        split=_escaped(first.setting.split),
        questions=first.setting.questions,
        search=(searches or ["none"])[0].replace("`", ""),
    )
    parts = [head, "\n".join(_main_table(rows, params))]
    differences = "\n".join(_differences(rows, params))
    if differences:
        parts += [_DIFFERENCES, differences]
    parts += [_BY_HOPS, "\n".join(_by(rows, "num_hops"))]
    parts += [_BY_ACTIONS, "\n".join(_by(rows, "num_actions"))]
    return "\n\n".join(parts) + "\n"


def _main_table(rows: Sequence[ResultRow], params: TableParams) -> Iterator[str]:
    heads = [
        "system",
        "seeds",
        *_PERCENT.values(),
        "actions",
        "P(search given known)",
        "P(search given unknown)",
    ]
    yield _line(heads)
    yield _line(["---"] * len(heads))
    for row in rows:
        shares = [_percent(_mean(row, measure, params)) for measure in _PERCENT]
        actions = _mean(row, "actions", params)
        rates = [_rate(row, "known"), _rate(row, "unknown")]
        shown_actions = f"{actions.value:.2f}" if actions else ""
        seeds = str(len(row.results))
        yield _line([_escaped(row.title), seeds, *shares, shown_actions, *rates])


def _differences(rows: Sequence[ResultRow], params: TableParams) -> Iterator[str]:
    by_name = {row.name: row for row in rows}
    pairs: list[tuple[ResultRow, ResultRow]] = []
    for first, second in params.compares:
        if first in by_name and second in by_name:
            pairs.append((by_name[first], by_name[second]))
    if pairs:
        yield _line(["", "all", "no search needed", "search needed"])
        yield _line(["---"] * 4)
    for ours, theirs in pairs:
        measures = ("exact_match", "exact_match_no_search_needed", "exact_match_search_needed")
        cells = [_points(difference(ours, theirs, measure, params)) for measure in measures]
        yield _line([f"{_escaped(ours.title)} over {_escaped(theirs.title)}", *cells])


def _by(rows: Sequence[ResultRow], attribute: str) -> Iterator[str]:
    """Yield the lines of a table of exact match, a column for each value of the attribute."""
    groups: dict[str, dict[int, list[float]]] = {row.name: defaultdict(list) for row in rows}
    for row in rows:
        for outcome in row.outcomes():
            key: int | None = getattr(outcome, attribute)
            if key is not None:
                groups[row.name][key].append(float(outcome.exact_match))
    keys = sorted(set(chain.from_iterable(groups.values())))
    yield _line(["system", *map(str, keys)])
    yield _line(["---"] * (len(keys) + 1))
    for row in rows:
        cells = [_show_group(groups[row.name].get(key, [])) for key in keys]
        yield _line([_escaped(row.title), *cells])


def _show_group(values: Sequence[float]) -> str:
    """Show a mean in percent and of how many it is."""
    if not values:
        return ""
    return f"{100 * sum(values) / len(values):.1f} ({len(values):,})"


def _mean(row: ResultRow, measure: str, params: TableParams) -> Interval | None:
    values = list(row.per_question(measure).values())
    return mean_interval(values, num_resamples=params.num_resamples, seed=params.seed)


def _rate(row: ResultRow, group: str) -> str:
    """Show searches over needs, all seeds together."""
    searched = 0
    needed = 0
    for outcome in row.outcomes():
        searched += getattr(outcome, f"searched_{group}")
        needed += getattr(outcome, f"needed_{group}")
    return f"{searched / needed:.2f}" if needed else ""


def _percent(found: Interval | None) -> str:
    if found is None:
        return ""
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def _points(found: Interval | None) -> str:
    if found is None:
        return ""
    text = f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"**{text}**" if found.excludes_zero else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """Escape a name: it is a file's, and may hold anything."""
    return re.sub(r"([|`<>*_\[\]\\])", r"\\\1", " ".join(text.split()))


def draw(groups: Sequence[Sequence[ResultRow]], params: TableParams, path: Path) -> None:
    """Draw the exact match of every row with its interval, a panel for each set of questions.

    The first row is on top.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    heights = [0.6 + 0.4 * len(rows) for rows in groups]
    figure = Figure(figsize=(7.5, sum(heights)), layout="constrained")
    grid = figure.subplots(len(groups), squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, rows in zip(grid[:, 0], groups, strict=True):
        _draw_rows(axes, rows, params)
    try:
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=120, metadata={"Software": None})
    except OSError as error:
        raise writing_error(path, error) from error


def _draw_rows(axes: Any, rows: Sequence[ResultRow], params: TableParams) -> None:
    means = [_mean(row, "exact_match", params) for row in rows]
    shown = [(row.title, mean) for row, mean in zip(rows, means, strict=True) if mean]
    values = [100 * mean.value for _, mean in shown]
    errors = [
        [100 * (mean.value - mean.low) for _, mean in shown],
        [100 * (mean.high - mean.value) for _, mean in shown],
    ]
    axes.barh(
        range(len(shown)),
        values,
        xerr=errors,
        color="#2f77a3",
        ecolor="#1f2933",
        capsize=3,
        height=0.65,
    )
    axes.set_yticks(range(len(shown)), [title for title, _ in shown], parse_math=False)
    axes.set_ylim(len(shown) - 0.5, -0.5)  # from the top
    first = rows[0].results[0]
    axes.set_xlabel(
        f"exact match (%), {first.num_questions:,} questions, {first.setting.split}; 95% interval"
    )
    axes.spines[["top", "right"]].set_visible(False)


def main(arguments: Sequence[str]) -> str:
    """Write the table and the picture, and return the summary line."""
    params = Params.load("table", arguments).section(TableParams)
    files = sorted(FOLDER.glob("*.json"))
    if not files:
        raise ConfigError(
            f"there is no result in {FOLDER}",
            fix="make one: python -m train.evaluate model=data/train/sft2",
        )
    results = [read_result(path) for path in files]
    groups = [arrange(group, params.rows) for group in by_questions(results)]
    parts = [write_markdown(rows, params) for rows in groups]
    write_text(OUT, "\n".join(["# Results\n", *parts]))
    draw(groups, params, PICTURE)
    num_systems = sum(len(rows) for rows in groups)
    return f"{OUT}: {num_systems} systems from {len(files)} results; {PICTURE}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
