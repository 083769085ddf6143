"""Check that every token is given its characters, and what is said of a tokenizer's tags."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.doctor.alignment import Aligner
from coa.doctor.examine import Doctor
from coa.doctor.findings import Fault
from coa.doctor.rows import Readers
from coa.doctor.tags import folded_tags, own_tags
from coa.records.protocol import parse
from coa.records.question import Question
from coa.records.tokens import PieceEncoder
from tests.sample_records import make_graded
from tests.tokenizers_support import load, tokenizers, transformers

NAMES = ("byte_level", "byte_level_special_tags", "llama2", "unigram_always")
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@pytest.mark.parametrize("name", NAMES)
@given(text=TEXT, cut=st.integers(0, 3))
def test_tokens_cover_every_text_in_order_even_when_cut_inside_a_character(
    name: str, text: str, cut: int
) -> None:
    tokenizer, encoder = load(name)
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    ids = ids[: len(ids) - cut]
    decoded = encoder.decode(ids) if ids else ""
    ranges = Aligner(encoder).align(ids, decoded)
    assert ranges is not None
    assert len(ranges) == len(ids)
    position = 0
    for start, end in ranges:
        assert start <= position <= end
        position = end
    assert position == len(decoded)


def test_all_tokens_of_one_character_hold_it_and_no_token_of_the_next() -> None:
    tokenizer, encoder = load("byte_level")
    text = "a\N{GRINNING FACE}\ufffd\ufffdé."
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    ranges = Aligner(encoder).align(ids, text)
    assert ranges is not None
    held = [text[start:end] for start, end in ranges]
    assert "".join(dict.fromkeys(held)).startswith("a\N{GRINNING FACE}")
    assert held[:5] == ["a", *["\N{GRINNING FACE}"] * 4]
    assert held[-3:] == ["é", "é", "."]


def test_tokens_that_do_not_say_the_text_are_not_aligned() -> None:
    tokenizer, encoder = load("byte_level")
    ids = tokenizer("the book", add_special_tokens=False)["input_ids"]
    assert Aligner(encoder).align(ids, "the bock") is None
    assert Aligner(encoder).align(ids, "the book.") is None


def lower_casing() -> Any:
    """Make a tokenizer that folds case and the blanks of a text."""
    words = ["[UNK]", "<", ">", "/", "_", "think", "ada", "the", ".", "search", "begin", "end"]
    backend = tokenizers.Tokenizer(
        tokenizers.models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]")
    )
    backend.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    backend.decoder = tokenizers.decoders.WordPiece()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")


def test_a_tokenizer_that_folds_text_is_found_with_its_tags() -> None:
    tokenizer = lower_casing()
    encoder = PieceEncoder(tokenizer)
    folded = list(folded_tags(own_tags(), encoder))
    assert {finding.fault for finding in folded} == {Fault.TAG_FOLDED}
    assert "<think> becomes" in " ".join(finding.detail for finding in folded)
    readers = Readers.of(tokenizer, chat_template="", prompt_end="")
    question = Question("q", "who?", ("Ada",), "", "", "train", None)
    row = make_graded(question, parse("The Ada.\n</think>\n\n\\boxed{Ada}"))
    examined = Doctor.of(tokenizer).examine(readers.of_sets.read_trajectory(row))
    assert [finding.fault for finding in examined.findings] == [Fault.TEXT_CHANGED]
