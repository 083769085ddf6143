"""Say by name why a completions server refuses everything, without showing a key."""

from typing import Any

import pytest
from aiohttp import web

from coa.errors import ConfigError, ServiceError
from coa.policy import RequestError
from coa.policy.completions import CompletionsPolicy
from coa.policy.server import error_response
from coa.policy.server_settings import ServerSettings
from tests.completions_support import (
    SECRET,
    always,
    ask,
    request,
    run,
)


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


@pytest.mark.parametrize("path", ["/v1/models", "/v1/chat/completions"])
def test_a_server_without_the_page_of_completions_is_told_from_a_wrong_address(
    path: str, served_app: Any
) -> None:
    async def answer(http_request: web.Request) -> web.Response:
        if path.endswith("models"):
            return web.json_response({"data": [{"id": "tiny"}]})
        return error_response(400, "messages are missing")

    app = web.Application()
    app.router.add_route("*", path, answer)

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
