"""Text to the e-mail addresses, phone numbers and keys in it, by the patterns of kept libraries and without a model.

| what | by | why this one |
|---|---|---|
| e-mail addresses | linkify-it-py | what a reader of Markdown would make a link of: strict about domains, 33 KB |
| phone numbers | phonenumbers | Google's own numbering plans, so that dates and populations are no numbers to call |
| keys | detect-secrets | the token formats of providers; its entropy and keyword rules, which guess, are left out |

A finding never shows what was found: it names the kind, the length and the first characters. Texts are hostile: they
are read in windows, so that no pattern can run away on a long one.
"""

import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from coa.errors import MissingExtraError

if TYPE_CHECKING:
    from linkify_it import LinkifyIt

_WINDOW, _OVERLAP = 2_000, 300
"""Characters read at a time and read again in the next window: no address, number or key is longer than the overlap."""
_MIN_PHONE_DIGITS = 9
"""Fewer lead to nobody without an area code, and the span of two years has eight."""
_DIGITS = re.compile(r"\d(?:\W{0,3}\d){6}")
"""What a phone number has at least; texts without it need no closer look."""
_OTHER_KEYS = (
    r"\bhf_[A-Za-z]{34}\b", r"\bsk-ant-[\w-]{24,}", r"\bsk-proj-[\w-]{40,}", r"\bAIza[\w-]{35}\b",
    r"\bnpm_[A-Za-z0-9]{36}\b",
)  # fmt: skip
"""Formats that detect-secrets does not know: Hugging Face, Anthropic, OpenAI's projects, Google, npm."""
_DETECTORS = (
    "aws.AWSKeyDetector", "azure_storage_key.AzureStorageKeyDetector", "basic_auth.BasicAuthDetector",
    "discord.DiscordBotTokenDetector", "github_token.GitHubTokenDetector", "gitlab_token.GitLabTokenDetector",
    "jwt.JwtTokenDetector", "mailchimp.MailchimpDetector", "openai.OpenAIDetector", "private_key.PrivateKeyDetector",
    "pypi_token.PypiTokenDetector", "sendgrid.SendGridDetector", "slack.SlackDetector",
    "square_oauth.SquareOAuthDetector", "stripe.StripeDetector", "telegram_token.TelegramBotTokenDetector",
    "twilio.TwilioKeyDetector",
)  # fmt: skip
"""Those of its detectors that know a format; npm's is left out because its pattern runs away on slashes."""


class PrivateKind(StrEnum):
    """What must not be published."""

    EMAIL = "e-mail address"
    PHONE = "phone number"
    KEY = "key"


class PrivateText(NamedTuple):
    """Something private in a text."""

    kind: PrivateKind
    shown: str
    """Its beginning and length: enough to find it, too little to use it."""


def find_private(text: str, phone_region: str) -> list[PrivateText]:
    """What is private in `text`, the first of each kind.

    Args:
        text: Any text.
        phone_region: A country such as `US`, whose numbers count without +1 too; empty for international ones alone.

    Raises:
        MissingExtraError: the libraries are not installed.
    """
    readers: dict[PrivateKind, Callable[[str], str | None]] = {
        PrivateKind.EMAIL: _email,
        PrivateKind.PHONE: lambda part: _phone(part, phone_region),
        PrivateKind.KEY: _key,
    }
    found = []
    for kind, read in readers.items():
        first = next((match for part in _windows(text) if (match := read(part))), None)
        if first:
            found.append(PrivateText(kind, f"{first[:4]}... ({len(first)} characters)"))
    return found


def find_key(text: str) -> PrivateText | None:
    """The first key in `text`, which may be a file of any size.

    Raises:
        MissingExtraError: the libraries are not installed.
    """
    first = next((match for part in _windows(text) if (match := _key(part))), None)
    if first is None:
        return None
    return PrivateText(PrivateKind.KEY, f"{first[:4]}... ({len(first)} characters)")


def _windows(text: str) -> Iterator[str]:
    for start in range(0, max(1, len(text) - _OVERLAP), _WINDOW - _OVERLAP):
        yield text[start : start + _WINDOW]


def _email(text: str) -> str | None:
    if "@" not in text:
        return None
    matches = _linkifier().match(text) or ()
    return next((match.raw for match in matches if match.schema == "mailto:"), None)


def _phone(text: str, region: str) -> str | None:
    if not _DIGITS.search(text):
        return None
    try:
        from phonenumbers import Leniency, PhoneNumberMatcher
    except ImportError as error:
        raise MissingExtraError("phonenumbers", "publish") from error
    matcher = PhoneNumberMatcher(
        text, region or None, leniency=Leniency.STRICT_GROUPING, max_tries=1_000
    )
    numbers = (match.raw_string for match in matcher)
    return next(
        (number for number in numbers if sum(map(str.isdigit, number)) >= _MIN_PHONE_DIGITS), None
    )


def _key(text: str) -> str | None:
    return next((match[0] for pattern in _key_patterns() if (match := pattern.search(text))), None)


@cache
def _linkifier() -> "LinkifyIt":
    try:
        from linkify_it import LinkifyIt
    except ImportError as error:
        raise MissingExtraError("linkify-it-py", "publish") from error
    return LinkifyIt(options={"fuzzy_link": False, "fuzzy_email": True, "fuzzy_ip": False})


@cache
def _key_patterns() -> tuple[re.Pattern[str], ...]:
    from importlib import import_module

    found = [re.compile(pattern) for pattern in _OTHER_KEYS]
    for name in _DETECTORS:
        module, _, detector = name.partition(".")
        try:
            found += getattr(import_module(f"detect_secrets.plugins.{module}"), detector).denylist
        except ImportError as error:
            raise MissingExtraError("detect-secrets", "publish") from error
    return tuple(found)
