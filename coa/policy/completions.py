"""Ask an OpenAI-compatible server for raw completions (vLLM, SGLang, hosted ones).

The endpoint is the raw one (`POST /v1/completions`): only there can a text be continued inside the
thinking, with stop strings, reliably. The chat endpoint closes and reopens turns. msgspec encodes
the requests, because it writes 32,000 token ids at once; the `openai` package walks them id by id.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple, Self, TypeVar

import msgspec

from coa.errors import ConfigError, ServiceError
from coa.network.http_client import (
    NO_CONNECTION,
    Connections,
    Fault,
    GaveUp,
    HttpClient,
    PassingFailure,
    Patience,
    Rejection,
    Reply,
)
from coa.network.pace import Limits
from coa.network.servers import Servers
from coa.policy import Completion, Finish, Request, RequestError, TokenId, cut_at_stop
from coa.policy.probe import STORY, look_at_story, story_question
from coa.policy.refusals import (
    MISSING_PAGE,
    Asked,
    is_about_request,
    listed_models,
    outage,
    quoted,
    refusal,
)
from coa.policy.server_settings import (
    ServerSettings,
    read_key,
    require_key,
    require_usable,
    secrets_of,
)
from coa.progress import Traffic
from coa.records import protocol
from coa.records.tokens import PieceEncoder
from coa.records.trajectory import Author
from coa.records.usage import Usage, read_count, read_usage
from coa.store.model_files import fingerprint_model
from coa.store.under_way import call_under_way

_MAX_STOP_STRINGS = 4
"""The limit of OpenAI's interface; several servers refuse more."""
_LISTING_SECONDS = 5.0
"""How long the request may take that asks which models a server has."""
_PROBE_SECONDS = 60.0
"""How long the request may take that tests whether the server answers at all."""
_ADDED_TOKENS = 8
"""The most that a server adds to a context, such as a token for its beginning."""
_PROBE = Request("Hello", (), max_tokens=1, temperature=0.0, top_p=1.0, seed=0)
_SECONDS_PER_MINUTE = 60.0
_JSON = {"Content-Type": "application/json"}
_STREAM = "text/event-stream"


_STOP_FIELDS = ("stop_reason", "matched_stop")
"""The fields in which vLLM and SGLang say which stop string ended a text.

Null or a token id means that the policy ended its turn.
"""
_ENDS = frozenset({"stop", "length", None})
"""Values of `finish_reason` that say how a text ended."""
_FAILED_ENDS = frozenset({"error", "abort"})
"""Values of `finish_reason` that say that the server failed on the way."""


class _Choice(msgspec.Struct):
    """One text that the server wrote."""

    text: str | None = None
    finish_reason: str | None = None
    stop_reason: Any = msgspec.UNSET
    matched_stop: Any = msgspec.UNSET
    token_ids: list[TokenId] | None = None


class Envelope(msgspec.Struct):
    """What replies have in common; an error may come in their place, with status 200 too."""

    raw_usage: msgspec.Raw = msgspec.field(default=msgspec.Raw(b"null"), name="usage")
    """It is decoded by itself: an odd number there is no reason to pay for the reply again."""
    error: Any = None

    @property
    def usage(self) -> object:
        """Return the field `usage`; None where it is missing or cannot be read."""
        try:
            return msgspec.json.decode(self.raw_usage)
        except (ValueError, RecursionError):
            return None

    def count(self, name: str) -> int | None:
        """Read a number of tokens in `usage`; None where the server does not say it."""
        usage = self.usage
        return read_count(usage.get(name)) if isinstance(usage, dict) else None

    @property
    def error_status(self) -> int:
        """Return the status that belongs to an error in a reply with status 200."""
        code = self.error.get("code") if isinstance(self.error, dict) else None
        if isinstance(code, int) and 400 <= code < 600:
            return code
        return 500


class Body(Envelope):
    """A reply of `POST /v1/completions`."""

    choices: list[_Choice] | None = None


RAW_BODY = msgspec.json.Decoder(Body)
_Body = TypeVar("_Body", bound=Envelope)


def decode_reply(body: bytes, decoder: msgspec.json.Decoder[_Body]) -> _Body:
    """Decode a reply with lone surrogates replaced, which some servers write for half a character.

    A reply that cannot be read is a `PassingFailure`.
    """
    try:
        try:
            return decoder.decode(body)
        except msgspec.DecodeError:
            if b"\\u" not in body:
                raise
            plain = json.dumps(json.loads(body), ensure_ascii=False)
            return decoder.decode(plain.encode(errors="replace"))
    except (ValueError, RecursionError) as error:
        raise PassingFailure(Fault.ODD_REPLY, f"a reply that cannot be read ({error})") from error


class Written(NamedTuple):
    """A text that the server wrote."""

    text: str
    finish_reason: str | None
    stated: Mapping[str, object]
    """The fields beyond the protocol in which the server says how the text ended."""
    token_ids: list[int] | None


def with_usage(completion: Completion, body: Envelope, num_read: Callable[[], int]) -> Completion:
    """Add what the server reports beyond the two counts, where that is anything."""
    usage = read_usage(body.usage, completion.num_tokens, num_read)
    return completion if completion.charged == usage else replace(completion, usage=usage)


def only_choice(body: Body) -> Written:
    """Return the text that was asked for; a `RequestError` where the server withholds it."""
    if not body.choices:
        raise PassingFailure(Fault.ODD_REPLY, "a reply without choices")
    choice = body.choices[0]
    if choice.finish_reason in _FAILED_ENDS:
        reason = f"a text that ends with finish_reason {choice.finish_reason!r}"
        raise PassingFailure(Fault.ODD_REPLY, reason)
    if choice.text is None:
        if choice.finish_reason not in _ENDS:
            raise _withheld(choice.finish_reason)
        raise PassingFailure(Fault.ODD_REPLY, "a reply without text")
    stated = {}
    for name in _STOP_FIELDS:
        value = getattr(choice, name)
        if value is not msgspec.UNSET:
            stated[name] = value
    return Written(choice.text, choice.finish_reason, stated, choice.token_ids)


def finished_text(
    text: str, reason: str | None, extra: Mapping[str, object], request: Request
) -> tuple[str, Finish]:
    """Complete a text with its stop string, and say why it ended.

    Where the server keeps the stop string or ignores it, the text is cut after it. Where the server
    drops it, `extra` (the choice's fields beyond the protocol) names it or says that there was
    none. Other servers report a stop string and the end of a turn alike, as "stop": then a tool's
    closing tag is restored if its opening tag is open, and any other stop string if it is the only
    one. A text that ended for another reason, say a content filter, is a `RequestError`.
    """
    kept, has_stopped = cut_at_stop(text, request.stop)
    if has_stopped:
        return kept, Finish.STOP
    if reason == "length":
        return text, Finish.LENGTH
    if reason not in _ENDS:
        raise _withheld(reason)
    stated = [extra[name] for name in _STOP_FIELDS if name in extra]
    stop = stated[0] if stated else _likely_stop(text, request)
    if isinstance(stop, str) and stop in request.stop:
        return text + stop, Finish.STOP
    return text, Finish.END


def _withheld(reason: str | None) -> RequestError:
    return RequestError(f"the server ended the text with finish_reason {reason!r}")


def _likely_stop(text: str, request: Request) -> str | None:
    """Guess the stop string that a server dropped silently; None when the turn has ended."""
    stop_of_tag = {}
    for stop in request.stop:
        opening = _opening_tag(stop)
        if opening:
            stop_of_tag[opening] = stop
    triggers = [tag for tag in stop_of_tag if request.context.endswith(tag)]
    trigger = triggers[0] if triggers else ""
    written = (trigger + text).rpartition(protocol.THINK_CLOSE)[2]
    last_open = max(stop_of_tag, key=written.rfind, default="")
    if last_open and last_open in written:
        return stop_of_tag[last_open]
    if len(request.stop) == 1 and not stop_of_tag:
        return request.stop[0]
    return None


def _opening_tag(stop: str) -> str | None:
    """Return the tag that opens what `stop` closes; None when `stop` closes no tool's tag."""
    before, _, after = protocol.close_tag(" ").partition(" ")
    has_name = len(stop) > len(before) + len(after)
    if not has_name or not stop.startswith(before) or not stop.endswith(after):
        return None
    return protocol.open_tag(stop.removeprefix(before).removesuffix(after))


class CompletionsPolicy:
    """A policy that continues contexts by asking a server, any number at a time.

    Use it as an asynchronous context manager, or call `aclose` in the event loop that used it. Each
    event loop has connections of its own, made at its first request.
    """

    _page = "completions"
    """The last part of the address that is asked."""

    def __init__(
        self, settings: ServerSettings, *, deployment: str = "", place: str = "server"
    ) -> None:
        """Check the settings; `place` names their section in errors, such as `teacher.server`."""
        require_usable(settings, place)
        self._settings = settings
        self._place = place
        self._deployment = deployment
        self._gives_ids = bool(settings.tokenizer and settings.extra_body.get("return_token_ids"))
        self._encoder: PieceEncoder | None = None
        if settings.tokenizer:
            from coa.policy.local.model import load_tokenizer

            self._encoder = PieceEncoder(load_tokenizer(settings.tokenizer))
        key = read_key(settings.api_key_env)
        self.where = ", ".join(settings.addresses)
        """The addresses of the servers."""
        self._asked = Asked(settings, self._page, has_key=bool(key))
        self.traffic = Traffic()
        limits = Limits(settings.max_requests_per_minute, settings.max_tokens_per_minute)
        self._forecast = TokenForecast(limits)
        headers = {**_JSON, **settings.headers}
        if key:
            headers.setdefault("Authorization", f"Bearer {key}")
        secrets = (key, *secrets_of(settings))
        self._client = HttpClient(
            "policy's server",
            Patience(
                settings.timeout_seconds,
                settings.patience_minutes * _SECONDS_PER_MINUTE,
                cuts_attempts=False,
            ),
            headers=headers,
            secrets=(*secrets, *settings.headers.values()),
            masked=secrets,
            before_repeat=self._count_repeat,
            servers=Servers(settings.addresses),
            limits=limits,
            connect=self._connect,
        )

    @staticmethod
    def _connect(headers: Mapping[str, str], readable: Callable[[str], str]) -> Connections:
        """Open the connections of an event loop."""
        return Connections(headers, readable)

    def require_key(self) -> None:
        """Refuse a key that is not there; opening alone needs none, as lineage only reads names."""
        require_key(self._settings, self._place)

    @property
    def name(self) -> str:
        """Return the model's name on the server."""
        return self._settings.model

    @cached_property
    def identity(self) -> Mapping[str, object]:
        """Return what decides replies beyond the model's name.

        The address is not included: a run may move to another host. The weights are included where
        the model's name is a folder on this machine, as vLLM accepts it.
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
        """Encode a piece of text; None unless the server gives ids (`return_token_ids`)."""
        if self._encoder is None or not self._gives_ids:
            return None
        return self._encoder.encode(text, is_prompt=is_prompt, author=author)

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Return the names of the tokenizer's control tokens; none without `tokenizer`."""
        return self._encoder.control_tokens if self._encoder else ()

    def count_tokens(self, text: str) -> int:
        """Count tokens with the tokenizer, or estimate; the next reply's own count corrects it."""
        if self._encoder:
            return len(self._encoder.encode(text, is_prompt=True))
        return math.ceil(len(text) / CHARS_PER_TOKEN)

    def most_context_tokens(self, request: Request) -> int:
        """Return the most tokens that a request's context may have, for caps."""
        if self._gives_ids and request.context_ids is not None:
            return len(request.context_ids)
        if self._encoder:
            return self.count_tokens(request.context) + _ADDED_TOKENS
        return len(self._body(request))  # a token has at least one byte

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of the running event loop; a later request opens new ones."""
        await self._client.aclose()

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context.

        Raises:
            RequestError: the server rejects this request, withholds the text, or fails at this
                request alone until our patience ends.
            ServiceError: the server cannot be reached or fails until our patience ends, or it
                refuses us.
            ConfigError: there are more than four stop strings, or the server streams its reply.
        """
        expected = self._forecast.expect(request)
        headers = {}
        if request.session:
            # Routers keep a trajectory on one server by them: several read the first, SGLang's the
            # second.
            headers = {"X-Session-ID": request.session, "X-SMG-Routing-Key": request.session}
        try:
            completion = await self._client.request(
                "POST",
                f"/{self._page}",
                partial(self._read_whole, request=request),
                session=request.session or "",
                num_tokens=expected,
                data=self._body(request),
                headers=headers,
            )
        except Rejection as rejection:
            raise await self._rejected(rejection.reply) from rejection
        except GaveUp as error:
            answers_others = error.others_answered
            if not answers_others and error.failure.fault not in NO_CONNECTION:
                answers_others = await self._answers_another(error.url)
            raise outage(self._asked, error, self._client, answers_others=answers_others) from error
        self._forecast.correct(request, expected, completion)
        return completion

    def probe_questions(self, like: Request) -> tuple[Request, ...]:
        """Return the questions that a probe asks before a run with requests like this one."""
        return (story_question(like, self.encode(STORY, is_prompt=True)),)

    def look_at_probe(self, replies: Sequence[Completion]) -> dict[str, str]:
        """Say what the server made of these questions; a contradiction is a ConfigError."""
        (reply,) = replies
        decoded = None
        if self._encoder is not None and reply.ids is not None:
            decoded = self._encoder.decode(reply.ids)
        return look_at_story(reply, decoded, where=self.where, gives_ids=self._gives_ids)

    def probe_key(self, request: Request) -> tuple[object, ...]:
        """Return what the reply to a question of a probe depends on: what is sent, and to whom."""
        return (self._page, self.where, self._deployment, self._body(request).decode())

    def _body(self, request: Request) -> bytes:
        if len(request.stop) > _MAX_STOP_STRINGS:
            raise ConfigError(
                "too many stop strings",
                expected=f"at most {_MAX_STOP_STRINGS}",
                got=", ".join(request.stop),
            )
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
        fields |= self._session_fields(request)
        return msgspec.json.encode({**fields, **self._settings.extra_body})

    def _session_fields(self, request: Request) -> dict[str, str]:
        """Name the trajectory in the body, for a router that asks for it there."""
        if self._settings.session_field and request.session:
            return {self._settings.session_field: request.session}
        return {}

    def _read_whole(self, reply: Reply, request: Request) -> Completion:
        """Turn a reply with status 200 into a completion, unless it comes in pieces."""
        if reply.headers.get("Content-Type", "").startswith(_STREAM):
            raise ConfigError(
                "the server streams its reply, and only whole replies are read",
                where=reply.url,
                got=f"Content-Type: {_STREAM}",
                fix="remove `stream` from teacher.server.extra_body",
            )
        try:
            return self._read(reply, request)
        except PassingFailure:
            call_under_way().lose(self._usage_of_lost(reply, request))
            raise
        except RequestError as error:
            call_under_way().lose(self._usage_of_lost(reply, request))
            raise RequestError(self._client.readable(str(error))) from None

    def _usage_of_lost(self, reply: Reply, request: Request) -> Usage:
        """Tell or estimate what a reply with status 200 cost that cannot be used."""
        try:
            body = msgspec.json.decode(reply.body.lstrip(), type=Envelope)
        except (ValueError, RecursionError):
            body = Envelope()
        if body.error and not body.usage:
            return Usage(0, 0, is_estimated=True)
        num_written = math.ceil(len(reply.body) / CHARS_PER_TOKEN)
        return read_usage(body.usage, num_written, lambda: self._num_read(request))

    def _read(self, reply: Reply, request: Request) -> Completion:
        """Turn a reply with status 200 into a completion."""
        body = self._decode(reply, RAW_BODY)
        choice = only_choice(body)
        text, finish = finished_text(choice.text, choice.finish_reason, choice.stated, request)
        is_cut = len(text) < len(choice.text)
        ids = choice.token_ids if self._gives_ids and not is_cut else None
        counted = body.count("completion_tokens")
        num_tokens = self._num_written(text, len(choice.text), counted)
        completion = Completion(
            text=text,
            finish=finish,
            num_tokens=num_tokens,
            num_context_tokens=body.count("prompt_tokens") or None,
            ids=None if ids is None else tuple(ids),
        )
        return with_usage(completion, body, lambda: self._num_read(request))

    def _decode(self, reply: Reply, decoder: msgspec.json.Decoder[_Body]) -> _Body:
        """Decode a reply, and raise the error that may come in its place."""
        body = decode_reply(reply.body, decoder)
        if body.error:
            self._client.require_success(reply._replace(status=body.error_status))
        return body

    def _num_read(self, request: Request) -> int:
        """Count the tokens of a context that the server did not count."""
        if request.context_ids is not None:
            return len(request.context_ids)
        return self.count_tokens(request.context)

    def _num_written(self, text: str, num_chars: int, counted: int | None) -> int:
        """Count the tokens of a text, which had `num_chars` and `counted` tokens before it was cut.

        Where the text was cut, that is a share of what the server counted.
        """
        is_cut = len(text) < num_chars
        if not counted or (is_cut and self._encoder):
            return self.count_tokens(text)
        if is_cut:
            return math.ceil(counted * len(text) / num_chars)
        return counted

    async def _rejected(self, reply: Reply) -> RequestError | ServiceError:
        if is_about_request(reply, self._page):
            call_under_way().lose(Usage(0, 0))
            return RequestError(quoted(reply, self._client))
        models: tuple[str, ...] = ()
        if reply.status in MISSING_PAGE:
            models = await self._listed_models(reply.url.removesuffix(f"/{self._page}"))
        return refusal(self._asked, reply, models, self._client)

    async def _listed_models(self, base_url: str) -> tuple[str, ...]:
        try:
            listing = await self._client.attempt("GET", f"{base_url}/models", _LISTING_SECONDS)
        except (PassingFailure, Rejection):
            return ()
        return listed_models(listing.body)

    def _count_repeat(self) -> None:
        self.traffic.retried += 1

    async def _answers_another(self, url: str) -> bool:
        """Ask for one token: if it comes, the request that kept failing is itself at fault."""
        seconds = min(self._settings.timeout_seconds, _PROBE_SECONDS)
        try:
            reply = await self._client.attempt("POST", url, seconds, data=self._body(_PROBE))
            self._client.require_success(reply)
            call_under_way().lose(self._read(reply, _PROBE).charged)
        except (PassingFailure, Rejection, RequestError):
            return False
        return True


CHARS_PER_TOKEN = 3.5
"""An estimate for English text and today's vocabularies.

It is not learned from replies: a resumed run must count as the first did.
"""
_FIRST_WRITTEN_TOKENS = 256.0
"""The tokens that a turn is expected to have before any was seen."""
_NEWEST_SHARE = 0.05
"""The weight of the newest turn in the mean."""


class TokenForecast:
    """Estimates the tokens of requests, and corrects `limits` by what a reply reports."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._mean_written = _FIRST_WRITTEN_TOKENS

    def expect(self, request: Request) -> float:
        """Return the tokens that a request will use: its context, and a turn of mean length."""
        if not self._limits.counts_tokens:
            return 0.0
        return _context_tokens(request) + min(self._mean_written, request.max_tokens)

    def correct(self, request: Request, expected: float, completion: Completion) -> None:
        """Count what a request used in place of what was expected."""
        if not self._limits.counts_tokens:
            return
        context = completion.num_context_tokens or _context_tokens(request)
        self._limits.correct_tokens(context + completion.num_tokens - expected)
        self._mean_written += _NEWEST_SHARE * (completion.num_tokens - self._mean_written)


def _context_tokens(request: Request) -> float:
    if request.context_ids is not None:
        return float(len(request.context_ids))
    return len(request.context) / CHARS_PER_TOKEN
