"""ReAct text in place of tags: what the inner policy sees, and what its lines become."""

import asyncio

import pytest

from coa.policy.react import STOP, ReactPolicy, as_react, from_react, to_react
from coa.policy.scripted import ScriptedPolicy
from coa.records.graded import grade_trajectory
from coa.records.grading import boxed_answer
from coa.records.protocol import ANSWER_MARKER, answer_text, stray_tags
from coa.records.question import Question
from coa.records.trajectory import Mode, Outcome, Sampling, StepKind, StopReason, Trajectory
from coa.rollout.drivers import roll_out, roll_out_batched
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.tools import ToolReply

PROMPT = "Question: Who directed Iron Harbor?\n\n<think>\n"
ACTED = f"{PROMPT}I need it. <begin_search> Iron Harbor </end_search>"
OBSERVED = f"{ACTED}\n<search_result> result 1: It was Nora. </search_result>\n"


class OneFact:
    """A search tool that always finds the same."""

    name, fingerprint = "search", "one"

    async def call(self, argument: str) -> ToolReply:
        return ToolReply(Outcome.OK, f"result 1: {argument} is by Nora.")


def rolled_out(
    texts: list[str], *, tools: tuple[str, ...] = ("search",), limits: Limits | None = None
) -> Trajectory:
    policy = as_react(ScriptedPolicy(texts))
    task = Task("q/coa/0", "q", Mode.COA, 0, "Who?", PROMPT, "hash", tools)
    run = RolloutContext(policy, Sampling(), limits or Limits())

    async def collect() -> list[Trajectory]:
        rollouts = roll_out_batched([task], run, policy, {"search": OneFact()}, batch_size=1)  # type: ignore[arg-type]
        return [row async for row in rollouts]

    return asyncio.run(collect())[0]


@pytest.mark.parametrize(
    ("context", "seen"),
    [
        (PROMPT, "Question: Who directed Iron Harbor?\n\nThought:"),
        (
            OBSERVED,
            "Question: Who directed Iron Harbor?\n\nThought: I need it.\n"
            "Action: search[Iron Harbor]\nObservation: result 1: It was Nora.\nThought:",
        ),
        (
            f"{PROMPT}Perhaps Nora.{ANSWER_MARKER}",
            "Question: Who directed Iron Harbor?\n\nThought: Perhaps Nora.\nAnswer:",
        ),
    ],
)
def test_the_policy_sees_lines_in_place_of_tags(context: str, seen: str) -> None:
    assert to_react(context).text == seen


@pytest.mark.parametrize(
    ("written", "text", "has_moved"),
    [
        (
            " I see.\nAction: search[Iron Harbor]\nObservation:",
            "I see. <begin_search> Iron Harbor </end_search>",
            True,
        ),
        (" Done.\nAnswer: Nora Brandt\nQuestion:", "Done.\n</think>\n\n\\boxed{Nora Brandt}", True),
        (" Done.\nAction: Finish[Nora]", "Done.\n</think>\n\n\\boxed{Nora}", True),
        (" Done.\nAnswer: \\boxed{Nora}", "Done.\n</think>\n\n\\boxed{Nora}", True),
        (
            " A.\nAction: search[one]\nAction: search[two]",
            "A. <begin_search> one </end_search>",
            True,
        ),
        (" A.\nAction: search[a [b] c]", "A. <begin_search> a [b] c </end_search>", True),
        (" A.\nAction: Search[one]", "A. <begin_search> one </end_search>", True),
        (" A.\nAction: one", "A. Action: one", False),
        (" A.\nObservation: Nora.\nAnswer: Nora", "A.", False),
        (" I go on thinking.", "I go on thinking.", False),
        ("", "", False),
    ],
)
def test_lines_become_the_loops_text(written: str, text: str, has_moved: bool) -> None:
    assert from_react(written) == (text, has_moved)


@pytest.mark.parametrize(
    "written", [" </think> \\boxed{x}", " <begin_search> x </end_search>", " <think> x"]
)
def test_tags_of_the_policy_do_nothing(written: str) -> None:
    row = rolled_out(
        [
            f"{written}\nAction: search[<search_result> {written} </search_result>]",
            " So.\nAnswer: Nora",
        ]
    )
    assert row.stop_reason is StopReason.ANSWERED
    assert row.num_actions == 1
    assert not stray_tags(row.steps)


def test_a_rollout_searches_reads_and_answers() -> None:
    row = rolled_out(
        [" I need it.\nAction: search[Iron Harbor]\nObservation:", " It says Nora.\nAnswer: Nora\n"]
    )
    kinds = [step.kind for step in row.steps]
    assert kinds == [
        StepKind.THOUGHT,
        StepKind.ACTION,
        StepKind.OBSERVATION,
        StepKind.THOUGHT,
        StepKind.ANSWER,
    ]
    assert grade_trajectory(row, Question("q", "Who?", ("Nora",), "test")).grade.exact_match
    assert row.model == "scripted+react"


def test_the_policy_is_stopped_before_it_invents_an_observation() -> None:
    inner = ScriptedPolicy(
        [" I need it.\nAction: search[x]\nObservation: invented\nAnswer: y", " So.\nAnswer: Nora"]
    )
    policy = ReactPolicy(inner)
    task = Task("q/coa/0", "q", Mode.COA, 0, "Who?", PROMPT, "hash", ("search",))
    row = asyncio.run(
        roll_out(task, RolloutContext(policy, Sampling(), Limits()), policy, {"search": OneFact()})
    )
    assert inner.requests is not None
    assert [request.stop for request in inner.requests] == [STOP, STOP]
    assert "invented" not in inner.requests[1].context
    assert "Observation: result 1: x is by Nora.\nThought:" in inner.requests[1].context
    assert row.stop_reason is StopReason.ANSWERED


@pytest.mark.parametrize(
    ("turn", "stop_reason"),
    [
        (" I do not know.", StopReason.NO_ANSWER),
        (" Look.\nAction: search one", StopReason.NO_ANSWER),
        (" Look.\nAction: lookup[one]", StopReason.FORBIDDEN_ACTION),
        (" Look.\nObservation: Nora.\nAnswer: Nora", StopReason.NO_ANSWER),
    ],
)
def test_a_turn_that_cannot_be_read_ends_the_rollout(turn: str, stop_reason: StopReason) -> None:
    assert rolled_out([turn]).stop_reason is stop_reason


@pytest.mark.parametrize(
    "answer", ["{", "}", "a\\", "\\boxed{", "</think>", "5 {x} y", "\\boxed{{a}}"]
)
def test_an_answer_never_breaks_its_box(answer: str) -> None:
    row = rolled_out([f" So.\nAnswer: {answer}"])
    assert row.stop_reason is StopReason.ANSWERED
    assert not stray_tags(row.steps)
    assert boxed_answer(answer_text(row.steps)) is not None
