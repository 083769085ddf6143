"""Split texts into words for comparison, without look-alikes, accents and invisible signs.

Answers are graded by `coa.records.grading`, where an accent counts.
"""

import re
import unicodedata

WORD = re.compile(r"\w+")
_PART = re.compile(r"[^\W_]+")
_ASCII_GAPS = {code: " " for code in range(128) if not _PART.match(chr(code))}

_CYRILLIC = "АВЕЅІЈКМНОРСТУХԌЬавеѕіјкмнорстухԁһԛԝӏ"
_CYRILLIC_AS_LATIN = "ABESIJKMHOPCTYXGbabesijkmhopctyxdhqwl"
_GREEK = "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαβεζηικμνορτυχγ"
_GREEK_AS_LATIN = "ABEZHIKMNOPTYXabezhikmnoptyxy"
_OTHER = "ıȷɑɡɩʋøØłŁđĐħĦօոսհ"
_OTHER_AS_LATIN = "ijagivoOlLdDhHonuh"
_INVISIBLE = "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u3164\ufeff\uffa0"
_INVISIBLE_RANGES = ((0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0xFE00, 0xFE0F))
_ACCENTS = (0x0300, 0x036F)
"""Marks on Latin, Greek and Cyrillic letters. Those of other scripts tell words apart and stay."""


def _folding() -> dict[int, str]:
    """Return the table of replacements for `str.translate`."""
    letters = _CYRILLIC + _GREEK + _OTHER
    latin_letters = _CYRILLIC_AS_LATIN + _GREEK_AS_LATIN + _OTHER_AS_LATIN
    table: dict[int, str] = {}
    for letter, latin in zip(letters, latin_letters, strict=True):
        table[ord(letter)] = latin
    for sign in _INVISIBLE:
        table[ord(sign)] = ""
    for first, last in (*_INVISIBLE_RANGES, _ACCENTS):
        table.update(dict.fromkeys(range(first, last + 1), ""))
    return table


_FOLDING = _folding()


def fold_look_alikes(text: str) -> str:
    """Write letters that look alike as one, without accents and invisible signs; case stays.

    A Cyrillic or Greek letter becomes the Latin one that it resembles, wherever it stands: folded
    texts are there to be compared with folded texts, not to be read.
    """
    if text.isascii():
        return text
    folded = unicodedata.normalize("NFKD", text).translate(_FOLDING)
    return unicodedata.normalize("NFKC", folded)


def words(text: str) -> list[str]:
    """Split a text into words in lower case, in order; a word is letters and digits."""
    if text.isascii():
        return text.lower().translate(_ASCII_GAPS).split()
    # Case is folded word by word: the lower case of a letter may hold a sign that ends a word.
    return " ".join(_PART.findall(fold_look_alikes(text))).lower().split()
