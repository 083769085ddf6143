"""A policy behind an OpenAI-compatible server's raw completions, `POST /v1/completions` (vLLM, SGLang, hosted).

Raw, because continuing inside the thinking with stop strings works there and nowhere else reliably: the chat endpoint
closes and reopens turns. The connection, its pool and its jittered retries are the `openai` package's, over aiohttp:
over httpx a request costs twice the CPU and hundreds in flight stall each other.
"""

import asyncio
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from coa import protocol
from coa.errors import ConfigError, ServiceError
from coa.policy import Completion, Finish, Request, RequestError, cut_at_stop
from coa.tokens import PieceEncoder
from coa.trajectory import Author

if TYPE_CHECKING:
    import openai

_MAX_STOP_STRINGS = 4
"""What OpenAI's interface allows; several servers refuse more."""
_CHARS_PER_TOKEN = 3.5
"""English text, today's vocabularies. Not learned from replies: a resumed run must count as the first did."""
_CONNECT_SECONDS = 10.0
"""A server that takes longer to accept a connection is not there."""
_LISTING_SECONDS = 5.0
"""What asking for the server's models may cost."""
_MAX_MESSAGE_CHARS = 300
_NO_KEY = "EMPTY"
"""Sent where no key is needed: the client insists on one, and must not pick up OPENAI_API_KEY for a foreign server."""
_STOP_FIELDS = ("stop_reason", "matched_stop")
"""Where vLLM and SGLang say which stop string ended a text (null or a token id: the policy ended its turn)."""
_CONTEXT_STATUSES = frozenset({400, 413, 422})
"""The request itself is at fault, most often because its context is too long."""
_REFUSALS = frozenset({401, 403, 404})


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
    max_retries: int = 4
    """Repeats after a failed connection, a timeout, 408, 409, 429 and 5xx, with growing, jittered pauses."""
    tokenizer: str = ""
    """Folder or Hub name of the model's tokenizer, to count tokens exactly; empty: an estimate."""
    extra_body: dict[str, Any] = field(default_factory=dict)
    """Sent with every request. For vLLM: `skip_special_tokens: false` (or a closing tag that is special vanishes),
    `add_special_tokens: false` (or contexts begin with two start tokens), and, with `tokenizer` set,
    `return_token_ids: true`, which makes this a policy with ids."""


class CompletionsPolicy:
    """Continues contexts by asking a server, any number at a time.

    Use it as an asynchronous context manager, or call `aclose` in the event loop that used it. Each event loop has a
    client of its own, made at its first request.
    """

    def __init__(self, settings: ServerSettings) -> None:
        if not settings.model:
            raise ConfigError(
                "no model is named",
                where=settings.base_url,
                fix="set `model` to one the server lists",
            )
        if not settings.base_url.startswith(("http://", "https://")):
            raise ConfigError(
                "base_url is no URL", expected="http://... or https://...", got=settings.base_url
            )
        self._settings = settings
        self._gives_ids = bool(settings.tokenizer and settings.extra_body.get("return_token_ids"))
        self._encoder = _load_encoder(settings.tokenizer) if settings.tokenizer else None
        self._clients: WeakKeyDictionary[asyncio.AbstractEventLoop, openai.AsyncOpenAI] = (
            WeakKeyDictionary()
        )

    @property
    def name(self) -> str:
        """The model, as the server knows it."""
        return self._settings.model

    def encode(
        self, text: str, *, is_prompt: bool = False, author: Author = Author.ENVIRONMENT
    ) -> tuple[int, ...] | None:
        """Token ids of a piece of text; None unless the server gives ids too (`return_token_ids`)."""
        if self._encoder is None or not self._gives_ids:
            return None
        return self._encoder.encode(text, is_prompt=is_prompt, author=author)

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """Names of the tokenizer's control tokens; none where `tokenizer` is not set."""
        return self._encoder.control_tokens if self._encoder else ()

    def count_tokens(self, text: str) -> int:
        """How many tokens `text` costs: by the tokenizer, else estimated; the next reply's own count corrects it."""
        if self._encoder:
            return len(self._encoder.encode(text, is_prompt=True))
        return math.ceil(len(text) / _CHARS_PER_TOKEN)

    async def __aenter__(self) -> "CompletionsPolicy":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections of the running event loop; a later request opens new ones."""
        client = self._clients.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()

    async def complete(self, request: Request) -> Completion:
        """Continue the request's context.

        Raises:
            RequestError: the server finds fault with this request (400, 413, 422), say a context that is too long, or
                withholds the text.
            ServiceError: it cannot be reached or fails after all retries, refuses us, or speaks something else.
            ConfigError: there are more than four stop strings.
        """
        if len(request.stop) > _MAX_STOP_STRINGS:
            got = ", ".join(request.stop)
            raise ConfigError(
                "too many stop strings", expected=f"at most {_MAX_STOP_STRINGS}", got=got
            )
        return self._read(await self._send(request), request)

    def _client(self) -> "openai.AsyncOpenAI":
        import openai

        loop, settings = asyncio.get_running_loop(), self._settings
        if loop not in self._clients:
            # Waiting for one of the pool's connections is no failure of the server, so it has no limit.
            timeout = openai.Timeout(settings.timeout_seconds, connect=_CONNECT_SECONDS, pool=None)
            self._clients[loop] = openai.AsyncOpenAI(
                base_url=settings.base_url,
                api_key=self._key() or _NO_KEY,
                timeout=timeout,
                max_retries=settings.max_retries,
                http_client=openai.DefaultAioHttpClient(timeout=timeout),
            )
        return self._clients[loop]

    def _key(self) -> str:
        return os.environ.get(self._settings.api_key_env, "") if self._settings.api_key_env else ""

    async def _send(self, request: Request) -> "openai.types.Completion":
        import openai

        ids = request.context_ids if self._gives_ids else None
        try:
            return await self._client().completions.create(
                model=self._settings.model,
                prompt=request.context if ids is None else list(ids),
                stop=list(request.stop) or openai.omit,
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                top_p=request.top_p,
                seed=request.seed,
                extra_body=self._settings.extra_body or None,
            )
        except openai.APIStatusError as error:
            raise await self._status_error(error) from error
        except openai.APIConnectionError as error:
            raise self._connection_error(error) from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise self._protocol_error(error) from error

    async def _status_error(self, error: "openai.APIStatusError") -> RequestError | ServiceError:
        status, where = error.status_code, self._settings.base_url
        got = f"HTTP {status}: {self._shorten(_server_message(error.body))}"
        if status in _CONTEXT_STATUSES:
            return RequestError(got)
        if status not in _REFUSALS:
            what = f"the policy's server fails, after {self._settings.max_retries} retries where they make sense"
            return ServiceError(what, where=where, got=got, fix="look into the server's log")
        what = f"the policy's server refuses us, asked for the model {self.name!r}"
        models = ", ".join(await self._models())
        expected = f"one of its models: {models}" if models else ""
        return ServiceError(
            what, where=where, expected=expected, got=got, fix=self._refusal_fix(status)
        )

    def _refusal_fix(self, status: int) -> str:
        if status == 404:
            return (
                "check `model`, and that `base_url` ends as the server wants it (most often in /v1)"
            )
        variable = self._settings.api_key_env
        if not variable:
            return "put the key into an environment variable and set `api_key_env` to that variable's name"
        return f"set the environment variable {variable} to a valid key" + (
            "" if self._key() else " (it is not set)"
        )

    async def _models(self) -> list[str]:
        """The models that the server lists; none where it does not answer."""
        import openai

        client = self._client().with_options(max_retries=0, timeout=_LISTING_SECONDS)
        try:
            page = await client.models.list()
            return sorted(str(model.id) for model in page.data)
        except (
            openai.OpenAIError,
            ValueError,
            AttributeError,
            TypeError,
        ):  # any server, any answer
            return []

    def _connection_error(self, error: "openai.APIConnectionError") -> ServiceError:
        cause = _root_cause(error)
        fix = f"start it, say `vllm serve {self.name}`, or set `base_url` to one that runs"
        if isinstance(cause, TimeoutError):
            fix += "; if it is at work, raise `timeout_seconds` or lower the concurrency"
        what = f"no answer from the policy's server after {self._settings.max_retries} retries"
        got = self._shorten(str(cause) or type(cause).__name__)
        return ServiceError(what, where=self._settings.base_url, got=got, fix=fix)

    def _protocol_error(self, got: object) -> ServiceError:
        return ServiceError(
            "the policy's server does not speak the completions protocol",
            where=self._settings.base_url,
            expected="JSON with `choices`, as OpenAI's /v1/completions answers",
            got=self._shorten(str(got)),
            fix="check `base_url`: most often it ends in /v1",
        )

    def _shorten(self, message: str) -> str:
        """One readable line of what a server said; the key is struck out, as some servers repeat it."""
        key = self._key()
        line = " ".join((message.replace(key, "***") if key else message).split())
        return line if len(line) <= _MAX_MESSAGE_CHARS else f"{line[:_MAX_MESSAGE_CHARS]}..."

    def _read(self, reply: object, request: Request) -> Completion:
        """Turn a reply into a completion, and learn from its counts."""
        choice = next(iter(getattr(reply, "choices", None) or ()), None)
        if not isinstance(getattr(choice, "text", None), str):
            raise self._protocol_error(reply)
        assert choice is not None
        text, finish = finished_text(
            choice.text, choice.finish_reason, choice.model_extra or {}, request
        )
        usage = getattr(reply, "usage", None)
        num_context_tokens = getattr(usage, "prompt_tokens", None)
        num_tokens = getattr(usage, "completion_tokens", None)
        wrote_on = len(text) < len(choice.text)
        if num_tokens is None or wrote_on:
            num_tokens = self.count_tokens(text)
        ids = (
            (choice.model_extra or {}).get("token_ids")
            if self._gives_ids and not wrote_on
            else None
        )
        return Completion(
            text, finish, num_tokens, num_context_tokens, None if ids is None else tuple(ids)
        )


def finished_text(
    text: str, reason: str | None, extra: Mapping[str, object], request: Request
) -> tuple[str, Finish]:
    """What was written, ending with its stop string, and why it ended.

    Servers that keep the stop string or ignore it are cut after it. Where it was dropped, `extra` (the choice's fields
    beyond the protocol) names it or says that there was none. Other servers report a stop string and the end of a turn
    alike, as "stop": then a tool's closing tag is restored where its opening tag stands open, inserted triggers
    included; any other stop string where it is the only one asked for; and else the turn has ended.

    Raises:
        RequestError: the server ended the text for another reason, say its content filter.
    """
    kept, has_stopped = cut_at_stop(text, request.stop)
    if has_stopped:
        return kept, Finish.STOP
    if reason == "length":
        return text, Finish.LENGTH
    if reason not in ("stop", None):
        raise RequestError(f"the server ended the text with finish_reason {reason!r}")
    stated = [extra[name] for name in _STOP_FIELDS if name in extra]
    stop = stated[0] if stated else _likely_stop(text, request)
    return (
        (text + stop, Finish.STOP)
        if isinstance(stop, str) and stop in request.stop
        else (text, Finish.END)
    )


def _likely_stop(text: str, request: Request) -> str | None:
    """The stop string that a server dropped without saying so; None when the turn has ended."""
    tags = {tag: stop for stop in request.stop if (tag := _opening_tag(stop))}
    trigger = next((tag for tag in tags if request.context.endswith(tag)), "")
    written = (trigger + text).rpartition(protocol.THINK_CLOSE)[2]
    last_open = max(tags, key=written.rfind, default="")
    if last_open and last_open in written:
        return tags[last_open]
    return request.stop[0] if len(request.stop) == 1 and not tags else None


def _opening_tag(stop: str) -> str | None:
    """The tag that opens what `stop` closes; None when `stop` is not a tool's closing tag."""
    before, _, after = protocol.close_tag(" ").partition(" ")
    is_tag = (
        stop.startswith(before) and stop.endswith(after) and len(stop) > len(before) + len(after)
    )
    return protocol.open_tag(stop.removeprefix(before).removesuffix(after)) if is_tag else None


def _server_message(body: object) -> str:
    """The message in the body of an error, as OpenAI, vLLM or FastAPI write it."""
    if isinstance(body, dict):
        body = body.get("message") or body.get("detail") or body
    return str(body or "no message")


def _root_cause(error: BaseException) -> BaseException:
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _load_encoder(tokenizer: str) -> PieceEncoder:
    from coa.policy.local import load_tokenizer

    return PieceEncoder(load_tokenizer(tokenizer))
