"""Find e-mail addresses, phone numbers and keys in a text, without a model.

| what | by | why this one |
|---|---|---|
| e-mail addresses | linkify-it-py | its list of top-level domains: `a@b.c` is not an address |
| phone numbers | phonenumbers | Google's numbering plans: dates and populations do not count |
| keys | detect-secrets, a table of prefixes, long random tails | old, new and unknown providers |

Every text is read twice: folded, and with escapes and spelled-out addresses undone. A reader sees
through full-width letters, `jane [at] example [dot] org` and letters with invisible signs between
them; a pattern does not. A finding never shows what was found: it names the kind, the length and
the first characters. Texts may be hostile, so they are read in windows and no pattern runs away.
"""

import html
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from functools import cache
from importlib import import_module
from itertools import chain, pairwise
from typing import NamedTuple
from urllib.parse import unquote

from coa.errors import MissingExtraError

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
    """Find what is private in `text`, the first of each kind."""
    readers: dict[PrivateKind, Callable[[str], Iterator[str]]] = {
        PrivateKind.EMAIL: find_emails,
        PrivateKind.PHONE: lambda window: find_phones(window, phone_region),
        PrivateKind.KEY: find_keys,
    }
    windows = list(_windows(text))
    found = []
    for kind, read in readers.items():
        matches = chain.from_iterable(read(window) for window in windows)
        first = next(matches, "")
        if first:
            found.append(PrivateText(kind, f"{first[:4]}... ({len(first)} characters)"))
    return found


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
    """Find every e-mail address in a folded text."""
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
        from phonenumbers import (
            Leniency,
            NumberParseException,
            PhoneNumberMatcher,
            is_valid_number,
            parse,
        )
    except ImportError as error:
        raise MissingExtraError("phonenumbers", "publish") from error
    for leniency in (Leniency.STRICT_GROUPING, Leniency.VALID):
        matcher = PhoneNumberMatcher(text, region or None, leniency=leniency, max_tries=1_000)
        for match in matcher:
            number = match.raw_string
            is_certain = leniency == Leniency.STRICT_GROUPING or number.startswith("+")
            if is_certain and _num_digits(number) >= _MIN_PHONE_DIGITS:
                yield number
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


# --- keys: by format, after a word such as `api_key`, or by a long random tail

_DETECTORS = (
    "aws.AWSKeyDetector",
    "azure_storage_key.AzureStorageKeyDetector",
    "basic_auth.BasicAuthDetector",
    "discord.DiscordBotTokenDetector",
    "github_token.GitHubTokenDetector",
    "gitlab_token.GitLabTokenDetector",
    "jwt.JwtTokenDetector",
    "mailchimp.MailchimpDetector",
    "openai.OpenAIDetector",
    "private_key.PrivateKeyDetector",
    "pypi_token.PypiTokenDetector",
    "sendgrid.SendGridDetector",
    "slack.SlackDetector",
    "square_oauth.SquareOAuthDetector",
    "stripe.StripeDetector",
    "telegram_token.TelegramBotTokenDetector",
    "twilio.TwilioKeyDetector",
)
"""The detectors that know a format; npm's is left out: its pattern runs away on slashes."""

_PREFIXES = {
    # Models and search
    "hf_": 30,
    "api_org_": 30,
    "sk-": 20,
    "gsk_": 40,
    "xai-": 40,
    "nvapi-": 40,
    "tvly-": 20,
    "r8_": 30,
    "pplx-": 40,
    "AIza": 35,
    "fw_": 20,
    "csk-": 40,
    "tgp_v1_": 30,
    "jina_": 40,
    "fc-": 32,
    "lsv2_": 32,
    "pcsk_": 40,
    # Code, packages and containers
    "github_pat_": 40,
    "glpat-": 18,
    "npm_": 36,
    "pypi-": 60,
    "rubygems_": 40,
    "dckr_pat_": 20,
    "ATATT3": 40,
    "ATBB": 28,
    # Clouds and databases
    "dop_v1_": 40,
    "hvs.": 24,
    "hvb.": 24,
    "dapi": 32,
    "sbp_": 40,
    "HRKU-": 36,
    "ya29.": 20,
    "GOCSPX-": 24,
    "tskey-": 16,
    "LTAI": 16,
    "sb_secret_": 20,
    "vercel_": 24,
    "AGE-SECRET-KEY-1": 50,
    "atlasv1.": 40,
    # Payment, mail, chat and work
    "sk_live_": 20,
    "sk_test_": 20,
    "rk_live_": 20,
    "rk_test_": 20,
    "whsec_": 24,
    "sq0atp-": 22,
    "EAAG": 50,
    "shpat_": 32,
    "xkeysib-": 40,
    "xox": 20,
    "xapp-": 20,
    "key-": 32,
    "ntn_": 40,
    "lin_api_": 32,
    "figd_": 36,
    "PMAK-": 40,
    "glsa_": 36,
    "NRAK-": 24,
    "sntrys_": 40,
}
"""The prefix of a provider's keys, and the least number of characters that follow it."""
_START = r"(?<![A-Za-z0-9])"
_FORMATS = [rf"{re.escape(prefix)}[\w-]{{{least},}}" for prefix, least in _PREFIXES.items()]
_PREFIXED = re.compile(rf"{_START}(?:{'|'.join(_FORMATS)})", re.ASCII)
_ANNOUNCES = r"key|token|secret|passw(?:or)?d|passphrase|pwd|credentials?|bearer|auth"
_ASSIGNED = re.compile(
    rf"(?:{_ANNOUNCES})[\w.-]{{0,24}}[\"'`*\])}}]{{0,3}}"
    r"\s{0,3}(?:[:=]{1,2}>?|\bis\b|->|\s)\s{0,3}(?:bearer|basic|token)?\s{0,3}"
    r"[\"'`*\[{(<]{0,3}([A-Za-z0-9_.=+/~\-]{16,300})",
    re.I,
)
"""A word that announces a key, and what it announces."""
_PASSWORD = re.compile(
    r"(?<![A-Za-z])(?:password|passwd|passphrase|pwd)[\"'`]?\s{0,2}[:=]\s{0,2}"
    r"[\"'`]?([^\s\"'`<>]{8,64})",
    re.I,
)
"""People choose shorter ones than programs do."""
_UNKNOWN = re.compile(
    _START + r"[A-Za-z][A-Za-z0-9]{1,11}[-_.](?:[A-Za-z0-9]{1,8}[-_.]){0,3}([A-Za-z0-9]{24,300})"
)
"""A prefix that is in no table, before a long tail."""
_BARE = re.compile(r"(?<![\w/+.-])(?:[\w-]{27,300}|[A-Za-z0-9/+]{40})(?![\w/+=-])", re.ASCII)
"""A key without a prefix, such as the secret of AWS."""
_OTHERS = (
    re.compile(r"(?:discord(?:app)?\.com/api/webhooks|hooks\.zapier\.com)/[\w/@-]{20,300}"),
    re.compile(r"BEGIN [A-Z ]{0,20}PRIVATE KEY"),
    re.compile(r"\b[0-9a-f]{32}\.[A-Za-z0-9]{16}\b", re.ASCII),
    re.compile(r"\b1//0[\w-]{30,300}|[?&;]sig=[\w%+/]{40,300}", re.ASCII),
)
_MIN_CHANGES = 4
"""Least changes between digits and letters: random characters change more often than words."""


def find_keys(text: str) -> Iterator[str]:
    """Find every key in a text; the text is folded and no longer than a window."""
    for pattern in _detectors():
        for found in pattern.finditer(text):
            yield found[0]
    yield from find_undetected_keys(text)


def find_undetected_keys(text: str) -> Iterator[str]:
    """Find the keys that detect-secrets does not know; needs nothing that may not be installed."""
    for pattern in _OTHERS:
        for found in pattern.finditer(text):
            yield found[0]
    for found in _PREFIXED.finditer(text):
        if _is_made_up(found[0]):
            yield found[0]
    for found in _ASSIGNED.finditer(text):
        if _has_digits_and_letters(found[1]):
            yield found[0]
    for found in _PASSWORD.finditer(text):
        if _is_made_up(found[1]):
            yield found[0]
    for found in _UNKNOWN.finditer(text):
        if _is_random(found[1]):
            yield found[0]
    for found in _BARE.finditer(text):
        has_both_cases = not (found[0].islower() or found[0].isupper())
        if has_both_cases and _is_random(found[0]):
            yield found[0]


def _is_made_up(value: str) -> bool:
    """Tell a key from words: it has digits, or capitals inside."""
    is_cased_as_a_word = value.islower() or value.isupper() or value.istitle()
    return _has_digits_and_letters(value) or not is_cased_as_a_word


def _has_digits_and_letters(value: str) -> bool:
    has_digits = any(sign.isdigit() for sign in value)
    has_letters = any(sign.isalpha() for sign in value)
    return has_digits and has_letters


def _is_random(value: str) -> bool:
    """Return whether digits and letters alternate as often as in random characters."""
    changes = 0
    for left, right in pairwise(value):
        if left.isalnum() and right.isalnum() and left.isdigit() != right.isdigit():
            changes += 1
    return changes >= _MIN_CHANGES


@cache
def _detectors() -> tuple[re.Pattern[str], ...]:
    """Load the patterns of detect-secrets."""
    found: list[re.Pattern[str]] = []
    for name in _DETECTORS:
        module_name, _, detector = name.partition(".")
        try:
            module = import_module(f"detect_secrets.plugins.{module_name}")
            found += getattr(module, detector).denylist
        except ImportError as error:
            raise MissingExtraError("detect-secrets", "publish") from error
    return tuple(found)


# --- what hides an address, a number or a key: other signs for the same letters, and escapes

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
    seen = []
    for sign in _VARIATIONS.sub("", plain):
        if sign in "\n\t" or unicodedata.category(sign) not in _INVISIBLE:
            seen.append(sign)
    return "".join(seen)


def undisguise(folded: str) -> str:
    """Undo escapes, entities, markup inside words and addresses that are spelled out."""
    plain = _ESCAPED_CODE.sub(lambda found: chr(int(found[1], 16)), folded)
    plain = fold(unquote(html.unescape(plain)))
    plain = _EMPTY_TAG.sub("", plain)
    plain = _ESCAPED_SIGN.sub("", plain)
    plain = _BRACKETED_AT.sub("@", plain)
    plain = _BRACKETED_DOT.sub(".", plain)
    plain = _SPOKEN.sub(lambda said: f"{said[1]}@{_SPOKEN_DOT.sub('.', said[2])}", plain)
    plain = _SHOUTED_AT.sub("@", plain)
    plain = _SPACED_AT.sub("@", plain)
    return _SPACED_HOST.sub(lambda host: "".join(host[0].split()), plain)
