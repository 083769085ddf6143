"""Hold the rows of the table of results: one system, its seeds side by side."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from evaluation.outcomes import Outcome, Result, find_measure


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
        told = " (gold oracle)" if is_told else ""
        return f"{self.title}{told} {self.sign}".rstrip()

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
