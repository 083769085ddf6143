"""Ask an OpenAI-compatible server for raw completions (vLLM, SGLang, hosted ones).

Raw (`POST /v1/completions`), because continuing inside the thinking with stop strings works there
and nowhere else reliably: the chat endpoint closes and reopens turns. Requests are encoded by
msgspec, which writes 32,000 token ids at once; the `openai` package walks them id by id.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any
from urllib.parse import urlsplit

import msgspec

from coa.errors import ConfigError, ServiceError
from coa.http_client import (
    Fault,
    GaveUp,
    HttpClient,
    PassingFailure,
    Patience,
    Rejection,
    Reply,
)
from coa.model_files import fingerprint_model
from coa.policy import Completion, Request, RequestError
from coa.policy.refusals import (
    CHAT_STATUSES,
    MISSING_PAGE,
    Offers,
    Server,
    is_about_request,
    listed_models,
    outage,
    quoted,
    refusal,
)
from coa.policy.replies import decode_body, finished_text, only_choice
from coa.tokens import PieceEncoder
from coa.trajectory import Author

_MAX_STOP_STRINGS = 4
"""What OpenAI's interface allows; several servers refuse more."""
_CHARS_PER_TOKEN = 3.5
"""English text, today's vocabularies. Not learned from replies: a resumed run must count as the
first did."""
_OFFERS_SECONDS = 5.0
"""What each question may cost after what the server does offer."""
_BASE_URL = re.compile(r"https?://[^/@\s?#]+(/[^\s?#]*)?")
_PROBE_SECONDS = 60.0
"""How long another request may take that shows whether the server answers at all."""
_PROBE = Request("Hello", (), max_tokens=1, temperature=0.0, top_p=1.0, seed=0)
_SECONDS_PER_MINUTE = 60.0
_JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Which server to ask, for which model, and how patiently."""

    base_url: str = "http://127.0.0.1:8000/v1"
    """Up to and with `/v1`; the default is vLLM's."""
    model: str = ""
    """As the server knows it."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key; empty where no key is needed."""
    timeout_seconds: float = 600.0
    """How long one reply may take."""
    patience_minutes: float = 10.0
    """A request is repeated for so long, with growing, jittered pauses: after refused and lost
    connections, timeouts, 408, 409, 425, 429 (`Retry-After` is obeyed), 5xx and replies that cannot
    be read. A reply under way is waited for. Warnings tell of it meanwhile. 0 repeats nothing."""
    tokenizer: str = ""
    """Folder or Hub name of the model's tokenizer, to count tokens exactly; empty: an estimate of
    3.5 characters a token. Needs the extra `train`."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Sent with every request. For vLLM: `skip_special_tokens: false` (or a closing tag that is a
    special token vanishes), `add_special_tokens: false` (or contexts begin with two start tokens),
    and, with `tokenizer` set, `return_token_ids: true`, which makes this a policy with ids."""


class CompletionsPolicy:
    """Continues contexts by asking a server, any number at a time.

    Use it as an asynchronous context manager, or call `aclose` in the event loop that used it. Each
    event loop has connections of its own, made at its first request.
    """

    def __init__(self, settings: ServerSettings, *, deployment: str = "") -> None:
        _require_usable(settings)
        self._settings, self._deployment = settings, deployment
        self._base_url = settings.base_url.rstrip("/")
        self._url = f"{self._base_url}/completions"
        self._gives_ids = bool(settings.tokenizer and settings.extra_body.get("return_token_ids"))
        self._encoder = _load_encoder(settings.tokenizer) if settings.tokenizer else None
        key = _read_key(settings.api_key_env)
        self._server = Server(
            settings.base_url,
            settings.model,
            settings.api_key_env,
            bool(key),
            settings.timeout_seconds,
            settings.patience_minutes,
        )
        self._client = HttpClient(
            "policy's server",
            Patience(
                settings.timeout_seconds,
                settings.patience_minutes * _SECONDS_PER_MINUTE,
                cuts_attempts=False,
            ),
            headers={**_JSON, **({"Authorization": f"Bearer {key}"} if key else {})},
            secrets=(key,),
        )

    @property
    def name(self) -> str:
        """The model, as the server knows it."""
        return self._settings.model

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """What decides replies beyond the model's name.

        The address is no part of it: a run may move to another host. Where the model's name is a
        folder here, as vLLM takes it, its weights are.
        """
        parts = {
            "deployment": self._deployment,
            "weights": fingerprint_model(self.name),
            "extra_body": self._settings.extra_body,
        }
        return {name: part for name, part in parts.items() if part}

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...] | None:
        """Token ids of a piece of text; None unless the server gives ids (`return_token_ids`)."""
        if self._encoder is None or not self._gives_ids:
            return None
        return self._encoder.encode(text, is_prompt=is_prompt, author=author)

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Names of the tokenizer's control tokens; none where `tokenizer` is not set."""
        return self._encoder.control_tokens if self._encoder else ()

    def count_tokens(self, text: str) -> int:
        """Count tokens by the tokenizer, else estimate; the next reply's own count corrects it."""
        if self._encoder:
            return len(self._encoder.encode(text, is_prompt=True))
        return math.ceil(len(text) / _CHARS_PER_TOKEN)

    async def __aenter__(self) -> "CompletionsPolicy":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of the running event loop; a later request opens new ones."""
        await self._client.aclose()

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context.

        Raises:
            RequestError: the server finds fault with this request (400, 413, 422), say a context
            that is too long,
                withholds the text, or fails at this request alone for as long as we are patient.
            ServiceError: it cannot be reached or fails for as long as we are patient, or refuses
            us. ConfigError: there are more than four stop strings.
        """
        if len(request.stop) > _MAX_STOP_STRINGS:
            got = ", ".join(request.stop)
            raise ConfigError(
                "too many stop strings", expected=f"at most {_MAX_STOP_STRINGS}", got=got
            )
        read = partial(self._read, request=request)
        try:
            return await self._client.request("POST", self._url, read, data=self._body(request))
        except Rejection as rejection:
            raise await self._rejected(rejection.reply) from rejection
        except GaveUp as error:
            raise await self._given_up(error) from error

    def _body(self, request: Request) -> bytes:
        ids = request.context_ids if self._gives_ids else None
        fields: dict[str, Any] = {
            "model": self._settings.model,
            "prompt": request.context if ids is None else ids,
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        if request.stop:
            fields["stop"] = request.stop
        return msgspec.json.encode({**fields, **self._settings.extra_body})

    def _read(self, reply: Reply, request: Request) -> Completion:
        """Turn a reply with status 200 into a completion.

        Raises:
            PassingFailure: it cannot be read, or tells of an error that may pass.
            Rejection: it tells of another error.
            RequestError: the server withholds the text.
        """
        body = decode_body(reply.body)
        if body.error:
            self._client.require_success(reply._replace(status=body.error_status))
        try:
            choice = only_choice(body)
            text, finish = finished_text(choice.text, choice.finish_reason, choice.stated, request)
        except RequestError as error:
            raise RequestError(self._client.readable(str(error))) from None
        is_cut = len(text) < len(choice.text)
        ids = choice.token_ids if self._gives_ids and not is_cut else None
        return Completion(
            text,
            finish,
            self._num_written(text, len(choice.text), body.count("completion_tokens")),
            body.count("prompt_tokens") or None,
            None if ids is None else tuple(ids),
        )

    def _num_written(self, text: str, num_chars: int, counted: int | None) -> int:
        """How many tokens `text` has: a share of those that the server `counted` in `num_chars`."""
        is_cut = len(text) < num_chars
        if not counted or (is_cut and self._encoder):
            return self.count_tokens(text)
        return math.ceil(counted * len(text) / num_chars) if is_cut else counted

    async def _rejected(self, reply: Reply) -> RequestError | ServiceError:
        if is_about_request(reply):
            return RequestError(quoted(reply, self._client))
        offers = await self._offers() if reply.status in MISSING_PAGE else Offers()
        return refusal(self._server, reply, offers, self._client)

    async def _offers(self) -> Offers:
        """What the server does offer; nothing where it does not answer."""
        asked = msgspec.json.encode({"model": self._settings.model})
        try:
            listing = await self._client.attempt("GET", f"{self._base_url}/models", _OFFERS_SECONDS)
            chat = await self._client.attempt(
                "POST", f"{self._base_url}/chat/completions", _OFFERS_SECONDS, data=asked
            )
        except (PassingFailure, Rejection):
            return Offers()
        return Offers(listed_models(listing.body), chat.status in CHAT_STATUSES)

    async def _given_up(self, error: GaveUp) -> RequestError | ServiceError:
        answers_others = error.others_answered
        if not answers_others and error.failure.fault is not Fault.UNREACHABLE:
            answers_others = await self._answers_another()
        return outage(self._server, error, self._client, answers_others=answers_others)

    async def _answers_another(self) -> bool:
        """Ask for one token: if it comes, the request that kept failing is itself at fault."""
        seconds = min(self._settings.timeout_seconds, _PROBE_SECONDS)
        try:
            reply = await self._client.attempt("POST", self._url, seconds, data=self._body(_PROBE))
            self._client.require_success(reply)
            self._read(reply, _PROBE)
        except (PassingFailure, Rejection, RequestError):
            return False
        return True


def _require_usable(settings: ServerSettings) -> None:
    where = settings.base_url
    if not settings.model:
        raise ConfigError(
            "no model is named", where=where, fix="set `model` to one the server lists"
        )
    if not _is_usable(settings.base_url):  # it may hold a password: it is not shown
        raise ConfigError(
            "base_url is not usable",
            where="the section's `server`",
            expected="http://... or https://... without credentials and query",
        )
    if settings.timeout_seconds <= 0:
        raise ConfigError("timeout_seconds must be positive", where=where)
    if settings.patience_minutes < 0:
        raise ConfigError("patience_minutes must not be negative", where=where)


def _is_usable(base_url: str) -> bool:
    """Whether requests can be sent there at all."""
    try:
        parts = urlsplit(base_url)
        host, _ = (parts.hostname or "").encode("idna"), parts.port
    except ValueError:
        return False
    return bool(host and _BASE_URL.fullmatch(base_url))


def _read_key(variable: str) -> str:
    """The key in the environment; empty where there is none."""
    key = os.environ.get(variable, "").strip() if variable else ""
    if not (key.isascii() and key.isprintable()):
        raise ConfigError("the key cannot be sent", where=f"environment variable {variable}")
    return key


def _load_encoder(tokenizer: str) -> PieceEncoder:
    from coa.policy.local import load_tokenizer

    return PieceEncoder(load_tokenizer(tokenizer))
