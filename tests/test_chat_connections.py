"""What goes over the wire to a chat server, which `openai` writes and our connections send."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from aiohttp import web

from coa.errors import ServiceError
from coa.policy import Completion, Request
from coa.policy.chat.families import ChatSettings
from coa.policy.chat.policy import ChatPolicy
from coa.policy.server_settings import ServerSettings

SECRET = "sk-secret-123"
REPLY = {
    "choices": [{"message": {"content": "\\boxed{Ada}"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 3},
}


class Gateway:
    """Answers every address, and keeps what came."""

    def __init__(self, answer: Callable[[], web.StreamResponse] | None = None) -> None:
        self.paths: list[str] = []
        self.hosts: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.bodies: list[dict[str, Any]] = []
        self._answer = answer or (lambda: web.json_response(REPLY))

    @property
    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        return app

    async def _take(self, request: web.Request) -> web.StreamResponse:
        self.paths.append(request.path)
        self.hosts.append(request.host)
        self.headers.append(request.headers.copy())
        self.bodies.append(await request.json())
        return self._answer()


def ask(base_url: str, family: str = "vllm", **settings: Any) -> Completion:
    chosen = {"base_url": base_url, "model": "m", "patience_minutes": 0.0, **settings}

    async def go() -> Completion:
        async with ChatPolicy(ServerSettings(**chosen), ChatSettings(family=family)) as policy:  # type: ignore[arg-type]
            return await policy.complete(Request("Who?", (), 64, 0.6, 1.0, 7))

    return asyncio.run(go())


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")


def test_a_gateway_with_a_path_gets_its_headers_and_the_key(
    served_app: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", SECRET)
    gateway = Gateway()
    headers = {"X-Gateway": "blue", "OpenAI-Organization": "org-1"}
    with served_app(gateway.app) as url:
        address = f"{url}/tenants/a b/openai/v1".replace(" ", "%20")
        completion = ask(address, api_key_env="TEACHER_KEY", headers=headers)

    assert completion.text == "\\boxed{Ada}"
    assert gateway.paths == ["/tenants/a b/openai/v1/chat/completions"]
    (sent,) = gateway.headers
    assert sent["Authorization"] == f"Bearer {SECRET}"
    assert (sent["X-Gateway"], sent["OpenAI-Organization"]) == ("blue", "org-1")
    assert sent["Content-Type"] == "application/json"


def test_nothing_of_somebodys_environment_is_sent(served_app: Any) -> None:
    gateway = Gateway()
    with served_app(gateway.app) as url:
        ask(f"{url}/v1")

    (sent,) = gateway.headers
    assert "Authorization" not in sent
    assert "somebody" not in str(dict(sent))


def test_a_header_may_hold_the_key(served_app: Any) -> None:
    gateway = Gateway(lambda: web.Response(status=401, text=f"no: {SECRET}"))
    with served_app(gateway.app) as url, pytest.raises(ServiceError) as caught:
        ask(f"{url}/v1", headers={"Authorization": f"Basic {SECRET}", "api-key": SECRET})

    assert gateway.headers[0]["Authorization"] == f"Basic {SECRET}"
    assert SECRET not in str(caught.value)


def test_a_reasoning_model_of_openai_is_sent_its_own_limit_and_no_sampling(served_app: Any) -> None:
    gateway = Gateway()
    with served_app(gateway.app) as url:
        ask(f"{url}/v1", family="openai")

    (body,) = gateway.bodies
    assert body["max_completion_tokens"] == 64
    assert not {"max_tokens", "temperature", "top_p", "seed"} & set(body)


def test_a_redirection_is_not_followed(served_app: Any) -> None:
    gateway = Gateway(lambda: web.Response(status=307, headers={"Location": "http://x.example"}))
    with served_app(gateway.app) as url, pytest.raises(ServiceError, match=r"x\.example"):
        ask(f"{url}/v1")
    assert len(gateway.paths) == 1


def test_a_reply_without_end_is_not_read(served_app: Any) -> None:
    gateway = Gateway(lambda: web.Response(body=bytes(64_000_001)))
    with served_app(gateway.app) as url, pytest.raises(Exception, match="too large"):
        ask(f"{url}/v1")


def test_a_compressed_reply_is_read(served_app: Any) -> None:
    def compressed() -> web.Response:
        response = web.json_response(REPLY)
        response.enable_compression(web.ContentCoding.gzip)
        return response

    with served_app(Gateway(compressed).app) as url:
        assert ask(f"{url}/v1").text == "\\boxed{Ada}"


def test_requests_go_through_a_proxy(served_app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gateway = Gateway()
    with served_app(gateway.app) as url:
        monkeypatch.setenv("http_proxy", url.replace("//", "//user:pass@"))
        assert ask("http://teacher.example/v1").text == "\\boxed{Ada}"

    assert gateway.hosts == ["teacher.example"]
    assert gateway.headers[0]["Proxy-Authorization"] == "Basic dXNlcjpwYXNz"
