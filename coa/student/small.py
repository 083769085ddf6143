"""Make a student that starts from scratch: a word tokenizer and a small Qwen3 with random weights.

Only the microworld's `pretrain` stage needs it; every other profile starts from a model on the Hub.
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

from coa.records import protocol
from coa.student.checkpoint import Student

END = "<|im_end|>"
PAD = "<|endoftext|>"
_BYTE_SCORE = -10.0
_EMBEDDING_STD = 0.02
_STRETCH = re.compile(r"\s*\S+|\s+$")


@dataclass(frozen=True, slots=True)
class StudentSettings:
    """The shape of the model, a Qwen3.

    That is grouped-query attention with QK-norm, SwiGLU and tied embeddings.
    """

    hidden_size: int = 128
    """Width."""
    num_layers: int = 4
    """Layers."""
    num_heads: int = 4
    """Attention heads."""
    intermediate_size: int = 320
    """Width of the layers' inner part."""
    max_context_tokens: int = 512
    """Tokens; what positions reach."""
    initializer_range: float = 0.088
    """Standard deviation of the random matrices; 1 / sqrt(hidden_size) where a small model is to
    learn fast."""
    tools: tuple[str, ...] = ("search",)
    """The tools whose tags are tokens of their own."""
    joins_space: bool = False
    """Whether a tag and the space before it are one token, as in a tokenizer that was learned from
    text with tags. Otherwise the decision to act is to write a lone space."""


def new_student(texts: Iterable[str], settings: StudentSettings, seed: int) -> Student:
    """Make a tokenizer for `texts` and a model with random weights."""
    tokenizer = word_tokenizer(
        texts, settings.max_context_tokens, settings.tools, joins_space=settings.joins_space
    )
    return Student(random_model(tokenizer, settings, seed), tokenizer)


def random_model(tokenizer: Any, settings: StudentSettings, seed: int) -> Any:
    """Make a small Qwen3 with random weights for a tokenizer."""
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_heads,
        head_dim=settings.hidden_size // settings.num_heads,
        intermediate_size=settings.intermediate_size,
        max_position_embeddings=settings.max_context_tokens,
        initializer_range=settings.initializer_range,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    model: Any = Qwen3ForCausalLM(config)
    # Larger ones, tied to the output as they are, make a small model slow to read from its context.
    torch.nn.init.normal_(model.get_input_embeddings().weight, std=_EMBEDDING_STD)
    return model


def word_tokenizer(
    texts: Iterable[str],
    max_context_tokens: int,
    tools: Iterable[str],
    *,
    joins_space: bool = False,
) -> Any:
    """Make a tokenizer whose tokens are the words and signs of `texts`.

    Everything else is encoded byte by byte, so it loses nothing. The protocol's tags are tokens of
    their own, ordinary ones, so that they survive decoding. With `joins_space` there is a second
    token for each, a tag with the space before it. `AddedToken(lstrip=True)` would drop that space,
    and decoding could not give it back.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    splitter = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    # The splitter is slow: it sees every stretch between blanks once.
    stretches: set[str] = set()
    for text in texts:
        stretches.update(_STRETCH.findall(text))
    words: set[str] = set()
    for stretch in stretches:
        words.update(word for word, _ in splitter.pre_tokenize_str(stretch))
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    # Unigram takes the segmentation with the highest total score: a known word whole, anything else
    # byte by byte.
    vocabulary = [(byte, _BYTE_SCORE) for byte in bytes_]
    vocabulary += [(word, 0.0) for word in sorted(words - set(bytes_))]
    tokenizer = Tokenizer(models.Unigram(vocabulary, None, False))
    tokenizer.pre_tokenizer = splitter
    tokenizer.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast
    student = fast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=max_context_tokens,
    )
    tags = sorted(protocol.all_tags(tools))
    student.add_tokens(tags)
    if joins_space:
        student.add_tokens([f" {tag}" for tag in tags])
    return student


def start_unseen_tokens(student: Student, seen: Collection[int]) -> None:
    """Set the embeddings of tokens that are not among the `seen` ids to the mean of those that are.

    Training pushes what never occurs down in every softmax: without this no later stage would ever
    sample a new tag.
    """
    import torch

    weights = student.model.get_input_embeddings().weight
    is_seen = torch.zeros(len(weights), dtype=torch.bool)
    is_seen[sorted(seen)] = True
    with torch.no_grad():
        weights[~is_seen] = weights[is_seen].mean(dim=0)
