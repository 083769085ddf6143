"""Compare the cache with room to grow with transformers' own layers, whatever is done to both."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
cache_utils = pytest.importorskip("transformers.cache_utils")

from coa.policy.local.kv_cache import RoomyLayer, roomy_cache  # noqa: E402  # needs torch

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


def test_only_plain_layers_are_given_room() -> None:
    plain, sliding = cache_utils.DynamicLayer, cache_utils.DynamicSlidingWindowLayer

    assert roomy_cache(frozenset({plain})).layer_class_to_replicate is RoomyLayer
    assert roomy_cache(frozenset({plain, sliding})) is None
    assert roomy_cache(frozenset()) is None
