"""Text to numbers of tokens, for cutting observations by what they cost."""

from typing import TYPE_CHECKING

from coa.errors import MissingExtraError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TokenCounter:
    """Counts with one tokenizer."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, name: str) -> "TokenCounter":
        """The counter of the tokenizer in a folder, or of that name on the Hub.

        Raises:
            MissingExtraError: transformers is not installed.
        """
        try:
            from transformers import AutoTokenizer
        except ImportError:
            raise MissingExtraError("transformers", "train") from None
        return cls(AutoTokenizer.from_pretrained(name))

    def count(self, text: str) -> int:
        """Tokens of the text by itself."""
        return len(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def length_of(self, text: str, max_tokens: int) -> int:
        """Characters that the first `max_tokens` tokens of the text cover."""
        offsets = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)[
            "offset_mapping"
        ]
        return int(offsets[max_tokens - 1][1]) if len(offsets) > max_tokens else len(text)
