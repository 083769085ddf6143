"""Undo what hides an address, a number or a key: other signs for the same letters, and escapes.

A reader sees through full-width letters, `jane [at] example [dot] org` and letters with invisible
signs between them. A pattern does not, so patterns are run on the plain form of a text.
"""

import html
import re
import unicodedata
from urllib.parse import unquote

_DOTS = "\u3002\uff61\u2024\u2027\u30fb\u00b7"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe58\ufe63"
_BLANKS = "\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
_REPLACED = str.maketrans(_DOTS + _DASHES, "." * len(_DOTS) + "-" * len(_DASHES), _BLANKS)
"""Dots and dashes that NFKC leaves as they are, and letters that print nothing."""
_INVISIBLE = frozenset(("Cf", "Cc", "Co", "Cs"))
"""Categories of Unicode: format, control, private use, surrogates."""
_VARIATIONS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""Selectors that choose the form of a sign and are invisible themselves."""

_ESCAPED_CODE = re.compile(r"\\(?:u00|x|u\{0{0,4})([0-9A-Fa-f]{2})\}?")
"""A sign as programs write it: backslash, `u0040` or `x40`."""
_ESCAPED_SIGN = re.compile(r"\\(?=[@._+\-#&%$])")
"""The backslash of Markdown or LaTeX before a sign."""
_EMPTY_TAG = re.compile(
    r"<!--.{0,200}?-->|</?(?:b|i|u|em|strong|span|wbr|code|font)\b[^<>@]{0,200}>"
)
"""Markup that may be in the middle of a word."""
_BRACKETED_AT = re.compile(r"\s*[\[({<«|*_-]+\s*(?:at|@|arroba|æt)\s*[\])}>»|*_-]+\s*", re.I)
_BRACKETED_DOT = re.compile(r"\s*[\[({<«|*_-]+\s*(?:dot|\.|punto|punkt)\s*[\])}>»|*_-]+\s*", re.I)
_SPOKEN = re.compile(
    r"\b([\w.+-]{1,64})\s+at\s+"
    r"([\w-]{1,63}(?:(?:\s+dot\s+|\.)[\w-]{1,63}){0,4}\s+dot\s+[a-z]{2,24})\b",
    re.I,
)
_SPOKEN_DOT = re.compile(r"\s+dot\s+", re.I)
_SHOUTED_AT = re.compile(r"(?<=[a-z0-9])\s+AT\s+(?=[\w-]{1,63}\.[a-z])")
_SPACED_AT = re.compile(r"(?<=[\w\"'])\s{0,2}@\s{0,2}(?=\w)")
_SPACED_HOST = re.compile(r"@[\w-]{1,63}(?:\s?\.[\w-]{1,63}|\s\.\s?[\w-]{1,63}){1,5}")


def fold(text: str) -> str:
    """Write each sign in its plainest form and drop invisible ones; line breaks stay."""
    plain = unicodedata.normalize("NFKC", text.translate(_REPLACED)).translate(_REPLACED)
    if plain.isascii() and plain.replace("\n", "").isprintable():
        return plain
    return "".join(sign for sign in _VARIATIONS.sub("", plain) if _is_seen(sign))


def _is_seen(sign: str) -> bool:
    return sign in "\n\t" or unicodedata.category(sign) not in _INVISIBLE


def undisguise(folded: str) -> str:
    """Undo escapes, entities, markup inside words and addresses that are spelled out."""
    plain = _ESCAPED_CODE.sub(lambda found: chr(int(found[1], 16)), folded)
    plain = fold(unquote(html.unescape(plain)))
    plain = _EMPTY_TAG.sub("", plain)
    plain = _ESCAPED_SIGN.sub("", plain)
    plain = _BRACKETED_AT.sub("@", plain)
    plain = _BRACKETED_DOT.sub(".", plain)
    plain = _SPOKEN.sub(_written_address, plain)
    plain = _SHOUTED_AT.sub("@", plain)
    plain = _SPACED_AT.sub("@", plain)
    return _SPACED_HOST.sub(lambda host: "".join(host[0].split()), plain)


def _written_address(spoken: re.Match[str]) -> str:
    host = _SPOKEN_DOT.sub(".", spoken[2])
    return f"{spoken[1]}@{host}"
