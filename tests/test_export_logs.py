"""Exports as JSON lines and session traces fit their schemas and are read back as they were."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from coa.foreign.record import Format
from coa.foreign.rows import read_foreign_row
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.protocol import observation_body
from coa.records.question import Question
from coa.records.trajectory import (
    FORCED_STOPS,
    Author,
    Outcome,
    Step,
    StepKind,
    StopReason,
    Trajectory,
)
from coa.store import tables
from coa.store.files import FORKS, GRADED
from data_cards.export import main
from data_cards.formats import agent_logs
from data_cards.formats.messages import call_arguments
from data_cards.formats.registry import FORMATS, ExportFormat
from data_cards.formats.traces import trace
from tests.sample_records import make_trajectory

Row = dict[str, Any]
WRITERS: dict[ExportFormat, agent_logs.RowWriter] = {
    ExportFormat.ATIF: agent_logs.atif_row,
    ExportFormat.ADP: agent_logs.adp_row,
}


class Schema(msgspec.Struct, forbid_unknown_fields=True):
    """An object whose fields are all known."""


class Function(Schema):
    name: str
    description: str
    parameters: dict[str, Any]


class Tool(Schema):
    type: Literal["function"]
    function: Function


class AtifCall(Schema):
    tool_call_id: str
    function_name: str
    arguments: dict[str, Any]


class AtifResult(Schema):
    source_call_id: str
    content: str


class AtifObservation(Schema):
    results: list[AtifResult]


class AtifUser(Schema, tag_field="source", tag="user"):
    step_id: int
    message: str


class AtifAgentStep(Schema, tag_field="source", tag="agent"):
    step_id: int
    message: str
    reasoning_content: str | None = None
    tool_calls: list[AtifCall] | None = None
    observation: AtifObservation | None = None


class AtifAgent(Schema):
    name: str
    version: str
    model_name: str
    tool_definitions: list[Tool]


class AtifRow(Schema):
    schema_version: Literal["ATIF-v1.8"]
    session_id: str
    trajectory_id: str
    agent: AtifAgent
    steps: list[AtifUser | AtifAgentStep]
    extra: dict[str, Any]


class ApiAction(Schema, tag_field="class_", tag="api_action"):
    function: str
    kwargs: dict[str, Any]
    tool_call_id: str | None = None
    reasoning_content: str | None = None


class MessageAction(Schema, tag_field="class_", tag="message_action"):
    content: str
    reasoning_content: str | None = None


class TextObservation(Schema, tag_field="class_", tag="text_observation"):
    content: str
    source: Literal["user", "agent", "environment"]
    tool_call_id: str | None = None


class AdpRow(Schema):
    schema_version: Literal["1.3.0", "1.4.0", "1.5.0"]
    id: str
    content: list[ApiAction | MessageAction | TextObservation]
    details: dict[str, Any]


SCHEMAS: dict[ExportFormat, type[Schema]] = {
    ExportFormat.ATIF: AtifRow,
    ExportFormat.ADP: AdpRow,
}
every_format = pytest.mark.parametrize("name", WRITERS)


@pytest.fixture(scope="module")
def answered(small_run: Path) -> list[Trajectory]:
    """Read all trajectories that answered, forks too, and make one that calls other tools."""
    ended = FORCED_STOPS | {StopReason.ANSWERED}
    found = [with_other_tools()]
    for path in (GRADED, FORKS):
        for row in tables.read_table(small_run / path, GradedTrajectory):
            if row.trajectory.stop_reason in ended:
                found.append(row.trajectory)
    assert len(found) >= 100
    return found


def with_other_tools() -> Trajectory:
    steps: list[Step] = []
    for tool, argument in (("calculate", "2 + 2"), ("lookup", '{"name": "Zoë", "limit": 3}')):
        call = protocol.open_tag(tool) + argument + protocol.close_tag(tool)
        steps.append(Step(StepKind.ACTION, Author.POLICY, call, tool, argument))
        steps.append(protocol.observation(tool, f"found by {tool}", Outcome.OK))
    steps += protocol.parse_policy("So it is.\n</think>\n\n\\boxed{4}")
    return make_trajectory(Question("other", "How many?", ("4",), "train"), tuple(steps))


def written(name: ExportFormat, trajectory: Trajectory) -> Row:
    """Write a row and read its JSON."""
    tools = sorted({step.tool or "" for step in trajectory.steps} - {""})
    row = WRITERS[name](trajectory, f"Question: {trajectory.question}", tools or ["search"])
    found: Row = json.loads(json.dumps(row))
    return found


def letters(text: str) -> str:
    for tag in (protocol.THINK_OPEN, protocol.THINK_CLOSE):
        text = text.replace(tag, "")
    return "".join(text.split())


def said(steps: tuple[Step, ...]) -> list[tuple[Any, ...]]:
    """Return the thoughts, calls, observations and the answer, in their order."""
    found: list[tuple[Any, ...]] = []
    for step in steps:
        if step.kind is StepKind.ACTION:
            given = call_arguments(step.tool or "", step.argument or "")
            if step.transcribed is not None:
                given = json.loads(step.transcribed)
            found.append((step.kind, step.tool, given))
        elif step.kind is StepKind.OBSERVATION:
            found.append((step.kind, letters(observation_body(step))))
        elif step.kind is StepKind.THOUGHT and letters(step.text):
            found.append((step.kind, letters(step.text)))
    return [*found, (StepKind.ANSWER, letters(protocol.answer_text(steps)))]


@every_format
def test_every_row_fits_the_schema(name: ExportFormat, answered: list[Trajectory]) -> None:
    for trajectory in answered:
        row = msgspec.convert(written(name, trajectory), SCHEMAS[name])
        assert isinstance(row, SCHEMAS[name])


def test_every_row_of_atif_is_read_back_as_the_same_steps(answered: list[Trajectory]) -> None:
    for trajectory in answered:
        read = read_foreign_row(written(ExportFormat.ATIF, trajectory))
        assert read.format is Format.ATIF
        assert said(read.steps) == said(trajectory.steps)
        assert read.question == f"Question: {trajectory.question}"


def test_adps_actions_and_observations_are_the_trajectorys(answered: list[Trajectory]) -> None:
    for trajectory in answered:
        row = msgspec.convert(written(ExportFormat.ADP, trajectory), AdpRow)
        asked, *content = row.content
        assert asked == TextObservation(f"Question: {trajectory.question}", "user")
        found: list[tuple[Any, ...]] = []
        call_id = None
        for item in content:
            thought = getattr(item, "reasoning_content", None)
            if thought:
                found.append((StepKind.THOUGHT, letters(thought)))
            if isinstance(item, ApiAction):
                found.append((StepKind.ACTION, item.function, item.kwargs))
                assert item.tool_call_id != call_id
                call_id = item.tool_call_id
            elif isinstance(item, TextObservation):
                assert (item.source, item.tool_call_id) == ("environment", call_id)
                found.append((StepKind.OBSERVATION, letters(item.content)))
            else:
                found.append((StepKind.ANSWER, letters(item.content)))
        assert found == said(trajectory.steps)


def test_atifs_steps_are_numbered_and_their_results_name_a_call_of_the_step(
    answered: list[Trajectory],
) -> None:
    for trajectory in answered:
        row = msgspec.convert(written(ExportFormat.ATIF, trajectory), AtifRow)
        assert [step.step_id for step in row.steps] == list(range(1, len(row.steps) + 1))
        for step in row.steps:
            if isinstance(step, AtifAgentStep) and step.observation is not None:
                (call,), (result,) = step.tool_calls or [], step.observation.results
                assert result.source_call_id == call.tool_call_id


@pytest.fixture(scope="module")
def exported(
    small_run: Path, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    out = tmp_path_factory.mktemp("logs") / "out"
    prompt = root / "train/prompts/question.txt"
    with pytest.MonkeyPatch.context() as context:
        context.chdir(small_run)
        main([f"out={out}", f"prompt={prompt}", f"format=[{','.join(WRITERS)}]"])
        yield out


@every_format
def test_an_export_has_a_file_for_each_split(exported: Path, name: ExportFormat) -> None:
    for split in ("train", "validation"):
        path = exported / FORMATS[name].path.format(name="coa", split=split)
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines
        for line in lines:
            msgspec.json.decode(line, type=SCHEMAS[name])


def calling(tool: str, argument: str) -> Trajectory:
    """A trajectory that calls one tool once."""
    steps = (
        Step(StepKind.THOUGHT, Author.POLICY, "I look. "),
        Step(StepKind.ACTION, Author.POLICY, "", tool=tool, argument=argument),
        protocol.observation(tool, "Something.", Outcome.OK),
        Step(StepKind.ANSWER, Author.POLICY, "The answer."),
    )
    return make_trajectory(Question("q", "Why?", ("x",), "train"), steps)


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
