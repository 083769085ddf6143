"""Find e-mail addresses, phone numbers and keys in a text, without a model.

| what | by | why this one |
|---|---|---|
| e-mail addresses | linkify-it-py | its list of top-level domains: `a@b.c` is not an address |
| phone numbers | phonenumbers | Google's numbering plans: dates and populations do not count |
| keys | detect-secrets, `data_cards.publishing.key_formats` | old and new formats of providers |

Every text is read twice: folded, and with escapes and spelled-out addresses undone
(`data_cards.publishing.disguises`). A finding never shows what was found: it names the kind, the
length and the first characters. Texts may be hostile, so they are read in windows and no pattern
runs away.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from enum import StrEnum
from functools import cache
from typing import NamedTuple

from coa.errors import MissingExtraError
from data_cards.publishing.disguises import fold, undisguise
from data_cards.publishing.key_formats import find_keys

_WINDOW = 2_000
"""Characters in a window."""
_OVERLAP = 300
"""Characters that the next window repeats; whatever is found is shorter than this."""
_MIN_PHONE_DIGITS = 9
"""A shorter number reaches nobody without an area code, and the span of two years has eight."""
_HOST = r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}([^\W\d_]{2,24}|xn--[a-z0-9-]{1,59})"
_EMAIL = re.compile(
    rf"[\w.+%-]{{1,64}}[^\s\w@]?@(?:\[?(?:\d{{1,3}}\.){{3}}\d{{1,3}}|{_HOST})(?![^\W_])", re.I
)
"""Its group is the top-level domain; an address by number has none."""
_AROUND = re.compile(
    r"[\[\]{}<>`*|$\"'\u00ab\u00bb\u2018-\u201d\\_~/]|:\+?(?=\d)|(?<=[a-z])\.(?=\s)"
)
"""Signs that may touch a number and hide where it begins; they are blanked."""
_TRUNK_ZERO = re.compile(r"\(0\)\s?")
"""The zero that is dialled inside the country alone: +44 (0)20."""
_INTERNATIONAL = re.compile(r"(?<![\d+.-])(?:00|011)[\s-]{0,2}(?=[1-9]\d{0,2}[\s\d-])")
"""Two ways to dial the plus."""
_CALLS = (
    r"tel|t[eé]l[eé]phone|telefono?|phone|mobile|m[oó]vil|cell|fax|call|dial|ring|text|sms|"
    r"whats\s?app|wa\.me|signal|hotline|handy|t[eé]l|тел|телефон"
)
_ANNOUNCED = re.compile(
    rf"(?:(?<![A-Za-z])(?:{_CALLS})(?![A-Za-z])|电话|手机|電話|携帯|전화)"
    r"[^\d+]{0,20}(\+?\(?\d[\d\s().-]{7,30}\d)",
    re.I,
)
"""A word that announces a number, and the number."""
_COUNTRIES = "US GB DE FR ES IT IN CN JP BR MX AU NL SE CH PL RU KR TR ZA NG ID PH PK CA"
"""The countries by whose numbering plans an announced number is read."""
_DIGITS = re.compile(r"\d(?:\W{0,3}\d){6}")
"""The digits that a phone number has at least; texts without them need no closer look."""


class PrivateKind(StrEnum):
    """A kind of text that must not be published."""

    EMAIL = "e-mail address"
    PHONE = "phone number"
    KEY = "key"


class PrivateText(NamedTuple):
    """Something private in a text."""

    kind: PrivateKind
    shown: str
    """Its beginning and length: enough to find it, too little to use it."""


def find_private(text: str, phone_region: str) -> list[PrivateText]:
    """Find what is private in `text`, the first of each kind.

    Args:
        text: Any text.
        phone_region: A country such as `US`, whose numbers count without +1 too; empty for none.

    Raises:
        MissingExtraError: the libraries are not installed.
    """
    readers: dict[PrivateKind, Callable[[str], Iterator[str]]] = {
        PrivateKind.EMAIL: find_emails,
        PrivateKind.PHONE: lambda window: find_phones(window, phone_region),
        PrivateKind.KEY: find_keys,
    }
    windows = list(_windows(text))
    found = []
    for kind, read in readers.items():
        first = _first(read, windows)
        if first:
            found.append(_shortened(kind, first))
    return found


def find_key(text: str) -> PrivateText | None:
    """Find the first key in `text`, which may be a file of any size.

    Raises:
        MissingExtraError: the libraries are not installed.
    """
    first = _first(find_keys, _windows(text))
    return _shortened(PrivateKind.KEY, first) if first else None


def _shortened(kind: PrivateKind, found: str) -> PrivateText:
    return PrivateText(kind, f"{found[:4]}... ({len(found)} characters)")


def _first(read: Callable[[str], Iterator[str]], windows: Iterable[str]) -> str | None:
    for window in windows:
        for match in read(window):
            return match
    return None


def _windows(text: str) -> Iterator[str]:
    """Cut the folded text into windows, each with its plain form where that differs."""
    folded = fold(text)
    for start in range(0, max(1, len(folded) - _OVERLAP), _WINDOW - _OVERLAP):
        part = folded[start : start + _WINDOW]
        yield part
        plain = undisguise(part)
        if plain != part:
            yield plain


def find_emails(text: str) -> Iterator[str]:
    """Find every e-mail address in a folded text.

    Raises:
        MissingExtraError: linkify-it-py is not installed.
    """
    if "@" not in text:
        return
    for found in _EMAIL.finditer(text):
        domain = (found[1] or "").lower()
        if not domain or not domain.isascii() or domain in _top_level_domains():
            yield found[0]


def find_phones(text: str, region: str) -> Iterator[str]:
    """Find every phone number in a folded text: well grouped, or after a word such as `tel`.

    Raises:
        MissingExtraError: phonenumbers is not installed.
    """
    text = _AROUND.sub(" ", text)
    text = _TRUNK_ZERO.sub("", text)
    text = _INTERNATIONAL.sub("+", text)
    if not _DIGITS.search(text):
        return
    try:
        from phonenumbers import Leniency, PhoneNumberMatcher
    except ImportError as error:
        raise MissingExtraError("phonenumbers", "publish") from error
    for leniency in (Leniency.STRICT_GROUPING, Leniency.VALID):
        matcher = PhoneNumberMatcher(text, region or None, leniency=leniency, max_tries=1_000)
        for match in matcher:
            number = match.raw_string
            is_certain = leniency == Leniency.STRICT_GROUPING or number.startswith("+")
            if is_certain and _num_digits(number) >= _MIN_PHONE_DIGITS:
                yield number
    yield from _announced_phones(text, region)


def _announced_phones(text: str, region: str) -> Iterator[str]:
    from phonenumbers import NumberParseException, is_valid_number, parse

    for found in _ANNOUNCED.finditer(text):
        number = found[1]
        if _num_digits(number) < _MIN_PHONE_DIGITS:
            continue
        for country in (region or None, *_COUNTRIES.split()):
            with suppress(NumberParseException):
                if is_valid_number(parse(number, country)):
                    yield number
                    break


def _num_digits(text: str) -> int:
    return sum(sign.isdigit() for sign in text)


@cache
def _top_level_domains() -> frozenset[str]:
    try:
        from linkify_it.tlds import TLDS
    except ImportError as error:
        raise MissingExtraError("linkify-it-py", "publish") from error
    return frozenset(domain.lower() for domain in TLDS)
