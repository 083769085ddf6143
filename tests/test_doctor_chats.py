"""Plant faults in chat templates and in rows of messages, and check what the doctor says."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.doctor.findings import Fault
from tests.doctor_support import examine, faults
from tests.tokenizers_support import load

OPEN = "{{ '<|im_start|>' + m.role + '\\n' }}"
CLOSE = "{{ '<|im_end|>\\n' }}"
HEAD = "{% for m in messages %}"
TAIL = "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
SAID = "{% generation %}{{ m.reasoning_content or '' }}{{ m.content }}{{ '<|im_end|>\\n' }}"
RIGHT = (
    HEAD
    + OPEN
    + "{% if m.role == 'assistant' %}"
    + SAID
    + "{% endgeneration %}{% else %}{{ m.content }}"
    + CLOSE
    + "{% endif %}"
    + TAIL
)
"""Writes every text, and marks what the assistant wrote."""
UNMARKED = RIGHT.replace("{% generation %}", "").replace("{% endgeneration %}", "")
STRIPS = RIGHT.replace(
    "m.reasoning_content or ''", "m.reasoning_content or '' if loop.last else ''"
)
"""Writes reasoning in the last turn only, as Qwen 3's."""
MOVES = RIGHT.replace(
    "{{ m.reasoning_content or '' }}{{ m.content }}",
    "{{ m.content }}{{ m.reasoning_content or '' }}",
)
DROPS = RIGHT.replace("{{ m.content }}{{ '<|im_end|>", "{{ '<|im_end|>")
ONE_TURN = (
    HEAD
    + "{% if m.role == 'user' %}"
    + OPEN
    + "{{ m.content }}"
    + CLOSE
    + "{{ '<|im_start|>assistant\\n' if not add_generation_prompt }}"
    + "{% else %}{% generation %}{{ m.content }}"
    + "{{ '<|im_end|>\\n' if loop.last }}{% endgeneration %}{% endif %}"
    + TAIL
)
"""Writes what tools returned inside the assistant's turn, and trains it all."""
THOUGHT = "I do not know who wrote it, so I search."
SEEN = "The book was written by Ada."
MESSAGES = [
    {"role": "user", "content": "who wrote the book?"},
    {
        "role": "assistant",
        "reasoning_content": THOUGHT,
        "content": "search: the book, who wrote it",
    },
    {"role": "tool", "content": SEEN},
    {"role": "assistant", "reasoning_content": "It says Ada, so I answer.", "content": "Ada"},
]


def chat_faults(template: str, messages: list[dict[str, Any]] = MESSAGES) -> list[Fault]:
    tokenizer, _ = load("byte_level")
    return faults(tokenizer, {"messages": messages}, chat_template=template)


def test_a_right_template_is_clean_and_all_authors_are_told_apart() -> None:
    tokenizer, _ = load("byte_level")
    examined = examine(tokenizer, {"messages": MESSAGES}, chat_template=RIGHT)
    assert examined.findings == ()
    shown = {(piece.author, piece.text) for piece in examined.pieces}
    assert ("environment", SEEN) in shown
    assert any(author == "policy" and THOUGHT in text for author, text in shown)
    assert examined.counts["policy"].tokens == examined.counts["policy"].trained


def test_a_template_that_moves_drops_or_trains_the_wrong_texts_is_found() -> None:
    without = [{**message, "reasoning_content": None} for message in MESSAGES]
    assert chat_faults(ONE_TURN, without) == [Fault.OBSERVATION_TRAINED]
    assert set(chat_faults(MOVES)) == {Fault.REASONING_MOVED, Fault.CONTENT_DROPPED}
    assert set(chat_faults(DROPS)) == {Fault.CONTENT_DROPPED}
    assert chat_faults(UNMARKED) == [Fault.TEMPLATE_HAS_NO_MASK]


def test_a_template_that_strips_the_reasoning_of_earlier_turns_is_found() -> None:
    tokenizer, _ = load("byte_level")
    examined = examine(tokenizer, {"messages": MESSAGES}, chat_template=STRIPS)
    assert [finding.fault for finding in examined.findings] == [Fault.REASONING_DROPPED]
    assert examined.findings[0].detail == THOUGHT


def test_a_template_that_refuses_a_row_is_a_finding() -> None:
    refuses = "{{ raise_exception('roles must alternate') }}" + RIGHT
    tokenizer, _ = load("byte_level")
    examined = examine(tokenizer, {"messages": MESSAGES}, chat_template=refuses)
    assert [finding.fault for finding in examined.findings] == [Fault.TEMPLATE_FAILED]
    assert "roles must alternate" in examined.findings[0].detail


def test_observations_inside_an_assistants_content_are_found() -> None:
    ours = (
        "I search. <begin_search> the book </end_search>\n<search_result> by Ada </search_result>\n"
        "So.\n</think>\n\n\\boxed{Ada}"
    )
    messages = [MESSAGES[0], {"role": "assistant", "content": ours}]
    assert Fault.OBSERVATION_TRAINED in chat_faults(RIGHT, messages)
    theirs = "<search> the book </search>\n\n<information> by Ada </information>\n\n"
    messages = [MESSAGES[0], {"role": "assistant", "content": theirs}]
    assert chat_faults(RIGHT, messages) == [Fault.AUTHORS_UNKNOWN]


def test_a_chat_that_ends_before_the_assistants_answer_is_found() -> None:
    assert chat_faults(RIGHT, MESSAGES[:3]) == [Fault.CUT_OFF]


@pytest.mark.parametrize("messages", ["text", [], ["text"], [{"content": "x"}], [{"role": 3}]])
def test_messages_that_are_none_are_unreadable(messages: Any) -> None:
    assert chat_faults(RIGHT, messages) == [Fault.UNREADABLE]


def call(arguments: Any) -> dict[str, Any]:
    function = {"name": "search", "arguments": arguments}
    return {"role": "assistant", "content": "", "tool_calls": [{"function": function}]}


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize("query", ["who wrote the book", 'the "book" of é\n', "a"])
def test_qwens_training_template_is_clean_with_tool_calls(query: str, as_text: bool) -> None:
    tokenizer, _ = load("qwen2")
    folder = Path(os.environ["COA_REAL_DATA"]) / "tokenizer_qwen2"
    training = (folder / "qwen2_5_training.jinja").read_text(encoding="utf-8")
    arguments: Any = {"query": query, "top_k": 3, "filter": None}
    if as_text:
        arguments = json.dumps(arguments)
    messages = [MESSAGES[0], call(arguments), MESSAGES[2], {"role": "assistant", "content": "Ada"}]
    row = {"messages": messages, "tools": "[]"}
    assert faults(tokenizer, row, chat_template=training) == []
    assert faults(tokenizer, row) == [Fault.TEMPLATE_HAS_NO_MASK]


def test_finished_rows_of_a_chat_are_read_turn_by_turn() -> None:
    tokenizer, _ = load("qwen2")
    folder = Path(os.environ["COA_REAL_DATA"]) / "tokenizer_qwen2"
    training = (folder / "qwen2_5_training.jinja").read_text(encoding="utf-8")
    messages = [MESSAGES[0], call({"query": "a book"}), MESSAGES[2], *MESSAGES[3:]]
    encoded = tokenizer.apply_chat_template(
        messages, chat_template=training, return_dict=True, return_assistant_tokens_mask=True
    )
    row = {"input_ids": encoded["input_ids"], "assistant_masks": encoded["assistant_masks"]}
    assert faults(tokenizer, row) == []
    leaking = {**row, "assistant_masks": [1] * len(row["input_ids"])}
    assert faults(tokenizer, leaking) == [Fault.OBSERVATION_TRAINED, Fault.PROMPT_TRAINED]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
MESSAGE = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool", "system", "x"])},
    optional={"content": JSON, "tool_calls": JSON, "reasoning_content": JSON},
)


@given(st.lists(MESSAGE, max_size=4), JSON, st.sampled_from([RIGHT, STRIPS, MOVES, UNMARKED]))
def test_whatever_messages_hold_the_doctor_answers(
    messages: list[dict[str, Any]], tools: Any, template: str
) -> None:
    tokenizer, _ = load("byte_level")
    found = examine(tokenizer, {"messages": messages, "tools": tools}, chat_template=template)
    assert found.findings or found.counts


@pytest.mark.skipif("COA_REAL_DATA" not in os.environ, reason="needs a real template")
@given(st.lists(MESSAGE, min_size=1, max_size=4), JSON)
def test_whatever_messages_hold_a_real_template_is_no_trap(
    messages: list[dict[str, Any]], tools: Any
) -> None:
    tokenizer, _ = load("qwen2")
    found = examine(tokenizer, {"messages": messages, "tools": tools})
    assert found.findings or found.counts


def test_a_dropped_argument_is_not_found_in_a_later_turn() -> None:
    without_prompt = RIGHT.replace(TAIL, "{% endfor %}")
    call = {"function": {"name": "search", "arguments": {"query": "Ada"}}}
    messages = [
        {"role": "user", "content": "who wrote the book?"},
        {"role": "assistant", "content": THOUGHT, "tool_calls": [call]},
        {"role": "tool", "content": "Ada wrote the book, they say."},
        {"role": "assistant", "content": "So it was her."},
    ]
    assert chat_faults(without_prompt, messages) == [Fault.CONTENT_DROPPED]
