"""Our grades of ingested trajectories beside those that their files record: counts, and a reason for each difference.

    python -m synth.ingest_grades

Reads the tables of `synth.ingest`; writes data/ingest/agreement.md and, row by row, data/ingest/disagreements.parquet.
"""

import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby
from pathlib import Path

from coa import tables
from coa.dialects import prediction
from coa.errors import InputError, writing_error
from coa.grading import YES_NO, Grade, grade_prediction, normalise
from coa.question import Question
from coa.trajectory import Trajectory
from synth.ingest import OUT, DroppedLine, Recorded

_SAME_F1 = 1e-6
_NUM_IDS = 4
"""Ids shown for each reason; the table of disagreements has all."""
_NUMBER_WORDS = frozenset(
    (
        "zero",
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
        "seven",
        "eight",
        "nine",
        "ten",
        "eleven",
        "twelve",
    )
)


class Measure(StrEnum):
    """Which of our numbers is compared with which of theirs."""

    EXACT_MATCH = "exact match, recorded exact match"
    F1 = "F1, recorded F1"
    JUDGE = "exact match, judge"
    JUDGE_COVER = "cover exact match, judge"


_JUDGED = frozenset({Measure.JUDGE, Measure.JUDGE_COVER})


class DisagreementReason(StrEnum):
    """Why two verdicts differ; the first that holds, in this order."""

    EXTRACTION = "another answer was graded"
    """The file's prediction is not the answer that we read, after normalisation."""
    STRICT_JUDGE = "strict judge"
    """The answer equals the gold answer or contains it, and the judge refuses it."""
    YES_NO = "yes or no"
    """The gold answer is yes or no, or the prediction is; the other says it in words, or says something else."""
    FORMATTING = "formatting"
    """Equal but for accents, signs and spaces."""
    LONGER = "longer answer"
    """The gold answer stands inside the prediction."""
    SHORTER = "shorter answer"
    """Every word of the prediction stands in the gold answer."""
    NUMERAL = "numeral"
    """Both name a number: another form, unit, range or rounding."""
    ALIAS = "other form of the name"
    """The two share words, but neither contains the other."""
    LENIENT_JUDGE = "no word in common"
    """An alias that shares no word, or a lenient judge: only a person can tell."""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One trajectory on which we and its file differ by one measure."""

    trajectory_id: str
    model: str
    measure: Measure
    ours: float
    theirs: float
    reason: DisagreementReason
    prediction: str
    recorded_prediction: str
    gold_answer: str
    """The first of them."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One trajectory's verdicts side by side: of each measure that its file records, (ours, theirs)."""

    model: str
    pairs: tuple[tuple[Measure, float, float], ...]
    disagreements: tuple[Disagreement, ...]


def compare(trajectory: Trajectory, question: Question, recorded: Recorded) -> Comparison:
    """Grade a trajectory and set the grade beside what its file says."""
    answer = prediction(trajectory.steps)
    ours = grade_prediction(answer, question.gold_answers)
    pairs = tuple(_pairs(ours, recorded))
    found = tuple(
        Disagreement(
            trajectory.trajectory_id,
            recorded.model,
            measure,
            mine,
            theirs,
            why(
                answer or "",
                recorded.prediction,
                question.gold_answers,
                is_refused=measure in _JUDGED and mine > theirs,
                is_computed=measure not in _JUDGED,
            ),
            answer or "",
            recorded.prediction or "",
            question.gold_answers[0],
        )
        for measure, mine, theirs in pairs
        if abs(mine - theirs) > _SAME_F1
    )
    return Comparison(recorded.model, pairs, found)


def _pairs(ours: Grade, recorded: Recorded) -> Iterator[tuple[Measure, float, float]]:
    if recorded.exact_match is not None:
        yield Measure.EXACT_MATCH, float(ours.exact_match), float(recorded.exact_match)
    if recorded.f1 is not None:
        yield Measure.F1, ours.f1, recorded.f1
    if recorded.judge is not None:
        yield Measure.JUDGE, float(ours.exact_match), float(recorded.judge)
        yield Measure.JUDGE_COVER, float(ours.cover_exact_match), float(recorded.judge)


def why(
    answer: str,
    recorded: str | None,
    golds: Sequence[str],
    *,
    is_refused: bool = False,
    is_computed: bool = False,
) -> DisagreementReason:
    """The first reason that explains why verdicts on `answer` differ.

    `is_refused`: we accept the answer and they do not. `is_computed`: theirs follows the same formula, so that only the
    normalisation before it can differ.
    """
    if recorded is not None and _bare(recorded) != _bare(answer):
        return DisagreementReason.EXTRACTION
    if is_refused:
        return DisagreementReason.STRICT_JUDGE
    text, gold = normalise(answer), normalise(golds[0])
    words, gold_words = set(text.split()), set(gold.split())
    if is_computed:
        return (
            DisagreementReason.NUMERAL
            if _has_number(words | gold_words)
            else DisagreementReason.FORMATTING
        )
    if gold in YES_NO or text in YES_NO:
        return DisagreementReason.YES_NO
    if _bare(answer) == _bare(golds[0]):
        return DisagreementReason.FORMATTING
    if f" {gold} " in f" {text} ":
        return DisagreementReason.LONGER
    if words <= gold_words:
        return DisagreementReason.SHORTER
    if _has_number(words) and _has_number(gold_words):
        return DisagreementReason.NUMERAL
    return DisagreementReason.ALIAS if words & gold_words else DisagreementReason.LENIENT_JUDGE


def _bare(text: str) -> str:
    """Letters and digits alone, accents removed."""
    letters = unicodedata.normalize("NFKD", normalise(text))
    return re.sub(
        r"[\W_]+", "", "".join(sign for sign in letters if not unicodedata.combining(sign))
    )


def _has_number(words: Iterable[str]) -> bool:
    return any(word in _NUMBER_WORDS or any(sign.isdigit() for sign in word) for word in words)


def compare_tables(folder: Path) -> Iterator[Comparison]:
    """Every ingested trajectory whose question has gold answers, compared with its record.

    Raises:
        InputError: a table is missing, or two do not belong together.
    """
    questions = {
        question.question_id: question
        for question in tables.read_table(folder / "questions.parquet", Question)
    }
    records = tables.read_table(folder / "recorded.parquet", Recorded)
    for trajectory in tables.read_table(folder / "trajectories.parquet", Trajectory):
        recorded = next(records, None)
        if recorded is None or recorded.trajectory_id != trajectory.trajectory_id:
            fix = "run python -m synth.ingest again"
            raise InputError(
                "recorded.parquet and trajectories.parquet are of different runs",
                where=folder,
                fix=fix,
            )
        if question := questions.get(trajectory.question_id):
            yield compare(trajectory, question, recorded)


def report(comparisons: Sequence[Comparison]) -> str:
    """Markdown: the two-by-two counts of each measure, then the disagreements by reason."""
    pairs = [(each.model, *pair) for each in comparisons for pair in each.pairs]
    lines = [
        "## Our grades and the recorded ones",
        "",
        "| model | ours, theirs | rows | both right | only ours |"
        " only theirs | both wrong | agreement |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (model, measure), group in groupby(sorted(pairs), key=lambda pair: pair[:2]):
        lines.append(
            f"| {model} | {measure} | {_counts([(mine, theirs) for *_, mine, theirs in group], measure)} |"
        )
    lines += [
        "",
        "## Why they differ",
        "",
        "| model | ours, theirs | reason | only ours | only theirs | ids |",
    ]
    lines.append("|---|---|---|---|---|---|")
    found = sorted((row for each in comparisons for row in each.disagreements), key=_group)
    for (model, measure, reason), differing in groupby(found, key=_group):
        rows = list(differing)
        num_ours = sum(row.ours > row.theirs for row in rows)
        ids = ", ".join(row.trajectory_id for row in rows[:_NUM_IDS]) + (
            ", ..." if len(rows) > _NUM_IDS else ""
        )
        lines.append(
            f"| {model} | {measure} | {reason} | {num_ours} | {len(rows) - num_ours} | {ids} |"
        )
    return "\n".join([*lines, ""])


def _group(row: Disagreement) -> tuple[str, Measure, DisagreementReason]:
    return row.model, row.measure, row.reason


def _counts(pairs: Sequence[tuple[float, float]], measure: str) -> str:
    """The cells of one line; F1 has no right and wrong, so that there it is equal, higher and lower."""
    same = [abs(mine - theirs) <= _SAME_F1 for mine, theirs in pairs]
    higher, lower = (
        sum(sign * (mine - theirs) > _SAME_F1 for mine, theirs in pairs) for sign in (1, -1)
    )
    both = sum(is_same and mine > 0 for is_same, (mine, _) in zip(same, pairs, strict=True))
    return f"{len(pairs)} | {both} | {higher} | {lower} | {sum(same) - both} | {sum(same) / len(pairs):.3f}"


def yields(folder: Path) -> str:
    """Markdown: of each model's file, rows read and rows dropped by reason."""
    read = Counter(row.model for row in tables.read_table(folder / "recorded.parquet", Recorded))
    dropped: dict[str, Counter[str]] = {}
    for row in tables.read_table(folder / "dropped.parquet", DroppedLine):
        dropped.setdefault(Path(row.file).stem, Counter())[row.reason] += 1
    lines = ["## Rows read", "", "| file | read | dropped | reasons |", "|---|---|---|---|"]
    for name in sorted({*read, *dropped}):
        reasons = dropped.get(name, Counter())
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        lines.append(f"| {name} | {read[name]} | {reasons.total()} | {listed} |")
    return "\n".join([*lines, "", ""])


def main(arguments: Sequence[str]) -> str:
    """Compare, write the report and the disagreements; the summary line is returned."""
    comparisons = list(compare_tables(OUT))
    rows = [row for each in comparisons for row in each.disagreements]
    tables.write_table(OUT / "disagreements.parquet", Disagreement, rows)
    path = OUT / "agreement.md"
    try:
        path.write_text(yields(OUT) + report(comparisons), encoding="utf-8")
    except OSError as error:
        raise writing_error(path, error) from error
    return f"{path}: {len(comparisons):,} trajectories compared, {len(rows):,} disagreements"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
