"""Every reader of a model's text takes time in proportion to the text, whatever is in it.

A policy in training learns what pays, and a judge's reply is awaited by the whole loop: 90,000
characters must not hold it. The pieces begin what the readers look for and do not end it.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from coa.foreign.autocoa import read_autocoa
from coa.foreign.frames import bare_observation, bare_thought, prediction
from coa.foreign.messages import Message, Role, is_tool_response
from coa.foreign.react import read_react_text
from coa.foreign.rows import read_foreign_row
from coa.foreign.tag_families import TAG_FAMILIES
from coa.foreign.tagged_text import read_tagged_text, tell_family
from coa.foreign.tool_call_json import read_tool_call
from coa.judging.judge import as_quoted
from coa.policy.chat.replies import argument_of
from coa.policy.foreign_tags import foreign_tags
from coa.policy.native import GRAMMARS, read_turn
from coa.policy.react import from_react, to_react
from coa.records import protocol
from coa.records.grading import boxed_answer, grade, grade_prediction
from coa.records.plain_words import words
from coa.records.trajectory import Author, Step, StepKind
from coa.records.unreadable import UnreadableError
from coa.records.verdicts import read_verdict
from curate.diagnosis.answers import names_without_giving, says_the_same
from curate.diagnosis.claims import names_and_numbers, read

NUM_CHARS = 90_000
MAX_SECONDS = 5.0
"""Of the processor's time; what grows with the square of the text takes a minute and more."""


def a_thought(text: str) -> tuple[Step, ...]:
    return (Step(StepKind.THOUGHT, Author.POLICY, text),)


def an_answer(text: str) -> Step:
    return Step(StepKind.ANSWER, Author.POLICY, text)


def any_family(text: str) -> None:
    for family in TAG_FAMILIES:
        with suppress(UnreadableError):
            read_tagged_text(text, family)


READERS: dict[str, Callable[[str], object]] = {
    "verdict": lambda text: read_verdict(text, ("CORRECT", "INCORRECT")),
    "judged answer": as_quoted,
    "box": boxed_answer,
    "grade": lambda text: grade(text, ["Ada Lovelace"]),
    "prediction": lambda text: grade_prediction(text, ["Ada Lovelace"]),
    "steps": protocol.parse,
    "policy's steps": protocol.parse_policy,
    "broken tags": protocol.break_tags,
    "neutral": lambda text: protocol.neutralise(text, ["<|im_end|>"]),
    "stray tags": lambda text: protocol.stray_tags(a_thought(text)),
    "foreign tags": lambda text: foreign_tags(a_thought(text)),
    "family": tell_family,
    "families": any_family,
    "AutoCoA": read_autocoa,
    "ReAct": read_react_text,
    "call in JSON": read_tool_call,
    "row": lambda text: read_foreign_row(
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]}
    ),
    "observation": bare_observation,
    "thought": bare_thought,
    "answer": lambda text: prediction([an_answer(text)]),
    "last message": lambda text: prediction([replace(an_answer(text), transcribed=text)]),
    "tool response": lambda text: is_tool_response(Message(1, Role.USER, text)),
    "native turn": lambda text: read_turn(text, GRAMMARS["qwen"], is_thinking=False, is_cut=False),
    "arguments": argument_of,
    "lines": from_react,
    "context in lines": to_react,
    "words": words,
    "names": names_and_numbers,
    "claims": lambda text: read(a_thought(text), "Who wrote it?"),
    "other form": lambda text: says_the_same(text[:200], "Ada Lovelace", "Who wrote it?", [text]),
    "ruled out": lambda text: names_without_giving(text, "Ada Lovelace", "Who wrote it?"),
}
PIECES = [
    *("'", "'a ", '"', '\\"', "\\", "`", "```", "“", "«", "‘", "> ", "\n", " ", "a", "A b. ", "1"),
    *("1,", "verdict: ", "CORRECT", "\\boxed{", "\\text{", "{", "[", '{"a":', "<", "</", "<think>"),
    *("</think>", "<begin_search>", "<search_result>", "</search_result>", "<tool_call>"),
    *("<tool_call>{", "<tool_call>{}<code>", "<tool_response>", "<search>", "<|begin_of_query|>"),
    *("<|begin_of_documents|>\n(1)Title:", "<answer>", "Thought: ", "\nAction: search["),
    *("\nObservation: ", "Final Answer:", "Exact Answer:", "(Ada ", "Ada Lovelace ", "I think "),
    *("not ", "è́", "٣"),
]


@pytest.mark.parametrize("reader", READERS)
@settings(max_examples=8, deadline=None)
@example(start="", repeated="'a ", end="")
@example(start='"', repeated='\\"', end="\\")
@given(
    start=st.sampled_from(["", *PIECES]),
    repeated=st.lists(st.sampled_from(PIECES), min_size=1, max_size=3).map("".join),
    end=st.sampled_from(["", *PIECES]),
)
def test_a_reader_takes_time_in_proportion_to_the_text(
    reader: str, start: str, repeated: str, end: str
) -> None:
    text = start + repeated * (NUM_CHARS // len(repeated)) + end
    began = time.process_time()
    with suppress(UnreadableError):
        READERS[reader](text)
    assert time.process_time() - began < MAX_SECONDS
