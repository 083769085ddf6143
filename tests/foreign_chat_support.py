"""Write a trajectory as a chat in every spelling that is read, for the tests of foreign chats."""

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hypothesis import strategies as st

QUESTION = "Where is the Eiffel Tower?"
Row = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """A turn of the policy that calls a tool, and what it was shown."""

    thought: str
    said: str
    tool: str
    arguments: dict[str, Any]
    shown: str


@dataclass(frozen=True)
class Run:
    """A whole trajectory."""

    turns: tuple[Turn, ...]
    thought: str
    answer: str


class Spelling(StrEnum):
    """How a row spells reasoning and calls."""

    DEEPSEEK = "reasoning_content"
    """TRL's messages: reasoning in `reasoning_content`, arguments as JSON text."""
    OPENROUTER = "reasoning"
    """The same in `reasoning` and `reasoning_details`."""
    GPT_OSS = "thinking"
    """The same in `thinking`, arguments as an object (OpenResearcher)."""
    PARTS = "parts"
    """Reasoning and text in parts of the content."""
    THINK = "think"
    """Reasoning in `<think>` inside the content, calls in `tool_calls`."""
    TONGYI = "tongyi"
    """Reasoning in `<think>`, calls in `<tool_call>`, responses in a user's turn."""
    SHAREGPT = "sharegpt"
    """LLaMA-Factory's conversations."""


FIELDS = (Spelling.DEEPSEEK, Spelling.OPENROUTER, Spelling.GPT_OSS)


def assistant(spelling: Spelling, thought: str, text: str) -> Row:
    """Write the thought and the text of an assistant's message."""
    message: Row = {"role": "assistant", "content": text}
    if not thought:
        return message
    if spelling in FIELDS:
        message[str(spelling)] = thought
    elif spelling is Spelling.PARTS:
        parts = [{"type": "reasoning", "reasoning": thought}, {"type": "text", "text": text}]
        message["content"] = parts
    else:
        message["content"] = f"<think>{thought}</think>{text}"
    if spelling is Spelling.OPENROUTER:
        message["reasoning_details"] = [{"type": "reasoning.text", "text": thought}]
    return message


def messages(spelling: Spelling, run: Run) -> list[Row]:
    """Write a run as messages."""
    found: list[Row] = [
        {"role": "system", "content": "Use the tools."},
        {"role": "user", "content": QUESTION},
    ]
    for number, turn in enumerate(run.turns):
        message = assistant(spelling, turn.thought, turn.said)
        if spelling is Spelling.TONGYI:
            call = json.dumps({"name": turn.tool, "arguments": turn.arguments})
            message["content"] += f"\n<tool_call>\n{call}\n</tool_call>"
            shown = f"<tool_response>\n{turn.shown}\n</tool_response>"
            found += [message, {"role": "user", "content": shown}]
            continue
        is_object = spelling is Spelling.GPT_OSS
        arguments = turn.arguments if is_object else json.dumps(turn.arguments)
        function = {"name": turn.tool, "arguments": arguments}
        message["tool_calls"] = [{"id": f"c{number}", "type": "function", "function": function}]
        found += [message, {"role": "tool", "tool_call_id": f"c{number}", "content": turn.shown}]
    return [*found, assistant(spelling, run.thought, run.answer)]


def conversations(run: Run) -> list[Row]:
    """Write a run as LLaMA-Factory's turns, which hold no text before a call but a thought."""
    found = [{"from": "human", "value": QUESTION}]
    for turn in run.turns:
        call = json.dumps({"name": turn.tool, "arguments": turn.arguments})
        thought = f"<think>{turn.thought}</think>" if turn.thought else ""
        found.append({"from": "function_call", "value": thought + call})
        found.append({"from": "observation", "value": turn.shown})
    thought = f"<think>{run.thought}</think>" if run.thought else ""
    return [*found, {"from": "gpt", "value": thought + run.answer}]


def chat_row(spelling: Spelling, run: Run) -> Row:
    """Write a run as a row with a gold answer."""
    if spelling is Spelling.SHAREGPT:
        return {"conversations": conversations(run), "system": "Use.", "answer": "Paris"}
    return {"messages": messages(spelling, run), "tools": "[]", "answer": "Paris"}


PARIS = Run(
    turns=(
        Turn("I look.", "Let me search.", "search", {"query": "Eiffel Tower city"}, "In Paris."),
        Turn("", "", "visitPage", {"url": ["a", "b"], "goal": "city"}, "A tower in Paris."),
    ),
    thought="So it is.",
    answer="It is in \\boxed{Paris}.",
)
"""A run that searches, then calls a tool with several arguments."""

_PLAIN = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0<>{\\"), max_size=20
)
_WORDS = _PLAIN.map(lambda text: f"a{text}z")
_THOUGHTS = st.one_of(st.just(""), _WORDS)
_ARGUMENTS = st.one_of(
    st.fixed_dictionaries({"query": _WORDS}),
    st.fixed_dictionaries({"query": st.lists(_WORDS, max_size=2)}),
    st.fixed_dictionaries({"url": _WORDS, "goal": _WORDS, "limit": st.none() | st.integers()}),
)
_TURNS = st.builds(
    Turn, _THOUGHTS, _THOUGHTS, st.sampled_from(["search", "browser.open"]), _ARGUMENTS, _WORDS
)
RUNS = st.builds(Run, st.lists(_TURNS, max_size=3).map(tuple), _THOUGHTS, _WORDS)
"""Any run whose texts hold no tag."""
