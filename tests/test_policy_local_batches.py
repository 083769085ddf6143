"""Test that rows of a batch write what they write alone, on models of several architectures."""

from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.policy import Request
from coa.policy.local.model import LocalPolicy
from tests.local_policy_support import (
    SENTENCES,
    WINDOW,
    one,
    request,
    tiny_tokenizer,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
cache_utils = pytest.importorskip("transformers.cache_utils")
pytestmark = pytest.mark.usefixtures("one_thread")

from coa.policy.local.kv_cache import RoomyLayer  # noqa: E402  # needs torch

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Qwen3": {"head_dim": 8},
    "Qwen2": {},
    "Llama": {},
    "Mistral": {"sliding_window": 8},  # most contexts below are longer
    "Lfm2": {"layer_types": ["conv", "full_attention"]},
    "Mamba": {"state_size": 4},
}


@cache
def tiny_policy(
    architecture: str, kind_of_cache: str | None = None
) -> tuple[LocalPolicy, list[int]]:
    """Make a random model of this architecture, and the list of its forward passes.

    The list grows by the number of rows of each pass.
    """
    tokenizer = tiny_tokenizer()
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    ends = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = getattr(transformers, f"{architecture}Config")(
        vocab_size=len(tokenizer),
        num_key_value_heads=2,
        max_position_embeddings=WINDOW,
        initializer_range=0.5,
        **sizes,
        **ends,
        **ARCHITECTURES[architecture],
    )
    torch.manual_seed(0)
    model = getattr(transformers, f"{architecture}ForCausalLM")(config).eval()
    model.generation_config.cache_implementation = kind_of_cache
    rows: list[int] = []
    model.get_input_embeddings().register_forward_pre_hook(
        lambda _, given: rows.append(len(given[0]))
    )
    return LocalPolicy(model, tokenizer, name=architecture), rows


def of_spread_lengths(temperature: float) -> list[Request]:
    texts = [SENTENCES[0][: 40 + 4 * i] for i in range(8)]
    return [
        request(text, temperature=temperature, seed=i, max_tokens=3 + 5 * i)
        for i, text in enumerate(texts)
    ]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_that_go_on_without_the_others_write_what_they_write_alone(
    architecture: str, temperature: float
) -> None:
    policy, _ = tiny_policy(architecture)
    requests = of_spread_lengths(temperature)

    assert policy.complete_batch(requests) == [one(policy, item) for item in requests]


@pytest.mark.parametrize("architecture", ["Qwen3", "Qwen2", "Llama", "Mistral"])
def test_rows_that_are_over_leave_the_batch_and_nothing_is_computed_again(
    architecture: str,
) -> None:
    policy, rows = tiny_policy(architecture)
    requests = of_spread_lengths(0.0)
    one(policy, request(max_tokens=1))
    rows.clear()

    done = policy.complete_batch(requests)

    assert len(rows) == max(
        item.num_tokens for item in done
    )  # one pass for each token of the longest row
    assert rows == sorted(rows, reverse=True)
    assert (rows[0], rows[-1]) == (len(requests), 1)


def test_no_context_is_padded_beyond_twice_its_length() -> None:
    policy, rows = tiny_policy("Qwen3")
    requests = [request(SENTENCES[0][:length], max_tokens=1) for length in (70, 4, 66, 8, 6, 30)]
    one(policy, request(max_tokens=1))
    rows.clear()

    done = policy.complete_batch(requests)

    assert sum(rows) == len(requests)
    assert len(rows) > 1
    assert done == [one(policy, item) for item in requests]


@pytest.mark.parametrize("architecture", ["Lfm2", "Mamba"])
def test_a_model_that_caches_other_states_keeps_its_rows(architecture: str) -> None:
    policy, rows = tiny_policy(architecture)
    one(policy, request(max_tokens=1))
    rows.clear()

    policy.complete_batch(of_spread_lengths(0.0))

    assert set(rows) == {8}


def test_a_model_that_asks_for_a_cache_of_its_own_kind_keeps_its_rows() -> None:
    policy, _ = tiny_policy("Qwen3")
    wanted = policy.complete_batch(of_spread_lengths(1.0))
    asking, rows = tiny_policy("Qwen3", "dynamic")

    assert asking.complete_batch(of_spread_lengths(1.0)) == wanted
    assert set(rows) == {8}


NUM_ROWS = 4
STEPS = st.one_of(
    st.tuples(st.just("write"), st.integers(1, 90)),
    st.tuples(st.just("keep"), st.sets(st.integers(0, NUM_ROWS - 1), min_size=1)),
    st.tuples(st.just("crop"), st.integers(1, 5)),
    st.tuples(st.just("reset"), st.none()),
)


def apply(layer: Any, step: str, given: Any, states: tuple[Any, Any]) -> None:
    if step == "write":
        keys, values = layer.update(*states)
        assert keys is layer.keys
        assert values is layer.values
    elif step == "keep":
        layer.batch_select_indices(torch.tensor(sorted(given)))
    elif step == "crop":
        layer.crop(-given)
    else:
        layer.reset()


@given(st.lists(STEPS, max_size=12))
def test_it_holds_what_a_plain_layer_holds(steps: list[tuple[str, Any]]) -> None:
    plain, roomy = cache_utils.DynamicLayer(), RoomyLayer()
    generator, num_rows = torch.Generator().manual_seed(0), NUM_ROWS
    for step, given_ in steps:
        length = plain.get_seq_length()
        if step == "keep":
            given_ = {index for index in given_ if index < num_rows} if length else None
        if (step == "keep" and not given_) or (step == "crop" and given_ >= length):
            continue
        width = given_ if step == "write" else 0
        states = tuple(torch.randn(num_rows, 2, width, 3, generator=generator) for _ in range(2))
        apply(plain, step, given_, states)
        apply(roomy, step, given_, states)
        num_rows = len(given_) if step == "keep" else num_rows
        assert roomy.get_seq_length() == plain.get_seq_length()
        if plain.get_seq_length():
            assert torch.equal(roomy.keys, plain.keys)
            assert torch.equal(roomy.values, plain.values)


def test_a_token_is_written_without_copying_the_others() -> None:
    layer = RoomyLayer()
    layer.update(*(torch.ones(1, 1, 5, 2) for _ in range(2)))
    address = layer.keys.data_ptr()

    layer.update(*(torch.zeros(1, 1, 1, 2) for _ in range(2)))

    assert layer.keys.data_ptr() == address
    assert layer.keys.shape == (1, 1, 6, 2)
