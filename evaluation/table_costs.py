"""Show what every system of a table cost, how its rollouts ended, and what further tries gave."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from coa.intervals import Interval
from coa.trajectory import StopReason
from evaluation.spent import Spent
from evaluation.table_cells import escape, join_cells, show_percent
from evaluation.table_rows import ResultRow

COSTS = """### Cost and ends

What a question cost, all its tries and samples together: tokens that the policy wrote, requests to
it, and searches; where there are prices, the dollars of all these calls. Then how the rollouts
ended, in counts: `no_answer` is a model that stops before it answers, `action_budget` one that goes
on searching, `context_budget` one that writes on."""
BY_TRIES = """### Exact match by tries

An oracle tells these systems when to try again: the gold answers, which no user has. Compare what
they reach with `retry`, which is told as much, and with other systems at the same cost."""


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
