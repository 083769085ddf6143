"""Check that the doctor tells authors apart in finished rows of every format that it knows."""

import pytest

from coa.doctor.findings import Fault
from coa.doctor.observed import TEXT_FORMATS, read_turn, tell_text_format
from coa.trajectory import Author
from tests.doctor_support import END, Pieces, faults, piecewise
from tests.tokenizers_support import load

PROMPT = ("Who wrote it? Answer.\n### Response:\n", False)
END_PIECE = (END, True)
FORMATS: dict[str, Pieces] = {
    "search_r1": (
        ("<think> I look. </think>\n<search> the book </search>", True),
        ("\n\n<information>Doc 1(Title: Book) by Ada</information>\n\n", False),
        ("<think> So. </think>\n<answer> Ada </answer>", True),
    ),
    "asearcher": (
        ("<think>I look.</think>\n<access>http://a.b/c</access>", True),
        ("\n\n<information>\nby Ada\n</information>\n\n<think>", False),
        ("So.</think>\n<answer>Ada</answer>", True),
    ),
    "research": (
        ("<think> I look. </think> <search> the book </search>", True),
        (" <result>\nby Ada\n</result>", False),
        ("\n<think> So. </think> <answer> \\boxed{Ada} </answer>", True),
    ),
    "search_o1": (
        ("I look.\n\n<|begin_search_query|>the book<|end_search_query|>", True),
        ("\n\n<|begin_search_result|>by Ada<|end_search_result|>\n\n", False),
        ("So it is.\n\n\\boxed{Ada}", True),
    ),
    "r1_searcher": (
        ("I look. <|begin_of_query|> the book <|end_of_query|>", True),
        ("\n\n<|begin_of_documents|>\n(1)by Ada\n<|end_of_documents|>\n\n", False),
        ("So.</think>\n\n<answer> Ada </answer>", True),
    ),
    "coa": (
        ("I look. <begin_search> the book </end_search>", True),
        ("\n<search_result> by Ada </search_result>\n", False),
        ("So.\n</think><answer> \\boxed{Ada} </answer>", True),
    ),
    "react": (
        ("Thought: I look.\nAction: search[the book]", True),
        ("\nObservation: by Ada\n", False),
        ("Thought: So.\nAction: finish[Ada]", True),
    ),
    "reflexion": (
        ("Thought 1: I look.\nAction 1: Search[the book]", True),
        ("\nObservation 1: by Ada\n", False),
        ("Thought 2: So.\nAction 2: Finish[Ada]", True),
    ),
}
every_format = pytest.mark.parametrize("name", FORMATS)
every_tokenizer = pytest.mark.parametrize("tokenizer_name", ["byte_level", "qwen2"])


@every_format
@every_tokenizer
def test_right_rows_are_clean_and_their_format_is_recognised(
    name: str, tokenizer_name: str
) -> None:
    tokenizer, _ = load(tokenizer_name)
    written = "".join(text for text, _ in FORMATS[name])
    assert tell_text_format(written) == name
    row = piecewise(tokenizer, [PROMPT, *FORMATS[name], END_PIECE])
    assert faults(tokenizer, row) == []
    assert faults(tokenizer, row, format_name=name) == []


@every_format
@every_tokenizer
def test_leaks_masked_text_and_cuts_are_found(name: str, tokenizer_name: str) -> None:
    tokenizer, _ = load(tokenizer_name)
    called, seen, answered = FORMATS[name]
    leaking = [PROMPT, called, (seen[0], True), answered, END_PIECE]
    masked = [PROMPT, (called[0], False), seen, answered, END_PIECE]
    cut = [PROMPT, called, (seen[0][:-4], False)]
    found = faults(tokenizer, piecewise(tokenizer, leaking))
    # ASearcher's runtime also begins the next turn.
    assert found[0] is Fault.OBSERVATION_TRAINED
    assert set(found) <= {Fault.OBSERVATION_TRAINED, Fault.PROMPT_TRAINED}
    assert faults(tokenizer, piecewise(tokenizer, masked)) == [Fault.POLICY_MASKED]
    assert Fault.CUT_OFF in faults(tokenizer, piecewise(tokenizer, cut))


@pytest.mark.parametrize("name", ["search_r1", "research", "search_o1", "r1_searcher", "coa"])
def test_an_observation_that_follows_no_call_is_the_policys(name: str) -> None:
    tokenizer, _ = load("byte_level")
    called, seen, answered = FORMATS[name]
    forged = [PROMPT, called, seen, (f"I recall. {seen[0]}", True), answered, END_PIECE]
    assert faults(tokenizer, piecewise(tokenizer, forged)) == [Fault.OBSERVATION_FORGED]


@pytest.mark.parametrize("name", ["search_r1", "react", "coa"])
def test_a_prompt_that_nothing_marks_is_not_judged_unless_its_end_is_given(name: str) -> None:
    tokenizer, _ = load("byte_level")
    prompt = "Who wrote it? Write the answer. Go: "
    right = piecewise(tokenizer, [(prompt, False), *FORMATS[name], END_PIECE])
    trained = piecewise(tokenizer, [(prompt, True), *FORMATS[name], END_PIECE])
    assert faults(tokenizer, right) == []
    assert faults(tokenizer, right, prompt_end="Go: ") == []
    assert faults(tokenizer, trained, prompt_end="Go: ") == [Fault.PROMPT_TRAINED]


@pytest.mark.parametrize("name", TEXT_FORMATS)
@pytest.mark.parametrize("is_whole", [True, False])
def test_spans_leave_no_gap_whatever_the_text(name: str, is_whole: bool) -> None:
    parts = [text for pieces in FORMATS.values() for text, _ in pieces]
    texts = ["", "x", "\n", *parts, "".join(parts), "".join(reversed(parts))]
    for text in texts:
        position = 0
        for span in read_turn(text, name, is_whole=is_whole).spans:
            assert span.start == position
            position = span.end
        assert position == len(text)


def test_a_megabyte_of_unclosed_tags_is_read_in_linear_time() -> None:
    text = "<search>q</search><information>" * 40_000
    spans = read_turn(text, "search_r1", is_whole=True).spans
    assert spans[-1].author is Author.ENVIRONMENT
