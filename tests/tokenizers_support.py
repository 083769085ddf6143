"""Build one small tokenizer of every kind that tests of token ids need."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from coa.records.tokens import PieceEncoder

tokenizers = pytest.importorskip("tokenizers")
transformers = pytest.importorskip("transformers")

from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402

TAGS = [
    "<think>",
    "</think>",
    "<begin_search>",
    "</end_search>",
    "<search_result>",
    "</search_result>",
]
NAMES = ["</s>", "<|im_end|>", "<|im_start|>", "<|vision_start|>", "<|endoftext|>", "<unk>"]
WORDS = [
    "the",
    "book",
    "was",
    "written",
    "by",
    "Ada",
    "who",
    " ",
    "  ",
    "\n",
    "\n\n",
    "\n\n\n\n",
    "?",
    ".",
    "<",
    "x",
]
ALPHABET = sorted(set("".join([*map(chr, range(33, 127)), " \n‹∖"])))
SENTENCES = [
    "who wrote the book\n\nThe book. Is it? \n\n\n",
    "<begin_search> who </end_search>\n<search_result> Ada",
] * 20


def byte_level(**tags: bool) -> Any:
    """As GPT-2, Qwen and Llama 3; `special=True` or `False` adds the tags as such tokens."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=NAMES,
        initial_alphabet=backend.pre_tokenizer.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>"
    )
    if tags:
        tokenizer.add_tokens(TAGS, special_tokens=tags["special"])
    return tokenizer


def word_level() -> Any:
    """Words and single signs, none left out."""
    vocabulary = {
        word: i
        for i, word in enumerate([*NAMES, *(word for word in WORDS if len(word) > 1), *ALPHABET])
    }
    backend = tokenizers.Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words = "|".join(word for word in WORDS if word.isalpha())
    backend.pre_tokenizer = pre_tokenizers.Split(
        tokenizers.Regex(words + r"|\n{4}|\n{2}|[\s\S]"), "isolated"
    )
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(NAMES)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>"
    )


def unigram(prepend_scheme: str) -> Any:
    """Make a tokenizer as SentencePiece does, with special tokens in the model's own vocabulary."""
    backend = tokenizers.Tokenizer(models.Unigram())
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=prepend_scheme, split=False)
    backend.decoder = decoders.Metaspace(prepend_scheme=prepend_scheme)
    trainer = trainers.UnigramTrainer(
        vocab_size=len(ALPHABET) + 60,
        special_tokens=NAMES,
        unk_token="<unk>",
        initial_alphabet=ALPHABET,
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>"
    )


def llama2(*tags: str) -> Any:
    """Make a tokenizer as Llama 2 has it: a space before every text, bytes for unknown signs.

    Two newlines are one token.
    """
    names = [*NAMES, *(f"<0x{byte:02X}>" for byte in range(256)), *ALPHABET, "▁", "\n\n", "▁w"]
    vocabulary = {name: i for i, name in enumerate(dict.fromkeys(names))}
    merges = [("\n", "\n"), ("▁", "w")]
    backend = tokenizers.Tokenizer(
        models.BPE(vocabulary, merges, byte_fallback=True, unk_token="<unk>")
    )
    backend.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    steps = [
        decoders.Replace("▁", " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
        decoders.Strip(" ", 1, 0),
    ]
    backend.decoder = decoders.Sequence(steps)
    backend.add_special_tokens(NAMES)
    backend.add_tokens([tokenizers.AddedToken(tag, normalized=False) for tag in tags])
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", eos_token="</s>"
    )


def qwen2() -> Any:
    if "COA_REAL_DATA" not in os.environ:
        pytest.skip("COA_REAL_DATA is not set")
    return transformers.AutoTokenizer.from_pretrained(
        Path(os.environ["COA_REAL_DATA"]) / "tokenizer_qwen2"
    )


BUILDERS: dict[str, Callable[[], Any]] = {
    "byte_level": byte_level,
    "byte_level_tags": lambda: byte_level(special=False),
    "byte_level_special_tags": lambda: byte_level(special=True),
    "llama2": llama2,
    "llama2_tags": lambda: llama2(*TAGS),
    "qwen2": qwen2,
    "word_level": word_level,
    "unigram_always": lambda: unigram("always"),
    "unigram_never": lambda: unigram("never"),
}
every_tokenizer = pytest.mark.parametrize("name", BUILDERS)


@cache
def load(name: str) -> tuple[Any, PieceEncoder]:
    tokenizer = BUILDERS[name]()
    return tokenizer, PieceEncoder(tokenizer)
