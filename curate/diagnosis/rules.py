"""A graded trajectory to its findings: the rules on form and grade first, then those on facts.

A failed trajectory gets exactly one primary cause, the first finding; what else went wrong follows. A correct one gets
contributing findings only. The order of the rules follows from what they mean: a broken rollout says nothing about
facts, an answer that nearly equals the gold one needs no wrong fact.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from coa import protocol
from coa.causes import Cause, Finding
from coa.graded import GradedTrajectory
from coa.grading import Verdict, normalise
from coa.plain_words import WORD
from coa.question import Question
from coa.trajectory import FAILED_STOPS, FORCED_STOPS, Author, StepKind, StopReason
from curate.diagnosis.answers import says_the_same
from curate.diagnosis.case import Case
from curate.diagnosis.claims import read
from curate.diagnosis.denials import names_without_giving
from curate.diagnosis.facts import diagnose_fact
from curate.diagnosis.gold import Corpus, gold_of

_BROKEN = frozenset({StopReason.MALFORMED, StopReason.FORBIDDEN_ACTION, StopReason.NO_ANSWER})
_MAX_CHARS = 100_000
"""Of a step that are searched for another name of the answer."""


class Context(NamedTuple):
    """What the rules know beside the row and its question; the same for a whole run."""

    corpus: Corpus = Corpus()
    asking: frozenset[str] = frozenset()
    """Words by which questions ask for things."""
    near_f1: float = 0.75
    """A wrong answer that overlaps an accepted one at least so much is blamed on the grader."""


def diagnose(row: GradedTrajectory, question: Question, context: Context) -> tuple[Finding, ...]:
    """The findings on one trajectory, the primary cause first; a correct one has contributing findings only."""
    beside = [*_form_trouble(row), *_search_trouble(row)]
    if row.grade.verdict is Verdict.CORRECT:
        return tuple(beside)
    primary = next(filter(None, (rule(row) for rule in _FORM_RULES)), None) or _nearly_right(
        row, context.near_f1
    )
    found = [primary] if primary else []
    if not found or (primary and primary.cause is Cause.BUDGET and row.grade.prediction):
        found += diagnose_fact(_case(row, question, context))
    return tuple(_without_repeats([*found, *beside]))


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
    """Each cause once; beside a primary cause "unknown" says nothing."""
    seen: set[Cause] = set()
    for finding in findings:
        if finding.cause not in seen and not (seen and finding.cause is Cause.UNKNOWN):
            seen.add(finding.cause)
            yield finding


# Rules on form: the first that applies is the primary cause


def _failure(row: GradedTrajectory) -> Finding | None:
    trajectory = row.trajectory
    if trajectory.stop_reason not in FAILED_STOPS:
        return None
    return Finding(
        Cause.TOOL_FAILURE, _last_step(row), f"{trajectory.stop_reason}: {trajectory.error}"
    )


def _forged(row: GradedTrajectory) -> Finding | None:
    for i, step in enumerate(row.trajectory.steps):
        if protocol.forges_observation((step,)):
            return Finding(Cause.FORGED_OBSERVATION, i, protocol.stray_tags((step,))[0])
    return None


def _truncated(row: GradedTrajectory) -> Finding | None:
    is_cut = row.trajectory.stop_reason is StopReason.TRUNCATED
    return (
        Finding(Cause.TRUNCATED, _last_step(row), "the answer ran into its limit")
        if is_cut
        else None
    )


def _budget(row: GradedTrajectory) -> Finding | None:
    stop = row.trajectory.stop_reason
    step = next(
        (i for i, step in enumerate(row.trajectory.steps) if step.author is Author.SCAFFOLD), None
    )
    return (
        Finding(Cause.BUDGET, step, f"{stop} after {_count(row)} actions")
        if stop in FORCED_STOPS
        else None
    )


def _broken(row: GradedTrajectory) -> Finding | None:
    stop = row.trajectory.stop_reason
    if stop in _BROKEN:
        return Finding(Cause.FORMAT, _last_step(row), stop)
    if row.grade.verdict is Verdict.NO_ANSWER:
        return Finding(Cause.FORMAT, _last_step(row), "no answer in the box")
    return None


_FORM_RULES: tuple[Callable[[GradedTrajectory], Finding | None], ...] = (
    _failure,
    _forged,
    _truncated,
    _budget,
    _broken,
)


def _nearly_right(row: GradedTrajectory, near_f1: float) -> Finding | None:
    """Whether the answer is near an accepted one: covers it, overlaps it, or says it otherwise."""
    answer = row.grade.prediction or ""
    told = (StepKind.THOUGHT, StepKind.OBSERVATION)
    texts = [step.text[:_MAX_CHARS] for step in row.trajectory.steps if step.kind in told]
    asked = row.trajectory.question
    given = [gold for gold in row.gold_answers if not names_without_giving(answer, gold, asked)]
    near = next((gold for gold in given if says_the_same(answer, gold, asked, texts)), None)
    is_close = row.grade.cover_exact_match or row.grade.f1 >= near_f1
    if near is None and not (given and is_close):
        return None
    gold = near or given[0]
    return Finding(
        Cause.GRADED_WRONG, _last_step(row), f"answered “{answer}”, accepted is “{gold}”"
    )


# Findings beside the cause


def _form_trouble(row: GradedTrajectory) -> Iterator[Finding]:
    if forged := _forged(row):
        yield forged
    elif stray := protocol.stray_tags(row.trajectory.steps):
        yield Finding(Cause.FORMAT, None, f"stray tag {stray[0]}")


def _search_trouble(row: GradedTrajectory) -> Iterator[Finding]:
    """Queries asked twice, and others that brought nothing but passages already shown; the first of each."""
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


def _count(row: GradedTrajectory) -> int:
    return row.trajectory.num_actions
