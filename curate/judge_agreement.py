"""Measure how far a judge agrees with exact match, cover match and F1: on the same answers.

    coa page judge                # the judge of data/grade.parquet
    coa page judge recorded=data/ingest/recorded.parquet

The first reads the verdicts that `coa grade` wrote with a judge. The second reads what foreign
files record beside their trajectories: a judge's verdicts, and their own exact match. Writes
reports/judge_agreement.md: for each rule the share of answers on which both say the same, Cohen's
kappa, both with 95% intervals, and the four counts behind them. Answers of which the judge did not
tell, and open-ended questions, of which no rule can tell, are counted and take no part.
"""

import math
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import NormalDist

from coa.errors import InputError
from coa.records.graded import GradedTrajectory, RightBy, is_right
from coa.records.grading import Grade, grade_prediction
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import GRADED
from coa.store.whole_files import write_file

OUT = Path("reports/judge_agreement.md")
_CONFIDENCE = 0.95
_MIN_F1 = 0.5
"""From which F1 on an answer counts as right by the rule F1."""
RULES: dict[str, Callable[[Grade], bool]] = {
    "exact match": lambda grade: bool(grade.exact_match),
    "cover match": lambda grade: bool(grade.cover_exact_match),
    f"F1 from {_MIN_F1:g}": lambda grade: (grade.f1 or 0.0) >= _MIN_F1,
}
"""The rules that are compared with the judge, by their titles."""


@dataclass(frozen=True, slots=True)
class JudgeAgreementParams:
    """Which verdicts are compared."""

    graded: str = GRADED.as_posix()
    """Graded rows with verdicts of the judge (`coa grade`)."""
    recorded: str = ""
    """In their place, what foreign files record of their rows: data/ingest/recorded.parquet."""


@dataclass(frozen=True, slots=True)
class RecordedVerdict:
    """What this command reads of a row of data/ingest/recorded.parquet."""

    judge: bool | None
    exact_match: bool | None
    answer: str
    gold_answers: tuple[str, ...]


@dataclass(slots=True)
class Judged:
    """The answers that are compared, and the number of those that cannot be."""

    judges: set[str] = field(default_factory=set)
    pairs: list[tuple[Grade, bool]] = field(default_factory=list)
    """Our grade, and whether the judge calls the answer right."""
    num_open: int = 0
    not_judged: Counter[str] = field(default_factory=Counter)
    """Answers of which the judge did not tell, by why."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A share or a coefficient with its interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


@dataclass(frozen=True, slots=True)
class RuleAgreement:
    """How far one rule agrees with the judge."""

    rule: str
    both: int
    """Answers that both call right."""
    only_rule: int
    only_judge: int
    neither: int
    agreement: Figure
    disagreement: Figure
    kappa: Figure | None
    """None where the rule or the judge says the same of all answers."""


def read_graded(rows: Iterable[GradedTrajectory]) -> Judged:
    """Collect the verdicts of a judge on graded rows."""
    found = Judged()
    for row in rows:
        judgement = row.judgement
        if row.rubric:
            found.num_open += 1
            continue
        if judgement is not None:
            found.judges.add(judgement.judge)
        verdict = is_right(row, RightBy.JUDGE)
        if verdict is None:
            found.not_judged[judgement.verdict if judgement else "not asked"] += 1
        else:
            found.pairs.append((row.grade, verdict))
    return found


def read_recorded(rows: Iterable[RecordedVerdict]) -> list[Judged]:
    """Collect what foreign files record: a judge's verdicts, then their own exact match."""
    by_judge = Judged({"a judge, as recorded in the files"})
    by_match = Judged({"exact match, as recorded in the files"})
    for row in rows:
        grade = grade_prediction(row.answer, row.gold_answers) if row.gold_answers else None
        for found, verdict in ((by_judge, row.judge), (by_match, row.exact_match)):
            if verdict is None or grade is None:
                found.not_judged["not recorded"] += 1
            else:
                found.pairs.append((grade, verdict))
    return [by_judge, by_match]


def compare(judged: Judged) -> Iterator[RuleAgreement]:
    """Compare each rule with the judge."""
    from scipy.stats import binomtest

    for title, rule in RULES.items():
        counts = Counter((rule(grade), verdict) for grade, verdict in judged.pairs)
        both, neither = counts[True, True], counts[False, False]
        only_rule, only_judge = counts[True, False], counts[False, True]
        total = len(judged.pairs)
        interval = binomtest(both + neither, total).proportion_ci(_CONFIDENCE, method="wilson")
        observed = (both + neither) / total
        agreement = Figure(observed, interval.low, interval.high)
        disagreement = Figure(1 - observed, 1 - interval.high, 1 - interval.low)
        by_rule = (both + only_rule) / total
        by_judge = (both + only_judge) / total
        kappa = None
        if by_rule not in (0.0, 1.0) and by_judge not in (0.0, 1.0):
            # The interval is by Cohen's own standard error (1960).
            expected = by_rule * by_judge + (1 - by_rule) * (1 - by_judge)
            value = (observed - expected) / (1 - expected)
            error = math.sqrt(observed * (1 - observed) / total) / (1 - expected)
            reach = NormalDist().inv_cdf((1 + _CONFIDENCE) / 2) * error
            kappa = Figure(value, value - reach, value + reach)
        yield RuleAgreement(
            title, both, only_rule, only_judge, neither, agreement, disagreement, kappa
        )


def as_markdown(judged: Judged, found: Sequence[RuleAgreement]) -> str:
    """Write the section of one judge."""
    names = ", ".join(f"`{name}`" for name in sorted(judged.judges))
    lines = [
        f"Judge: {names or 'none'}. {len(judged.pairs):,} answers are compared; "
        f"{_left_out(judged)}.",
        "",
        "| rule | agreement | disagreement | kappa | both right | only the rule | only the judge | "
        "both wrong |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        counts = f"{row.both:,} | {row.only_rule:,} | {row.only_judge:,} | {row.neither:,}"
        figures = f"{row.agreement} | {row.disagreement} | {row.kappa or '-'}"
        lines.append(f"| {row.rule} | {figures} | {counts} |")
    return "\n".join([*lines, ""])


def _left_out(judged: Judged) -> str:
    """Say which answers are not compared."""
    silent = [f"{count:,} {why}" for why, count in sorted(judged.not_judged.items())]
    text = f"{judged.not_judged.total():,} answers were not judged"
    if silent:
        text += f" ({', '.join(silent)})"
    return f"{text}, {judged.num_open:,} questions are open-ended"


def main(arguments: Sequence[str]) -> str:
    """Compare, write the page and return the summary line.

    Raises:
        InputError: A file is missing, or no row has a verdict.
    """
    params = Params.load("judge_agreement", arguments).section(JudgeAgreementParams)
    path = Path(params.recorded or params.graded)
    if params.recorded:
        judged = read_recorded(tables.read_table(path, RecordedVerdict))
    else:
        judged = [read_graded(tables.read_table(path, GradedTrajectory))]
    with_verdicts = [each for each in judged if each.pairs]
    if not with_verdicts:
        raise InputError(
            "no row has a verdict to compare",
            where=path,
            got=_left_out(judged[0]),
            fix="name a judge in the section judge and run `coa grade` (docs/evaluation.md)",
        )
    sections = ["# How far the judge agrees with the rules\n"]
    summaries = []
    for each in with_verdicts:
        found = list(compare(each))
        sections.append(as_markdown(each, found))
        exact = found[0]
        summaries.append(
            f"{', '.join(sorted(each.judges))} and our exact match disagree on "
            f"{exact.disagreement} of {len(each.pairs):,} answers, kappa {exact.kappa or '-'}; "
            f"{_left_out(each)}"
        )
    write_file(OUT, "\n".join(sections))
    return f"{OUT}: {'. '.join(summaries)}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
