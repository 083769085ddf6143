"""Test what a foreign chat cannot say: each case has a reason, a message and a position."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from coa.foreign.rows import read_foreign_row
from coa.records.unreadable import UnreadableError, UnreadableReason
from tests.foreign_chat_support import PARIS, Row, Spelling, chat_row

Change = Callable[[list[Any]], object]


def refused(spelling: Spelling, change: Change) -> UnreadableError:
    """The error of a row whose messages were changed."""
    row = chat_row(spelling, PARIS)
    change(row["messages"])
    with pytest.raises(UnreadableError) as caught:
        read_foreign_row(row)
    return caught.value


def content(place: int, text: Any) -> Change:
    return lambda items: items[place].update(content=text)


def call(arguments: Any, name: Any = "search") -> Change:
    function = {"name": name, "arguments": arguments}
    return lambda items: items[2].update(tool_calls=[{"id": "c0", "function": function}])


USER = {"role": "user", "content": "Answer now."}
RESPONSE = {"role": "user", "content": "<tool_response>\nx\n</tool_response>"}


@pytest.mark.parametrize(
    ("change", "reason", "message"),
    [
        (lambda items: items.insert(4, USER), UnreadableReason.UNKNOWN_AUTHOR, 5),
        (lambda items: items.append(USER), UnreadableReason.UNKNOWN_AUTHOR, 8),
        (lambda items: items.insert(2, {"role": "critic"}), UnreadableReason.UNKNOWN_AUTHOR, 3),
        (lambda items: items.insert(4, items[0]), UnreadableReason.WRONG_FORMAT, 5),
        (lambda items: items.insert(2, items[3]), UnreadableReason.WRONG_FORMAT, 3),
        (lambda items: items.insert(4, items[3]), UnreadableReason.WRONG_FORMAT, 5),
        (lambda items: items.insert(4, "text"), UnreadableReason.WRONG_FORMAT, 5),
        (lambda items: items.pop(3), UnreadableReason.NO_OBSERVATION, 4),
        (lambda items: items.pop(), UnreadableReason.NO_ANSWER, 6),
        (content(-1, " "), UnreadableReason.NO_ANSWER, 7),
        (content(-1, [{"type": "image_url"}]), UnreadableReason.WRONG_FORMAT, 7),
        (content(3, {"a": 1}), UnreadableReason.WRONG_FORMAT, 4),
        (lambda items: items[3].update(tool_call_id="z"), UnreadableReason.WRONG_FORMAT, 4),
        (lambda items: items[2].update(reasoning="other"), UnreadableReason.WRONG_FORMAT, 3),
        (
            lambda items: items[-1].update(
                reasoning_content="", reasoning_details=[{"type": "reasoning.summary"}]
            ),
            UnreadableReason.UNKNOWN_AUTHOR,
            7,
        ),
        (call("{"), UnreadableReason.BAD_CALL, 3),
        (call([1]), UnreadableReason.BAD_CALL, 3),
        (call('{"q": "a", "q": "b"}'), UnreadableReason.BAD_CALL, 3),
        (call("{}", name=" "), UnreadableReason.BAD_CALL, 3),
        (call('{"q": " "}'), UnreadableReason.EMPTY_TURN, 3),
        (call('{"q": "\\u0000"}'), UnreadableReason.NULL_BYTE, 3),
        (call('{"q": "\\ud800"}'), UnreadableReason.NOT_UTF8, 3),
        (call('{"q": ' + "[" * 5000 + "]" * 5000 + "}"), UnreadableReason.BAD_CALL, 3),
        (lambda items: items[2].update(tool_calls=3), UnreadableReason.BAD_CALL, 3),
        (lambda items: items[2].update(tool_calls=[3]), UnreadableReason.BAD_CALL, 3),
    ],
)
def test_each_fault_of_native_calls_has_its_reason_and_message(
    change: Change, reason: UnreadableReason, message: int
) -> None:
    error = refused(Spelling.DEEPSEEK, change)
    assert error.reason is reason
    assert error.detail.startswith(f"message {message}")


@pytest.mark.parametrize("is_named", [True, False])
def test_several_calls_that_were_answered_are_refused(is_named: bool) -> None:
    def change(items: list[Row]) -> None:
        second = dict(items[2]["tool_calls"][0]) | {"id": "x"}
        items[2]["tool_calls"].append(second)
        items.insert(4, {"role": "tool", "tool_call_id": "x", "content": "b"})
        if not is_named:
            for message in (items[3], items[4]):
                del message["tool_call_id"]

    error = refused(Spelling.DEEPSEEK, change)
    assert error.reason is UnreadableReason.PARALLEL_CALLS
    assert error.detail.startswith(f"message {5 if is_named else 4}")


CALL = '<tool_call>{"name": "search", "arguments": {"q": "x"}}</tool_call>'


@pytest.mark.parametrize(
    ("change", "reason", "character"),
    [
        (content(2, f"<think>a{CALL}"), UnreadableReason.UNCLOSED_TAG, 0),
        (content(2, f"a<think>b</think>{CALL}"), UnreadableReason.NESTED_TAG, 1),
        (content(2, f"a</think>b</think>{CALL}"), UnreadableReason.MISPLACED_TAG, 10),
        (content(2, f"<think>{CALL}</think>"), UnreadableReason.NESTED_TAG, 7),
        (content(2, f"a{CALL}{CALL}"), UnreadableReason.PARALLEL_CALLS, 1 + len(CALL)),
        (content(2, CALL[:-1]), UnreadableReason.UNCLOSED_TAG, 0),
        (content(2, f"{CALL} more"), UnreadableReason.TEXT_AFTER_ACTION, len(CALL)),
        (content(2, "a</tool_call>"), UnreadableReason.MISPLACED_TAG, 1),
        (content(2, "a<tool_call>search</tool_call>"), UnreadableReason.BAD_CALL, 12),
        (content(2, f"<tool_response>b{CALL}"), UnreadableReason.NESTED_TAG, 0),
        (content(3, "x"), UnreadableReason.UNKNOWN_AUTHOR, 0),
        (content(3, "<tool_response>x"), UnreadableReason.UNKNOWN_AUTHOR, 0),
        (content(3, f"{RESPONSE['content']} Go on."), UnreadableReason.UNKNOWN_AUTHOR, 0),
        (content(3, RESPONSE["content"] * 2), UnreadableReason.UNKNOWN_AUTHOR, 0),
        (content(-1, "a<answer>Paris"), UnreadableReason.UNCLOSED_TAG, 1),
        (content(-1, "<answer>a</answer><answer>"), UnreadableReason.MISPLACED_TAG, 18),
        (lambda items: items.insert(4, RESPONSE), UnreadableReason.UNKNOWN_AUTHOR, 0),
    ],
)
def test_each_fault_of_tags_has_its_reason_and_position(
    change: Change, reason: UnreadableReason, character: int
) -> None:
    error = refused(Spelling.TONGYI, change)
    assert (error.reason, error.character) == (reason, character)


def test_a_list_of_calls_in_a_conversation_must_have_one() -> None:
    row = chat_row(Spelling.SHAREGPT, PARIS)
    call = {"name": "search", "arguments": {"q": "x"}}
    row["conversations"][1]["value"] = json.dumps([call])
    assert read_foreign_row(row).steps[0].argument == "x"
    row["conversations"][1]["value"] = json.dumps([call, call])
    with pytest.raises(UnreadableError, match="parallel_calls") as caught:
        read_foreign_row(row)
    assert "message 2" in caught.value.detail


@pytest.mark.parametrize("text", ["<search>q</search>", "<begin_search> q </end_search>"])
def test_turns_in_the_tags_of_another_format_are_refused(text: str) -> None:
    items = [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": text},
        {"role": "assistant", "content": "Paris"},
    ]
    with pytest.raises(UnreadableError) as caught:
        read_foreign_row({"messages": items})
    assert caught.value.reason is UnreadableReason.MISPLACED_TAG
    assert caught.value.detail == "message 2: a call in the tags of another format"


@pytest.mark.parametrize("row", [{"messages": []}, {"messages": [{"role": "assistant"}]}])
def test_a_chat_without_a_question_is_refused(row: Row) -> None:
    with pytest.raises(UnreadableError, match="no_question"):
        read_foreign_row(row)
