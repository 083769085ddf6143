"""A chat server is told the schemas of MCP tools, and their arguments go through as JSON."""

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from coa.doctor.recorded_authors import mask_fault
from coa.policy import Request, Turns
from coa.policy.chat.families import ChatSettings
from coa.policy.chat.policy import ChatPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server_settings import ServerSettings
from coa.records import protocol
from coa.records.graded import grade_trajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, Sampling, Step, StepKind, StopReason, Trajectory
from coa.rollout.drivers import roll_out_all
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.spending.journaled import policy_key
from coa.tools import ToolSchema, own_schemas
from coa.tools.model_context import open_mcp_tools
from coa.tools.settings import McpSettings
from data_cards.formats.traces import trace
from tests.chat_support import MODEL, world
from tests.doubles.model_server import Personality, serve

SERVER = '''
from mcp.server.mcpserver import MCPServer
server = MCPServer("trains")

@server.tool()
def trains(start: str, end: str, day: int = 1) -> str:
    """Find trains between two cities."""
    return f"From {start} to {end} on day {day}: at noon."

server.run()
'''
ARGUMENTS = '{"start": "Wien", "end": "Graz", "day": 3}'


def written(arguments: str) -> ScriptedPolicy:
    """A policy that calls the tool once, and then answers."""
    call = f"{protocol.open_tag('trains')} {arguments} {protocol.close_tag('trains')}"

    def write(request: Request) -> str:
        if "<trains_result>" in request.context:
            return "It leaves at noon.</think>\n\n\\boxed{noon}"
        return f"I look it up. {call}"

    return ScriptedPolicy(write, MODEL)


def rolled(
    folder: Path, arguments: str = ARGUMENTS, **manner: Any
) -> tuple[Trajectory, list[Mapping[str, Any]]]:
    """Roll out one question with an MCP tool over chat; give the bodies that were sent too."""
    (folder / "trains.py").write_text(SERVER)
    settings = McpSettings(command=f"{sys.executable} {folder / 'trains.py'}")
    bodies: list[Mapping[str, Any]] = []

    def note(http_request: web.Request, body: Mapping[str, Any]) -> None:
        bodies.append(body)

    async def roll() -> Trajectory:
        async with (
            open_mcp_tools(settings) as found,
            serve(
                written(arguments), personality=Personality.VLLM, fails=note, **manner
            ) as base_url,
            ChatPolicy(ServerSettings(base_url, MODEL), ChatSettings()) as policy,
        ):
            tools = {"search": world().search, **{tool.name: tool for tool in found}}
            policy.describe_tools(own_schemas(tools))
            prompt = f"Question: when?\n\n{protocol.THINK_OPEN}\n"
            task = Task("t", "q", Mode.COA, 0, "when?", prompt, "hash", tuple(tools))
            run = RolloutContext(policy, Sampling(), Limits())
            rows = roll_out_all([task], run, policy, tools, concurrency=1)
            (row,) = [row async for row in rows]
            return row

    return asyncio.run(roll()), bodies


def step_of(row: Trajectory, kind: StepKind) -> Step:
    (step,) = [step for step in row.steps if step.kind is kind]
    return step


def test_a_call_with_several_arguments_goes_through_as_it_is(tmp_path: Path) -> None:
    row, bodies = rolled(tmp_path)
    assert row.stop_reason is StopReason.ANSWERED, row.error
    action = step_of(row, StepKind.ACTION)
    assert action.argument == action.transcribed == ARGUMENTS
    assert "From Wien to Graz on day 3" in step_of(row, StepKind.OBSERVATION).text
    told = {tool["function"]["name"]: tool["function"] for tool in bodies[0]["tools"]}
    assert told["trains"]["description"] == "Find trains between two cities."
    assert set(told["trains"]["parameters"]["properties"]) == {"start", "end", "day"}
    assert set(told["search"]["parameters"]["properties"]) == {"query"}
    (sent_back,) = bodies[1]["messages"][1]["tool_calls"]
    assert json.loads(sent_back["function"]["arguments"]) == json.loads(ARGUMENTS)


def test_the_gate_and_the_traces_know_such_a_call(tmp_path: Path) -> None:
    row, _ = rolled(tmp_path)
    question = Question("q", "when?", ("noon",), "train")
    assert mask_fault(grade_trajectory(row, question)) == ""
    assert json.dumps(ARGUMENTS) in trace(row)


@pytest.mark.parametrize("arguments", ['["Wien", "Graz"]', "Wien"])
def test_arguments_that_are_no_object_are_not_sent_to_the_tool(
    tmp_path: Path, arguments: str
) -> None:
    row, _ = rolled(tmp_path, arguments)
    observation = step_of(row, StepKind.OBSERVATION)
    assert "cannot be used" in observation.text


def test_schemas_are_part_of_the_journals_key_where_there_are_any() -> None:
    request = Request("Who?", (), 9, 0.6, 1.0, 1, turns=Turns(("search",), ()))

    def key(schemas: Mapping[str, ToolSchema]) -> str:
        policy = ChatPolicy(ServerSettings(model=MODEL), ChatSettings())
        policy.describe_tools(schemas)
        return policy_key(policy, request)

    plain = policy_key(ChatPolicy(ServerSettings(model=MODEL), ChatSettings()), request)
    assert key({}) == plain
    assert key({"trains": ToolSchema("", {})}) not in (plain, key({"trains": ToolSchema("x", {})}))
