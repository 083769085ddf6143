"""Find keys in a text: by their format, after a word such as `api_key`, or by a long random tail.

detect-secrets knows the older formats. Most of the newer ones are a prefix before many random
characters: a table has the prefixes. Randomness tells the keys of providers that nobody has listed
from names, dates and links.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from itertools import pairwise

from coa.errors import MissingExtraError

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
    """Find every key in a text; the text is folded and no longer than a window.

    Raises:
        MissingExtraError: detect-secrets is not installed.
    """
    for pattern in _detectors():
        for found in pattern.finditer(text):
            yield found[0]
    yield from find_undetected_keys(text)


def find_undetected_keys(text: str) -> Iterator[str]:
    """Find the keys that detect-secrets does not know; needs nothing that may not be installed."""
    for pattern in _OTHERS:
        for found in pattern.finditer(text):
            yield found[0]
    for found in _prefixed().finditer(text):
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
def _prefixed() -> re.Pattern[str]:
    """Compile the pattern of all keys that begin with a known prefix."""
    formats = []
    for prefix, least in _PREFIXES.items():
        formats.append(rf"{re.escape(prefix)}[\w-]{{{least},}}")
    return re.compile(rf"{_START}({'|'.join(formats)})", re.ASCII)


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
