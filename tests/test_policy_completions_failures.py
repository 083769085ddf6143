"""Answer failures and refusals of a completions server, by name and without showing a key."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from coa.errors import ConfigError, ServiceError
from coa.policy import Completion, Request, RequestError
from coa.policy.chat.families import ChatSettings
from coa.policy.chat.policy import ChatPolicy
from coa.policy.completions import CompletionsPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import error_response
from coa.policy.server_settings import ServerSettings
from coa.spending.journaled import JournaledPolicy
from coa.spending.ledger import Ledger
from coa.spending.prices import CostParams
from coa.store.journal import Journal
from tests.completions_support import (
    SECRET,
    always,
    ask,
    first,
    free_port,
    request,
    run,
)
from tests.doubles.model_server import serve


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_the_server_rejects_is_a_request_error(status: int) -> None:
    with pytest.raises(RequestError, match=f"HTTP {status}: maximum context length is 2048 tokens"):
        run(ask([], fails=always(status, "maximum context length is 2048 tokens")))


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_names_the_variable_and_never_the_key(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", SECRET)
    sent: list[str] = []

    def refuse(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        sent.append(http_request.headers["Authorization"])
        return error_response(status, f"invalid key {SECRET}")

    with pytest.raises(ServiceError) as caught:
        run(ask([], settings={"api_key_env": "TEACHER_KEY"}, fails=refuse))

    assert sent[0] == f"Bearer {SECRET}"
    assert "TEACHER_KEY" in str(caught.value) and "http://127.0.0.1" in str(caught.value)
    assert SECRET not in str(caught.value) + repr(caught.value)


def test_a_variable_that_is_not_set_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TEACHER_KEY", raising=False)

    with pytest.raises(ServiceError, match=r"TEACHER_KEY.*it is not set"):
        run(ask([], settings={"api_key_env": "TEACHER_KEY"}, fails=always(401, "no key")))


def test_no_key_of_the_environment_is_sent_unasked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    headers: list[Mapping[str, str]] = []

    def record(http_request: web.Request, body: Mapping[str, Any]) -> None:
        headers.append(http_request.headers)

    run(ask(["yes"], fails=record))

    assert "Authorization" not in headers[0]


def test_an_unknown_model_names_the_models_there_are() -> None:
    with pytest.raises(ServiceError, match=r"'missing'[\s\S]*one of its models: scripted"):
        run(ask([], settings={"model": "missing"}))


def test_a_wrong_path_is_told_from_a_wrong_model() -> None:
    async def ask_without_v1() -> None:
        async with serve(ScriptedPolicy([])) as base_url:
            settings = ServerSettings(base_url.removesuffix("/v1"), "scripted")
            async with CompletionsPolicy(settings) as policy:
                await policy.complete(request())

    with pytest.raises(ServiceError, match="most often in /v1"):
        run(ask_without_v1())


@pytest.mark.parametrize("status", [429, 500])
def test_a_lasting_failure_is_a_service_error(status: int) -> None:
    calls: list[int] = []

    def fail(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        calls.append(status)
        return error_response(status, "out of memory")

    with pytest.raises(ServiceError, match=f"HTTP {status}: out of memory"):
        run(ask([], settings={"patience_minutes": 0.02}, fails=fail))

    assert len(calls) > 2


class Sleeper(ScriptedPolicy):
    """Takes its time."""

    def __init__(self, texts: list[str], seconds: float = 60.0) -> None:
        super().__init__(texts)
        self._seconds = seconds

    async def complete(self, request: Request) -> Completion:
        """Answer later."""
        await asyncio.sleep(self._seconds)
        return await super().complete(request)


def test_a_hanging_server_is_a_service_error_that_speaks_of_time() -> None:
    with pytest.raises(ServiceError, match="timeout_seconds"):
        run(ask(Sleeper([]), settings={"timeout_seconds": 0.2}))


def test_a_server_that_is_not_there_is_named_with_a_way_to_start_one() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"

    async def ask_nobody() -> None:
        async with CompletionsPolicy(ServerSettings(url, "tiny", patience_minutes=0)) as policy:
            await policy.complete(request())

    with pytest.raises(ServiceError) as caught:
        run(ask_nobody())

    assert url in str(caught.value) and "vllm serve tiny" in str(caught.value)


ODD_REPLIES = [
    b'{"choices": [',
    b"<html>please log in</html>",
    b'{"choices": []}',
    b'{"choices": [{"text": null}]}',
    b'{"choices": [{"text": "half", "finish_reason": "error"}]}',
    b'{"choices": [{"text": "\xff"}]}',
    b'{"error": {"message": "overloaded", "code": 502}}',
    b'{"error": "overloaded", "choices": []}',
    b"[1]",
    b"null",
    b"\xff\xfe",
    b"",
]


@pytest.mark.parametrize("body", ODD_REPLIES)
def test_an_odd_reply_is_retried(body: bytes) -> None:
    odd = [web.Response(body=body), web.Response(body=body)]

    reply = run(ask(["yes"], settings={"patience_minutes": 1.0}, fails=first(odd)))

    assert reply.text == "yes"
    assert not odd


@pytest.mark.parametrize("body", ODD_REPLIES)
def test_a_server_that_gives_nobody_a_completion_is_a_service_error(body: bytes) -> None:
    with pytest.raises(ServiceError, match=r"no answer[\s\S]*(base_url|overloaded)"):
        run(ask([], fails=lambda _, asked: web.Response(body=body)))


def test_an_error_that_no_repetition_changes_is_one_with_status_200_too() -> None:
    body = {"error": {"message": "context is too long", "code": 400}}

    with pytest.raises(RequestError, match="HTTP 400: context is too long"):
        run(ask([], settings={"patience_minutes": 9.0}, fails=first([web.json_response(body)])))


def breaks(seed: int, broken: web.Response | bytes) -> Any:
    """A fault of the server that one request meets and no other."""

    def answer(http_request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
        if body.get("seed") != seed:
            return None
        return (
            web.Response(body=broken) if isinstance(broken, bytes) else error_response(500, "bug")
        )

    return answer


@pytest.mark.parametrize(
    "broken", [b'{"choices": [', error_response(500, "bug")], ids=["odd", "5xx"]
)
@pytest.mark.parametrize("num_others", [0, 5])
def test_a_request_that_fails_alone_is_a_request_error_after_the_deadline(
    broken: web.Response | bytes, num_others: int
) -> None:
    async def ask_all() -> list[Completion | BaseException]:
        async with serve(ScriptedPolicy(lambda _: "yes"), fails=breaks(13, broken)) as base_url:
            settings = ServerSettings(base_url, "scripted", patience_minutes=0.02)
            async with CompletionsPolicy(settings) as policy:
                asked = (policy.complete(request(seed=seed)) for seed in (13, *range(num_others)))
                return await asyncio.gather(*asked, return_exceptions=True)

    failed, *others = run(ask_all())

    assert isinstance(failed, RequestError)
    assert "while the server answered other requests" in str(failed)
    assert [other.text for other in others] == ["yes"] * num_others


def test_a_server_that_starts_late_is_waited_for() -> None:
    port = free_port()

    async def ask_before_it_starts() -> str:
        settings = ServerSettings(f"http://127.0.0.1:{port}/v1", "scripted", patience_minutes=1.0)
        async with CompletionsPolicy(settings) as policy:
            asked = asyncio.create_task(policy.complete(request()))
            await asyncio.sleep(0.5)
            assert not asked.done()
            async with serve(ScriptedPolicy(["yes"]), port=port):
                return (await asked).text

    assert run(ask_before_it_starts()) == "yes"


def test_a_server_that_asks_for_more_time_than_our_patience_is_told_at_once() -> None:
    limited = always(429, "slow down", {"Retry-After": "3600"})

    with pytest.raises(
        ServiceError, match=r"slow down[\s\S]*teacher.concurrency.*patience_minutes"
    ):
        run(ask([], settings={"patience_minutes": 1.0}, fails=limited))


def test_a_limit_that_outlasts_our_patience_spoils_no_rollout() -> None:
    def limit(http_request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
        return error_response(429, "slow down") if body.get("seed") == 13 else None

    async def ask_two() -> list[Completion | BaseException]:
        async with serve(ScriptedPolicy(lambda _: "yes"), fails=limit) as base_url:
            settings = ServerSettings(base_url, "scripted", patience_minutes=0.01)
            async with CompletionsPolicy(settings) as policy:
                asked = [policy.complete(request(seed=seed)) for seed in (13, 1)]
                return await asyncio.gather(*asked, return_exceptions=True)

    limited, answered = run(ask_two())

    assert isinstance(limited, ServiceError)
    assert isinstance(answered, Completion)


ODD_USAGE = [
    '{"prompt_tokens": true, "completion_tokens": true}',
    '{"prompt_tokens": 9223372036854775808, "completion_tokens": 18446744073709551616}',
    '{"prompt_tokens": 1e400, "completion_tokens": -1e400}',
    '{"prompt_tokens": 9, "completion_tokens": 2, "cost": 1' + "0" * 400 + "}",
    '{"completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1e99}}',
    '{"prompt_tokens": -3, "completion_tokens": 2.5, "cost": "free"}',
    '"none"',
]


@pytest.mark.parametrize("page", ["completions", "chat"])
@pytest.mark.parametrize("usage", ODD_USAGE)
def test_a_reply_with_an_odd_usage_is_paid_once_and_read_by_every_later_run(
    usage: str, page: str, tmp_path: Path
) -> None:
    sent: list[int] = []
    choice = '{"text": "well", "message": {"content": "well"}, "finish_reason": "stop"}'
    reply = f'{{"choices": [{choice}], "usage": {usage}}}'

    def odd(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        sent.append(1)
        return web.Response(text=reply, content_type="application/json")

    async def go() -> Completion:
        async with serve(ScriptedPolicy([]), fails=odd) as base_url:
            settings = ServerSettings(base_url, "scripted", patience_minutes=0.05)
            chat = ChatPolicy(settings, ChatSettings())
            policy = chat if page == "chat" else CompletionsPolicy(settings)
            async with policy:
                with Journal(tmp_path / "journal.sqlite") as journal:
                    ledger = Ledger(journal, CostParams(max_calls=5))
                    asked = request(context="Question", stop=())
                    return await JournaledPolicy(policy, journal, ledger).complete(asked)

    first_time = run(go())
    assert first_time.text == "well"
    assert run(go()) == first_time
    assert len(sent) == 1
    assert 0 < first_time.charged.written_tokens < 10


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ("You exceeded your current quota, please check your plan and billing", "top it up"),
        ("Rate limit reached for requests", "lower the concurrency"),
    ],
)
def test_the_advice_fits_a_limit_that_outlasts_the_patience(message: str, advice: str) -> None:
    with pytest.raises(ServiceError, match=advice):
        run(ask([], fails=always(429, message)))


@pytest.mark.parametrize("page", ["completions", "chat"])
def test_half_a_character_in_a_reply_is_no_reason_to_pay_again(page: str, tmp_path: Path) -> None:
    sent: list[int] = []
    choice = r'{"text": "we\ud83d", "message": {"content": "we\ud83d"}, "finish_reason": "stop"}'

    def broken(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        sent.append(1)
        return web.Response(text=f'{{"choices": [{choice}]}}', content_type="application/json")

    async def go() -> Completion:
        async with serve(ScriptedPolicy([]), fails=broken) as base_url:
            settings = ServerSettings(base_url, "scripted", patience_minutes=0.05)
            chat = ChatPolicy(settings, ChatSettings())
            async with chat if page == "chat" else CompletionsPolicy(settings) as policy:
                return await policy.complete(request(stop=()))

    assert run(go()).text == "we?"
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "api_key_env"),
        (403, "api_key_env"),
        (402, "top it up"),
        (404, "in /v1"),
        (405, "in /v1"),
        (308, "elsewhere"),
    ],
)
def test_a_refusal_of_all_requests_ends_the_run_at_once_with_advice(
    status: int, advice: str
) -> None:
    refused = always(status, "no", {"Location": "http://elsewhere/v1"})

    with pytest.raises(ServiceError, match=f"HTTP {status}[\\s\\S]*{advice}"):
        run(ask([], settings={"patience_minutes": 9.0}, fails=refused))


CHAT_MESSAGES = [
    (400, "deepseek-chat does not support completions"),
    (404, "This is a chat model and not supported in the v1/completions endpoint."),
    (400, "completions api is only available when using beta api"),
]


@pytest.mark.parametrize(("status", "message"), CHAT_MESSAGES)
def test_a_model_that_offers_chat_alone_ends_the_run_with_advice(status: int, message: str) -> None:
    with pytest.raises(ServiceError, match="use a server that offers raw completions"):
        run(ask([], settings={"patience_minutes": 9.0}, fails=always(status, message)))


def test_a_server_without_the_page_of_completions_is_told_from_a_wrong_address(
    served_app: Any,
) -> None:
    async def list_models(http_request: web.Request) -> web.Response:
        return web.json_response({"data": [{"id": "tiny"}]})

    app = web.Application()
    app.router.add_get("/v1/models", list_models)

    async def ask_there(url: str) -> None:
        async with CompletionsPolicy(ServerSettings(f"{url}/v1", "tiny")) as policy:
            await policy.complete(request())

    with (
        served_app(app) as url,
        pytest.raises(ServiceError, match="use a server that offers raw completions"),
    ):
        run(ask_there(url))


@pytest.mark.parametrize(
    "body",
    [
        {"choices": [{"text": "a", "finish_reason": f"refused for {SECRET}"}]},
        {"choices": [{"text": None, "finish_reason": SECRET}]},
        {"error": {"message": f"{'no ' * 95}{SECRET}", "code": 400}},
        {"error": {"message": SECRET, "code": 401}},
        {"error": SECRET},
        {"detail": SECRET},
    ],
    ids=str,
)
def test_a_key_that_the_server_repeats_is_in_no_error(
    body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", SECRET)

    with pytest.raises((RequestError, ServiceError)) as caught:
        run(
            ask(
                [],
                settings={"api_key_env": "TEACHER_KEY"},
                fails=lambda *_: web.json_response(body),
            )
        )

    error: BaseException | None = caught.value
    while error is not None:
        assert SECRET[:8] not in str(error) + repr(error)
        error = error.__cause__


def test_what_a_server_says_is_one_short_printable_line() -> None:
    message = "\x1b[31mred\x07\n" + "long " * 100_000

    with pytest.raises(RequestError) as caught:
        run(ask([], fails=always(400, message)))

    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400


def test_a_key_that_cannot_be_sent_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TEACHER_KEY", f"{SECRET}\nX-Other: 1")

    with pytest.raises(ConfigError, match="TEACHER_KEY") as caught:
        CompletionsPolicy(ServerSettings(model="tiny", api_key_env="TEACHER_KEY"))

    assert SECRET not in str(caught.value)


def test_more_than_four_stop_strings_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match="at most 4"):
        run(ask([], request(stop=("a", "b", "c", "d", "e"))))


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(),
        ServerSettings(base_url="localhost", model="tiny"),
        ServerSettings(base_url="http://user:pass@host/v1", model="tiny"),
        ServerSettings(base_url="http://host:99999/v1", model="tiny"),
        ServerSettings(base_url="http://[::1/v1", model="tiny"),
        ServerSettings(base_url="http://a..b/v1", model="tiny"),
        ServerSettings(base_url="http://:80/v1", model="tiny"),
        ServerSettings(model="tiny", timeout_seconds=0),
        ServerSettings(model="tiny", patience_minutes=-1),
    ],
)
def test_settings_that_cannot_work_are_config_errors(settings: ServerSettings) -> None:
    with pytest.raises(ConfigError) as caught:
        CompletionsPolicy(settings)

    assert "pass@" not in str(caught.value)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_retried(status: int) -> None:
    failures = [error_response(status, "busy") for _ in range(2)]

    reply = run(ask(["yes"], settings={"patience_minutes": 1.0}, fails=first(failures)))

    assert reply.text == "yes"
    assert not failures


def test_a_withheld_text_is_a_request_error_at_once() -> None:
    body = {"choices": [{"text": None, "finish_reason": "content_filter"}]}

    with pytest.raises(RequestError, match="content_filter"):
        run(ask([], settings={"patience_minutes": 9.0}, fails=first([web.json_response(body)])))


def test_a_reply_under_way_is_waited_for_beyond_the_patience() -> None:
    reply = run(ask(Sleeper(["yes"], seconds=0.5), settings={"patience_minutes": 0.001}))

    assert reply.text == "yes"
