"""Make text from models and from the web safe to print on a terminal."""

_CONTROLS = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}
_DIRECTIONS = (0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
_SURROGATES = range(0xD800, 0xE000)
"""Halves of characters, which no terminal's encoding can hold."""
_SPELLED_OUT = _CONTROLS | {code: f"\\u{code:04x}" for code in (*_DIRECTIONS, *_SURROGATES)}


def printable(text: str) -> str:
    """Spell out what could move the cursor, hide text, set the title, or turn text around."""
    return text.translate(_SPELLED_OUT)
