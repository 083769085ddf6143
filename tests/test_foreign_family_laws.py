"""Refuse tagged texts that allow two readings; render the others and read them again."""

import json
import time
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.foreign import tag_families
from coa.foreign.autocoa import read_autocoa
from coa.foreign.react import read_numbered_react, read_react_chat, read_react_text
from coa.foreign.record import Format
from coa.foreign.tag_families import TAG_FAMILIES, TagFamily
from coa.foreign.tagged_text import read_tagged_text
from coa.records import protocol
from coa.records.trajectory import Author, Step, StepKind
from coa.records.unreadable import UnreadableError, UnreadableReason
from tests.foreign_support import ANSWER, DOCUMENTS, QUERY
from tests.foreign_support import REACT as WHOLE_REACT

CALL = "<search>q</search>"
SEEN = "<information>i</information>"
OWN_CALL = "<begin_search> q </end_search>"
JSON_CALL = '<tool_call>{"name": "a", "arguments": {"q": "x"}}</tool_call>'
TWO_CALLS, REPLY = JSON_CALL * 2, "<tool_response>a</tool_response>"
SEARCH_R1, SEARCH_O1, TOOL_CALL = Format.SEARCH_R1, Format.SEARCH_O1, Format.TOOL_CALL_TEXT
AUTOCOA, REFLEXION = Format.AUTOCOA, Format.REFLEXION
R1, REACT = Format.R1_SEARCHER, Format.REACT
THINKS, SHOWS = "Thought: a\n", "\nObservation: x\n"
READERS: dict[Format, Callable[[str], tuple[Step, ...]]] = {
    **{family.format: partial(read_tagged_text, family=family) for family in TAG_FAMILIES},
    AUTOCOA: read_autocoa,
    REFLEXION: read_numbered_react,
    Format.REACT: read_react_text,
}


@pytest.mark.parametrize(
    ("form", "marked", "reason"),
    [
        (SEARCH_R1, f"a {CALL}{SEEN}@", UnreadableReason.NO_ANSWER),
        (SEARCH_R1, f"a {CALL}@ b <answer>c</answer>", UnreadableReason.NO_OBSERVATION),
        (SEARCH_R1, f"{CALL}@ b {SEEN}<answer>c</answer>", UnreadableReason.NO_OBSERVATION),
        (SEARCH_R1, f"{CALL}@{CALL}{SEEN}", UnreadableReason.NO_OBSERVATION),
        (SEARCH_R1, "a @<search>q", UnreadableReason.UNCLOSED_TAG),
        (SEARCH_R1, "<search>q@<search>", UnreadableReason.NESTED_TAG),
        (SEARCH_R1, f"a @{SEEN}", UnreadableReason.MISPLACED_TAG),
        (SEARCH_R1, "@</search>", UnreadableReason.MISPLACED_TAG),
        (SEARCH_R1, "@<search> </search>", UnreadableReason.EMPTY_TURN),
        (SEARCH_R1, "@<answer> </answer>", UnreadableReason.NO_ANSWER),
        (SEARCH_R1, "<answer>a</answer>@<answer>", UnreadableReason.MISPLACED_TAG),
        (SEARCH_R1, "It is \\boxed{Paris}@", UnreadableReason.NO_ANSWER),
        (SEARCH_O1, "It is Paris@", UnreadableReason.NO_ANSWER),
        (SEARCH_O1, "It is \\boxed{Paris@", UnreadableReason.NO_ANSWER),
        (TOOL_CALL, "<tool_call>@{}</tool_call>", UnreadableReason.BAD_CALL),
        (TOOL_CALL, f"{JSON_CALL}@ b {JSON_CALL}", UnreadableReason.TEXT_AFTER_ACTION),
        (TOOL_CALL, f"{TWO_CALLS}{REPLY}@{JSON_CALL}", UnreadableReason.NO_OBSERVATION),
        (REFLEXION, "@", UnreadableReason.NO_ANSWER),
        (REFLEXION, "@Hm.\nThought 1: a", UnreadableReason.NO_ACTION),
        (REFLEXION, "Thought 1: a\n@Observation 1: b", UnreadableReason.MISPLACED_TAG),
        (REFLEXION, "Thought 1: a\n@Action 2: b[c]", UnreadableReason.MISPLACED_TAG),
        (REFLEXION, "@Thought 2: a", UnreadableReason.MISPLACED_TAG),
        (REFLEXION, "Action 1:@ None.", UnreadableReason.NO_ACTION),
        (REFLEXION, "Action 1:@ Search[a] and b", UnreadableReason.TEXT_AFTER_ACTION),
        (REFLEXION, "Action 1:@ Search[ ]", UnreadableReason.EMPTY_TURN),
        (REFLEXION, "Action 1: Search[a]\nObservation 1: b@", UnreadableReason.NO_ANSWER),
        (AUTOCOA, f"{OWN_CALL}@ x </think> a", UnreadableReason.NO_OBSERVATION),
        (AUTOCOA, "a @<search_result> b </search_result>", UnreadableReason.MISPLACED_TAG),
        (AUTOCOA, "a @<begin_search> b", UnreadableReason.MISPLACED_TAG),
        (AUTOCOA, "@<begin_search> </end_search>", UnreadableReason.EMPTY_TURN),
        (AUTOCOA, f"{OWN_CALL}@", UnreadableReason.NO_OBSERVATION),
        (AUTOCOA, "I know.@", UnreadableReason.NO_ANSWER),
        (R1, f"x @{QUERY[:20]}", UnreadableReason.UNCLOSED_TAG),
        (R1, f"<|begin_of_query|> a @{QUERY}{DOCUMENTS}{ANSWER}", UnreadableReason.NESTED_TAG),
        (R1, f"{QUERY}\n\n@<|begin_of_documents|> cut", UnreadableReason.UNCLOSED_TAG),
        (R1, f"{QUERY}@ and on {ANSWER}", UnreadableReason.NO_OBSERVATION),
        (R1, f"a @<|end_of_query|> {ANSWER}", UnreadableReason.MISPLACED_TAG),
        (R1, f"a </think> @{QUERY}{DOCUMENTS}", UnreadableReason.MISPLACED_TAG),
        (R1, f"{ANSWER}@{QUERY}", UnreadableReason.MISPLACED_TAG),
        (R1, "I think </think> Paris@", UnreadableReason.NO_ANSWER),
        (R1, "</think> @<answer> </answer>", UnreadableReason.NO_ANSWER),
        (R1, "</think> @<answer> Paris", UnreadableReason.UNCLOSED_TAG),
        (REACT, "@", UnreadableReason.EMPTY_TURN),
        (REACT, "Thought:@ \nObservation: x\n", UnreadableReason.EMPTY_TURN),
        (REACT, f"{THINKS}@Action: search[ ]{SHOWS}", UnreadableReason.EMPTY_TURN),
        (REACT, f"Thought:@ a{SHOWS}", UnreadableReason.NO_ACTION),
        (REACT, f"{THINKS}@Action: search[x{SHOWS}", UnreadableReason.UNCLOSED_TAG),
        (REACT, f"{THINKS}Action: search[x]@ y{SHOWS}", UnreadableReason.TEXT_AFTER_ACTION),
        (REACT, f"Action: finish[x]@\nThought: b{SHOWS}", UnreadableReason.TEXT_AFTER_ACTION),
        (REACT, f"{THINKS}@Action: finish[]{SHOWS}", UnreadableReason.NO_ANSWER),
        (REACT, f"{THINKS}Action: search[x]{SHOWS}@", UnreadableReason.NO_ANSWER),
        (REACT, f"{THINKS}Action: search[x]@", UnreadableReason.NO_OBSERVATION),
        (REACT, f"{WHOLE_REACT}@{THINKS}Action: search[x]\n", UnreadableReason.MISPLACED_TAG),
    ],
)
def test_a_text_that_allows_two_readings_is_refused_at_its_position(
    form: Format, marked: str, reason: UnreadableReason
) -> None:
    with pytest.raises(UnreadableError) as error:
        READERS[form](marked.replace("@", ""))
    assert (error.value.reason, error.value.character) == (reason, marked.index("@"))


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([("user", "Observation: x")], UnreadableReason.WRONG_FORMAT),
        ([("assistant", "Action: finish[a]"), ("assistant", "b")], UnreadableReason.WRONG_FORMAT),
        ([("assistant", " ")], UnreadableReason.EMPTY_TURN),
        ([("assistant", "Thought: a\nObservation: b\nAction: c[d]")], UnreadableReason.NESTED_TAG),
        ([], UnreadableReason.NO_ANSWER),
    ],
)
def test_an_ambiguous_chat_of_react_is_refused(
    messages: list[tuple[str, str]], reason: UnreadableReason
) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_react_chat(messages)
    assert caught.value.reason is reason


Turn = tuple[str, str, str]
"""A thought, the argument of a call, and what the tool showed."""
Piece = tuple[StepKind, Author, str]
THOUGHT, ACTION, SEEN_STEP = StepKind.THOUGHT, StepKind.ACTION, StepKind.OBSERVATION
POLICY, ENVIRONMENT, SCAFFOLD = Author.POLICY, Author.ENVIRONMENT, Author.SCAFFOLD
PLAIN = st.text(
    st.characters(exclude_categories=["Cs", "Zl", "Zp", "Cc"], exclude_characters="<>{}|[]\\"),
    min_size=1,
).filter(str.strip)
TURNS = st.lists(st.tuples(PLAIN, PLAIN, PLAIN), max_size=4)


def tagged(family: TagFamily, turns: list[Turn], answer: str) -> list[Piece]:
    """Write turns in the tags of a family, whose last tool is called."""
    tool, call = family.calls[-1]
    author = POLICY if family.is_simulated else ENVIRONMENT
    pieces: list[Piece] = []
    for thought, query, shown in turns:
        argument = query if tool else json.dumps({"name": "search", "arguments": {"q": query}})
        pieces += [
            (THOUGHT, POLICY, f"a{thought}"),
            (ACTION, POLICY, f"{call.open}{argument}{call.close}"),
            (SEEN_STEP, author, f"\n{family.observation.open}{shown}{family.observation.close}"),
        ]
    pieces.append((THOUGHT, POLICY, "So."))
    pieces.append((StepKind.ANSWER, POLICY, f"<answer>{answer}</answer>"))
    return pieces


def numbered(turns: list[Turn], answer: str) -> list[Piece]:
    """Write turns as Reflexion's runtime writes them."""
    pieces: list[Piece] = []
    for number, (thought, query, shown) in enumerate(turns, 1):
        pieces += [
            (StepKind.MARKER, SCAFFOLD, f"\nThought {number}:"),
            (THOUGHT, POLICY, f" {thought}"),
            (StepKind.MARKER, SCAFFOLD, f"\nAction {number}:"),
            (ACTION, POLICY, f" Search[{query}]"),
            (SEEN_STEP, ENVIRONMENT, f"\nObservation {number}: {shown}"),
        ]
    pieces.append((StepKind.MARKER, SCAFFOLD, f"\nAction {len(turns) + 1}:"))
    pieces.append((StepKind.ANSWER, POLICY, f" Finish[{answer}]"))
    return pieces


def in_own_tags(turns: list[Turn], answer: str) -> list[Piece]:
    """Write turns in AutoCoA's tags."""
    pieces: list[Piece] = []
    for thought, query, shown in turns:
        pieces += [
            (THOUGHT, POLICY, thought),
            (ACTION, POLICY, f"<begin_search>{query}</end_search>"),
            (SEEN_STEP, ENVIRONMENT, f"\n<search_result> {shown} </search_result>\n"),
        ]
    return [*pieces, (StepKind.ANSWER, POLICY, f"</think>\\boxed{{{answer}}}")]


WRITERS: dict[Format, Callable[[list[Turn], str], list[Piece]]] = {
    **{family.format: partial(tagged, family) for family in TAG_FAMILIES},
    REFLEXION: numbered,
    AUTOCOA: in_own_tags,
}


@pytest.mark.parametrize("form", WRITERS, ids=str)
@given(turns=TURNS, answer=PLAIN)
def test_rendered_turns_are_read_back(form: Format, turns: list[Turn], answer: str) -> None:
    pieces = WRITERS[form](turns, answer)
    steps = READERS[form]("".join(text for _, _, text in pieces))
    assert [(step.kind, step.author, step.text) for step in steps] == pieces
    arguments = [step.argument for step in steps if step.kind is ACTION]
    assert arguments == [query.strip() for _, query, _ in turns]


PARTS = [tag for family in TAG_FAMILIES for tags in family.tags() for tag in tags]
PARTS += ["<think>", "</think>", "\\boxed{a}", "q", "\n", "\0", "{", "Thought 1:", "Action 1: a[b]"]
PARTS += ["\nObservation 1: c", "\nAction 2: Finish[d]", "<begin_search>", "</end_search>"]
PARTS += ["<search_result>", "</search_result>", tag_families.SEARCH_R1.retry, "<|im_end|>"]
PARTS += [JSON_CALL, "Thought:", "\nAction: search[q]", "\nAction: finish[a]", "\nObservation:"]
HOSTILE = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=3)), max_size=12)


@pytest.mark.parametrize("form", READERS, ids=str)
@given(text=HOSTILE.map("".join))
def test_any_text_is_read_whole_or_has_a_reason_and_a_position(form: Format, text: str) -> None:
    try:
        steps = READERS[form](text)
    except UnreadableError as error:
        assert 0 <= error.character <= len(text)
    else:
        assert protocol.render(steps) == text
        assert any(step.kind is StepKind.ANSWER for step in steps)


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit",
    [
        *("<search>", "</search>", f"{CALL}{SEEN}", "<think>", " ", "\n", "<", "\\boxed{"),
        *("Action 1: a[", "Thought 1: a\n", "<|im_end|>  ", "Doc 1(Title: ", "<begin_a>", "]"),
        *(JSON_CALL, "(1)Title: ", "\n(1)", f"{QUERY}{DOCUMENTS}", "Thought:", "\nObservation:"),
    ],
)
@pytest.mark.long
def test_ten_megabytes_take_seconds_in_every_format(unit: str) -> None:
    text = unit * (10_000_000 // len(unit))
    for form in READERS:
        start = time.process_time()
        with pytest.raises(UnreadableError):
            READERS[form](text)
        assert time.process_time() - start < 10
