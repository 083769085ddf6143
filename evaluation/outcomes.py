"""Sum up graded rollouts of held-out questions: rates with intervals, and each question's outcome.

Rates are given over all questions, for each evaluation set, and as the mean over the sets.

The outcomes are kept by column, so that two results can be compared question by question and a
result of thousands of questions stays a small file.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import msgspec

from coa.intervals import NUM_RESAMPLES, Interval, mean_over_groups
from coa.records.graded import GradedTrajectory
from coa.records.grading import Verdict
from coa.records.protocol import stray_tags
from coa.records.trajectory import FAILED_STOPS, FORCED_STOPS, Sampling, StopReason, count_actions
from coa.records.verdicts import RIGHT, JudgeVerdict
from coa.search.tool import SearchTool
from coa.store.metrics import rate
from coa.student.knowledge import Decision
from coa.tools.calculator import Calculator
from evaluation.benchmarks import Pin
from evaluation.searched import Searched
from evaluation.spent import Spent, cost

_PLACES = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one question."""

    question_id: str
    exact_match: bool | None
    """None for an open-ended question, like the next two."""
    cover_exact_match: bool | None
    f1: float | None
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
    calls: dict[str, int] | None = None
    """How often each tool was called; None where no other tool than search was offered."""
    needs_calculation: bool | None = None
    """Whether the answer has to be calculated, where the world is known; None where no other tool
    than search was offered, too."""
    judged: JudgeVerdict | None = None
    """What came of asking the judge; None where there is none."""
    rubric_score: float | None = None
    """The weight of the criteria that the answer meets; None without a rubric or a verdict."""
    spent: tuple[Spent, ...] = ()
    """What each try cost, of a baseline with several; empty in results that are older."""

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
    tools: Sequence[str] = (),
    needs_calculation: bool | None = None,
) -> Outcome:
    """Reduce a graded rollout to what is compared.

    Args:
        row: the rollout.
        source: the evaluation set of its question.
        needs_no_search: whether known facts answer the question; None where nobody can tell.
        decided: what it decided for each fact that it said it needed.
        search_price: what one search costs, in exact match; 0 where searches have no price.
        tools: the tools that were offered; empty where no other tool than search was.
        needs_calculation: whether the answer has to be calculated; None where nobody can tell.
    """
    calls = {tool: count_actions(row.trajectory, tool) for tool in tools}
    utility = None
    exact_match = row.grade.exact_match
    if search_price and exact_match is not None:
        cost = search_price * count_actions(row.trajectory, SearchTool.name)
        utility = round(exact_match - cost, _PLACES)
    known = [decision.searched for decision in decided if decision.is_known]
    unknown = [decision.searched for decision in decided if not decision.is_known]
    return Outcome(
        question_id=row.trajectory.question_id,
        exact_match=exact_match,
        cover_exact_match=row.grade.cover_exact_match,
        f1=None if row.grade.f1 is None else round(row.grade.f1, _PLACES),
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
        calls=calls or None,
        needs_calculation=needs_calculation if tools else None,
        judged=row.judgement.verdict if row.judgement else None,
        rubric_score=row.judgement.score if row.judgement else None,
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
    limits: dict[str, int | bool]
    """The budgets of a rollout."""
    prompt_file: str = ""
    """The prompt's file; `prompt_hash` is also that of the chat format around it."""
    searched: Searched | None = None
    """What `search` stands for; None without a tool."""
    search_price: float = 0.0
    """What one search takes from the utility; 0, and not written, where searches have no price."""
    tools: tuple[str, ...] = ()
    """The tools that were offered; empty, and not written, where no other tool than search was."""
    judge: str = ""
    """Who judged, and a hash of how; empty, and not written, where nobody did."""
    baseline: str = ""
    """The baseline that asked (train/baselines); empty where each question was asked once."""
    is_told_by_gold: bool = False
    """Whether gold answers decided about further tries, as no real user could."""
    sets: dict[str, Pin] = field(default_factory=dict)
    """The size and checksum of every evaluation set as a whole, from which the questions were
    chosen (evaluation/benchmarks.py)."""
    pins: str = ""
    """The file to which the sets were held; empty where they were not."""

    @property
    def way_of_asking(self) -> str:
        """Return the baseline and the mode, whose prompts and budgets should be alike."""
        return f"{self.baseline} {self.mode}".strip()


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
    utility_by_hops: dict[str, Interval | None] = field(default_factory=dict)
    """Utility by the number of facts that a question joins; empty, and not written, where searches
    have no price."""
    by_tries: dict[str, dict[str, Interval | None]] = field(default_factory=dict)
    """Exact match and cost after at most so many tries; empty where each question has one."""

    def rows(self) -> list[Outcome]:
        """Return the outcome of every question."""
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
    if not row.needs_no_search:
        return None
    searches = row.num_actions if row.calls is None else row.calls.get(SearchTool.name, 0)
    return searches > 0


def _calculated_with_need(row: Outcome) -> float | None:
    return _calculates(row) if row.needs_calculation else None


def _calculated_without_need(row: Outcome) -> float | None:
    return _calculates(row) if row.needs_calculation is False else None


def _calculates(row: Outcome) -> bool | None:
    return row.calls.get(Calculator.name, 0) > 0 if row.calls else None


def _judged_right(row: Outcome) -> float | None:
    """Return whether the judge called the answer right; what it did not judge is not right."""
    return None if row.judged is None else RIGHT[row.judged] is True


def _judge_failed(row: Outcome) -> float | None:
    return None if row.judged is None else RIGHT[row.judged] is None


def _rubric_score(row: Outcome) -> float | None:
    """Return the score of an open-ended question; 0 where the judge gave none."""
    return None if row.judged is None or row.exact_match is not None else row.rubric_score or 0.0


JUDGED_MEASURES: dict[str, Measure] = {
    "judged_right": _judged_right,
    "judge_failed": _judge_failed,
    "rubric_score": _rubric_score,
    "open_ended": lambda row: row.exact_match is None,
}
"""Measures of results with a judge, without which no open-ended question is asked."""
MEASURES: dict[str, Measure] = {
    "exact_match": lambda row: row.exact_match,
    "cover_exact_match": lambda row: row.cover_exact_match,
    "f1": lambda row: row.f1,
    "exact_match_no_search_needed": _match_without_need,
    "exact_match_search_needed": _match_with_need,
    "actions": lambda row: row.num_actions,
    "needless_search": _searched_without_need,
    "broken_format": lambda row: row.is_broken,
    "forced_answer": lambda row: row.stop_reason in FORCED_STOPS,
    "utility": lambda row: row.utility,
    "calculated_where_needed": _calculated_with_need,
    "calculated_needlessly": _calculated_without_need,
    **JUDGED_MEASURES,
    "tokens": lambda row: cost(row.spent, "tokens"),
    "requests": lambda row: cost(row.spent, "requests"),
    "searches": lambda row: cost(row.spent, "searches"),
}
"""What is averaged over questions; to add a measure, add it here. The calls of every tool are added
to them."""
_CALLS = "calls_"


def measures_of(setting: Setting) -> dict[str, Measure]:
    """Choose the measures that apply to a result, by name."""
    chosen = dict(MEASURES)
    if not setting.search_price:
        del chosen["utility"]
    if Calculator.name not in setting.tools:
        del chosen["calculated_where_needed"]
        del chosen["calculated_needlessly"]
    if not setting.judge:
        for name in JUDGED_MEASURES:
            del chosen[name]
    for tool in setting.tools:
        name = calls_measure(tool)
        chosen[name] = find_measure(name)
    return chosen


def calls_measure(tool: str) -> str:
    """Name the measure of a tool's calls a question."""
    return _CALLS + tool


def find_measure(name: str) -> Measure:
    """Find a measure by its name; `calls_search` counts the calls of `search`.

    Raises:
        KeyError: there is no such measure.
    """
    if not name.startswith(_CALLS):
        return MEASURES[name]
    tool = name.removeprefix(_CALLS)
    return lambda row: row.calls.get(tool) if row.calls else None


def summarise(
    setting: Setting,
    outcomes: Iterable[Outcome],
    *,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Result:
    """Average the outcomes; memory holds one small record a question."""
    rows = sorted(outcomes, key=lambda row: row.question_id)
    measures = measures_of(setting)

    def interval(*groups: Iterable[float | None]) -> Interval | None:
        applying = []
        for values in groups:
            applying.append([float(value) for value in values if value is not None])
        return mean_over_groups(applying, num_resamples=num_resamples, seed=seed)

    def by(
        key: Callable[[Outcome], int | None], measure: Measure = MEASURES["exact_match"]
    ) -> dict[str, Interval | None]:
        groups: dict[int, list[float | None]] = defaultdict(list)
        for row in rows:
            value = key(row)
            if value is not None:
                groups[value].append(measure(row))
        return {str(value): interval(groups[value]) for value in sorted(groups)}

    def metrics_of(*sets: Sequence[Outcome]) -> dict[str, Interval | None]:
        found = {}
        for name, measure in measures.items():
            found[name] = interval(*(map(measure, part) for part in sets))
        return found

    reasons = [row.stop_reason for row in rows]
    stop_reasons: dict[str, int] = {}
    for reason in StopReason:
        if reason in reasons:
            stop_reasons[str(reason)] = reasons.count(reason)
    columns: dict[str, list[Any]] = {}
    for name in _columns_of(setting):
        columns[name] = [getattr(row, name) for row in rows]
    columns["spent"] = [[list(one_try) for one_try in row.spent] for row in rows]
    sets = part_by_set(rows)
    utility_by_hops = {}
    if "utility" in measures:
        utility_by_hops = by(lambda row: row.num_hops, measures["utility"])
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
        utility_by_hops=utility_by_hops,
    )


def _columns_of(setting: Setting) -> list[str]:
    """List the fields of an outcome that a result keeps, without those that do not apply to it."""
    unused = set()
    if not setting.search_price:
        unused.add("utility")
    if not setting.tools:
        unused |= {"calls", "needs_calculation"}
    if not setting.judge:
        unused |= {"judged", "rubric_score"}
    return [column.name for column in fields(Outcome) if column.name not in unused]


def part_by_set(rows: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """Part the outcomes by evaluation set, in the order of the sets' names."""
    sets: dict[str, list[Outcome]] = defaultdict(list)
    for row in rows:
        sets[row.source].append(row)
    return {name: sets[name] for name in sorted(sets)}


def _total_share(rows: Iterable[Outcome], group: str) -> float | None:
    """Return searches over needs, of the facts that are known or of those that are not."""
    searched = 0
    needed = 0
    for row in rows:
        searched += getattr(row, f"searched_{group}")
        needed += getattr(row, f"needed_{group}")
    return rate(searched, needed) if needed else None
