"""Session traces: every call names its tool's own parameter."""

import json
from typing import Any

import pytest

from coa.records import protocol
from coa.records.trajectory import (
    Author,
    Mode,
    Outcome,
    Sampling,
    Step,
    StepKind,
    StopReason,
    Trajectory,
)
from data_cards.formats.traces import trace


def calling(tool: str, argument: str) -> Trajectory:
    """A trajectory that calls one tool once."""
    steps = (
        Step(StepKind.THOUGHT, Author.POLICY, "I look. "),
        Step(StepKind.ACTION, Author.POLICY, "", tool=tool, argument=argument),
        protocol.observation(tool, "Something.", Outcome.OK),
        Step(StepKind.ANSWER, Author.POLICY, "The answer."),
    )
    return Trajectory(
        "q/coa/0",
        "q",
        Mode.COA,
        0,
        "Why?",
        "",
        steps,
        StopReason.ANSWERED,
        "m",
        Sampling(),
        "",
        "",
        0,
        0,
        0,
        2,
        1,
    )


@pytest.mark.parametrize(
    ("tool", "argument", "expected"),
    [
        ("search", "Ann Example", {"query": "Ann Example"}),
        ("search", '{"a": 1}', {"query": '{"a": 1}'}),
        ("open", "https://example.org/", {"url": "https://example.org/"}),
        ("calculate", "6 * 7", {"expression": "6 * 7"}),
        ("get_weather", '{"city": "Bern", "days": 2}', {"city": "Bern", "days": 2}),
        ("get_weather", "Bern", {"argument": "Bern"}),
        ("get_weather", "42", {"argument": "42"}),
        ("get_weather", "[" * 100_000, {"argument": "[" * 100_000}),
    ],
)
def test_a_call_names_the_parameters_of_its_own_tool(
    tool: str, argument: str, expected: dict[str, Any]
) -> None:
    lines = [json.loads(line) for line in trace(calling(tool, argument)).splitlines()]
    messages = [line["message"] for line in lines[1:]]
    ((call,),) = [message["toolCalls"] for message in messages if "toolCalls" in message]
    assert call["function"]["name"] == tool
    assert json.loads(call["function"]["arguments"]) == expected
