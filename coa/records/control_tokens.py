"""Keep the names of control tokens out of text from outside.

A server that gets text reads the name of a control token, such as `[INST]`, as that token, wherever
it is. `coa/records/protocol.py` breaks the names that begin with `<`, in any case and spacing. This
module breaks those that are recognised only letter by letter: a list of well-known names, and those
of the tokenizer in use.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

_STAND_INS = {"<": "‹", ">": "›", "[": "⟦", "]": "⟧", "|": "∣"}  # noqa: RUF001
"""One sign of a name is replaced by its look-alike. No normalisation turns a look-alike back."""
_FIRST_SIGN = re.compile(r"[<>\[\]|]")
_LOOKS_LIKE_A_TAG = re.compile(r"[<\[\]].*[>\[\]]", re.DOTALL)

_MISTRAL = (
    "INST",
    "AVAILABLE_TOOLS",
    "TOOL_RESULTS",
    "SYSTEM_PROMPT",
    "THINK",
    "MODEL_SETTINGS",
)
_MISTRAL_ALONE = (
    "TOOL_CALLS",
    "TOOL_CONTENT",
    "ARGS",
    "CALL_ID",
    "IMG",
    "IMG_BREAK",
    "IMG_END",
    "AUDIO",
    "BEGIN_AUDIO",
    "TRANSCRIBE",
    "PREFIX",
    "MIDDLE",
    "SUFFIX",
)
_GLM = ("gMASK", "sMASK")
_BERT = ("MASK", "CLS", "SEP", "PAD", "UNK", "BOS", "EOS", "EOT")
_KIMI = ("start_header_id", "end_header_id")
_MINIMAX = (
    "]~!b[",
    "]~b]",
    "[e~[",
    "]!p~[",
    "]!d~[",
    "]<]speech[>[",
    "]<]image[>[",
    "]<]video[>[",
    "]<]start of speech[>[",
    "]<]end of speech[>[",
    "]<]start of image[>[",
    "]<]end of image[>[",
    "]<]start of video[>[",
    "]<]end of video[>[",
)
KNOWN = (
    *(f"[{name}]" for name in (*_MISTRAL, *_MISTRAL_ALONE, *_GLM, *_BERT, *_KIMI)),
    *(f"[/{name}]" for name in _MISTRAL),
    *_MINIMAX,
    "<<SYS>>",
    "<</SYS>>",
)
"""Names in the chat formats of Mistral, Llama 2, GLM, BERT's kin, Kimi and MiniMax."""


def names_of(tokens: Iterable[tuple[str, bool]]) -> tuple[str, ...]:
    """Choose the control tokens among a tokenizer's added tokens.

    Ordinary tokens are chosen where they look like tags; runs of blanks, which many tokenizers add,
    are not. A special token that is a plain word looks like the word, so it is left out.

    Args:
        tokens: The name of each token, and whether it is special.
    """
    chosen = set()
    for name, is_special in tokens:
        if not _FIRST_SIGN.search(name):
            continue
        if is_special or _LOOKS_LIKE_A_TAG.fullmatch(name):
            chosen.add(name)
    return tuple(sorted(chosen))


def is_in(text: str, names: Iterable[str]) -> bool:
    """Return whether `text` holds one of the names."""
    return any(name in text for name in names)


def break_names(text: str, names: Iterable[str]) -> str:
    """Replace a sign in each of the names that `text` holds; no replacement makes another name."""
    if not _FIRST_SIGN.search(text):  # every name has such a sign, most texts have none
        return text
    for name in names:
        while name in text:  # again: a name may overlap with itself
            text = text.replace(name, _broken(name))
    return text


@lru_cache(maxsize=4096)
def _broken(name: str) -> str:
    return _FIRST_SIGN.sub(lambda sign: _STAND_INS[sign[0]], name, count=1)
