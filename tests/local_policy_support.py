"""Build a tiny tokenizer and requests for the tests of the policy in this process."""

from typing import Any

import pytest

from coa.policy import Completion, Request
from coa.policy.local.model import LocalPolicy

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
TAGS = [
    "<begin_search>",
    "</end_search>",
    "<search_result>",
    "</search_result>",
    "<think>",
    "</think>",
]
END = "<|im_end|>"
WINDOW = 128
SENTENCES = [
    "Question: who wrote the book? I should search for the author of the book.",
    (
        "<begin_search> author of the book </end_search> the book was written by Ada, "
        "so the answer is Ada."
    ),
]


def tiny_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=["<|endoftext|>", END],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    backend.train_from_iterator(SENTENCES * 20, trainer)
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=END, pad_token="<|endoftext|>"
    )
    tokenizer.add_tokens(TAGS, special_tokens=False)
    return tokenizer


def request(context: str = "Question: who?", **changes: Any) -> Request:
    values: dict[str, Any] = {
        "stop": (),
        "max_tokens": 24,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": 0,
    }
    return Request(context, **{**values, **changes})


def one(policy: LocalPolicy, wanted: Request) -> Completion:
    return policy.complete_batch([wanted])[0]
