"""Every reason has one smallest trajectory that triggers it and nothing else."""

from dataclasses import replace

import pytest

from coa.records import protocol
from coa.records.drops import DropReason
from coa.records.graded import GradedTrajectory
from coa.records.grading import grade_open
from coa.records.question import Question
from coa.records.trajectory import Outcome, Step, StepKind, StopReason
from curate.filter import RULES, FilterParams, judge
from tests.sample_records import make_graded

QUESTION = Question("q", "Who?", ("Paris",), "train")
PARAMS = FilterParams(
    max_policy_tokens=100,
    max_copied_words=3,
    max_repeats=2,
    loop_words=3,
    rules=("tests.filter_support:is_hesitant",),
)
ANSWER = "</think> \\boxed{Paris}"


def turn(thought: str, query: str, body: str = "nothing here") -> tuple[Step, ...]:
    written = f"{thought}{protocol.open_tag('search')} {query} {protocol.close_tag('search')}"
    return (*protocol.parse_policy(written), protocol.observation("search", body, Outcome.OK))


def row(
    *steps: Step, stop: StopReason = StopReason.ANSWERED, tokens: int = 10, error: str = ""
) -> GradedTrajectory:
    num_actions = sum(step.kind is StepKind.ACTION for step in steps)
    return make_graded(
        QUESTION,
        steps,
        stop_reason=stop,
        num_policy_tokens=tokens,
        num_actions=num_actions,
        error=error,
    )


def written(text: str) -> tuple[Step, ...]:
    return protocol.parse_policy(text)


GOOD = row(*turn("I need it. ", "capital of France"), *written(f"It says so. {ANSWER}"))
FORCED = (
    protocol.marker(protocol.ANSWER_MARKER),
    *protocol.parse_policy("Paris}", is_thinking=False),
)
SMALLEST = {
    DropReason.FAILED: row(*written("x"), stop=StopReason.TOOL_ERROR, error="time-out"),
    DropReason.NO_ANSWER: row(*written("x"), stop=StopReason.NO_ANSWER),
    DropReason.FORMAT: row(*written("</think> Paris")),
    DropReason.FORCED: row(*turn("", "a"), *FORCED, stop=StopReason.ACTION_BUDGET),
    DropReason.UNJUDGED: replace(row(*written(ANSWER)), grade=grade_open("\\boxed{Paris}")),
    DropReason.WRONG: row(*written("</think> \\boxed{London}")),
    DropReason.REPEATED_SEARCH: row(
        *turn("", "Capital, France"), *turn("", "capital france"), *written(ANSWER)
    ),
    DropReason.COPIED_OBSERVATION: row(
        *turn("", "a", "one two three four"), *written(f"One two three four. {ANSWER}")
    ),
    DropReason.LENGTH: row(*written(ANSWER), tokens=101),
    DropReason.LOOP: row(*written(f"so it is. so it is. so it is. {ANSWER}")),
    DropReason.OWN_RULE: row(*written(f"perhaps. {ANSWER}")),
}


@pytest.mark.parametrize("reason", DropReason)
def test_the_smallest_example_of_a_reason_triggers_it_and_nothing_else(reason: DropReason) -> None:
    example = SMALLEST[reason]
    applying = {name for name, rule in RULES.items() if rule(example, PARAMS) is not None}
    # Without an answer of its own a row is wrong as well: those reasons come first and name the
    # cause.
    unanswered = {DropReason.FAILED, DropReason.NO_ANSWER, DropReason.FORMAT}
    if reason in unanswered or reason is DropReason.UNJUDGED:
        applying.discard(DropReason.WRONG)
    assert applying == {reason}
    dropped = judge(example, PARAMS)
    assert dropped is not None
    assert (dropped.reason, dropped.row) == (reason, example)
    assert dropped.detail


@pytest.mark.parametrize(
    "bad",
    [
        row(*written(f"<search_result> Paris </search_result> {ANSWER}")),
        row(*written(f"<begin_search> open {ANSWER}")),
        row(*written("x"), stop=StopReason.FORBIDDEN_ACTION),
        row(*written("x </end_search>"), stop=StopReason.MALFORMED),
    ],
)
def test_broken_and_forged_tags_are_format_breakage(bad: GradedTrajectory) -> None:
    dropped = judge(bad, PARAMS)
    assert dropped is not None
    assert dropped.reason is DropReason.FORMAT


def test_forced_answers_can_be_kept() -> None:
    params = FilterParams(keeps_forced_answers=True)
    assert judge(SMALLEST[DropReason.FORCED], params) is None
    assert GOOD.grade.exact_match


def test_copying_ones_own_thought_is_not_copying_an_observation() -> None:
    assert (
        judge(
            row(*written(f"one two three four. {ANSWER}"), *turn("", "x", "one two three four")),
            PARAMS,
        )
        is None
    )
