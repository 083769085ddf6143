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
from coa.policy.server_settings import shown_variable

MISSING_PAGE = frozenset({404, 405})
"""Statuses for an address, or a model, that does not exist."""
CHAT_STATUSES = frozenset({200, 400, 401, 403, 415, 422})
"""Statuses with which a server that offers chat answers a chat without messages."""
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
"""Only the beginning is searched: a message may go on to repeat the prompt."""
_RAW_PAGE = "completions"
_RAW_NEEDED = (
    "use a server that offers raw completions (`POST /v1/completions`), such as vLLM or SGLang; "
    "chat cannot continue inside the thinking"
)


class Server(NamedTuple):
    """The server that refuses, as its settings describe it."""

    base_url: str
    model: str
    key_variable: str
    """The environment variable with the key; empty where none is named."""
    has_key: bool
    timeout_seconds: float
    patience_minutes: float
    page: str = "completions"
    """The last part of the address that is asked."""


class Offers(NamedTuple):
    """The offers of a server that has no completions."""

    models: Sequence[str] = ()
    has_chat: bool = False


def is_about_request(reply: Reply) -> bool:
    """Tell whether a rejection is about this one request; others may be answered."""
    return reply.status in REQUEST_STATUSES and not _is_chat_only(reply)


def quoted(reply: Reply, client: HttpClient) -> str:
    """Quote a rejection in one line: its status and the server's message."""
    return f"HTTP {reply.status}: {client.readable(_message(reply))}"


def refusal(server: Server, reply: Reply, offers: Offers, client: HttpClient) -> ServiceError:
    """Make the error for a server that would refuse all our requests."""
    listed = ""
    if server.model not in offers.models:
        listed = client.readable(", ".join(offers.models))
    return ServiceError(
        f"the policy's server refuses us, asked for the model {server.model!r}",
        where=server.base_url,
        expected=f"one of its models: {listed}" if listed else "",
        got=quoted(reply, client) + _redirection(reply, client),
        fix=_refusal_advice(server, reply, offers),
    )


def _redirection(reply: Reply, client: HttpClient) -> str:
    location = reply.headers.get("Location", "")
    return f", sends us to {client.readable(location)}" if location else ""


def _refusal_advice(server: Server, reply: Reply, offers: Offers) -> str:
    status = reply.status
    if 300 <= status < 400:
        return "set `base_url` to the address that it sends us to, without `/completions`"
    if status == 402:
        return "the credit is used up: top it up, then run the same command again"
    if server.page == _RAW_PAGE and _is_chat_only(reply):
        return _RAW_NEEDED
    if status in MISSING_PAGE:
        return _missing_page_advice(server, offers)
    if status in (401, 403):
        return _key_advice(server)
    return "look up the status in the server's documentation"


def _missing_page_advice(server: Server, offers: Offers) -> str:
    if server.model in offers.models:
        advice = _RAW_NEEDED if server.page == _RAW_PAGE else "use a server that offers chat"
        return f"it lists the model but has no page {server.base_url}/{server.page}: {advice}"
    if offers.models:
        return "set `model` to one that it lists"
    if offers.has_chat and server.page == _RAW_PAGE:
        return f"it offers chat alone at this address: {_RAW_NEEDED}"
    return "check `model`, and that `base_url` ends as the server wants it (most often in /v1)"


def _key_advice(server: Server) -> str:
    variable = shown_variable(server.key_variable)
    if not server.key_variable:
        return (
            "put the key into an environment variable and set `api_key_env` to that variable's name"
        )
    unset = "" if server.has_key else " (it is not set)"
    return f"set the environment variable {variable} to a valid key{unset}"


def outage(
    server: Server, error: GaveUp, client: HttpClient, *, answers_others: bool
) -> RequestError | ServiceError:
    """Make the error for a request that failed until the deadline."""
    reply = error.failure.reply
    got = quoted(reply, client) if reply else client.readable(str(error))
    is_limited = reply is not None and reply.status == _TOO_MANY_REQUESTS
    if answers_others and not is_limited:
        return RequestError(f"{got}, again and again, while the server answered other requests")
    if error.failure.fault is Fault.UNRESOLVED:
        return _misnamed(server, error, got)
    return ServiceError(
        f"no answer from the policy's server in {server.patience_minutes:g} minutes of patience",
        where=server.base_url,
        got=got,
        fix=f"{_outage_advice(server, error.failure.fault, got, is_limited=is_limited)}; "
        "then run the same command again: finished calls are kept",
    )


def _misnamed(server: Server, error: GaveUp, got: str) -> ServiceError:
    return ServiceError(
        "the name of the policy's server does not resolve",
        where=error.url.removesuffix(f"/{server.page}"),
        got=got,
        fix="correct the host in `base_url`, or look into this machine's DNS, then run the same "
        "command again: finished calls are kept",
    )


def _outage_advice(server: Server, fault: Fault, got: str, *, is_limited: bool) -> str:
    if is_limited and _NO_CREDIT.search(got):
        return "the credit or the quota seems to be used up: top it up, or wait for its renewal"
    if is_limited:
        return (
            "it limits how much we may ask: lower the concurrency (`teacher.concurrency`), "
            "set `max_requests_per_minute`, or raise `patience_minutes`"
        )
    if fault is Fault.UNREACHABLE:
        return (
            f"start it, say `vllm serve {server.model}`, or set `base_url` to one that runs; "
            "if it needs longer to start, raise `patience_minutes`"
        )
    if fault is Fault.TIMED_OUT:
        return (
            f"if it is at work, raise `timeout_seconds` (now {server.timeout_seconds:g}) "
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
    try:
        body = msgspec.json.decode(reply.body)
    except (ValueError, RecursionError):
        body = reply.body.decode("utf-8", "replace")
    return _error_message(body)


def _error_message(error: object) -> str:
    """Find the message in the body of an error, as OpenAI, vLLM or FastAPI write it."""
    if isinstance(error, dict):
        error = error.get("error") or error.get("message") or error.get("detail") or error
    if isinstance(error, dict):
        error = error.get("message") or error
    return str(error or "no message")
