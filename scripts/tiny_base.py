"""Make a tiny random model as another maker publishes one, for `train.pretrain.base`.

    python -m scripts.tiny_base corpus=data/raw/corpus.parquet out=data/raw/tiny_base

Trains a byte-level BPE tokenizer on the passages and writes it with a Qwen3 of random weights and a
chat template in the form of ChatML. Unlike the student of the stage `pretrain`, its tokenizer
knows no tag of the protocol as a token. It learns nothing worth knowing in a few steps: it shows
that a chain runs on a real base, in seconds and without a download.
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from coa.errors import ConfigError
from coa.search.corpus import corpus_files, read_passages
from coa.student.small import END, PAD, StudentSettings, random_model

START = "<|im_start|>"
CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


@dataclass(frozen=True, slots=True)
class TinyBaseParams:
    """What the model is made from, and how large it is."""

    corpus: str
    """A file or folder of passages, as for `index.corpus`."""
    out: str
    """The folder to write."""
    vocabulary: int = 4_000
    """Tokens."""
    window: int = 2_048
    """Tokens that its positions reach."""
    seed: int = 0
    """Of the random weights."""


def bpe_tokenizer(texts: Iterable[str], vocabulary: int, window: int) -> Any:
    """Train a byte-level BPE tokenizer, which gives every text back, with ChatML's markers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[PAD, START, END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast: Any = PreTrainedTokenizerFast
    return fast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        chat_template=CHAT_TEMPLATE,
        model_max_length=window,
    )


def read_arguments(arguments: Sequence[str]) -> TinyBaseParams:
    """Read `key=value` arguments.

    Raises:
        ConfigError: a key is unknown or missing, or a value has the wrong type.
    """
    values = dict(argument.partition("=")[::2] for argument in arguments)
    try:
        return msgspec.convert(values, TinyBaseParams, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError(
            "cannot read the arguments",
            expected="corpus=FILE out=FOLDER, and vocabulary=, window=, seed= as you like",
            got=error,
        ) from error


def main(arguments: Sequence[str]) -> str:
    """Make the model and return the summary line."""
    params = read_arguments(arguments)
    out = Path(params.out)
    if out.exists():
        raise ConfigError(f"{out} is there already", fix="name another folder, or move it away")
    passages = read_passages(corpus_files(params.corpus))
    texts = (f"{passage.title} {passage.text}" for passage in passages)
    tokenizer = bpe_tokenizer(texts, params.vocabulary, params.window)
    settings = StudentSettings(
        hidden_size=64,
        num_layers=2,
        num_heads=2,
        intermediate_size=128,
        max_context_tokens=params.window,
    )
    model = random_model(tokenizer, settings, params.seed)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return f"{out}: {model.num_parameters():,} random weights, {len(tokenizer):,} tokens"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
