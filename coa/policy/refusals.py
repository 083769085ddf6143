"""Turn a completions server's refusals and outages into errors that say what helps.

An error is about one request (`RequestError`: its rollout becomes a row) or about all of them
(`ServiceError`: the run ends). A request that fails until our patience ends while the server
answers others is itself at fault.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from coa.errors import ServiceError
from coa.network.http_client import Fault, GaveUp, HttpClient, Reply
from coa.policy import RequestError
from coa.policy.server_settings import ServerSettings, shown_variable

MISSING_PAGE = frozenset({404, 405})
"""Statuses for an address, or a model, that does not exist."""
REQUEST_STATUSES = frozenset({200, 400, 413, 422})
"""Statuses for a faulty request, most often one whose context is too long (200: whose reply is)."""
_TOO_MANY_REQUESTS = 429
_CHAT_ONLY = re.compile(
    r"chat/completions|chat model|completions? api"
    r"|support\w* (the )?(/?v1/)?(text )?completions?\b",
    re.IGNORECASE,
)
"""Messages of servers that have no raw completions for a model."""
_NO_CREDIT = re.compile(r"quota|credit|billing|balance|insufficient", re.IGNORECASE)
"""Messages of hosts that refuse as too many what nobody has paid for."""
_MAX_SEARCHED_CHARS = 300
"""Only the beginning is searched: a message may repeat the prompt after it."""
_RAW_PAGE = "completions"
_RUN_AGAIN = "then run the same command again: finished calls are kept"
_RAW_NEEDED = (
    "use a server that offers raw completions (`POST /v1/completions`), such as vLLM or SGLang; "
    "chat cannot continue inside the thinking"
)


class Asked(NamedTuple):
    """What was asked of a server."""

    settings: ServerSettings
    page: str
    """The last part of the address that is asked."""
    has_key: bool


def is_about_request(reply: Reply, page: str) -> bool:
    """Tell whether a rejection is about this one request; others may be answered."""
    is_of_server = page == _RAW_PAGE and _is_chat_only(reply)
    return reply.status in REQUEST_STATUSES and not is_of_server


def quoted(reply: Reply, client: HttpClient) -> str:
    """Quote a rejection in one line: its status and the server's message."""
    return f"HTTP {reply.status}: {client.readable(_message(reply))}"


def refusal(asked: Asked, reply: Reply, models: Sequence[str], client: HttpClient) -> ServiceError:
    """Make the error for a server that would refuse all our requests.

    Args:
        asked: What was asked.
        reply: The refusal.
        models: The models that the server lists, where it has no such page.
        client: The client, which hides keys.
    """
    listed = ""
    if asked.settings.model not in models:
        listed = client.readable(", ".join(models))
    location = reply.headers.get("Location", "")
    sent_on = f", sends us to {client.readable(location)}" if location else ""
    return ServiceError(
        f"the policy's server refuses us, asked for the model {asked.settings.model!r}",
        where=reply.url.removesuffix(f"/{asked.page}"),
        expected=f"one of its models: {listed}" if listed else "",
        got=quoted(reply, client) + sent_on,
        fix=_refusal_advice(asked, reply, models),
    )


def _refusal_advice(asked: Asked, reply: Reply, models: Sequence[str]) -> str:
    status = reply.status
    if 300 <= status < 400:
        return "set `base_url` to the address that it sends us to, without `/completions`"
    if status == 402:
        return "the credit is used up: top it up, then run the same command again"
    if asked.page == _RAW_PAGE and _is_chat_only(reply):
        return _RAW_NEEDED
    if status in (401, 403):
        return _key_advice(asked)
    if status not in MISSING_PAGE:
        return "look up the status in the server's documentation"
    if asked.settings.model in models:
        advice = _RAW_NEEDED if asked.page == _RAW_PAGE else "use a server that offers chat"
        return f"it lists the model but has no page {reply.url}: {advice}"
    if models:
        return "set `model` to one that it lists"
    return "check `model`, and that `base_url` ends as the server wants it (most often in /v1)"


def _key_advice(asked: Asked) -> str:
    variable = asked.settings.api_key_env
    if not variable:
        return (
            "put the key into an environment variable and set `api_key_env` to that variable's name"
        )
    unset = "" if asked.has_key else " (it is not set)"
    return f"set the environment variable {shown_variable(variable)} to a valid key{unset}"


def outage(
    asked: Asked, error: GaveUp, client: HttpClient, *, answers_others: bool
) -> RequestError | ServiceError:
    """Make the error for a request that failed until the deadline."""
    reply = error.failure.reply
    got = quoted(reply, client) if reply else client.readable(str(error))
    is_limited = reply is not None and reply.status == _TOO_MANY_REQUESTS
    if answers_others and not is_limited:
        return RequestError(f"{got}, again and again, while the server answered other requests")
    if error.failure.fault is Fault.UNRESOLVED:
        return ServiceError(
            "the name of the policy's server does not resolve",
            where=error.url.removesuffix(f"/{asked.page}"),
            got=got,
            fix=f"correct the host in `base_url`, or look into this machine's DNS; {_RUN_AGAIN}",
        )
    settings = asked.settings
    advice = _outage_advice(settings, error.failure.fault, got, is_limited=is_limited)
    return ServiceError(
        f"no answer from the policy's server in {settings.patience_minutes:g} minutes of patience",
        where=", ".join(settings.addresses),
        got=got,
        fix=f"{advice}; {_RUN_AGAIN}",
    )


def _outage_advice(settings: ServerSettings, fault: Fault, got: str, *, is_limited: bool) -> str:
    if is_limited and _NO_CREDIT.search(got):
        return "the credit or the quota seems to be used up: top it up, or wait for its renewal"
    if is_limited:
        return (
            "it limits how much we may ask: lower the concurrency (`teacher.concurrency`), "
            "set `max_requests_per_minute`, or raise `patience_minutes`"
        )
    if fault is Fault.UNREACHABLE:
        return (
            f"start it, say `vllm serve {settings.model}`, or set `base_url` to one that runs; "
            "if it needs longer to start, raise `patience_minutes`"
        )
    if fault is Fault.TIMED_OUT:
        return (
            f"if it is at work, raise `timeout_seconds` (now {settings.timeout_seconds:g}) "
            "or lower the concurrency; else look into its log"
        )
    if fault is Fault.ODD_REPLY:
        return (
            "check `base_url`: most often it ends in /v1, and JSON with `choices` is expected there"
        )
    return "look into the server's log, or raise `patience_minutes`"


class _Model(msgspec.Struct):
    id: str


class _Listing(msgspec.Struct):
    data: list[_Model]


def listed_models(body: bytes) -> tuple[str, ...]:
    """List the models in a reply of `GET /v1/models`; none where it is something else."""
    try:
        listing = msgspec.json.decode(body, type=_Listing)
    except (ValueError, RecursionError):
        return ()
    return tuple(sorted(model.id for model in listing.data))


def _is_chat_only(reply: Reply) -> bool:
    said = _message(reply)[:_MAX_SEARCHED_CHARS]
    return reply.status in (400, *MISSING_PAGE) and bool(_CHAT_ONLY.search(said))


def _message(reply: Reply) -> str:
    """Find the message in the body of an error, as OpenAI, vLLM or FastAPI write it."""
    try:
        error = msgspec.json.decode(reply.body)
    except (ValueError, RecursionError):
        error = reply.body.decode("utf-8", "replace")
    if isinstance(error, dict):
        error = error.get("error") or error.get("message") or error.get("detail") or error
    if isinstance(error, dict):
        error = error.get("message") or error
    return str(error or "no message")
