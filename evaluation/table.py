"""Write all results as one table and one picture, and say what differs beyond noise.

    coa page table

Reads results/evaluate/*.json; writes results/table.md and results/table.png, in the order of the
paper's Table 1, with a part for each choice of questions. The few figures that `dvc metrics diff`
and `dvc exp show` should show go to metrics/table.json. Questions of several evaluation sets have
a column for each set and one for the mean over the sets. Results `sft2-s0`, `sft2-s1`, ... are the
seeds of one row: a question counts with its mean over them. Rows that have no result are left out;
rows that were asked with another prompt, other budgets or other sampling are marked.
"""

import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from coa.errors import ConfigError, InputError, writing_error
from coa.intervals import Interval, mean_interval, mean_over_groups, paired_difference
from coa.records.trajectory import StopReason
from coa.search.tool import SearchTool
from coa.settings.params import Params
from coa.store.metrics import write_metrics
from coa.store.whole_files import replacing, write_file
from coa.student.held_out import shown_set
from evaluation.outcomes import (
    JUDGED_MEASURES,
    Outcome,
    Result,
    Setting,
    calls_measure,
    find_measure,
)
from evaluation.result_files import FOLDER, read_result
from evaluation.spent import Spent

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
    "forced_answer": "forced",
    "utility": "utility",
    "calculated_where_needed": "calculated, needed",
    "calculated_needlessly": "calculated, not needed",
    "judged_right": "right by the judge",
    "judge_failed": "not judged",
    "rubric_score": "rubric score",
    "open_ended": "open-ended",
}
"""Columns in percent; the actions a question are not a share."""
_NOT_ALWAYS = frozenset(
    {"utility", "calculated_where_needed", "calculated_needlessly", *JUDGED_MEASURES}
)
"""Columns that are there only where a result has them."""


_UNKNOWN = "unknown"
"""The value of a setting that a result does not hold, as it is older than the setting."""
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
TOOL_CHOICE = """Calls of a tool are means over the questions. "Calculated" is the share of the \
questions in which
the calculator was called, of those whose answer has to be calculated from facts, and of the \
others."""
"""Explains the columns that are there where a result offered more tools than the search."""
COSTS = """### Cost and ends

What a question cost, all its tries and samples together: tokens that the policy wrote, requests to
it, and searches; where there are prices, the dollars of all these calls. Then how the rollouts
ended, in counts: `no_answer` is a model that stops before it answers, `action_budget` one that goes
on searching, `context_budget` one that writes on."""
BY_TRIES = """### Exact match by tries

An oracle tells these systems when to try again: the gold answers, which no user has. Compare what
they reach with `retry`, which knows as much, and with other systems at the same cost."""
BLUE = "#2f77a3"


@dataclass(frozen=True, slots=True)
class TableParams:
    """Which rows are in the table, and which of them are compared."""

    rows: dict[str, str] = field(default_factory=dict)
    """The name of a result to the system it is, in the order of the table; other results follow
    under their names."""
    sets: dict[str, str] = field(default_factory=dict)
    """The name of an evaluation set to its title, in the order of the columns; other sets follow
    under their names."""
    compares: tuple[tuple[str, str], ...] = ()
    """Pairs of names: by how much the first is better than the second."""


@dataclass(frozen=True, slots=True)
class ResultRow:
    """One system: its seeds side by side."""

    name: str
    title: str
    results: tuple[Result, ...]
    sign: str = ""
    """Of the note that says how its results were asked otherwise than others."""

    @property
    def label(self) -> str:
        """Return the title with the sign of its note, and with what gold answers decided."""
        is_told = any(result.setting.is_told_by_gold for result in self.results)
        oracle = " (gold oracle)" if is_told else ""
        return f"{self.title}{oracle} {self.sign}".rstrip()

    def outcomes(self) -> list[Outcome]:
        """Return the outcome of every question, seed after seed."""
        found: list[Outcome] = []
        for result in self.results:
            found.extend(result.rows())
        return found

    def per_question(self, measure: str) -> dict[str, float]:
        """Return the mean over the seeds for each question to which the measure applies."""
        values: dict[str, list[float]] = defaultdict(list)
        for outcome in self.outcomes():
            value = find_measure(measure)(outcome)
            if value is not None:
                values[outcome.question_id].append(float(value))
        return {question_id: sum(found) / len(found) for question_id, found in values.items()}


def have(rows: Iterable[ResultRow], measure: str) -> bool:
    """Tell whether a result has a measure, such as the utility where searches have a price."""
    return any(result.metrics.get(measure) for row in rows for result in row.results)


def offered_tools(rows: Iterable[ResultRow]) -> list[str]:
    """List the tools of the results that offered more than the search, in their order."""
    tools: dict[str, None] = {}  # a set that keeps the order
    for row in rows:
        for result in row.results:
            tools.update(dict.fromkeys(result.setting.tools))
    return list(tools)


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
    """Part the results by the questions that were asked and by the search, validation first.

    Only results on equal questions and over the same search can be compared. A result without a
    tool stands beside the search that most others on its questions have.
    """
    asked = list(results)
    searches: dict[str, Counter[str]] = defaultdict(Counter)
    for setting in (result.setting for result in asked if result.setting.search):
        searches[setting.questions][setting.search] += 1
    groups: dict[tuple[bool, str, str, str], list[Result]] = defaultdict(list)
    for result in asked:
        setting = result.setting
        search = setting.search
        if not search and searches[setting.questions]:
            search = searches[setting.questions].most_common(1)[0][0]
        key = (setting.split != "validation", setting.split, setting.questions, search)
        groups[key].append(result)
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


class Difference(NamedTuple):
    """A setting in which a row differs from what is usual for its way of asking."""

    key: str
    """`prompt`, `tools`, a budget such as `max_context_tokens`, or a setting of sampling."""
    value: str
    usual: str
    results: tuple[str, ...]
    """Names of the row's results that have the value."""


def find_differences(rows: Sequence[Sequence[Result]]) -> list[list[Difference]]:
    """Compare the rows of a table, each with its seeds; return the differences of each row."""
    usual = _find_usual(rows)
    prompts = _name_prompts(result.setting for results in rows for result in results)
    found = []
    for results in rows:
        names: dict[tuple[str, str, str], list[str]] = defaultdict(list)
        for result in results:
            usual_here = usual[result.setting.way_of_asking]
            asked = _asked_with(result.setting)
            for key, most in usual_here.items():
                value = asked.get(key, _UNKNOWN)
                if value != most:
                    names[key, value, most].append(result.setting.name)
        found.append(
            [
                Difference(key, prompts.get(value, value), prompts.get(most, most), tuple(having))
                for (key, value, most), having in names.items()
            ]
        )
    return found


def _find_usual(rows: Iterable[Sequence[Result]]) -> dict[str, dict[str, str]]:
    """Find the value of each setting that most rows have, for each way of asking."""
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    for results in rows:
        values: dict[tuple[str, str, str], None] = {}
        for result in results:
            for key, value in _asked_with(result.setting).items():
                values[result.setting.way_of_asking, key, value] = None
        for mode, key, value in values:  # each once, however many seeds a row has
            counts[mode][key][value] += 1
    usual: dict[str, dict[str, str]] = {}
    for mode, by_key in counts.items():
        usual[mode] = {key: found.most_common(1)[0][0] for key, found in by_key.items()}
    return usual


def _asked_with(setting: Setting) -> dict[str, str]:
    """Return the settings that are compared, as text."""
    values = {"prompt": setting.prompt_hash, **setting.limits, **asdict(setting.sampling)}
    values["search_price"] = setting.search_price
    values["tools"] = ", ".join(setting.tools) or SearchTool.name
    del values["seed"]  # another seed is another draw, not another way of asking
    return {key: str(value) for key, value in values.items()}


def _name_prompts(settings: Iterable[Setting]) -> dict[str, str]:
    """Return how the prompts are shown, by their hashes: with their file where it is known."""
    shown: dict[str, str] = {}
    for setting in settings:
        if setting.prompt_file:
            shown.setdefault(setting.prompt_hash, f"{setting.prompt_file} ({setting.prompt_hash})")
    return shown


def mark(rows: Sequence[ResultRow]) -> tuple[list[ResultRow], list[str]]:
    """Mark the rows that were asked otherwise than the others of their way of asking.

    Returns:
        The rows with their signs, and a line of Markdown for each sign.
    """
    marked = []
    notes: list[str] = []
    for row, found in zip(rows, find_differences([row.results for row in rows]), strict=True):
        if found:
            row = replace(row, sign=str(len(notes) + 1).translate(_SUPERSCRIPTS))
            modes = sorted({result.setting.way_of_asking for result in row.results})
            shown = "; ".join(_show_difference(row, each) for each in found)
            notes.append(f"- {row.sign} {escape(row.title)} ({', '.join(modes)}): {shown}")
        marked.append(row)
    return marked, notes


def _show_difference(row: ResultRow, found: Difference) -> str:
    text = f"{found.key} {escape(found.value)} instead of {escape(found.usual)}"
    if len(found.results) < len(row.results):
        text += f" (in {', '.join(map(escape, found.results))})"
    return text


def find_sets(rows: Iterable[ResultRow], titles: dict[str, str]) -> dict[str, list[str]]:
    """Return the questions of each evaluation set, in the order of the titles.

    Results that are older than the sets do not name them, so the others of the table tell.
    """
    set_of: dict[str, str] = {}
    for row in rows:
        for outcome in row.outcomes():
            if outcome.source or outcome.question_id not in set_of:
                set_of[outcome.question_id] = outcome.source
    questions: dict[str, list[str]] = defaultdict(list)
    for question_id, name in set_of.items():
        questions[name].append(question_id)
    names = [name for name in titles if name in questions]
    names += [name for name in sorted(questions) if name not in titles]
    return {name: questions[name] for name in names}


def mean_over_sets(row: ResultRow, sets: Iterable[Sequence[str]]) -> Interval | None:
    """Compute the exact match over the sets, each of which counts the same whatever its size."""
    values = row.per_question("exact_match")
    groups = []
    for questions in sets:  # an open-ended question has no exact match
        groups.append([values[question_id] for question_id in questions if question_id in values])
    return mean_over_groups(groups)


def difference(first: ResultRow, second: ResultRow, measure: str) -> Interval | None:
    """Measure by how much `first` is better, question by question."""
    ours = first.per_question(measure)
    theirs = second.per_question(measure)
    shared = sorted(ours.keys() & theirs.keys())
    return paired_difference([ours[key] for key in shared], [theirs[key] for key in shared])


_HEAD = """## {num:,} questions of the split {split}

Questions `{questions}`, search `{search}`. In percent, with 95% bootstrap intervals over \
questions; a question counts
with its mean over the seeds."""
_BY_SET = """### Exact match by evaluation set

In brackets the number of questions; the mean is that over the sets, each of which counts the \
same. In percent, with 95% bootstrap intervals."""
_ALL = "### All questions"
_NOTES = """Marked rows were asked otherwise than the other rows of their way of asking:"""
_DIFFERENCES = """### Paired differences

In points of exact match, question by question; bold where the interval excludes zero."""
_BY_HOPS = """### Exact match by hops

By the number of facts that a question joins; in brackets the number of rollouts."""
_UTILITY_BY_HOPS = """### Utility by hops

In percent; in brackets the number of rollouts."""
_BY_ACTIONS = """### Exact match by actions

By the number of actions that the rollout took; in brackets the number of rollouts."""


def write_markdown(rows: Sequence[ResultRow], params: TableParams) -> str:
    """Write the part of the page about one choice of questions."""
    rows, notes = mark(rows)
    noted = [_NOTES, "\n".join(notes)] if notes else []
    sets = find_sets(rows, params.sets)
    first = rows[0].results[0]
    searches = [row.results[0].setting.search for row in rows if row.results[0].setting.search]
    head = _HEAD.format(
        num=first.num_questions,
        split=escape(first.setting.split),
        questions=first.setting.questions,
        search=(searches or ["none"])[0].replace("`", ""),
    )
    parts = [head]
    if len(sets) > 1:
        parts += [_BY_SET, "\n".join(_set_table(rows, sets, params)), *noted, _ALL]
        noted = []
    parts += ["\n".join(_main_table(rows, params)), *noted]
    if offered_tools(rows):
        parts.append(TOOL_CHOICE)
    parts += [COSTS, "\n".join(cost_table(rows))]
    if has_tries(rows):
        parts += [BY_TRIES, "\n".join(tries_table(rows))]
    differences = "\n".join(_differences(rows, params))
    if differences:
        parts += [_DIFFERENCES, differences]
    if any(outcome.num_hops for outcome in rows[0].outcomes()):
        parts += [_BY_HOPS, "\n".join(_by(rows, "num_hops"))]
        if have(rows, "utility"):
            parts += [_UTILITY_BY_HOPS, "\n".join(_by(rows, "num_hops", "utility"))]
    parts += [_BY_ACTIONS, "\n".join(_by(rows, "num_actions"))]
    return "\n\n".join(parts) + "\n"


def _set_table(
    rows: Iterable[ResultRow], sets: dict[str, list[str]], params: TableParams
) -> Iterator[str]:
    heads = ["system"]
    for name, questions in sets.items():
        title = params.sets.get(name, shown_set(name))
        heads.append(f"{escape(title)} ({len(questions):,})")
    yield join_cells([*heads, "mean"])
    yield join_cells(["---"] * (len(heads) + 1))
    for row in rows:
        cells = []
        for questions in sets.values():
            cells.append(show_percent(mean_over_sets(row, [questions])))
        cells.append(show_percent(mean_over_sets(row, sets.values())))
        yield join_cells([escape(row.label), *cells])


def _main_table(rows: Sequence[ResultRow], params: TableParams) -> Iterator[str]:
    measures = [name for name in _PERCENT if name not in _NOT_ALWAYS or have(rows, name)]
    tools = offered_tools(rows)
    heads = [
        "system",
        "seeds",
        *(_PERCENT[name] for name in measures),
        "actions",
        *(f"calls of {tool}" for tool in tools),
        "P(search given known)",
        "P(search given unknown)",
    ]
    yield join_cells(heads)
    yield join_cells(["---"] * len(heads))
    for row in rows:
        shares = [show_percent(_mean(row, measure)) for measure in measures]
        counts = []
        for measure in ("actions", *map(calls_measure, tools)):
            count = _mean(row, measure)
            counts.append(f"{count.value:.2f}" if count else "")
        rates = [_rate(row, "known"), _rate(row, "unknown")]
        seeds = str(len(row.results))
        yield join_cells([escape(row.label), seeds, *shares, *counts, *rates])


def _differences(rows: Sequence[ResultRow], params: TableParams) -> Iterator[str]:
    by_name = {row.name: row for row in rows}
    pairs: list[tuple[ResultRow, ResultRow]] = []
    for first, second in params.compares:
        if first in by_name and second in by_name:
            pairs.append((by_name[first], by_name[second]))
    heads = ["", "all", "no search needed", "search needed"]
    measures = ["exact_match", "exact_match_no_search_needed", "exact_match_search_needed"]
    if have(rows, "utility"):
        heads.append("utility")
        measures.append("utility")
    if pairs:
        yield join_cells(heads)
        yield join_cells(["---"] * len(heads))
    for ours, theirs in pairs:
        cells = [show_points(difference(ours, theirs, measure)) for measure in measures]
        yield join_cells([f"{escape(ours.label)} over {escape(theirs.label)}", *cells])


def _by(rows: Sequence[ResultRow], attribute: str, measure: str = "exact_match") -> Iterator[str]:
    """Yield the lines of a table of a measure, a column for each value of the attribute."""
    groups: dict[str, dict[int, list[float]]] = {row.name: defaultdict(list) for row in rows}
    for row in rows:
        for outcome in row.outcomes():
            key: int | None = getattr(outcome, attribute)
            value = find_measure(measure)(outcome)
            if key is not None and value is not None:
                groups[row.name][key].append(float(value))
    keys = sorted(set(chain.from_iterable(groups.values())))
    yield join_cells(["system", *map(str, keys)])
    yield join_cells(["---"] * (len(keys) + 1))
    for row in rows:
        cells = [show_mean(groups[row.name].get(key, [])) for key in keys]
        yield join_cells([escape(row.label), *cells])


def _mean(row: ResultRow, measure: str) -> Interval | None:
    values = list(row.per_question(measure).values())
    return mean_interval(values)


def _rate(row: ResultRow, group: str) -> str:
    """Show searches over needs, all seeds together."""
    searched = 0
    needed = 0
    for outcome in row.outcomes():
        searched += getattr(outcome, f"searched_{group}")
        needed += getattr(outcome, f"needed_{group}")
    return f"{searched / needed:.2f}" if needed else ""


def cost_table(rows: Sequence[ResultRow]) -> Iterator[str]:
    """Yield the lines of a table: cost of a question, and how the rollouts ended."""
    ends: dict[str, Counter[StopReason]] = {}
    for row in rows:
        ends[row.name] = Counter(outcome.stop_reason for outcome in row.outcomes())
    reasons = [reason for reason in StopReason if any(reason in found for found in ends.values())]
    dollars = [_dollars(row) for row in rows]
    heads = ["system", *Spent._fields]
    if any(dollars):
        heads.append("dollars")
    heads += [f"`{reason}`" for reason in reasons]
    yield join_cells(heads)
    yield join_cells(["---"] * len(heads))
    for row, paid in zip(rows, dollars, strict=True):
        cells = [escape(row.label), *_costs(row)]
        if any(dollars):
            cells.append(paid)
        cells += [f"{ends[row.name][reason]:,}" for reason in reasons]
        yield join_cells(cells)


def _costs(row: ResultRow) -> Iterator[str]:
    for name in Spent._fields:
        values = row.per_question(name).values()
        yield f"{sum(values) / len(values):,.2f}" if values else ""


def _dollars(row: ResultRow) -> str:
    """Return what a question cost in dollars; empty where a result has no price for all calls."""
    paid = [result.costs.get("dollars") for result in row.results]
    known = [dollars for dollars in paid if dollars is not None]
    num_questions = sum(result.num_questions for result in row.results)
    return f"{sum(known) / num_questions:.6f}" if len(known) == len(paid) else ""


def has_tries(rows: Iterable[ResultRow]) -> bool:
    """Tell whether a system of the table tries questions again."""
    return any(result.by_tries for row in rows for result in row.results)


def tries_table(rows: Iterable[ResultRow]) -> Iterator[str]:
    """Yield the lines of a table: exact match and cost after each number of tries."""
    heads = ["result", "tries", "EM", *Spent._fields]
    yield join_cells(heads)
    yield join_cells(["---"] * len(heads))
    for row in rows:
        for result in row.results:
            for number, metrics in result.by_tries.items():
                cells = [result.setting.name, number, show_percent(metrics["exact_match"])]
                cells += [_show_count(metrics[name]) for name in Spent._fields]
                yield join_cells([escape(cells[0]), *cells[1:]])


def _show_count(found: Interval | None) -> str:
    return f"{found.value:,.2f}" if found else ""


def show_percent(found: Interval | None) -> str:
    """Write a share with its interval in percent; nothing for None."""
    if found is None:
        return ""
    return f"{100 * found.value:.1f} [{100 * found.low:.1f}, {100 * found.high:.1f}]"


def show_points(found: Interval | None) -> str:
    """Write a difference in points, in bold where it is beyond noise; nothing for None."""
    if found is None:
        return ""
    text = f"{100 * found.value:+.1f} [{100 * found.low:+.1f}, {100 * found.high:+.1f}]"
    return f"**{text}**" if found.excludes_zero else text


def join_cells(cells: Sequence[str]) -> str:
    """Join cells to a line of a table."""
    return f"| {' | '.join(cells)} |"


def escape(text: str) -> str:
    """Escape a name: it is a file's, and may hold anything."""
    return re.sub(r"([|`<>*_\[\]\\])", r"\\\1", " ".join(text.split()))


def show_mean(values: Sequence[float]) -> str:
    """Show a mean in percent and of how many it is."""
    if not values:
        return ""
    return f"{100 * sum(values) / len(values):.1f} ({len(values):,})"


class Panel(NamedTuple):
    """The bars of one group of questions."""

    bars: Sequence[tuple[str, Interval]]
    """A label and an exact match; the first is on top."""
    caption: str


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draw the panels, one below the other; equal panels give equal bytes."""
    from matplotlib.figure import Figure

    heights = [0.6 + 0.4 * len(panel.bars) for panel in panels]
    figure = Figure(figsize=(7.5, sum(heights)), layout="constrained")
    grid = figure.subplots(len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})
    for axes, panel in zip(grid[:, 0], panels, strict=True):
        _draw_bars(axes, panel)
    try:
        with replacing(path) as partial:
            figure.savefig(partial, format="png", dpi=120, metadata={"Software": None})
    except OSError as error:
        raise writing_error(path, error) from error


def _draw_bars(axes: Any, panel: Panel) -> None:
    labels = [label for label, _ in panel.bars]
    values = [100 * found.value for _, found in panel.bars]
    errors = [
        [100 * (found.value - found.low) for _, found in panel.bars],
        [100 * (found.high - found.value) for _, found in panel.bars],
    ]
    axes.barh(
        range(len(labels)),
        values,
        xerr=errors,
        color=BLUE,
        ecolor="#1f2933",
        capsize=3,
        height=0.65,
    )
    axes.set_yticks(range(len(labels)), labels, parse_math=False)
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)  # from the top
    if not any(found.high for _, found in panel.bars):
        axes.set_xlim(0, 1)
    axes.set_xlabel(panel.caption)
    axes.spines[["top", "right"]].set_visible(False)


def make_panel(rows: Sequence[ResultRow], params: TableParams) -> Panel:
    """Return the exact match of every row for the picture; of several sets, the mean over them."""
    rows, _ = mark(rows)
    sets = find_sets(rows, params.sets)
    bars = []
    for row in rows:
        found = mean_over_sets(row, sets.values())
        if found:
            bars.append((row.label, found))
    first = rows[0].results[0]
    what = f"exact match (%), mean over {len(sets)} sets" if len(sets) > 1 else "exact match (%)"
    asked = f"{first.num_questions:,} questions, {first.setting.split}"
    return Panel(bars, f"{what}, {asked}; 95% interval")


def few_figures(rows: Iterable[ResultRow]) -> dict[str, dict[str, float]]:
    """Return the figures that are compared between runs: exact match and actions of every row."""
    found: dict[str, dict[str, float]] = {}
    for row in rows:
        found[row.name] = {}
        for measure in ("exact_match", "actions"):
            values = list(row.per_question(measure).values())
            if values:
                found[row.name][measure] = round(sum(values) / len(values), 4)
    return found


def main(arguments: Sequence[str]) -> str:
    """Write the table and the picture, and return the summary line."""
    params = Params.load("table", arguments).section(TableParams)
    # The lab's results are shown on its own page; some were asked with another search.
    files = [path for path in sorted(FOLDER.glob("*.json")) if not path.name.startswith("lab_")]
    if not files:
        raise ConfigError(
            f"there is no result in {FOLDER}",
            fix="make one: coa evaluate model=data/train/sft2",
        )
    results = [read_result(path) for path in files]
    groups = [arrange(group, params.rows) for group in by_questions(results)]
    parts = [write_markdown(rows, params) for rows in groups]
    write_file(OUT, "\n".join(["# Results\n", *parts]))
    draw([make_panel(rows, params) for rows in groups], PICTURE)
    write_metrics("table", few_figures(groups[0]))
    num_systems = sum(len(rows) for rows in groups)
    return f"{OUT}: {num_systems} systems from {len(files)} results; {PICTURE}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
