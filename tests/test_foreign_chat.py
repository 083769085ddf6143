"""Test foreign chats: every spelling gives the same steps, and each text has one author."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coa.foreign.frames import bare_observation, prediction
from coa.foreign.own_tags import rewrite
from coa.foreign.record import ForeignRow, Format
from coa.foreign.rows import read_foreign_row
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.grading import boxed_answer, normalise
from coa.records.trajectory import Author, Mode, Outcome, StepKind
from coa.records.unreadable import UnreadableError
from synth.ingest import ForeignFile, to_trajectory
from tests.foreign_chat_support import PARIS, QUESTION, RUNS, Run, Spelling, Turn, chat_row

SPELLINGS = list(Spelling)
PROMPT = Prompt("{question}\n\n" + protocol.THINK_OPEN + "\n", "")


def own(row: ForeignRow) -> tuple[Any, ...]:
    """The steps of a row in our tags."""
    return rewrite(to_trajectory(row, "q", 0, "m", ForeignFile("a")), PROMPT).steps


def holds(argument: str, arguments: dict[str, Any]) -> bool:
    """Whether our tags hold what a call was given: its one text, or all of it as JSON."""
    given = [value for value in arguments.values() if value is not None]
    if len(given) == 1 and isinstance(given[0], str):
        return argument == given[0].strip()
    kept = {name: value for name, value in arguments.items() if value is not None}
    return json.loads(argument) in (arguments, kept)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_same_steps_in_our_tags(spelling: Spelling) -> None:
    row = read_foreign_row(chat_row(spelling, PARIS))
    expected = Format.SHAREGPT if spelling is Spelling.SHAREGPT else Format.MESSAGES
    assert (row.format, row.question, row.gold_answers) == (expected, QUESTION, ("Paris",))
    assert (row.mode, prediction(row.steps)) == (Mode.COA, "Paris")
    steps = own(row)
    thought = "I look." if spelling is Spelling.SHAREGPT else "I look.\n\nLet me search."
    assert steps[0].text.strip() == thought
    several = '{"url": ["a", "b"], "goal": "city"}'
    assert [step.text for step in steps if step.kind is StepKind.ACTION] == [
        "<begin_search> Eiffel Tower city </end_search>",
        f"<begin_visit_page> {several} </end_visit_page>",
    ]
    assert steps[2].text == "\n<search_result> In Paris. </search_result>\n"
    assert steps[-1].text == "</think>\n\n\\boxed{Paris}"
    assert [step.transcribed for step in steps if step.transcribed is not None] == [
        '{"query": "Eiffel Tower city"}',
        several,
        "It is in \\boxed{Paris}.",
    ]


@pytest.mark.parametrize("spelling", SPELLINGS)
@given(run=RUNS)
@settings(max_examples=40)
def test_what_is_written_is_read_and_said_in_our_tags(spelling: Spelling, run: Run) -> None:
    row = read_foreign_row(chat_row(spelling, run))
    calls = [step for step in row.steps if step.kind is StepKind.ACTION]
    shown = [step for step in row.steps if step.kind is StepKind.OBSERVATION]
    assert [call.tool for call in calls] == [turn.tool for turn in run.turns]
    for call, turn in zip(calls, run.turns, strict=True):
        given = {name: value for name, value in turn.arguments.items() if value is not None}
        written = json.loads(call.transcribed or "")
        assert written == (given if spelling is Spelling.GPT_OSS else turn.arguments)
        assert holds(call.argument or "", turn.arguments)
    assert [bare_observation(step.text) for step in shown] == [turn.shown for turn in run.turns]
    assert prediction(row.steps) == run.answer
    assert all(step.author is not Author.SCAFFOLD for step in row.steps)
    steps = own(row)
    assert [step.transcribed for step in steps if step.kind is StepKind.ACTION] == [
        call.transcribed for call in calls
    ]
    boxed = boxed_answer(protocol.answer_text(steps)) or ""
    assert normalise(boxed) == normalise(protocol.neutralise(run.answer).strip())


def test_the_columns_of_the_question_are_read() -> None:
    row = chat_row(Spelling.THINK, PARIS) | {"question": "Which city?", "question_id": 7}
    items = row.pop("messages")
    split = {**row, "prompt": items[:2], "completion": items[2:]}
    for found in (read_foreign_row({**row, "messages": items}), read_foreign_row(split)):
        assert (found.question, found.question_id) == ("Which city?", "7")
        assert prediction(found.steps) == "Paris"


@pytest.mark.parametrize(
    ("columns", "golds"),
    [
        ({"answer": ["Paris", " "], "info": "text"}, ("Paris",)),
        ({"golden_answers": ["Paris", "Lutetia"]}, ("Paris", "Lutetia")),
        ({"gts": {"target": ["Paris"]}}, ("Paris",)),
        ({"info": "text", "reward_model": "rule"}, ()),
        ({"reward_model": {"ground_truth": {"target": ["Paris", 75]}}}, ("Paris", "75")),
        ({"reward_spec": {"ground_truth": "Paris"}}, ("Paris",)),
        ({"answer": None, "info": {"answer": "Paris"}}, ("Paris",)),
        ({"answer": {"a": "b"}, "target": True}, ()),
    ],
)
def test_gold_answers_are_found_in_a_column_or_in_an_object(
    columns: dict[str, Any], golds: tuple[str, ...]
) -> None:
    row = {"messages": chat_row(Spelling.THINK, PARIS)["messages"], **columns}
    assert read_foreign_row(row).gold_answers == golds


def test_a_chat_without_a_call_thinks_only_unless_tools_were_offered() -> None:
    row = chat_row(Spelling.THINK, Run((), "I know.", "Paris"))
    assert read_foreign_row(row).mode is Mode.COT
    assert read_foreign_row({**row, "tools": [{"type": "function"}]}).mode is Mode.COA


def test_a_call_that_was_never_answered_is_cut_and_noted() -> None:
    row = chat_row(Spelling.DEEPSEEK, PARIS)
    second = {"id": "x", "function": {"name": "search", "arguments": '{"query": "b"}'}}
    row["messages"][2]["tool_calls"].append(second)
    (call, _) = [step for step in own(read_foreign_row(row)) if step.kind is StepKind.ACTION]
    assert call.argument == "Eiffel Tower city"
    assert json.loads(call.cut_calls[0]) == {"name": "search", "arguments": '{"query": "b"}'}


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        ("Paris", "Paris"),
        ("<answer> Paris </answer>", "Paris"),
        ("<answer>It is \\boxed{Paris}</answer>", "Paris"),
        ("Explanation: x\nExact Answer: Paris\nConfidence: 90%", "Paris"),
        ("**Exact Answer:** Paris", "Paris"),
        ("reasoning</think>\n\nIt is \\boxed{\\text{Paris}}", "Paris"),
    ],
)
def test_the_answer_is_found_in_its_tags_its_box_its_line_or_is_the_whole_message(
    content: str, answer: str
) -> None:
    row = chat_row(Spelling.DEEPSEEK, Run(PARIS.turns, "", content))
    assert prediction(read_foreign_row(row).steps) == answer


def test_reasoning_that_is_held_twice_is_read_once_and_hidden_reasoning_is_none() -> None:
    row = chat_row(Spelling.DEEPSEEK, Run((), "I know it.", "<think>\nI know it.\n</think>Paris"))
    assert [step.text for step in read_foreign_row(row).steps] == ["I know it.", "Paris"]
    hidden = chat_row(Spelling.DEEPSEEK, Run((), "", "Paris"))
    hidden["messages"][-1]["reasoning_details"] = [{"type": "reasoning.encrypted", "data": "x"}]
    hidden["messages"][-1]["content"] = [
        {"type": "redacted_thinking", "data": "x"},
        {"type": "text", "text": "Paris"},
    ]
    assert [step.text for step in read_foreign_row(hidden).steps] == ["Paris"]


def test_an_empty_response_and_a_failed_tool_are_told_apart() -> None:
    turns = (Turn("", "", "search", {"q": "x"}, ""), Turn("", "", "search", {"q": "x"}, "no"))
    row = chat_row(Spelling.DEEPSEEK, Run(turns, "", "Paris"))
    row["messages"][5]["error"] = {"type": "timeout", "message": "too slow"}
    outcomes = [step.outcome for step in read_foreign_row(row).steps if step.outcome]
    assert outcomes == [Outcome.EMPTY, Outcome.ERROR]


@given(
    st.lists(
        st.sampled_from(
            [
                *("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>"),
                *("</tool_response>", "<answer>", "</answer>", "a", "\n", "<begin_search>"),
                *("</end_search>", "\\boxed{", "}"),
                '{"name": "search", "arguments": {"q": "x"}}',
            ]
        )
    )
)
def test_any_mixture_of_tags_is_read_or_refused_with_a_position(pieces: list[str]) -> None:
    content = "".join(pieces)
    row = chat_row(Spelling.TONGYI, PARIS)
    for place in (2, 3, -1):
        items = [dict(message) for message in row["messages"]]
        items[place]["content"] = content
        try:
            found = read_foreign_row({**row, "messages": items})
        except UnreadableError as error:
            assert 0 <= error.character <= len(content)
            continue
        assert content in protocol.render(found.steps)


_KEYS = (
    *("role", "from", "content", "value", "tool_calls", "function", "name", "arguments", "type"),
    *("text", "reasoning", "reasoning_details", "id", "tool_call_id", "error"),
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(PARIS.answer),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(_KEYS),
            inner | st.sampled_from(["assistant", "user", "tool", "gpt", "text", "{}"]),
            max_size=5,
        )
    ),
    max_leaves=30,
)


@given(st.sampled_from(["messages", "conversations", "prompt"]), st.lists(_VALUES), _VALUES)
def test_any_json_is_read_or_refused(name: str, items: list[Any], extra: Any) -> None:
    row = {name: items, "completion": items, "answer": extra, "tools": extra, "question": extra}
    try:
        read_foreign_row(row)
    except UnreadableError as error:
        assert error.reason


SEARCHED = (
    "<think>I look.</think><search>q</search>\n\n<information>In Paris.</information>\n\n"
    "<answer>Paris</answer>"
)
CALLED = (
    '<tool_call>{"name": "search", "arguments": {"q": "x"}}</tool_call>\n'
    "<tool_response>In Paris.</tool_response>\nSo it is.</think>\\boxed{Paris}"
)


@pytest.mark.parametrize(
    ("text", "form"), [(SEARCHED, Format.SEARCH_R1), (CALLED, Format.TOOL_CALL_TEXT)]
)
@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_observations_inside_the_policys_only_message_are_not_the_policys(
    text: str, form: Format, column: str
) -> None:
    items = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": text}]
    row = read_foreign_row({column: items, "answer": "Paris"})
    assert (row.format, row.question, prediction(row.steps)) == (form, QUESTION, "Paris")
    shown = [step.text.strip() for step in row.steps if step.author is Author.ENVIRONMENT]
    assert len(shown) == 1 and "In Paris." in shown[0]
    assert protocol.render(row.steps) == text


TAGS_IN_JSON = [
    "what does </tool_call> mean",
    "<tool_call>{} </tool_call>",
    "<tool_response> and </tool_response>",
    "</think> <think> <code></code>",
    "<search> x </search> <answer>",
    'a "quoted } </tool_call>\\',
]


@pytest.mark.parametrize("query", TAGS_IN_JSON)
def test_tags_inside_the_json_of_a_call_are_part_of_it(query: str) -> None:
    call = json.dumps({"name": "search", "arguments": {"query": query}})
    result = json.dumps({"found": [query]})
    row = chat_row(Spelling.TONGYI, PARIS)
    row["messages"][2]["content"] = f"<think>\nI look.\n</think>\n<tool_call>{call}</tool_call>"
    row["messages"][3]["content"] = f"<tool_response>\n{result}\n</tool_response>"
    steps = read_foreign_row(row).steps
    text = (
        f"I look.\n<tool_call>\n{call}\n</tool_call>\n<tool_response>{result}</tool_response>\n"
        "So it is.</think>\\boxed{Paris}"
    )
    tagged = read_foreign_row({"question": QUESTION, "text": text, "answer": "Paris"})
    assert (tagged.format, protocol.render(tagged.steps)) == (Format.TOOL_CALL_TEXT, text)
    for found in (steps, tagged.steps):
        actions = [step for step in found if step.kind is StepKind.ACTION]
        shown = [step for step in found if step.kind is StepKind.OBSERVATION]
        assert (actions[0].tool, actions[0].argument) == ("search", query)
        assert query in json.loads(shown[0].text.split(">", 1)[1].rsplit("<", 1)[0])["found"]


def test_code_after_the_json_of_a_call_holds_its_tag() -> None:
    code = "print('</tool_call>', \"<code>\")"
    written = json.dumps({"name": "python", "arguments": {"note": "<code>x</code>"}})
    row = chat_row(Spelling.TONGYI, PARIS)
    row["messages"][2]["content"] = (
        f"<think>I compute.</think><tool_call>{written}<code>{code}</code>\n</tool_call>"
    )
    (_, call, *_) = read_foreign_row(row).steps
    assert (call.tool, call.argument) == ("python", code)
