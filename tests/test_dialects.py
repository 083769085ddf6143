"""Test foreign tags: each character keeps its place and its author.

What allows two readings is refused, and our own tags say the same.
"""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa import protocol
from coa.dialects import (
    UnreadableError,
    UnreadableReason,
    prediction,
    read_r1_searcher,
    read_react_chat,
    read_react_text,
)
from coa.grading import boxed_answer, normalise
from coa.own_tags import to_own_tags
from coa.prompts import Prompt
from coa.trajectory import Author, Mode, Outcome, Sampling, Step, StepKind, StopReason, Trajectory

QUERY = "<|begin_of_query|> Eiffel Tower city <|end_of_query|>"
DOCUMENTS = (
    "\n\n<|begin_of_documents|>\n(1)Title: Eiffel Tower Text: In Paris."
    "\n(2)Title: X Text: y\n<|end_of_documents|>\n\n"
)
ANSWER = "So.</think>\n\n <answer> Paris </answer>"
R1 = f" I need it. {QUERY}{DOCUMENTS}{ANSWER}"
REACT = (
    "Thought: I need it.\nAction: search[Eiffel Tower city]\nObservation: None\n"
    "Thought: Known.\nAction:  finish[Paris]\nObservation: Episode finished, reward = True\n"
)
REFLECTION = (
    "Now that I haven't solved the task within 5 steps, let me do a reflection and think about "
    "how to improve my strategy. "
)
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
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
ACTING = [
    "<think>",
    "</think>",
    "<begin_search>",
    "</end_search>",
    "</search_result>",
    "\\boxed{",
    "\\text{",
    "}",
    "{",
    "$",
    "\\",
    "\\(",
    "1,000",
]
HOSTILE = st.lists(st.one_of(PLAIN, st.sampled_from(ACTING)), max_size=6).map("".join)


def shape(steps: tuple[Step, ...]) -> list[tuple[str, str]]:
    return [(step.kind.value, step.author.value) for step in steps]


def trajectory(steps: tuple[Step, ...]) -> Trajectory:
    return Trajectory(
        trajectory_id="q/coa/0",
        question_id="q",
        mode=Mode.COA,
        index=0,
        question="Where is it?",
        prompt="",
        steps=steps,
        stop_reason=StopReason.ANSWERED,
        model="m",
        sampling=Sampling(),
        prompt_hash="",
        search_fingerprint="",
        num_prompt_tokens=0,
        num_policy_tokens=0,
        num_environment_tokens=0,
        num_calls=2,
        num_actions=1,
    )


def test_r1_searcher_text_is_cut_into_steps_with_authors() -> None:
    steps = read_r1_searcher(R1)
    assert protocol.render(steps) == R1
    assert shape(steps) == [
        ("thought", "policy"),
        ("action", "policy"),
        ("observation", "environment"),
        ("thought", "policy"),
        ("answer", "policy"),
    ]
    assert (steps[1].tool, steps[1].argument) == ("search", "Eiffel Tower city")
    assert (steps[2].text, steps[2].outcome, steps[2].passages) == (
        DOCUMENTS,
        Outcome.OK,
        ("Eiffel Tower", "X"),
    )
    assert prediction(steps) == "Paris"


def test_react_text_gives_the_label_to_the_scaffold_and_the_rest_to_the_policy() -> None:
    steps = read_react_text(REACT)
    assert protocol.render(steps) == REACT
    assert shape(steps) == [
        ("marker", "scaffold"),
        ("thought", "policy"),
        ("action", "policy"),
        ("observation", "environment"),
        ("marker", "scaffold"),
        ("thought", "policy"),
        ("answer", "policy"),
        ("observation", "environment"),
    ]
    assert steps[3].outcome is Outcome.EMPTY
    assert prediction(steps) == "Paris"


def test_the_request_to_reflect_is_the_scaffolds_only_where_its_runtime_writes_it() -> None:
    turn = "Thought: a\nAction: search[b]\nObservation: c\n"
    end = (
        f"Thought: {REFLECTION}\nAction: finish[d]\nObservation: Episode finished, reward = False\n"
    )
    after_five, after_four = read_react_text(turn * 5 + end), read_react_text(turn * 4 + end)
    assert f"Thought: {REFLECTION}" in [
        step.text for step in after_five if step.author is Author.SCAFFOLD
    ]
    assert [step.text for step in after_four if step.author is Author.SCAFFOLD] == ["Thought:"] * 5


def test_the_request_to_wrap_up_is_the_scaffolds_and_the_call_inside_the_line_is_a_thought() -> (
    None
):
    wrap_up = (
        "Now that I haven't solved the task within 9 steps, I need to wrap up and finish this task "
        "in the next step. "
    )
    turn = "Thought: a\nAction: search[b]\nObservation: c\n"
    end = f"Thought: {wrap_up}Action: finish[d]\nAction: finish[d]\nObservation: Episode finished\n"
    steps = read_react_text(turn * 9 + end)
    assert protocol.render(steps) == turn * 9 + end
    assert [(step.author, step.text) for step in steps[-4:-1]] == [
        (Author.SCAFFOLD, f"Thought: {wrap_up}"),
        (Author.POLICY, "Action: finish[d]\n"),
        (Author.POLICY, "Action: finish[d]"),
    ]
    early = [
        step.text for step in read_react_text(turn * 6 + end) if step.author is Author.SCAFFOLD
    ]
    assert early == ["Thought:"] * 7


def test_a_chat_that_was_a_text_has_what_the_runtime_wrote_in_it() -> None:
    messages = [
        ("assistant", "Thought: a\nAction: search[b]"),
        ("user", "Observation: c"),
        ("assistant", "Thought: d\nAction: finish[e]"),
    ]
    steps = read_react_chat(messages, was_text=True)
    assert [step.text for step in steps if step.author is Author.SCAFFOLD] == ["Thought:"] * 2
    assert protocol.render(steps) == "".join(content for _, content in messages)


@pytest.mark.parametrize(
    ("documents", "titles"),
    [
        ("(1)Title: A b Text: x\n(2)Title: C Text:  y", ("A b", "C")),
        ('(1)"Title: A b Text: ""x"" y"\n(2)"Title: ""C"" (song) Text: z"', ("A b", '"C" (song)')),
        ("(1)A b   x y. Text: z\n(2)C\ty", ("A b", "C")),
        ('(1)"Title: A Text: x"\n(2)Title: B Text: y\n(3)C   z', ("A", "B", "C")),
        ("(1)No title here. Two sentences.\n(2)Title: cut", ()),
        (f"(1){'x' * 301}   y", ()),
    ],
)
def test_the_titles_of_all_three_layouts_of_documents_are_found(
    documents: str, titles: tuple[str, ...]
) -> None:
    shown = f"\n\n<|begin_of_documents|>\n{documents}\n<|end_of_documents|>\n\n"
    assert read_r1_searcher(f"{QUERY}{shown}{ANSWER}")[1].passages == titles


def test_in_a_chat_the_roles_say_who_wrote_what() -> None:
    messages = [
        ("assistant", "Thought: I need it.\nAction: click[it]"),
        ("user", "Observation: ('click', 'it') generated an exception: Unknown tool name: click"),
        ("assistant", "Thought: Known.\nAction: finish[Paris]"),
        ("user", "Observation: Episode finished, reward = True"),
    ]
    steps = read_react_chat(messages)
    assert protocol.render(steps) == "".join(content for _, content in messages)
    assert shape(steps) == [
        ("thought", "policy"),
        ("action", "policy"),
        ("observation", "environment"),
        ("thought", "policy"),
        ("answer", "policy"),
        ("observation", "environment"),
    ]
    assert (steps[1].tool, steps[2].outcome) == ("click", Outcome.INVALID)


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
        read_r1_searcher(text)
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
        steps = read_r1_searcher(text)
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
    "steps", [read_r1_searcher(R1), read_react_text(REACT)], ids=["r1_searcher", "react"]
)
def test_our_tags_say_the_same(steps: tuple[Step, ...]) -> None:
    own = to_own_tags(trajectory(steps)).steps
    kinds = [step.kind for step in own]
    assert kinds == [
        StepKind.THOUGHT,
        StepKind.ACTION,
        StepKind.OBSERVATION,
        StepKind.THOUGHT,
        StepKind.ANSWER,
    ]
    assert own[1].argument == "Eiffel Tower city"
    assert boxed_answer(protocol.answer_text(own)) == "Paris"
    assert protocol.stray_tags(own) == []


def test_a_prompt_of_ours_may_stand_before_the_steps() -> None:
    prompt = Prompt("Q: {question} " + protocol.THINK_OPEN, "0123")
    own = to_own_tags(trajectory(read_r1_searcher(R1)), prompt)
    assert (own.prompt, own.prompt_hash) == ("Q: Where is it? " + protocol.THINK_OPEN, "0123")
    assert to_own_tags(trajectory(read_r1_searcher(R1))).prompt.startswith("Where is it?\n")


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_no_foreign_text_can_act_in_our_tags(
    thought: str, query: str, body: str, answer: str
) -> None:
    policy = Author.POLICY
    foreign = (
        Step(StepKind.THOUGHT, policy, f"x{thought}"),
        Step(StepKind.ACTION, policy, query, tool="search", argument=query.strip()),
        Step(
            StepKind.OBSERVATION,
            Author.ENVIRONMENT,
            f"\nObservation: {body}\n",
            tool="search",
            outcome=Outcome.OK,
        ),
        Step(StepKind.ANSWER, policy, f"<answer>{answer}</answer>"),
    )
    own = to_own_tags(trajectory(foreign)).steps
    read = protocol.parse(protocol.render(own))
    assert [(step.kind, step.author, step.text) for step in read] == [
        (step.kind, step.author, step.text) for step in own
    ]
    boxed = boxed_answer(protocol.answer_text(own)) or ""
    assert normalise(boxed) == normalise(protocol.neutralise(answer).strip())


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
def test_ten_megabytes_of_r1_searcher_text_take_linear_time(unit: str) -> None:
    start = time.process_time()
    with pytest.raises(UnreadableError):
        read_r1_searcher(unit * (10_000_000 // len(unit)))
    assert time.process_time() - start < 10


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
def test_five_megabytes_of_react_text_take_linear_time(unit: str) -> None:
    start = time.process_time()
    with pytest.raises(UnreadableError):
        read_react_text(unit * (5_000_000 // len(unit)))
    assert time.process_time() - start < 10
