"""Attend within each sequence of a packed row, on a processor.

TRL lays the sequences of a batch end to end and says where each begins, which the kernels of a GPU
use. On a processor transformers makes a dense mask instead, and attention grows with the square of
the whole row. Here each sequence is attended to alone; what comes out is the same.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "sdpa_of_sequences"


def attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    cu_seq_lens_q: Tensor | None = None,
    sliding_window: int | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend as transformers' `sdpa` does, of shape (1, tokens, heads, head size).

    Args:
        module: the attention layer.
        query: of shape (1, heads, tokens, head size), as are `key` and `value`.
        key: what is attended to.
        value: what is read there.
        attention_mask: the dense mask, for rows that are not packed and for windows.
        cu_seq_lens_q: where each sequence begins, and the end of the last.
        sliding_window: how far a layer looks back, where that is limited.
        options: what else `sdpa` takes.
    """
    if cu_seq_lens_q is None or sliding_window is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    bounds = cu_seq_lens_q.tolist()
    outputs = []
    for start, end in pairwise(bounds):
        queries = query[:, :, start:end]
        keys = key[:, :, start:end]
        values = value[:, :, start:end]
        output, _ = sdpa_attention_forward(module, queries, keys, values, None, **options)
        outputs.append(output)
    return torch.cat(outputs, dim=1), None


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)
