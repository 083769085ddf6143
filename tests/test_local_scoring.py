"""Test that a model in this process tells how probable a text is, in batches as alone."""

from math import exp, inf
from typing import Any

import pytest

from coa.policy import Scorer
from coa.policy.local.model import LocalPolicy
from tests.local_policy_support import WINDOW, tiny_tokenizer

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def policy() -> LocalPolicy:
    tokenizer = tiny_tokenizer()
    config = transformers.Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=WINDOW,
        initializer_range=0.5,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    model: Any = transformers.Qwen3ForCausalLM(config).eval()
    return LocalPolicy(model, tokenizer, name="tiny", batch_size=3)


def test_a_local_policy_is_a_scorer(policy: LocalPolicy) -> None:
    assert isinstance(policy, Scorer)


def test_the_probabilities_of_all_next_tokens_sum_to_one(policy: LocalPolicy) -> None:
    context = policy.encode("Question: who?", is_prompt=True)
    size = policy._model.config.vocab_size
    found = policy.log_probabilities([context] * size, [(token,) for token in range(size)])
    assert sum(exp(value) for value in found) == pytest.approx(1, abs=1e-4)


def test_a_text_has_the_same_probability_in_a_batch_as_alone(policy: LocalPolicy) -> None:
    texts = ["Question: who?", "the book was written by Ada, so", "I", "I should search for it. "]
    contexts = [policy.encode(text, is_prompt=True) for text in texts]
    triggers = [policy.encode(text) for text in (" <begin_search>", " Ada", " author of", " the")]
    together = policy.log_probabilities(contexts, triggers)
    for number, value in enumerate(together):
        alone = policy.log_probabilities([contexts[number]], [triggers[number]])
        assert alone == [pytest.approx(value, abs=1e-4)]


def test_a_text_of_two_tokens_is_as_probable_as_one_after_the_other(policy: LocalPolicy) -> None:
    context = policy.encode("Question: who?", is_prompt=True)
    first, second = (5,), (7,)
    whole, part, rest = policy.log_probabilities(
        [context, context, context + first], [first + second, first, second]
    )
    assert whole == pytest.approx(part + rest, abs=1e-4)


def test_a_text_beyond_the_models_window_is_not_probable_at_all(policy: LocalPolicy) -> None:
    assert policy.log_probabilities([(1,) * WINDOW, (1,)], [(2,), (2,)])[0] == -inf
