"""Sum up graded rollouts of held-out questions: rates with intervals, and each question's outcome.

Rates are given over all questions, for each evaluation set, and as the mean over the sets.

The outcomes are kept by column, so that two results can be compared question by question and a
result of thousands of questions stays a small file.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import msgspec

from coa.graded import GradedTrajectory
from coa.grading import Verdict
from coa.metrics import rate
from coa.protocol import stray_tags
from coa.tools.search import SearchTool
from coa.trajectory import FAILED_STOPS, Sampling, StopReason, count_actions
from train.intervals import Interval, mean_over_groups
from train.knowledge import Decision
from train.results import read_json, write_text
from train.searched import Searched

FOLDER = Path("results/evaluate")
_PLACES = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one question."""

    question_id: str
    exact_match: bool
    cover_exact_match: bool
    f1: float
    num_actions: int
    num_hops: int | None
    needs_no_search: bool | None
    """Whether known facts answer it, where the world is known."""
    searched_known: int
    """Known facts for which it searched, of `needed_known`."""
    needed_known: int
    """Known facts that it said it needed."""
    searched_unknown: int
    needed_unknown: int
    is_broken: bool
    """No boxed answer, a call where none is offered, or tags that are forged, broken or left
    open."""
    stop_reason: StopReason
    source: str = ""
    """The evaluation set of the question; empty in results that are older than the sets."""
    utility: float | None = None
    """Exact match minus the price of the searches; None where searches have no price."""

    @property
    def has_failed(self) -> bool:
        """Tell whether a tool or the policy's server failed: that says nothing about the model."""
        return self.stop_reason in FAILED_STOPS


def outcome_of(
    row: GradedTrajectory,
    source: str,
    needs_no_search: bool | None,
    decided: Sequence[Decision],
    search_price: float = 0.0,
) -> Outcome:
    """Reduce a graded rollout to what is compared.

    Args:
        row: the rollout.
        source: the evaluation set of its question.
        needs_no_search: whether known facts answer the question; None where nobody can tell.
        decided: what it decided for each fact that it said it needed.
        search_price: what one search costs, in exact match; 0 where searches have no price.
    """
    utility = None
    if search_price:
        cost = search_price * count_actions(row.trajectory, SearchTool.name)
        utility = round(row.grade.exact_match - cost, _PLACES)
    known = [decision.searched for decision in decided if decision.is_known]
    unknown = [decision.searched for decision in decided if not decision.is_known]
    return Outcome(
        question_id=row.trajectory.question_id,
        exact_match=row.grade.exact_match,
        cover_exact_match=row.grade.cover_exact_match,
        f1=round(row.grade.f1, _PLACES),
        num_actions=row.trajectory.num_actions,
        num_hops=row.num_hops,
        needs_no_search=needs_no_search,
        searched_known=sum(known),
        needed_known=len(known),
        searched_unknown=sum(unknown),
        needed_unknown=len(unknown),
        is_broken=row.grade.verdict is Verdict.NO_ANSWER or bool(stray_tags(row.trajectory.steps)),
        stop_reason=row.trajectory.stop_reason,
        source=source,
        utility=utility,
    )


@dataclass(frozen=True, slots=True)
class Setting:
    """All that a result depends on.

    Results are comparable where the questions and the search are the same.
    """

    name: str
    model: str
    model_fingerprint: str
    """SHA-256 of the model's folder, first 16 hex digits; empty for a model on the Hub or behind
    a server."""
    mode: str
    split: str
    questions: str
    """SHA-256 of the questions asked, first 16 hex digits."""
    prompt_hash: str
    """SHA-256 of prompt and chat format, first 16 hex digits."""
    search: str
    """Fingerprint of corpus, engine, top-k and how results are shown; empty without a tool."""
    sampling: Sampling
    limits: dict[str, int]
    """The budgets of a rollout."""
    prompt_file: str = ""
    """The prompt's file; `prompt_hash` is also that of the chat format around it."""
    searched: Searched | None = None
    """What `search` stands for; None without a tool."""
    search_price: float = 0.0
    """What one search takes from the utility; 0, and not written, where searches have no price."""


@dataclass(frozen=True, slots=True)
class Result:
    """The evaluation of one policy."""

    setting: Setting
    num_questions: int
    num_failed: int
    """Rollouts in which a tool or server failed; they count as wrong."""
    metrics: dict[str, Interval | None]
    by_hops: dict[str, Interval | None]
    """Exact match by the number of facts that a question joins."""
    by_actions: dict[str, Interval | None]
    """Exact match by the number of actions that the rollout took."""
    search_rate_known: float | None
    """P(search | known): of the known facts that it said it needed."""
    search_rate_unknown: float | None
    stop_reasons: dict[str, int]
    outcomes: dict[str, list[Any]]
    """One list for each field of `Outcome`, in the order of the question ids."""
    by_set: dict[str, dict[str, Interval | None]] = field(default_factory=dict)
    """The metrics of each evaluation set, by its name."""
    mean_over_sets: dict[str, Interval | None] = field(default_factory=dict)
    """The mean of each metric over the sets, each of which counts the same; None where it does not
    apply to one of them."""
    costs: dict[str, float | None] = field(default_factory=dict)
    """Calls, tokens and dollars of the rollouts, whenever they were paid."""
    probe: dict[str, str] = field(default_factory=dict)
    """What the model's server was seen to do; empty, and not written, without one."""

    def rows(self) -> list[Outcome]:
        """Return what became of every question."""
        found = []
        for values in zip(*self.outcomes.values(), strict=True):
            named = dict(zip(self.outcomes, values, strict=True))
            found.append(msgspec.convert(named, Outcome, strict=False))
        return found


Measure = Callable[[Outcome], float | None]
"""A number for each question; None where it does not apply."""


def _match_without_need(row: Outcome) -> float | None:
    return row.exact_match if row.needs_no_search else None


def _match_with_need(row: Outcome) -> float | None:
    return row.exact_match if row.needs_no_search is False else None


def _searched_without_need(row: Outcome) -> float | None:
    return row.num_actions > 0 if row.needs_no_search else None


MEASURES: dict[str, Measure] = {
    "exact_match": lambda row: row.exact_match,
    "cover_exact_match": lambda row: row.cover_exact_match,
    "f1": lambda row: row.f1,
    "exact_match_no_search_needed": _match_without_need,
    "exact_match_search_needed": _match_with_need,
    "actions": lambda row: row.num_actions,
    "needless_search": _searched_without_need,
    "broken_format": lambda row: row.is_broken,
    "utility": lambda row: row.utility,
}
"""What is averaged over questions; to add a measure, add it here."""


def summarise(
    setting: Setting, outcomes: Iterable[Outcome], *, num_resamples: int, seed: int
) -> Result:
    """Average the outcomes; memory holds one small record a question."""
    rows = sorted(outcomes, key=lambda row: row.question_id)
    unpriced = () if setting.search_price else ("utility",)

    def interval(*groups: Iterable[float | None]) -> Interval | None:
        applying = []
        for values in groups:
            applying.append([float(value) for value in values if value is not None])
        return mean_over_groups(applying, num_resamples=num_resamples, seed=seed)

    def by(key: Callable[[Outcome], int | None]) -> dict[str, Interval | None]:
        groups: dict[int, list[float]] = defaultdict(list)
        for row in rows:
            value = key(row)
            if value is not None:
                groups[value].append(row.exact_match)
        return {str(value): interval(groups[value]) for value in sorted(groups)}

    def metrics_of(*sets: Sequence[Outcome]) -> dict[str, Interval | None]:
        found = {}
        for name, measure in MEASURES.items():
            if name not in unpriced:
                found[name] = interval(*(map(measure, part) for part in sets))
        return found

    reasons = [row.stop_reason for row in rows]
    stop_reasons: dict[str, int] = {}
    for reason in StopReason:
        if reason in reasons:
            stop_reasons[str(reason)] = reasons.count(reason)
    columns: dict[str, list[Any]] = {}
    for column in fields(Outcome):
        if column.name in unpriced:
            continue
        columns[column.name] = [getattr(row, column.name) for row in rows]
    sets = part_by_set(rows)
    return Result(
        setting=setting,
        num_questions=len(rows),
        num_failed=sum(row.has_failed for row in rows),
        metrics=metrics_of(rows),
        by_hops=by(lambda row: row.num_hops),
        by_actions=by(lambda row: row.num_actions),
        search_rate_known=_total_share(rows, "known"),
        search_rate_unknown=_total_share(rows, "unknown"),
        stop_reasons=stop_reasons,
        outcomes=columns,
        by_set={name: metrics_of(part) for name, part in sets.items()},
        mean_over_sets=metrics_of(*sets.values()),
    )


def part_by_set(rows: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Part the outcomes by evaluation set, in the order of the sets' names."""
    sets: dict[str, list[Outcome]] = defaultdict(list)
    for row in rows:
        sets[row.source].append(row)
    return {name: sets[name] for name in sorted(sets)}


def shown_set(name: str) -> str:
    """Return the name of an evaluation set, for questions without a source too."""
    return name or "without a source"


def _total_share(rows: Iterable[Outcome], group: str) -> float | None:
    """Return searches over needs, of the facts that are known or of those that are not."""
    searched = 0
    needed = 0
    for row in rows:
        searched += getattr(row, f"searched_{group}")
        needed += getattr(row, f"needed_{group}")
    return rate(searched, needed) if needed else None


def write_result(result: Result, folder: Path = FOLDER) -> Path:
    """Write results/evaluate/{name}.json, each column of outcomes on a line of its own.

    Raises:
        OutputError: the file cannot be written.
    """
    values = asdict(result)
    columns = values.pop("outcomes")
    if not result.probe:
        del values["probe"]
    if not result.setting.search_price:
        del values["setting"]["search_price"]
    lines = []
    for name, column in columns.items():
        lines.append(f"    {json.dumps(name)}: {json.dumps(column, separators=(',', ':'))}")
    head = json.dumps(values, indent=2).removesuffix("\n}")
    text = head + ',\n  "outcomes": {\n' + ",\n".join(lines) + "\n  }\n}\n"
    path = folder / f"{result.setting.name}.json"
    write_text(path, text)
    return path


def read_result(path: Path) -> Result:
    """Read a result back.

    Raises:
        InputError: the file is missing, or holds something else.
    """
    return read_json(path, Result, command="python -m train.evaluate")
