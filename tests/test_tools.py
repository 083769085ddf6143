"""Test the tools of MCP servers, and a trajectory that uses three tools."""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError, ServiceError
from coa.policy.prompts import Prompt
from coa.policy.scripted import ScriptedPolicy
from coa.records import protocol
from coa.records.trajectory import Mode, Outcome, Sampling, StepKind, StopReason, Trajectory
from coa.rollout.drivers import roll_out
from coa.rollout.loop import Limits, RolloutContext
from coa.rollout.tasks import make_task
from coa.rollout.toolbox import open_library, open_tools
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.search.settings import SearchParams
from coa.tools import ToolReply, library_fingerprint, tool_fingerprints
from coa.tools.model_context import Parameters, open_mcp_tools, tag_name
from coa.tools.settings import McpSettings, OpenSettings, ToolsParams

SERVER = '''
from mcp.server.mcpserver import MCPServer
server = MCPServer("weather")

@server.tool()
def getWeather(city: str) -> str:
    """The weather of a city."""
    if city == "Atlantis":
        raise ValueError("no such city")
    return f"It rains in {city}."

@server.tool()
def add(a: int, b: int = 1) -> int:
    """A sum."""
    return a + b

@server.tool()
def pair(left: str, right: str) -> str:
    """Two texts."""
    return f"{left}/{right}"

server.run()
'''


@pytest.fixture
def weather(tmp_path: Path) -> str:
    (tmp_path / "weather.py").write_text(SERVER)
    return f"{sys.executable} {tmp_path / 'weather.py'}"


def test_the_tools_of_an_mcp_server_are_tools(weather: str) -> None:
    async def call_all() -> list[ToolReply]:
        async with open_mcp_tools(McpSettings(command=weather)) as tools:
            by_name = {tool.name: tool for tool in tools}
            assert set(by_name) == {"get_weather", "add", "pair"}
            assert len({tool.fingerprint for tool in tools}) == 3
            return [
                await by_name[name].call(argument)
                for name, argument in (
                    ("get_weather", " Vienna "),
                    ("get_weather", "Atlantis"),
                    ("add", "41"),
                    ("add", '{"a": 1, "b": 2}'),
                    ("add", "much"),
                    ("pair", '{"left": "x", "right": "y"}'),
                    ("pair", "x"),
                    ("pair", '{"left": 1}'),
                )
            ]

    replies = asyncio.run(call_all())
    expected = ["It rains in Vienna.", None, "42", "3", None, "x/y", None, None]
    assert [reply.text if reply.outcome is Outcome.OK else None for reply in replies] == expected
    assert [replies[i].outcome for i in (1, 4, 6, 7)] == [Outcome.INVALID] * 4
    assert "getWeather" in replies[1].text
    assert "left (string), right (string)" in replies[6].text


def test_a_server_that_is_not_there_and_a_tool_it_does_not_have_are_named(weather: str) -> None:
    async def connect(settings: McpSettings) -> None:
        async with open_mcp_tools(settings):
            pass

    with pytest.raises(ServiceError, match=r"cannot be reached[\s\S]*no-such-program"):
        asyncio.run(connect(McpSettings(command="no-such-program --x")))
    with pytest.raises(ConfigError, match=r"unknown MCP tool 'snow'[\s\S]*add, getWeather, pair"):
        asyncio.run(connect(McpSettings(command=weather, tools=("snow",))))


def test_either_a_command_or_an_address_is_needed() -> None:
    for command, url in (("", ""), ("a", "b")):
        with pytest.raises(ConfigError, match="either a command or a url"):
            McpSettings(command, url)
    with pytest.raises(ConfigError, match="max_chars of an MCP server must be positive, not 0"):
        McpSettings("python x.py", max_chars=0)
    with pytest.raises(ConfigError, match="command of an MCP server cannot be read"):
        McpSettings(command='python "weather.py')


@given(st.text())
def test_any_name_becomes_one_that_tags_can_carry(name: str) -> None:
    tagged = tag_name(name)
    text = f"{protocol.open_tag(tagged)} x {protocol.close_tag(tagged)}"
    assert protocol.parse_policy(text)[-1].tool == tagged


@given(st.text() | st.sampled_from(["{}", '{"a": 1}', '{"z": 1}', "[1]", "1", "null"]))
def test_any_argument_is_read_or_refused(text: str) -> None:
    two = {"properties": {"a": {}, "b": True}, "required": ["a", "b"]}
    for schema in ({}, {"properties": {"a": {"type": "integer"}}}, two):
        arguments = Parameters.of(schema).read(text)
        assert arguments is None or set(arguments) <= {"a", "b"}


def test_one_trajectory_uses_the_three_tools_that_the_settings_offer(
    tmp_path: Path, weather: str
) -> None:
    build_index(
        [Passage("p1", "Vienna", "A city on the Danube.")], tmp_path / "index", IndexSettings(), "x"
    )
    turns = [
        "Where is it? <begin_search> Danube city </end_search>",
        "How old? <begin_calculate> 2026 - 1137 </end_calculate>",
        "And the sky? <begin_get_weather> Vienna </end_get_weather>",
        "Enough.</think>\n\n\\boxed{889}",
    ]

    async def roll() -> Trajectory:
        search = SearchParams(index=str(tmp_path / "index"))
        offered = ToolsParams(
            calculator=True, mcp=(McpSettings(command=weather, tools=("getWeather",)),)
        )
        async with AsyncExitStack() as stack:
            tools = await open_library(search, offered, stack)
            policy = ScriptedPolicy(turns)
            task = make_task(
                "q", "Q?", Mode.COA, 0, Prompt("{question}\n<think>\n", "hash"), tuple(tools)
            )
            return await roll_out(
                task,
                RolloutContext(policy, Sampling(), Limits(), library_fingerprint(tools)),
                policy,
                tools,
            )

    row = asyncio.run(roll())
    assert row.stop_reason is StopReason.ANSWERED
    assert [(step.tool, step.text) for step in row.steps if step.kind is StepKind.OBSERVATION] == [
        ("search", "\n<search_result> result 1: Vienna: A city on the Danube. </search_result>\n"),
        ("calculate", "\n<calculate_result> 889 </calculate_result>\n"),
        ("get_weather", "\n<get_weather_result> It rains in Vienna. </get_weather_result>\n"),
    ]
    named = tool_fingerprints(row.search_fingerprint, ["search", "calculate", "get_weather"])
    assert {name: text.split(":")[0].split("/")[0] for name, text in named.items()} == {
        "calculate": "simpleeval",
        "get_weather": "mcp",
        "search": "tantivy",
    }


@given(
    st.dictionaries(
        st.sampled_from(["calculate", "open", "a"]),
        st.text() | st.sampled_from(["a+search=b", "%2B"]),
    )
)
def test_the_fingerprint_of_each_tool_is_read_from_that_of_the_library(
    others: dict[str, str],
) -> None:
    tools = {"search": "tantivy:ab/top2", **others}
    library = library_fingerprint(
        {name: SimpleNamespace(fingerprint=text) for name, text in tools.items()}
    )  # type: ignore[dict-item]
    assert tool_fingerprints(library, list(tools)) == tools


def test_the_section_of_the_settings_opens_the_tools(weather: str) -> None:
    async def names(params: ToolsParams) -> list[str]:
        async with AsyncExitStack() as stack:
            return [tool.name for tool in await open_tools(params, stack)]

    servers = (McpSettings(command=weather, tools=("add",)),)
    assert asyncio.run(names(ToolsParams(True, OpenSettings(is_offered=True), servers))) == [
        "calculate",
        "open",
        "add",
    ]
    with pytest.raises(ConfigError, match="two tools have the name add"):
        asyncio.run(names(ToolsParams(mcp=servers * 2)))
