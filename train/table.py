"""All results to one table and one picture, in the order of the paper's Table 1, and what differs beyond noise.

    python -m train.table

Reads results/evaluate/*.json; writes results/table.md and results/table.png, with a part for each set of questions.
Results `sft2-s0`, `sft2-s1`, ... are the seeds of one row: a question counts with its mean over them. Rows that have no
result are left out.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
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
"""Columns in percent; the actions a question are no share."""


@dataclass(frozen=True, slots=True)
class TableParams:
    """Which rows stand in the table, and which of them are compared."""

    rows: dict[str, str] = field(default_factory=dict)
    """The name of a result to the system it is, in the order of the table; other results follow under their names."""
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
        """What became of every question, seed after seed."""
        return [outcome for result in self.results for outcome in result.rows()]

    def per_question(self, measure: str) -> dict[str, float]:
        """The mean over the seeds for each question to which the measure applies."""
        values: dict[str, list[float]] = defaultdict(list)
        for outcome in self.outcomes():
            value = MEASURES[measure](outcome)
            if value is not None:
                values[outcome.question_id].append(float(value))
        return {question_id: sum(found) / len(found) for question_id, found in values.items()}


def arrange(results: Iterable[Result], titles: dict[str, str]) -> list[ResultRow]:
    """Results to rows, in the order of the titles; what they do not name follows.

    Raises:
        InputError: the results are not about the same search.
    """
    by_name: dict[str, list[Result]] = defaultdict(list)
    for result in sorted(results, key=lambda result: result.setting.name):
        by_name[_SEED.sub("", result.setting.name)].append(result)
    _check_comparable([result for group in by_name.values() for result in group])
    names = [
        *(name for name in titles if name in by_name),
        *(name for name in sorted(by_name) if name not in titles),
    ]
    return [ResultRow(name, titles.get(name, name), tuple(by_name[name])) for name in names]


def by_questions(results: Iterable[Result]) -> list[list[Result]]:
    """The results apart by the questions that were asked, validation first: only equal questions can be compared."""
    groups: dict[tuple[bool, str, str], list[Result]] = defaultdict(list)
    for result in results:
        setting = result.setting
        groups[setting.split != "validation", setting.split, setting.questions].append(result)
    return [groups[key] for key in sorted(groups)]


def _check_comparable(results: Sequence[Result]) -> None:
    found: dict[str, str] = {}
    for result in results:
        if value := result.setting.search:  # without a tool there is no search
            found.setdefault(value, result.setting.name)
    if len(found) > 1:
        raise InputError(
            "results cannot stand in one table: they differ in search",
            got=", ".join(f"{name}: {value}" for value, name in found.items()),
            fix=f"evaluate again, or move the others out of {FOLDER}",
        )


def difference(
    first: ResultRow, second: ResultRow, measure: str, params: TableParams
) -> Interval | None:
    """By how much `first` is better, question by question."""
    ours, theirs = first.per_question(measure), second.per_question(measure)
    shared = sorted(ours.keys() & theirs.keys())
    return paired_difference(
        [ours[key] for key in shared],
        [theirs[key] for key in shared],
        num_resamples=params.num_resamples,
        seed=params.seed,
    )


_HEAD = """## {num:,} questions of the split {split}

Questions `{questions}`, search `{search}`. In percent, with 95% bootstrap intervals over questions; a question counts
with its mean over the seeds."""
_DIFFERENCES = """### Paired differences

In points of exact match, question by question; bold where the interval excludes zero."""
_BY_HOPS = """### Exact match by hops

By the number of facts that a question joins; in brackets the number of rollouts."""
_BY_ACTIONS = """### Exact match by actions

By the number of actions that the rollout took; in brackets the number of rollouts."""


def write_markdown(rows: Sequence[ResultRow], params: TableParams) -> str:
    """The part of the page about one set of questions."""
    first = rows[0].results[0]
    searches = [row.results[0].setting.search for row in rows if row.results[0].setting.search]
    head = _HEAD.format(
        num=first.num_questions,
        split=_escaped(first.setting.split),
        questions=first.setting.questions,
        search=(searches or ["none"])[0].replace("`", ""),
    )
    parts = [head, _main_table(rows, params)]
    if compared := list(_differences(rows, params)):
        parts += [_DIFFERENCES, compared]
    parts += [_BY_HOPS, _by(rows, "num_hops"), _BY_ACTIONS, _by(rows, "num_actions")]
    return "\n\n".join(part if isinstance(part, str) else "\n".join(part) for part in parts) + "\n"


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
        yield _line(
            [
                _escaped(row.title),
                str(len(row.results)),
                *shares,
                f"{actions.value:.2f}" if actions else "",
                *rates,
            ]
        )


def _differences(rows: Sequence[ResultRow], params: TableParams) -> Iterator[str]:
    by_name = {row.name: row for row in rows}
    pairs = [(by_name[a], by_name[b]) for a, b in params.compares if a in by_name and b in by_name]
    if pairs:
        yield _line(["", "all", "no search needed", "search needed"])
        yield _line(["---"] * 4)
    for ours, theirs in pairs:
        measures = ("exact_match", "exact_match_no_search_needed", "exact_match_search_needed")
        cells = [_points(difference(ours, theirs, measure, params)) for measure in measures]
        yield _line([f"{_escaped(ours.title)} over {_escaped(theirs.title)}", *cells])


def _by(rows: Sequence[ResultRow], attribute: str) -> Iterator[str]:
    groups: dict[str, dict[int, list[float]]] = {row.name: defaultdict(list) for row in rows}
    for row in rows:
        for outcome in row.outcomes():
            key: int | None = getattr(outcome, attribute)
            if key is not None:
                groups[row.name][key].append(float(outcome.exact_match))
    keys = sorted({key for found in groups.values() for key in found})
    yield _line(["system", *map(str, keys)])
    yield _line(["---"] * (len(keys) + 1))
    for row in rows:
        yield _line([_escaped(row.title), *(_group(groups[row.name].get(key, [])) for key in keys)])


def _group(values: Sequence[float]) -> str:
    return f"{100 * sum(values) / len(values):.1f} ({len(values):,})" if values else ""


def _mean(row: ResultRow, measure: str, params: TableParams) -> Interval | None:
    values = list(row.per_question(measure).values())
    return mean_interval(values, num_resamples=params.num_resamples, seed=params.seed)


def _rate(row: ResultRow, group: str) -> str:
    """Searches over needs, all seeds together."""
    outcomes = row.outcomes()
    needed = sum(getattr(outcome, f"needed_{group}") for outcome in outcomes)
    return (
        f"{sum(getattr(outcome, f'searched_{group}') for outcome in outcomes) / needed:.2f}"
        if needed
        else ""
    )


def _percent(found: Interval | None) -> str:
    return (
        f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]" if found else ""
    )


def _points(found: Interval | None) -> str:
    if found is None:
        return ""
    text = f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"**{text}**" if found.excludes_zero else text


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escaped(text: str) -> str:
    """A name is a file's, and may hold anything."""
    return re.sub(r"([|`<>*_\[\]\\])", r"\\\1", " ".join(text.split()))


def draw(groups: Sequence[Sequence[ResultRow]], params: TableParams, path: Path) -> None:
    """Exact match of every row with its interval, the first row on top; a panel for each set of questions.

    Raises:
        OutputError: the file cannot be written.
    """
    from matplotlib.figure import Figure

    heights = [0.6 + 0.4 * len(rows) for rows in groups]
    figure = Figure(figsize=(7.5, sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), squeeze=False, gridspec_kw={"height_ratios": heights})[
        :, 0
    ]
    for axes, rows in zip(panels, groups, strict=True):
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
    """Write the table and the picture; the summary line is returned."""
    params = Params.load("table", arguments).section(TableParams)
    files = sorted(FOLDER.glob("*.json"))
    if not files:
        raise ConfigError(
            f"there is no result in {FOLDER}",
            fix="make one: python -m train.evaluate model=data/train/sft2",
        )
    groups = [
        arrange(group, params.rows) for group in by_questions(read_result(path) for path in files)
    ]
    write_text(OUT, "\n".join(["# Results\n", *(write_markdown(rows, params) for rows in groups)]))
    draw(groups, params, PICTURE)
    return f"{OUT}: {sum(map(len, groups))} systems from {len(files)} results; {PICTURE}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
