"""Apply the rules to a graded trajectory: those on form and grade first, then those on facts.

A failed trajectory gets exactly one primary cause, the first finding; what else went wrong follows.
A correct one gets contributing findings only. The order of the rules follows from what they mean: a
broken rollout says nothing about facts, and an answer that nearly equals the gold one needs no
wrong fact.
"""

from collections.abc import Iterator
from typing import NamedTuple

from coa.records import protocol
from coa.records.causes import Cause, Finding
from coa.records.graded import GradedTrajectory
from coa.records.grading import Verdict, normalise
from coa.records.plain_words import WORD
from coa.records.question import Question
from coa.records.trajectory import BUDGET_STOPS, FAILED_STOPS, Author, StepKind, StopReason
from curate.diagnosis.answers import names_without_giving, says_the_same
from curate.diagnosis.case import Case
from curate.diagnosis.claims import read
from curate.diagnosis.facts import diagnose_fact
from curate.diagnosis.gold import Corpus, gold_of

_BROKEN = frozenset(
    {
        StopReason.MALFORMED,
        StopReason.FORBIDDEN_ACTION,
        StopReason.NO_ANSWER,
        StopReason.UNBOXED,
    }
)
_MAX_CHARS = 100_000
"""So many characters of a step are searched for another name of the answer."""


class Context(NamedTuple):
    """The knowledge of the rules besides the row and its question: the same for a whole run."""

    corpus: Corpus = Corpus()
    asking: frozenset[str] = frozenset()
    """Words by which questions ask for things."""
    near_f1: float = 0.75
    """A wrong answer that overlaps an accepted one at least so much is blamed on the grader."""


def diagnose(row: GradedTrajectory, question: Question, context: Context) -> tuple[Finding, ...]:
    """List the findings on one trajectory, the primary cause first.

    A correct trajectory has contributing findings only, and so has an answer to an open-ended
    question: no accepted answer says what it should have found.
    """
    contributing = [*_form_trouble(row), *_search_trouble(row)]
    if row.grade.verdict in (Verdict.CORRECT, Verdict.OPEN):
        return tuple(contributing)
    findings: list[Finding] = []
    primary = _broken_form(row)
    if primary is None:
        answer = row.grade.prediction or ""
        gold = _nearest_gold(row, answer, context.near_f1)
        if gold is not None:
            evidence = f"answered “{answer}”, accepted is “{gold}”"
            primary = Finding(Cause.GRADED_WRONG, _last_step(row), evidence)
    if primary:
        findings.append(primary)
    has_forced_answer = primary and primary.cause is Cause.BUDGET and row.grade.prediction
    if primary is None or has_forced_answer:
        findings += diagnose_fact(_case(row, question, context))
    findings += contributing
    return tuple(_without_repeats(findings))


def _case(row: GradedTrajectory, question: Question, context: Context) -> Case:
    trajectory = row.trajectory
    return Case(
        mode=trajectory.mode,
        question=trajectory.question,
        steps=trajectory.steps,
        said=read(trajectory.steps, trajectory.question),
        prediction=normalise(row.grade.prediction or ""),
        gold=gold_of(question, context.corpus),
        corpus_ids=context.corpus.ids,
        asking=context.asking,
    )


def _without_repeats(findings: list[Finding]) -> Iterator[Finding]:
    """Keep the first finding of each cause; "unknown" only where it comes first."""
    seen: set[Cause] = set()
    for finding in findings:
        is_repeated = finding.cause in seen
        is_needless = bool(seen) and finding.cause is Cause.UNKNOWN
        if not is_repeated and not is_needless:
            seen.add(finding.cause)
            yield finding


def _broken_form(row: GradedTrajectory) -> Finding | None:
    """Apply the rules on form: the first that applies gives the primary cause."""
    trajectory = row.trajectory
    stop = trajectory.stop_reason
    last = _last_step(row)
    if stop in FAILED_STOPS:
        return Finding(Cause.TOOL_FAILURE, last, f"{stop}: {trajectory.error}")
    forged = _forged(row)
    if forged is not None:
        return forged
    if stop is StopReason.TRUNCATED:
        return Finding(Cause.TRUNCATED, last, "the answer ran into its limit")
    if stop is StopReason.TURN_BUDGET:
        return Finding(Cause.TRUNCATED, last, "a turn ran into its limit")
    if stop in BUDGET_STOPS:
        forcing = [i for i, step in enumerate(trajectory.steps) if step.author is Author.SCAFFOLD]
        evidence = f"{stop} after {trajectory.num_actions} actions"
        return Finding(Cause.BUDGET, forcing[0] if forcing else None, evidence)
    if stop in _BROKEN:
        return Finding(Cause.FORMAT, last, stop)
    if row.grade.verdict is Verdict.NO_ANSWER:
        return Finding(Cause.FORMAT, last, "no answer in the box")
    return None


def _forged(row: GradedTrajectory) -> Finding | None:
    for i, step in enumerate(row.trajectory.steps):
        if protocol.forges_observation((step,)):
            return Finding(Cause.FORGED_OBSERVATION, i, protocol.stray_tags((step,))[0])
    return None


def _nearest_gold(row: GradedTrajectory, answer: str, near_f1: float) -> str | None:
    """Find an accepted answer that the given one covers, overlaps or says in other words."""
    read_kinds = (StepKind.THOUGHT, StepKind.OBSERVATION)
    texts = [step.text[:_MAX_CHARS] for step in row.trajectory.steps if step.kind in read_kinds]
    question = row.trajectory.question
    given = [gold for gold in row.gold_answers if not names_without_giving(answer, gold, question)]
    for gold in given:
        if says_the_same(answer, gold, question, texts):
            return gold
    is_close = row.grade.cover_exact_match or (row.grade.f1 or 0.0) >= near_f1
    return given[0] if given and is_close else None


# Findings besides the cause.


def _form_trouble(row: GradedTrajectory) -> Iterator[Finding]:
    """Find a forged observation, else a stray tag."""
    forged = _forged(row)
    stray_tags = protocol.stray_tags(row.trajectory.steps)
    if forged:
        yield forged
    elif stray_tags:
        yield Finding(Cause.FORMAT, None, f"stray tag {stray_tags[0]}")


def _search_trouble(row: GradedTrajectory) -> Iterator[Finding]:
    """Find queries asked twice, and others that brought only passages already shown."""
    asked: set[tuple[str, ...]] = set()
    shown: set[str] = set()
    steps = row.trajectory.steps
    for i, step in enumerate(steps):
        if step.kind is not StepKind.ACTION:
            continue
        query = tuple(WORD.findall((step.argument or "").lower()))
        passages = steps[i + 1].passages if i + 1 < len(steps) else ()
        if query in asked:
            yield Finding(Cause.REPEATED_SEARCH, i, f"twice: {step.argument}")
        elif passages and shown.issuperset(passages):
            yield Finding(Cause.NEEDLESS_SEARCH, i, f"nothing new: {step.argument}", passages)
        asked.add(query)
        shown.update(passages)


def _last_step(row: GradedTrajectory) -> int | None:
    return len(row.trajectory.steps) - 1 if row.trajectory.steps else None
