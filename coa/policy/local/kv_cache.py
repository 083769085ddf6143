"""Keep the keys and values of what a model has read, with room for what it will write.

transformers' own layers copy all their contents for every new token: on a CPU that takes a third of
the time of a large batch. This module needs the extra `train`; it is imported only where a model is
in this process.
"""

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer, DynamicSlidingWindowLayer

_ROOM = 64
"""Number of positions added when a buffer is full."""


class RoomyLayer(DynamicLayer):
    """A layer that writes into buffers with spare room.

    `keys` and `values` are views of the beginning of the buffers.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._buffers: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append states and return all keys and all values.

        The states have the shape (rows, heads, new positions, size of a head).
        """
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
    """Write `states` after the first `start` positions of the buffer, and return the buffer.

    Where it is full, a larger copy is returned.
    """
    end = start + states.shape[-2]
    if not start or buffer.shape[-2] < end:
        larger = states.new_empty((*states.shape[:-2], end + _ROOM, states.shape[-1]))
        if start:
            larger[..., :start, :] = buffer[..., :start, :]
        buffer = larger
    buffer[..., start:end, :] = states
    return buffer


def layer_kinds(model: Any) -> frozenset[type]:
    """Find the kinds of layers in the model's own cache: plain ones, sliding windows, or both.

    The result is empty for any other cache: not every model can select rows of what it keeps beside
    keys and values.
    """
    if model.generation_config.cache_implementation is not None:
        return frozenset()  # `generate` takes no cache where the model's settings name one
    with torch.no_grad():
        probe = model(input_ids=torch.tensor([[0]], device=model.device), use_cache=True)
    cache = getattr(probe, "past_key_values", None)
    if type(cache) is not DynamicCache:
        return frozenset()
    kinds = frozenset(type(layer) for layer in cache.layers)
    is_known = kinds <= {DynamicLayer, DynamicSlidingWindowLayer}
    return kinds if is_known else frozenset()


def roomy_cache(kinds: frozenset[type]) -> Any:
    """Make an empty cache with room for a model of such layers; None unless all are plain."""
    if kinds != {DynamicLayer}:
        return None
    return Cache(layer_class_to_replicate=RoomyLayer)
