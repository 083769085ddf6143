"""A chat server that fails: every question is accounted for, and nothing is paid twice."""

import asyncio
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from coa.errors import ServiceError
from coa.policy import Completion, Request
from coa.policy.chat.families import ChatSettings
from coa.policy.chat.policy import ChatPolicy
from coa.policy.server_settings import ServerSettings
from coa.records import protocol
from coa.records.trajectory import Mode, Outcome, StepKind, StopReason, Trajectory
from coa.store.journal import Journal
from tests.chat_support import (
    MODEL,
    Script,
    chat_rows,
    differing,
    faulty,
    raw_rows,
    roll,
    tasks,
)
from tests.completions_support import free_port
from tests.doubles.faults import FaultKind
from tests.doubles.model_server import Personality, serve

NUM_QUESTIONS = 100
LIMITS = (
    FaultKind.TOO_MANY_REQUESTS,
    FaultKind.LIMIT_WITHOUT_TIME,
    FaultKind.LIMIT_WITH_DATE,
    FaultKind.LIMIT_WITH_NONSENSE,
)
PASSING = {
    "limits": LIMITS,
    "refusals": (
        FaultKind.REQUEST_TIMEOUT,
        FaultKind.CONFLICT,
        FaultKind.TOO_EARLY,
        FaultKind.SERVER_ERROR,
        FaultKind.BAD_GATEWAY,
        FaultKind.UNAVAILABLE,
        FaultKind.GATEWAY_TIMEOUT,
        FaultKind.UNKNOWN_ERROR,
        FaultKind.OVERLOADED,
    ),
    "bytes": (
        FaultKind.RESET,
        FaultKind.RESET_AT_ONCE,
        FaultKind.HALF_JSON,
        FaultKind.EMPTY_BODY,
        FaultKind.BLANK_BODY,
        FaultKind.HTML_BODY,
        FaultKind.NOT_UTF8,
        FaultKind.NOT_AN_OBJECT,
        FaultKind.DEEP_JSON,
    ),
    "replies": (
        FaultKind.ERROR_IN_BODY,
        FaultKind.EMPTY_CHOICES,
        FaultKind.NULL_CHOICES,
        FaultKind.NO_TEXT,
        FaultKind.FAILED_ON_THE_WAY,
    ),
    "harmless": (
        FaultKind.NO_USAGE,
        FaultKind.ODD_USAGE,
        FaultKind.UNKNOWN_FIELDS,
        FaultKind.NO_CALL_ID,
    ),
}
NO_ARGUMENTS = "not an object with one text"
HARMFUL = {
    FaultKind.BAD_REQUEST: (StopReason.POLICY_ERROR, "bad_request"),
    FaultKind.TOO_LARGE: (StopReason.POLICY_ERROR, "too_large"),
    FaultKind.UNPROCESSABLE: (StopReason.POLICY_ERROR, "Field required"),
    FaultKind.WITHHELD: (StopReason.POLICY_ERROR, "content_filter"),
    FaultKind.BAD_ARGUMENTS: (StopReason.MALFORMED, NO_ARGUMENTS),
    FaultKind.NULL_ARGUMENTS: (StopReason.MALFORMED, NO_ARGUMENTS),
    FaultKind.LIST_ARGUMENTS: (StopReason.MALFORMED, NO_ARGUMENTS),
    FaultKind.NAMELESS_CALL: (StopReason.MALFORMED, "unknown tool"),
    FaultKind.UNKNOWN_TOOL: (StopReason.FORBIDDEN_ACTION, ""),
    FaultKind.OTHER_MODEL: (StopReason.MALFORMED, "another model's: somebody-else"),
    FaultKind.SUMMARY: (StopReason.MALFORMED, "only a summary"),
}
ENDED = frozenset({StopReason.ANSWERED, StopReason.NO_ANSWER})


def ids(rows: list[Trajectory]) -> list[str]:
    return [row.trajectory_id for row in rows]


@pytest.mark.parametrize("name", PASSING)
def test_passing_faults_change_no_row(name: str) -> None:
    faults = faulty(*PASSING[name], share=0.4)
    rows = chat_rows(Mode.COA, 40, Personality.VLLM, faults=faults)
    assert differing(raw_rows(Mode.COA, 40), rows) == []
    assert min(faults.counts[kind] for kind in PASSING[name]) > 1


def test_a_reply_that_hangs_is_asked_for_again() -> None:
    faults = faulty("hang", share=0.05, hang_seconds=30.0)
    rows = chat_rows(
        Mode.COA, NUM_QUESTIONS, Personality.VLLM, faults=faults, server={"timeout_seconds": 0.5}
    )
    assert differing(raw_rows(Mode.COA, NUM_QUESTIONS), rows) == []
    assert faults.counts[FaultKind.HANG] > 5


@pytest.mark.parametrize("kind", HARMFUL)
def test_a_reply_that_cannot_be_used_is_a_row_with_its_reason(kind: FaultKind) -> None:
    faults = faulty(kind, share=0.15)
    rows = chat_rows(Mode.COA, 40, Personality.VLLM, faults=faults)
    raw = raw_rows(Mode.COA, 40)
    assert ids(rows) == ids(raw)
    reason, said = HARMFUL[kind]
    spoilt = [row for row in rows if row.stop_reason not in ENDED]
    assert 3 < len(spoilt) == faults.counts[kind]
    assert {row.stop_reason for row in spoilt} == {reason}
    assert all(said in row.error for row in spoilt)
    whole = {row.trajectory_id for row in rows if row.stop_reason in ENDED}
    assert not whole & set(differing(raw, rows))


def test_a_first_reply_without_reasoning_is_a_row_and_a_later_one_goes_on() -> None:
    faults = faulty("no_reasoning", share=0.1)
    rows = chat_rows(Mode.COA, NUM_QUESTIONS, Personality.DEEPSEEK, faults=faults)
    spoilt = [row for row in rows if row.stop_reason is StopReason.MALFORMED]
    assert 0 < len(spoilt) < faults.counts[FaultKind.NO_REASONING]
    assert {row.error for row in spoilt} == {"the server shows no reasoning"}
    assert {row.stop_reason for row in rows} <= {
        *ENDED,
        StopReason.MALFORMED,
        StopReason.ACTION_BUDGET,
    }


@pytest.mark.parametrize("personality", [Personality.DEEPSEEK, Personality.OPENROUTER])
def test_parallel_calls_are_cut_to_the_first_and_the_row_shows_the_others(
    personality: Personality,
) -> None:
    faults = faulty("parallel_calls", share=0.5)
    has_seeds = personality is Personality.OPENROUTER
    rows = chat_rows(Mode.COA, NUM_QUESTIONS, personality, faults=faults)
    raw = raw_rows(Mode.COA, NUM_QUESTIONS, has_seeds=has_seeds)
    num_cut = 0
    for row in rows:
        num_cut += sum(bool(step.cut_calls) for step in row.steps)
    uncut = [
        replace(row, steps=tuple(replace(step, cut_calls=()) for step in row.steps)) for row in rows
    ]
    assert num_cut == faults.counts[FaultKind.PARALLEL_CALLS] > 30
    assert differing(raw, uncut) == []


def test_our_tags_in_the_reasoning_act_nowhere() -> None:
    faults = faulty("tags_in_reasoning", share=0.3)
    rows = chat_rows(Mode.COA, NUM_QUESTIONS, Personality.VLLM, faults=faults)
    broken = Counter[bool]()
    for row in rows:
        assert not protocol.stray_tags(row.steps)
        for step in row.steps:
            if step.kind is StepKind.THOUGHT and step.transcribed is not None:
                broken[protocol.THINK_CLOSE in step.transcribed] += 1
                assert protocol.break_tags(step.transcribed) == step.text
            if step.kind is StepKind.ACTION:
                assert step.argument != "x"
    assert broken == {True: faults.counts[FaultKind.TAGS_IN_REASONING]}
    assert {row.stop_reason for row in rows} <= ENDED


def test_our_tags_in_arguments_act_nowhere() -> None:
    faults = faulty("tags_in_arguments", share=0.3)
    rows = chat_rows(Mode.COA, 50, Personality.VLLM, faults=faults)
    num_broken = 0
    for row in rows:
        assert not protocol.stray_tags(row.steps)
        for step in row.steps:
            num_broken += "‹" in (step.argument or "")
    assert num_broken == faults.counts[FaultKind.TAGS_IN_ARGUMENTS] > 7


def test_a_resumed_run_pays_nothing_twice_and_sends_the_same_messages(journal_path: Path) -> None:
    kept = [kind for kind, (reason, _) in HARMFUL.items() if reason is StopReason.MALFORMED]
    faults = faulty(*kept, "parallel_calls", "tags_in_reasoning", share=0.2)
    script = Script()
    with Journal(journal_path) as journal:
        first = chat_rows(
            Mode.COA, 40, Personality.OPENROUTER, script=script, faults=faults, journal=journal
        )
    num_paid = script.num_calls
    # More questions than before: the first ones are replayed, and the others are asked.
    with Journal(journal_path) as journal:
        again = chat_rows(Mode.COA, 40, Personality.OPENROUTER, script=script, journal=journal)
        assert script.num_calls == num_paid
        assert (journal.num_recorded, journal.num_replayed) == (0, num_paid)
        more = chat_rows(Mode.COA, 60, Personality.OPENROUTER, script=script, journal=journal)
        assert journal.num_recorded == script.num_calls - num_paid > 0
    assert again == first == more[:40]


class Ending(Script):
    """A teacher that answers so many calls and then no more."""

    def __init__(self, num_calls: int) -> None:
        super().__init__()
        self._left = num_calls

    async def complete(self, request: Request) -> Completion:
        """Continue one request, or fail."""
        self._left -= 1
        if self._left < 0:
            raise ServiceError("the engine has died")
        return await super().complete(request)


def test_a_run_that_was_killed_goes_on_in_the_middle_of_its_rollouts(journal_path: Path) -> None:
    whole = chat_rows(Mode.COA, 40, Personality.OPENROUTER)
    script = Script()
    with Journal(journal_path) as journal:
        with pytest.raises(Exception, match="no answer"):
            chat_rows(
                Mode.COA,
                40,
                Personality.OPENROUTER,
                script=Ending(60),
                journal=journal,
                server={"patience_minutes": 0.0},
            )
        num_kept = journal.num_recorded
    assert num_kept > 20
    with Journal(journal_path) as journal:
        rows = chat_rows(Mode.COA, 40, Personality.OPENROUTER, script=script, journal=journal)
        assert journal.num_replayed == num_kept
        assert journal.num_recorded == script.num_calls
    assert rows == whole
    assert {row.model for row in rows} == {MODEL}
    assert Outcome.OK in {step.outcome for row in rows for step in row.steps}


def test_all_faults_together_leave_every_question_accounted_for() -> None:
    # Limits are left out, because they slow the run down, and hangs.
    kinds = [kind for kind in FaultKind if kind not in (*LIMITS, FaultKind.HANG)]
    faults = faulty(*kinds, share=0.5)
    rows = chat_rows(Mode.COA, 150, Personality.DEEPSEEK, faults=faults)
    assert ids(rows) == [task.trajectory_id for task in tasks(Mode.COA, "chat_coa", 150)]
    for row in rows:
        needs_reason = row.stop_reason in (StopReason.MALFORMED, StopReason.POLICY_ERROR)
        assert bool(row.error) == needs_reason
    assert sum(row.stop_reason in ENDED for row in rows) > 20
    assert len(faults.counts) > 0.9 * len(kinds) > 36


def test_a_server_that_dies_and_returns_costs_nothing_but_time() -> None:
    port = free_port()
    asked = tasks(Mode.COA, "chat_coa", NUM_QUESTIONS)

    async def through() -> list[Trajectory]:
        settings = ServerSettings(f"http://127.0.0.1:{port}/v1", MODEL, patience_minutes=1.0)
        slow = faulty(share=0.0, latency_seconds=0.02)
        async with ChatPolicy(settings, ChatSettings()) as policy:
            async with serve(Script(), port=port, personality=Personality.VLLM, faults=slow):
                rolling = asyncio.create_task(roll(policy, asked))
                await asyncio.sleep(0.5)
            assert not rolling.done()
            await asyncio.sleep(0.5)
            async with serve(Script(), port=port, personality=Personality.VLLM):
                return await rolling

    assert differing(raw_rows(Mode.COA, NUM_QUESTIONS), asyncio.run(through())) == []
