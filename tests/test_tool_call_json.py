"""Test calls that are written as JSON: each has one tool and one argument, or a reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.foreign.tool_call_json import argument_text, read_tool_call
from coa.records.unreadable import UnreadableError, UnreadableReason


def reason_of(text: str) -> UnreadableReason:
    with pytest.raises(UnreadableError) as error:
        read_tool_call(text, 7)
    assert error.value.character >= 7
    return error.value.reason


def test_one_text_is_the_argument_and_several_values_stay_json() -> None:
    one = read_tool_call('\n{"name": "search", "arguments": {"query": " Eiffel "}}\n')
    assert (one.tool, one.argument) == ("search", "Eiffel")
    assert one.verbatim == '\n{"name": "search", "arguments": {"query": " Eiffel "}}\n'
    two = read_tool_call('{"name": "visit", "arguments": {"url": ["é"], "goal": "g"}}')
    assert two.argument == '{"url": ["é"], "goal": "g"}'


def test_a_null_is_no_argument_and_an_object_in_a_text_stays_in_its_object() -> None:
    assert argument_text('{"query": "x", "url": null}') == "x"
    nested = '{"code": "{\\"a\\": 1}"}'
    assert argument_text(nested) == nested
    assert read_tool_call('{"name": "now", "arguments": {}}').argument == "{}"
    call = read_tool_call('{"name": "search", "arguments": {"query":  "é"}}')
    assert call.arguments == '{"query": "é"}'


def test_arguments_may_be_json_text_and_keep_their_spelling() -> None:
    written = '{"a":1,  "b":2}'
    assert argument_text(written) == written
    call = json.dumps({"name": "calculate", "parameters": '{"expression": "1+1"}'})
    assert read_tool_call(call).argument == "1+1"


def test_the_code_of_a_python_call_is_its_argument() -> None:
    call = '{"name": "PythonInterpreter", "arguments": {}}\n<code>\nprint("<code>")\n</code>\n'
    assert read_tool_call(call).argument == 'print("<code>")'


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", UnreadableReason.BAD_CALL),
        ("search(q)", UnreadableReason.BAD_CALL),
        ("[1]", UnreadableReason.BAD_CALL),
        ('{"arguments": {"q": "x"}}', UnreadableReason.BAD_CALL),
        ('{"name": "", "arguments": {"q": "x"}}', UnreadableReason.BAD_CALL),
        ('{"name": "search"}', UnreadableReason.BAD_CALL),
        ('{"name": "a", "name": "b", "arguments": {"q": "x"}}', UnreadableReason.BAD_CALL),
        ('{"name": "a", "arguments": {}, "parameters": {}}', UnreadableReason.BAD_CALL),
        ('{"name": "a", "arguments": [1]}', UnreadableReason.BAD_CALL),
        ('{"name": "a", "arguments": {"q": "x"}} more', UnreadableReason.BAD_CALL),
        ('{"name": "a", "arguments": {"q": " "}}', UnreadableReason.EMPTY_TURN),
        ('{"name": "a", "arguments": {}}<code> </code>', UnreadableReason.EMPTY_TURN),
        (r'{"name": "a", "arguments": {"q": "x\u0000"}}', UnreadableReason.NULL_BYTE),
        (r'{"name": "a", "arguments": {"q": "\ud800"}}', UnreadableReason.NOT_UTF8),
        ("[" * 100_000, UnreadableReason.BAD_CALL),
        ('{"name": "a", "arguments": {"q": ' + "9" * 5000 + "}}", UnreadableReason.BAD_CALL),
    ],
)
def test_what_is_no_call_has_a_reason(text: str, reason: UnreadableReason) -> None:
    assert reason_of(text) is reason


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0{"), min_size=1).filter(
        str.strip
    )
)
def test_any_argument_survives_json(query: str) -> None:
    text = json.dumps({"name": "search", "arguments": {"query": query}})
    assert read_tool_call(text).argument == query.strip()


@given(st.text())
def test_any_text_is_read_or_has_a_reason(text: str) -> None:
    try:
        assert read_tool_call(text).verbatim == text
    except UnreadableError as error:
        assert 0 <= error.character <= len(text)
