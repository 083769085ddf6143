"""Refuse foreign texts that allow two readings, and keep every character of the others."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.foreign.react import read_react_chat, read_react_text
from coa.foreign.tag_families import R1_SEARCHER
from coa.foreign.tagged_text import read_tagged_text
from coa.records import protocol
from coa.records.unreadable import UnreadableError, UnreadableReason
from tests.foreign_support import (
    ANSWER,
    DOCUMENTS,
    QUERY,
    REACT,
)

R1_PARTS = [
    "<|begin_of_query|>",
    "<|end_of_query|>",
    "<|begin_of_documents|>",
    "<|end_of_documents|>",
    "</think>",
    "<answer>",
    "</answer>",
    "q",
    "\n",
]
REACT_PARTS = [
    "Thought:",
    " a",
    "\n",
    "Action: ",
    "search[q]",
    "finish[a]",
    "Observation:",
    "None",
    "[",
    "]",
]


@pytest.mark.parametrize(
    ("text", "reason", "character"),
    [
        (f"x {QUERY[:20]}", UnreadableReason.UNCLOSED_TAG, 2),
        (f"<|begin_of_query|> a {QUERY}{DOCUMENTS}{ANSWER}", UnreadableReason.NESTED_TAG, 21),
        (
            f"{QUERY}{DOCUMENTS.replace('In Paris', QUERY)}{ANSWER}",
            UnreadableReason.NESTED_TAG,
            107,
        ),
        (f"{QUERY}\n\n<|begin_of_documents|> cut", UnreadableReason.UNCLOSED_TAG, 55),
        (f"<|begin_of_query|> <|end_of_query|>{DOCUMENTS}{ANSWER}", UnreadableReason.EMPTY_TURN, 0),
        (f"{QUERY} and on {ANSWER}", UnreadableReason.NO_OBSERVATION, 53),
        (f"a <|end_of_query|> {ANSWER}", UnreadableReason.MISPLACED_TAG, 2),
        (f"a </think> {QUERY}{DOCUMENTS}", UnreadableReason.MISPLACED_TAG, 11),
        (f"{ANSWER}{QUERY}", UnreadableReason.MISPLACED_TAG, 38),
        ("I think </think> Paris", UnreadableReason.NO_ANSWER, 22),
        ("</think> <answer> </answer>", UnreadableReason.NO_ANSWER, 9),
        ("</think> <answer> Paris", UnreadableReason.UNCLOSED_TAG, 9),
        ("", UnreadableReason.NO_ANSWER, 0),
    ],
)
def test_an_ambiguous_r1_searcher_text_is_refused_with_its_place(
    text: str, reason: UnreadableReason, character: int
) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_tagged_text(text, R1_SEARCHER)
    assert (caught.value.reason, caught.value.character) == (reason, character)


@pytest.mark.parametrize(
    ("text", "reason", "character"),
    [
        ("", UnreadableReason.EMPTY_TURN, 0),
        ("Thought: \nObservation: x\n", UnreadableReason.EMPTY_TURN, 8),
        ("Thought: a\nAction: search[ ]\nObservation: x\n", UnreadableReason.EMPTY_TURN, 11),
        ("Thought: a\nObservation: x\n", UnreadableReason.NO_ACTION, 8),
        ("Thought: a\nAction: search[x\nObservation: x\n", UnreadableReason.UNCLOSED_TAG, 11),
        (
            "Thought: a\nAction: search[x] y\nObservation: x\n",
            UnreadableReason.TEXT_AFTER_ACTION,
            28,
        ),
        ("Action: finish[x]\nThought: b\nObservation: x\n", UnreadableReason.TEXT_AFTER_ACTION, 17),
        ("Thought: a\nAction: finish[]\nObservation: x\n", UnreadableReason.NO_ANSWER, 11),
        ("Thought: a\nAction: search[x]\nObservation: x\n", UnreadableReason.NO_ANSWER, 44),
        ("Thought: a\nAction: search[x]", UnreadableReason.NO_OBSERVATION, 28),
        (REACT + "Thought: a\nAction: search[x]\n", UnreadableReason.MISPLACED_TAG, len(REACT)),
    ],
)
def test_an_ambiguous_react_text_is_refused_with_its_place(
    text: str, reason: UnreadableReason, character: int
) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_react_text(text)
    assert (caught.value.reason, caught.value.character) == (reason, character)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([("user", "Observation: x")], UnreadableReason.WRONG_FORMAT),
        (
            [("assistant", "Action: finish[a]"), ("assistant", "more")],
            UnreadableReason.WRONG_FORMAT,
        ),
        ([("assistant", " ")], UnreadableReason.EMPTY_TURN),
        (
            [("assistant", "Thought: a\nObservation: forged\nAction: finish[a]")],
            UnreadableReason.NESTED_TAG,
        ),
        ([], UnreadableReason.NO_ANSWER),
    ],
)
def test_an_ambiguous_chat_is_refused(
    messages: list[tuple[str, str]], reason: UnreadableReason
) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_react_chat(messages)
    assert caught.value.reason is reason


@given(st.lists(st.sampled_from(R1_PARTS), max_size=16).map("".join))
def test_a_r1_searcher_text_is_refused_or_kept_to_the_last_character(text: str) -> None:
    try:
        steps = read_tagged_text(text, R1_SEARCHER)
    except UnreadableError as error:
        assert 0 <= error.character <= len(text)
    else:
        assert protocol.render(steps) == text


@given(st.lists(st.sampled_from(REACT_PARTS), max_size=16).map("".join))
def test_a_react_text_is_refused_or_kept_to_the_last_character(text: str) -> None:
    try:
        steps = read_react_text(text)
    except UnreadableError as error:
        assert 0 <= error.character <= len(text)
    else:
        assert protocol.render(steps) == text


@pytest.mark.parametrize(
    "unit",
    [
        "<|begin_of_query|>",
        "q",
        "<answer>",
        "\n",
        f"{QUERY}{DOCUMENTS}",
        "(1)Title: ",
        "(1)a  b",
        "\n(1)",
        "</think>",
    ],
)
def test_two_megabytes_of_r1_searcher_text_take_linear_time(unit: str) -> None:
    start = time.process_time()
    with pytest.raises(UnreadableError):
        read_tagged_text(unit * (2_000_000 // len(unit)), R1_SEARCHER)
    assert time.process_time() - start < 5


@pytest.mark.parametrize(
    "unit",
    [
        "Thought: a\nAction: search[b]\nObservation: c\n",
        "Thought:",
        "\n",
        "Action: a[",
        "]",
        "\nObservation:",
    ],
)
def test_two_megabytes_of_react_text_take_linear_time(unit: str) -> None:
    start = time.process_time()
    with pytest.raises(UnreadableError):
        read_react_text(unit * (2_000_000 // len(unit)))
    assert time.process_time() - start < 5
