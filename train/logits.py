"""Compute a model's logits only where they are needed."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor


def logits_at(model: Any, inputs: Mapping[str, Tensor], row: Tensor, column: Tensor) -> Tensor:
    """Compute the logits at chosen places of a batch, of shape (places, vocabulary).

    The head is a large part of a small model, and most tokens of a trajectory are not trained. It
    is given the hidden states of these places alone, so whatever the model does with its logits
    afterwards is still done.

    Args:
        model: a causal language model, as it is or wrapped for several processes.
        inputs: what the model is given, of shape (rows, tokens).
        row: the row of each place.
        column: its token.
    """
    inner = getattr(model, "module", model)

    def choose(_: Any, states: tuple[Tensor]) -> Tensor:
        return states[0][row, column]

    hook = inner.get_output_embeddings().register_forward_pre_hook(choose)
    try:
        logits: Tensor = model(**inputs, use_cache=False).logits
    finally:
        hook.remove()
    return logits
