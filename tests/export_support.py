"""Make a tiny chat model and count losses by hand, for the tests of exports and publications."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
END = "<|im_end|>"


def chat_template(name: str) -> str:
    """Read one of the chat templates that TRL knows."""
    import trl

    path = Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja"
    return path.read_text(encoding="utf-8")


def save_chat_model(folder: Path, template: str) -> Path:
    """Save a tiny model whose tokens are bytes, with a chat template that TRL knows."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(name) for name in ("<|im_start|>", END)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=END, pad_token=END)
    tokenizer.chat_template = chat_template(template)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        head_dim=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=16_384,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen3ForCausalLM(config).save_pretrained(folder)
    return folder


Segments = Sequence[tuple[str, bool]]
"""Stretches of a text, each with whether it is learned."""


def loss_by_hand(model: Any, tokenizer: Any, rows: Sequence[Segments]) -> float:
    """Compute the mean loss over the learned tokens of some texts, token by token."""
    import torch

    losses = []
    for segments in rows:
        ids: list[int] = []
        is_learned: list[bool] = []
        for text, learned in segments:
            piece = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids += piece
            is_learned += [learned] * len(piece)
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].float()
        for place in range(1, len(ids)):
            if is_learned[place]:
                losses.append(-logits[place - 1].log_softmax(-1)[ids[place]].item())
    return sum(losses) / len(losses)
