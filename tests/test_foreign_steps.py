"""Test foreign tags: each character keeps its place and its author.

What allows two readings is refused, and our own tags say the same.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.foreign.frames import prediction
from coa.foreign.own_tags import to_own_tags
from coa.foreign.react import read_react_chat, read_react_text
from coa.foreign.tag_families import R1_SEARCHER
from coa.foreign.tagged_text import read_tagged_text
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.grading import boxed_answer, normalise
from coa.records.question import Question
from coa.records.trajectory import Author, Outcome, Step, StepKind, Trajectory
from tests.foreign_support import ANSWER, DOCUMENTS, QUERY, REACT
from tests.sample_records import make_trajectory

R1 = f" I need it. {QUERY}{DOCUMENTS}{ANSWER}"
REFLECTION = (
    "Now that I haven't solved the task within 5 steps, let me do a reflection and think about "
    "how to improve my strategy. "
)
PLAIN = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
ACTING = (
    *("<think>", "</think>", "<begin_search>", "</end_search>", "</search_result>", "\\boxed{"),
    *("\\text{", "}", "{", "$", "\\", "\\(", "1,000"),
)
HOSTILE = st.lists(st.one_of(PLAIN, st.sampled_from(ACTING)), max_size=6).map("".join)


def shape(steps: tuple[Step, ...]) -> list[tuple[str, str]]:
    return [(step.kind.value, step.author.value) for step in steps]


def trajectory(steps: tuple[Step, ...]) -> Trajectory:
    return make_trajectory(Question("q", "Where is it?", ("Paris",), "train"), steps)


def test_r1_searcher_text_is_cut_into_steps_with_authors() -> None:
    steps = read_tagged_text(R1, R1_SEARCHER)
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
    assert read_tagged_text(f"{QUERY}{shown}{ANSWER}", R1_SEARCHER)[1].passages == titles


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
    "steps",
    [read_tagged_text(R1, R1_SEARCHER), read_react_text(REACT)],
    ids=["r1_searcher", "react"],
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
    own = to_own_tags(trajectory(read_tagged_text(R1, R1_SEARCHER)), prompt)
    assert (own.prompt, own.prompt_hash) == ("Q: Where is it? " + protocol.THINK_OPEN, "0123")
    assert to_own_tags(trajectory(read_tagged_text(R1, R1_SEARCHER))).prompt.startswith(
        "Where is it?\n"
    )


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
