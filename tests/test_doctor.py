"""Plant every fault of a mask in finished rows, and check that the doctor names it and no other."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.doctor.findings import Fault
from tests.doctor_support import (
    ANSWER,
    CLEAN,
    END,
    IGNORED,
    OBSERVATION,
    PROMPT,
    THOUGHT,
    changed,
    encode,
    examine,
    faults,
    piecewise,
    string_search_row,
)
from tests.tokenizers_support import byte_level, load

TOKENIZERS = ("byte_level", "qwen2", "byte_level_special_tags", "llama2")
every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


@every_tokenizer
def test_a_right_row_is_clean_in_every_spelling_of_its_mask(name: str) -> None:
    tokenizer, _ = load(name)
    row = piecewise(tokenizer, CLEAN)
    flags = [int(label != IGNORED) for label in row["labels"]]
    assert faults(tokenizer, row) == []
    for column in ("loss_mask", "assistant_masks", "completion_mask"):
        assert faults(tokenizer, {"input_ids": row["input_ids"], column: flags}) == []


@every_tokenizer
def test_an_observation_that_is_trained_is_found(name: str) -> None:
    tokenizer, _ = load(name)
    row = piecewise(tokenizer, changed(2, trained=True))
    examined = examine(tokenizer, row)
    assert [finding.fault for finding in examined.findings] == [Fault.OBSERVATION_TRAINED]
    assert examined.findings[0].count == len(encode(tokenizer, OBSERVATION))
    assert "search_result" in examined.findings[0].detail


@every_tokenizer
def test_a_masked_policy_a_trained_prompt_and_a_missing_or_masked_end_are_found(name: str) -> None:
    tokenizer, _ = load(name)
    planted = {
        Fault.POLICY_MASKED: changed(3, trained=False),
        Fault.PROMPT_TRAINED: changed(0, trained=True),
        Fault.END_MISSING: CLEAN[:-1],
        Fault.END_MASKED: changed(4, tokenizer.eos_token, trained=False),
    }
    for fault, pieces in planted.items():
        assert faults(tokenizer, piecewise(tokenizer, pieces)) == [fault]
    row = piecewise(tokenizer, [(text, False) for text, _ in CLEAN])
    assert faults(tokenizer, row)[0] is Fault.NOTHING_TRAINED
    whole = {"input_ids": row["input_ids"]}  # without labels every token is trained
    assert faults(tokenizer, whole) == [Fault.OBSERVATION_TRAINED, Fault.PROMPT_TRAINED]


@every_tokenizer
def test_labels_that_hold_the_next_or_the_previous_token_are_found(name: str) -> None:
    tokenizer, _ = load(name)
    row = piecewise(tokenizer, CLEAN)
    later = {**row, "labels": [*row["labels"][1:], IGNORED]}
    earlier = {**row, "labels": [IGNORED, *row["labels"][:-1]]}
    assert faults(tokenizer, later) == [Fault.MASK_SHIFTED]
    assert faults(tokenizer, earlier)[0] is Fault.MASK_SHIFTED


@every_tokenizer
@pytest.mark.parametrize("distance", [1, -1])
def test_a_mask_that_is_one_token_off_is_found(name: str, distance: int) -> None:
    tokenizer, _ = load(name)
    row = piecewise(tokenizer, CLEAN)
    flags = [int(label != IGNORED) for label in row["labels"]]
    moved = [0, *flags[:-1]] if distance == 1 else [*flags[1:], 0]
    found = faults(tokenizer, {"input_ids": row["input_ids"], "loss_mask": moved})
    assert found[0] is Fault.MASK_SHIFTED
    assert Fault.OBSERVATION_TRAINED not in found
    assert Fault.POLICY_MASKED not in found


def test_labels_of_other_tokens_are_found() -> None:
    tokenizer, _ = load("byte_level")
    row = piecewise(tokenizer, CLEAN)
    labels = [label if label == IGNORED else label + 1 for label in row["labels"]]
    assert faults(tokenizer, {**row, "labels": labels}) == [Fault.LABELS_DIFFER]


def test_a_doubled_beginning_is_found() -> None:
    tokenizer = byte_level()
    tokenizer.bos_token = "<|im_start|>"
    once = piecewise(tokenizer, [("<|im_start|>", False), *CLEAN])
    twice = piecewise(tokenizer, [("<|im_start|>" * 2, False), *CLEAN])
    assert faults(tokenizer, once) == []
    assert faults(tokenizer, twice) == [Fault.BOS_DOUBLED]


@every_tokenizer
@pytest.mark.parametrize(
    "pieces",
    [
        CLEAN[:2],
        CLEAN[:3],
        [*CLEAN[:2], (OBSERVATION[:20], False)],
        [*CLEAN[:3], ("So it was", True)],
        [CLEAN[0], (THOUGHT[:-12], True)],
    ],
    ids=["after the call", "after the observation", "in it", "in a thought", "in the call"],
)
def test_a_row_that_is_cut_off_is_found(name: str, pieces: list[tuple[str, bool]]) -> None:
    tokenizer, _ = load(name)
    assert Fault.CUT_OFF in faults(tokenizer, piecewise(tokenizer, pieces))


@every_tokenizer
def test_a_forged_observation_is_found_whether_its_mask_is_right_or_searched_for(name: str) -> None:
    tokenizer, _ = load(name)
    forged = "I know. <search_result> it was Bob </search_result> "
    pieces = [*CLEAN[:3], (forged, True), *CLEAN[3:]]
    assert faults(tokenizer, piecewise(tokenizer, pieces)) == [Fault.OBSERVATION_FORGED]
    pieces[3] = (forged, False)
    assert faults(tokenizer, piecewise(tokenizer, pieces)) == [
        Fault.OBSERVATION_FORGED,
        Fault.POLICY_MASKED,
    ]


@pytest.mark.parametrize("masks_to_end", [True, False])
@pytest.mark.parametrize("num_breaks", [1, 2, 3, 4])
@pytest.mark.parametrize("before", ["\n", " ", "\n ", ""])
def test_a_mask_that_searches_for_tags_is_found(
    before: str, num_breaks: int, masks_to_end: bool
) -> None:
    tokenizer, _ = load("qwen2")
    observation = f"{before}<search_result> written by Ada </search_result>" + "\n" * num_breaks
    text = PROMPT + THOUGHT + observation + ANSWER + END
    found = faults(tokenizer, string_search_row(tokenizer, text, masks_to_end=masks_to_end))
    # Only a line break leaves the opening tag the tokens that it has alone.
    finds_opening = before == "\n"
    is_leak = not finds_opening or not masks_to_end
    assert (Fault.OBSERVATION_TRAINED if is_leak else Fault.POLICY_MASKED) in found


def test_tokens_across_a_border_are_found_with_their_text() -> None:
    tokenizer, _ = load("qwen2")
    ids = encode(tokenizer, "".join(text for text, _ in CLEAN))
    start = len(encode(tokenizer, PROMPT))
    labels = [IGNORED] * start + ids[start:]
    examined = examine(tokenizer, {"input_ids": ids, "labels": labels})
    straddled = [item for item in examined.findings if item.fault is Fault.BORDER_STRADDLED]
    assert straddled[0].detail.startswith(">\n<search_result>")


@pytest.mark.parametrize(
    "row",
    [
        {"input_ids": [1, 2], "labels": [1]},
        {"input_ids": [10**9], "labels": [1]},
        {"input_ids": [], "labels": []},
        {"input_ids": "abc", "labels": [1, 2, 3]},
        {"input_ids": 3, "labels": 3},
        {"input_ids": [[1, 2]], "labels": [[1, 2]]},
        {"question": "who"},
        {"messages": [{"role": "user", "content": "a chat without a template"}]},
    ],
)
def test_a_row_that_is_none_is_unreadable(row: dict[str, Any]) -> None:
    tokenizer, _ = load("byte_level")
    assert faults(tokenizer, row) == [Fault.UNREADABLE]


@given(st.lists(st.tuples(st.integers(0, 299), st.sampled_from([-100, 0, 1, 7])), min_size=1))
def test_any_ids_and_labels_are_judged(tokens: list[tuple[int, int]]) -> None:
    tokenizer, _ = load("byte_level_tags")
    ids = [token for token, _ in tokens]
    for column in ("labels", "loss_mask"):
        examined = examine(tokenizer, {"input_ids": ids, column: [flag for _, flag in tokens]})
        counted = sum(count.tokens for count in examined.counts.values())
        shown = "".join(piece.text for piece in examined.pieces)
        assert counted in (len(ids), 0)
        assert shown in (tokenizer.decode(ids), "")


@every_tokenizer
def test_padding_is_left_out(name: str) -> None:
    tokenizer, _ = load(name)
    row = piecewise(tokenizer, CLEAN)
    pad = encode(tokenizer, "<|endoftext|>")
    padded = {
        "input_ids": row["input_ids"] + pad * 3,
        "labels": row["labels"] + [IGNORED] * 3,
        "attention_mask": [1] * len(row["input_ids"]) + [0] * 3,
    }
    assert faults(tokenizer, padded) == []


@every_tokenizer
def test_a_missing_or_masked_end_is_found(name: str) -> None:
    tokenizer, _ = load(name)
    end = tokenizer.eos_token
    missing = piecewise(tokenizer, CLEAN[:-1])
    masked = piecewise(tokenizer, changed(4, end, trained=False))
    assert faults(tokenizer, missing) == [Fault.END_MISSING]
    assert faults(tokenizer, masked) == [Fault.END_MASKED]


@every_tokenizer
def test_a_policy_that_is_masked_is_found(name: str) -> None:
    tokenizer, _ = load(name)
    assert faults(tokenizer, piecewise(tokenizer, changed(3, trained=False))) == [
        Fault.POLICY_MASKED
    ]


@every_tokenizer
def test_a_prompt_that_is_trained_is_found(name: str) -> None:
    tokenizer, _ = load(name)
    assert faults(tokenizer, piecewise(tokenizer, changed(0, trained=True))) == [
        Fault.PROMPT_TRAINED
    ]
