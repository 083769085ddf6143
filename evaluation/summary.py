"""Print what training came to, as a narrow table, and what to look at next.

    python -m evaluation.summary

Reads results/evaluate/*.json; results/table.md, which `coa page table` writes, has every column.
"""

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from coa.errors import ConfigError
from coa.intervals import mean_interval
from coa.settings.params import Params
from coa.terminal import printable
from evaluation.result_files import FOLDER, read_result
from evaluation.table import ResultRow, TableParams, arrange, by_questions

_SYSTEM = 40
"""Columns for the name of a system; the whole table has fewer than 100."""
_MEASURES = {
    "exact_match": "EM",
    "cover_exact_match": "cover EM",
    "f1": "F1",
    "utility": "utility",
    "broken_format": "broken format",
    "forced_answer": "forced answers",
}
_NEXT = """open in a browser
  reports/errors.html         why trajectories fail
  reports/training.html       curves, results, searches, alarms and costs of training
  data/render/README.md       the card of the sets (a text file)

try next
  coa ask "What is the birthplace of the boss of Titan Labs?"
  coa evaluate model=data/train/sft2
  dvc exp run -S filter.max_copied_words=3 report render"""


def result_groups(params: TableParams) -> list[dict[str, Any]]:
    """Group the results by their questions, as the table does, each with its rows."""
    results = [read_result(path) for path in sorted(FOLDER.glob("*.json"))]
    groups = []
    for group in by_questions(results):
        rows = arrange(group, params.rows)
        first = rows[0].results[0]
        measures = [name for name in _MEASURES if any(row.per_question(name) for row in rows)]
        groups.append(
            {
                "split": first.setting.split,
                "num_questions": first.num_questions,
                "heads": [_MEASURES[name] for name in measures],
                "rows": [_show_row(row, measures) for row in rows],
            }
        )
    return groups


def _show_row(row: ResultRow, measures: Sequence[str]) -> dict[str, Any]:
    means = []
    for name in measures:
        values = list(row.per_question(name).values())
        found = mean_interval(values)
        means.append(found)
    actions = list(row.per_question("actions").values())
    costs = [result.costs for result in row.results]
    return {
        "title": row.title,
        "means": means,
        "actions": sum(actions) / len(actions) if actions else None,
        "known": _mean_known(result.search_rate_known for result in row.results),
        "unknown": _mean_known(result.search_rate_unknown for result in row.results),
        "written": sum(cost.get("written_tokens") or 0 for cost in costs),
        "dollars": _mean_known(cost.get("dollars") for cost in costs),
    }


def _mean_known(values: Iterable[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


def render(groups: Sequence[dict[str, Any]]) -> str:
    """Write a table for each choice of questions."""
    lines = []
    for group in groups:
        heads = (f"{group['num_questions']:,} questions of {group['split']}", "exact match, 95%")
        lines.append(f"{heads[0]:{_SYSTEM}}{heads[1]:>22}  actions  searches known  unknown")
        lines += [_line(row) for row in group["rows"]]
        lines.append("")
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    exact, *_ = row["means"]
    shown = ""
    if exact is not None:
        shown = f"{exact.value:.1%} [{100 * exact.low:.1f}, {100 * exact.high:.1f}]"
    title = printable(row["title"])[: _SYSTEM - 1]
    actions = "" if row["actions"] is None else f"{row['actions']:.2f}"
    rates = f"{_share(row['known']):>16}{_share(row['unknown']):>9}"
    return f"{title:{_SYSTEM}}{shown:>22}{actions:>9}{rates}".rstrip()


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def main(arguments: Sequence[str]) -> str:
    """Return the table and what to look at next."""
    params = Params.load("table", arguments).section(TableParams)
    groups = result_groups(params)
    if not groups:
        raise ConfigError(
            f"there is no result in {FOLDER}",
            fix="make one: coa evaluate model=data/train/sft2",
        )
    return f"{render(groups)}\n{_NEXT}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
