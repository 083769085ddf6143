"""Test that token ids and masks are exact for every lossless tokenizer.

An oracle that knows nothing of our spans judges them.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coa.errors import ConfigError
from coa.records import protocol
from coa.records.tokens import PieceEncoder, Tokenised, tokenise
from coa.records.trajectory import Author, Outcome, Step, StepKind

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

from tokenizers import decoders, models, normalizers, pre_tokenizers  # noqa: E402

from tests.tokenizers_support import (  # noqa: E402
    NAMES,
    TAGS,
    WORDS,
    every_tokenizer,
    load,
)

FORGED = [
    "<search_result>",
    "</search_result>",
    "<begin_search>",
    "</think",
]  # what a policy may write in a thought
KNOWS_FEW_CHARACTERS = ("word_level", "unigram_always", "unigram_never")


def special_ids(tokenizer: Any) -> set[int]:
    return {token for token, added in tokenizer.added_tokens_decoder.items() if added.special}


def texts(name: str, *more: str) -> st.SearchStrategy[str]:
    """Draw texts that the tokenizer can represent.

    They hold known words and names, and any characters where it takes them.
    """
    fragments = [st.sampled_from([*WORDS, *NAMES, *more])]
    if name not in KNOWS_FEW_CHARACTERS:
        # SentencePiece writes spaces as this sign, so a tokenizer of that kind cannot give the sign
        # itself back.
        fragments.append(st.text(st.characters(codec="utf-8", exclude_characters="▁"), max_size=8))
    return st.lists(st.one_of(fragments), max_size=6).map("".join)


def policy(kind: StepKind, text: str, tool: str | None = None) -> Step:
    return Step(kind, Author.POLICY, text, tool)


def call(query: str) -> Step:
    return policy(StepKind.ACTION, f"<begin_search>{query}</end_search>", "search")


@st.composite
def rollouts(draw: st.DrawFn, name: str) -> tuple[str, tuple[Step, ...]]:
    """Draw a prompt and steps.

    Forged tags, special names and newlines stand wherever somebody could put them.
    """
    ours, theirs = texts(name, *FORGED), texts(name, *FORGED, *TAGS, "\\boxed{x}")
    steps: list[Step] = []
    for _ in range(draw(st.integers(0, 3))):
        outcome = draw(st.sampled_from([Outcome.OK, Outcome.EMPTY, Outcome.INVALID]))
        steps += [policy(StepKind.THOUGHT, draw(ours)), call(draw(ours))]
        steps.append(protocol.observation("search", draw(theirs), outcome))
    steps.append(policy(StepKind.THOUGHT, draw(ours)))
    if draw(st.booleans()):
        steps.append(policy(StepKind.ANSWER, "</think>" + draw(ours)))
    else:
        steps += [protocol.marker(protocol.ANSWER_MARKER), policy(StepKind.ANSWER, draw(ours))]
    return "Q" + draw(texts(name)), tuple(step for step in steps if step.text)


def check(name: str, law: Callable[[Any, Tokenised, str, tuple[Step, ...]], None]) -> None:
    """Try a law on many rollouts of one tokenizer."""
    tokenizer, encoder = load(name)

    @given(rollouts(name))
    @settings(max_examples=40)
    def holds(rollout: tuple[str, tuple[Step, ...]]) -> None:
        prompt, steps = rollout
        law(tokenizer, tokenise(prompt, steps, encoder), prompt, steps)

    holds()


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    text: str = tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    return text


def masked_characters(tokenizer: Any, ids: Sequence[int], mask: Sequence[bool]) -> str:
    """The decoded text with every character outside the mask made a dot."""
    shown, end = "", 0
    for flag, run in groupby(mask):
        end += len(list(run))
        part = decode(tokenizer, ids[:end])[len(shown) :]
        shown += part if flag else "." * len(part)
    return shown


# The oracle: authors found in the text alone.
OBSERVATION = re.compile(
    r"(?<=</end_search>)(?P<open>\s*<search_result>)(?P<body>.*?</search_result>)\n?", re.DOTALL
)
FORCED = re.compile(r"\n</think>\n\nThe final answer is \\boxed\{")


def dots(found: re.Match[str]) -> str:
    return "." * len(found[0])


def policy_characters(prompt: str, written: str) -> str:
    return "." * len(prompt) + FORCED.sub(dots, OBSERVATION.sub(dots, written))


def world_characters(prompt: str, written: str, outcomes: Iterator[Outcome | None]) -> str:
    def body_only(found: re.Match[str]) -> str:
        if next(outcomes) not in (Outcome.OK, Outcome.EMPTY):
            return dots(found)
        return "." * len(found["open"]) + found["body"] + "." * (found.end() - found.end("body"))

    return "." * len(prompt) + FORCED.sub(dots, OBSERVATION.sub(body_only, written))


@every_tokenizer
def test_the_ids_decode_to_the_text(name: str) -> None:
    def law(tokenizer: Any, tokenised: Tokenised, prompt: str, steps: tuple[Step, ...]) -> None:
        assert decode(tokenizer, tokenised.ids) == prompt + protocol.render(steps)
        assert sum(tokenised.lengths) == len(tokenised.ids) == len(tokenised.loss_mask)

    check(name, law)


@every_tokenizer
def test_the_loss_mask_covers_the_policys_characters_and_no_others(name: str) -> None:
    def law(tokenizer: Any, tokenised: Tokenised, prompt: str, steps: tuple[Step, ...]) -> None:
        found = masked_characters(tokenizer, tokenised.ids, tokenised.loss_mask)
        assert found == policy_characters(prompt, protocol.render(steps))

    check(name, law)


@every_tokenizer
def test_the_world_mask_adds_what_successful_searches_returned_with_its_closing_tag(
    name: str,
) -> None:
    def law(tokenizer: Any, tokenised: Tokenised, prompt: str, steps: tuple[Step, ...]) -> None:
        outcomes = iter([step.outcome for step in steps if step.kind is StepKind.OBSERVATION])
        found = masked_characters(tokenizer, tokenised.ids, tokenised.world_mask)
        assert found == world_characters(prompt, protocol.render(steps), outcomes)

    check(name, law)


@every_tokenizer
def test_no_token_has_two_authors(name: str) -> None:
    def law(tokenizer: Any, tokenised: Tokenised, prompt: str, steps: tuple[Step, ...]) -> None:
        text = prompt
        author = Author.SCAFFOLD
        boundaries = set()
        for step in steps:
            if step.author is not author:
                boundaries.add(text)
            text += step.text
            author = step.author
        ends = {decode(tokenizer, tokenised.ids[:end]) for end in accumulate(tokenised.lengths)}
        assert ends >= boundaries | {text}

    check(name, law)


@every_tokenizer
def test_no_text_but_the_prompt_becomes_a_special_token(name: str) -> None:
    tokenizer, encoder = load(name)
    forbidden = special_ids(tokenizer) - set(tokenizer.convert_tokens_to_ids(TAGS))

    @given(texts(name, *tokenizer.all_special_tokens, *FORGED, *TAGS))
    def holds(text: str) -> None:
        harmless = protocol.neutralise(text)
        assert special_ids(tokenizer).isdisjoint(encoder.encode(text))
        assert special_ids(tokenizer).isdisjoint(encoder.encode(harmless))
        assert forbidden.isdisjoint(encoder.encode(text, author=Author.POLICY))

    holds()


@pytest.mark.parametrize("name", ["byte_level", "llama2", "qwen2"])
def test_every_special_token_of_a_tokenizer_counts_and_in_a_prompt_it_means_itself(
    name: str,
) -> None:
    tokenizer, encoder = load(name)
    names = [str(tokenizer.added_tokens_decoder[token]) for token in special_ids(tokenizer)]
    for special in names:
        assert special_ids(tokenizer).isdisjoint(
            encoder.encode(f"a{special}b", author=Author.POLICY)
        )
        assert not special_ids(tokenizer).isdisjoint(encoder.encode(f"a{special}b", is_prompt=True))


def test_tags_that_are_special_tokens_are_tokens_in_the_policys_text_alone() -> None:
    tokenizer, encoder = load("byte_level_special_tags")
    tag = tokenizer.convert_tokens_to_ids("<begin_search>")
    assert tag in encoder.encode("<begin_search> q", author=Author.POLICY)
    assert tag not in encoder.encode("<begin_search> q", author=Author.ENVIRONMENT)


@every_tokenizer
def test_a_piece_keeps_its_first_space_and_newline(name: str) -> None:
    _, encoder = load(name)
    for text in ("who", " who", "  who", "\n", "\n\n", "\n\nwho", "\n who", " \n", "", "x\n"):
        assert encoder.decode(encoder.encode(text)) == text
        assert encoder.decode(encoder.encode("book") + encoder.encode(text)) == f"book{text}"


@every_tokenizer
def test_the_end_of_the_turn_is_the_policys(name: str) -> None:
    tokenizer, encoder = load(name)
    steps = (policy(StepKind.ANSWER, "</think> Ada"),)
    tokenised = tokenise("Q", steps, encoder, end_id=tokenizer.eos_token_id)
    assert (tokenised.ids[-1], tokenised.loss_mask[-1]) == (tokenizer.eos_token_id, True)
    assert tokenised.ids[:-1] == tokenise("Q", steps, encoder).ids
    assert tokenised.loss_mask == tokenised.world_mask


@every_tokenizer
def test_a_trigger_that_the_scaffold_inserted_is_not_trained(name: str) -> None:
    tokenizer, encoder = load(name)
    steps = (
        policy(StepKind.THOUGHT, "who "),
        protocol.marker("<begin_search>", "search"),
        policy(StepKind.ACTION, " Ada </end_search>", "search"),
    )
    tokenised = tokenise("Q", steps, encoder)
    found = masked_characters(tokenizer, tokenised.ids, tokenised.loss_mask)
    assert found == ".who " + "." * len("<begin_search>") + " Ada </end_search>"


@every_tokenizer
@pytest.mark.parametrize("before", ["", "\n", "\n\n", "\n\n\n\n", " \n "])
@pytest.mark.parametrize("after", ["", "\n", "\n\n", "\n\n\n\n"])
def test_no_number_of_newlines_around_tags_moves_the_mask(
    name: str, before: str, after: str
) -> None:
    tokenizer, encoder = load(name)
    written = (
        f"who <begin_search>x</end_search>{before}<search_result> Ada </search_result>{after}"
        "by Ada</think>x"
    )
    tokenised = tokenise("Q", protocol.parse(written), encoder)
    found = masked_characters(tokenizer, tokenised.ids, tokenised.loss_mask)
    assert found == policy_characters("Q", written)


@every_tokenizer
def test_pieces_encoded_together_are_those_encoded_one_by_one(name: str) -> None:
    _, encoder = load(name)
    written = (
        "who </s><begin_search> the book </end_search>\n<search_result> Ada <|im_end|> x "
        "</search_result>\nby Ada<|im_start|></think>x"
    )
    pieces = protocol.pieces("<|im_start|>who?\n", protocol.parse(written))
    one_by_one = []
    for piece in pieces:
        is_prompt = piece.kind is None
        ids = encoder.encode(piece.text, is_prompt=is_prompt, author=piece.author)
        one_by_one.append(ids)
    assert encoder.encode_all(pieces) == one_by_one
    assert encoder.encode_all([]) == []


def test_a_tokenizer_that_lower_cases_is_refused_with_what_and_where() -> None:
    backend = tokenizers.Tokenizer(
        models.WordPiece({"[UNK]": 0, "the": 1, "ada": 2, "##s": 3}, unk_token="[UNK]")
    )
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    encoder = PieceEncoder(
        transformers.PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")
    )
    with pytest.raises(ConfigError, match="does not give a trajectory's text back") as caught:
        tokenise("the ", (policy(StepKind.THOUGHT, "Ada"),), encoder)
    assert caught.value.details["where"].startswith("character ")
    assert "Ada" in caught.value.details["expected"]
    assert "ada" in caught.value.details["got"]
    assert "byte-level" in caught.value.details["what to do"]


REAL_TAGS = {
    "<|begin_of_query|>": "<begin_search>",
    "<|end_of_query|>": "</end_search>",
    "<|begin_of_documents|>": "<search_result>",
    "<|end_of_documents|>": "</search_result>",
}


@pytest.mark.slow
def test_the_masks_of_real_trajectories_equal_the_oracles() -> None:
    tokenizer, encoder = load("qwen2")
    path = (
        Path(os.environ["COA_REAL_DATA"])
        / "trajectories/trajectories_r1searcher_hotpotqa_qwen.jsonl"
    )
    num_searches = 0
    with path.open(encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        written = row["gen_text_store"]
        for theirs, ours in REAL_TAGS.items():
            written = written.replace(theirs, ours)
        prompt, steps = f"Question: {row['question']}\n<think>\n", protocol.parse(written)
        tokenised = tokenise(prompt, steps, encoder, end_id=tokenizer.eos_token_id)
        found = masked_characters(tokenizer, tokenised.ids[:-1], tokenised.loss_mask[:-1])
        assert found == policy_characters(prompt, written)
        num_searches += len(protocol.action_indices(steps))
    assert (len(rows), num_searches) == (500, 1055)
