"""The keys and values of what a model has read, kept with room for what it will write.

transformers' own layers copy all that they hold for every new token: on a CPU a third of the time of a large batch.
Needs the extra `train`; imported only where a model is in this process.
"""

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

_ROOM = 64
"""Positions added when a buffer is full."""


class RoomyLayer(DynamicLayer):
    """A layer that writes into buffers larger than what they hold; `keys` and `values` are views of their beginning."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._buffers: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append states of shape (rows, heads, new positions, size of a head); returns all keys and all values."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        keys, values = self._buffers or (self.keys, self.values)
        assert keys is not None
        assert values is not None
        self._buffers = [_written(keys, key_states, start), _written(values, value_states, start)]
        end = start + key_states.shape[-2]
        self.keys, self.values = (buffer[..., :end, :] for buffer in self._buffers)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep the rows at `indices`."""
        super().batch_select_indices(indices)
        self._buffers = []


def _written(buffer: torch.Tensor, states: torch.Tensor, start: int) -> torch.Tensor:
    """The buffer, or a larger one where it is full, with `states` after its first `start` positions."""
    end = start + states.shape[-2]
    if not start or buffer.shape[-2] < end:
        larger = states.new_empty((*states.shape[:-2], end + _ROOM, states.shape[-1]))
        if start:
            larger[..., :start, :] = buffer[..., :start, :]
        buffer = larger
    buffer[..., start:end, :] = states
    return buffer


def layer_kinds(model: Any) -> frozenset[type]:
    """What the layers of the model's own cache are: plain ones, windows that slide, or both; none for any other cache.

    What else models keep beside keys and values, not all can cut by rows.
    """
    if model.generation_config.cache_implementation is not None:
        return frozenset()  # `generate` takes no cache where the model asks for one of a kind
    with torch.no_grad():
        probe = model(input_ids=torch.tensor([[0]], device=model.device), use_cache=True)
    cache = getattr(probe, "past_key_values", None)
    kinds = frozenset(map(type, cache.layers)) if type(cache) is DynamicCache else frozenset[type]()
    return kinds if kinds <= {DynamicLayer, DynamicSlidingWindowLayer} else frozenset()


def roomy_cache(kinds: frozenset[type]) -> Any:
    """An empty cache with room for a model of such layers; None where they are not all plain."""
    if kinds != {DynamicLayer}:
        return None
    return Cache(layer_class_to_replicate=RoomyLayer)
