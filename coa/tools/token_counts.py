"""Count the tokens of a text, to cut observations by what they cost."""

from typing import TYPE_CHECKING

from coa.errors import MissingExtraError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TokenCounter:
    """Counter of tokens with one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, name: str) -> "TokenCounter":
        """Load the tokenizer in a folder, or of that name on the Hub.

        Raises:
            MissingExtraError: transformers is not installed.
        """
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise MissingExtraError("transformers", "train") from None
        return cls(AutoTokenizer.from_pretrained(name))

    def count(self, text: str) -> int:
        """Count the tokens of the text alone, without special tokens."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def length_of(self, text: str, max_tokens: int) -> int:
        """Count the characters that the first `max_tokens` tokens of the text cover."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        if len(offsets) <= max_tokens:
            return len(text)
        _, end = offsets[max_tokens - 1]
        return int(end)
