"""Check whom the doctor takes for the author of text in our tags and in those of others."""

import pytest

from coa.doctor.findings import Fault
from coa.doctor.tags import read_turn
from coa.records.trajectory import Author
from tests.doctor_support import END, Pieces, examine, faults, piecewise
from tests.tokenizers_support import load

PROMPT = ("Who wrote it? Answer.\n### Response:\n", False)
END_PIECE = (END, True)
OURS: Pieces = (
    ("I look. <begin_search> the book </end_search>", True),
    ("\n<search_result> by Ada </search_result>\n", False),
    ("So.\n</think><answer> \\boxed{Ada} </answer>", True),
)
OTHERS: dict[str, Pieces] = {
    "search_r1": (
        ("<think> I look. </think>\n<search> the book </search>", True),
        ("\n\n<information>Doc 1(Title: Book) by Ada</information>\n\n", False),
        ("<think> So. </think>\n<answer> Ada </answer>", True),
    ),
    "r1_searcher": (
        ("I look. <|begin_of_query|> the book <|end_of_query|>", True),
        ("\n\n<|begin_of_documents|>\n(1)by Ada\n<|end_of_documents|>\n\n", False),
        ("So.</think>\n\n<answer> Ada </answer>", True),
    ),
    "reflexion": (
        ("Thought 1: I look.\nAction 1: Search[the book]", True),
        ("\nObservation 1: by Ada\n", False),
        ("Thought 2: So.\nAction 2: Finish[Ada]", True),
    ),
}
every_tokenizer = pytest.mark.parametrize("tokenizer_name", ["byte_level", "qwen2"])


@every_tokenizer
def test_leaks_masked_text_and_cuts_are_found_in_our_tags(tokenizer_name: str) -> None:
    tokenizer, _ = load(tokenizer_name)
    called, seen, answered = OURS
    right = [PROMPT, *OURS, END_PIECE]
    leaking = [PROMPT, called, (seen[0], True), answered, END_PIECE]
    masked = [PROMPT, (called[0], False), seen, answered, END_PIECE]
    cut = [PROMPT, called, (seen[0][:-4], False)]
    given = {"prompt_end": "### Response:\n"}
    assert faults(tokenizer, piecewise(tokenizer, right), **given) == []
    leaks = [Fault.OBSERVATION_TRAINED]
    assert faults(tokenizer, piecewise(tokenizer, leaking), **given) == leaks
    assert faults(tokenizer, piecewise(tokenizer, masked), **given) == [Fault.POLICY_MASKED]
    assert Fault.CUT_OFF in faults(tokenizer, piecewise(tokenizer, cut), **given)


@every_tokenizer
@pytest.mark.parametrize("name", OTHERS)
def test_authors_of_token_ids_in_the_tags_of_others_are_unknown(
    name: str, tokenizer_name: str
) -> None:
    tokenizer, _ = load(tokenizer_name)
    called, seen, answered = OTHERS[name]
    for is_trained in (False, True):
        pieces = [PROMPT, called, (seen[0], is_trained), answered, END_PIECE]
        row = piecewise(tokenizer, pieces)
        examined = examine(tokenizer, row, prompt_end="### Response:\n")
        assert [finding.fault for finding in examined.findings] == [Fault.AUTHORS_UNKNOWN]
        assert "import the rows as text" in examined.findings[0].detail
        assert "policy" not in examined.counts


def test_a_prompt_is_judged_where_the_rest_is_unknown() -> None:
    tokenizer, _ = load("byte_level")
    pieces = [(PROMPT[0], True), *OTHERS["search_r1"], END_PIECE]
    found = faults(tokenizer, piecewise(tokenizer, pieces), prompt_end="### Response:\n")
    assert set(found) == {Fault.AUTHORS_UNKNOWN, Fault.PROMPT_TRAINED}


def test_a_prompt_that_nothing_marks_is_not_judged_unless_its_end_is_given() -> None:
    tokenizer, _ = load("byte_level")
    prompt = "Who wrote it? Write the answer. Go: "
    right = piecewise(tokenizer, [(prompt, False), *OURS, END_PIECE])
    trained = piecewise(tokenizer, [(prompt, True), *OURS, END_PIECE])
    assert faults(tokenizer, right) == []
    assert faults(tokenizer, right, prompt_end="Go: ") == []
    assert faults(tokenizer, trained, prompt_end="Go: ") == [Fault.PROMPT_TRAINED]


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("is_opened", [True, False])
def test_spans_leave_no_gap_whatever_the_text(is_whole: bool, is_opened: bool) -> None:
    parts = [text for pieces in (OURS, *OTHERS.values()) for text, _ in pieces]
    texts = ["", "x", "\n", *parts, "".join(parts), "".join(reversed(parts))]
    for text in texts:
        position = 0
        for span in read_turn(text, is_whole=is_whole, is_opened=is_opened).spans:
            assert span.start == position
            position = span.end
        assert position == len(text)


def test_a_megabyte_of_unclosed_tags_is_read_in_linear_time() -> None:
    text = "<begin_search>q</end_search><search_result>" * 30_000
    assert read_turn(text, is_whole=True).spans[0].author is Author.POLICY
