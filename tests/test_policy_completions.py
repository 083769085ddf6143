"""The client of raw completions against a real server on a free port, in each of the manners found in the field."""

import asyncio
import gc
import socket
from collections.abc import Coroutine, Mapping
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError, ServiceError
from coa.policy import Completion, Finish, Policy, Request, RequestError
from coa.policy.completions import CompletionsPolicy, ServerSettings, finished_text
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import error_response, serve

CALL = "<think> I wonder. <begin_search> who wrote it </end_search>"
ANSWER = "I know.\n</think>\n\n\\boxed{Ada}"
SECRET = "sk-secret-123"


def request(**changes: Any) -> Request:
    values: dict[str, Any] = {
        "context": "Question: who?\n",
        "stop": ("</end_search>",),
        "max_tokens": 100,
        "temperature": 0.6,
        "top_p": 1.0,
        "seed": 7,
    }
    return Request(**{**values, **changes})


async def ask(
    texts: list[str] | Policy,
    wanted: Request | None = None,
    settings: Mapping[str, Any] | None = None,
    **manner: Any,
) -> Completion:
    """One request to a server with these manners."""
    served = ScriptedPolicy(texts) if isinstance(texts, list) else texts
    async with serve(served, **manner) as base_url:
        chosen = {"base_url": base_url, "model": "scripted", "max_retries": 0, **(settings or {})}
        async with CompletionsPolicy(ServerSettings(**chosen)) as policy:
            return await policy.complete(wanted or request())


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def always(response_status: int, message: str) -> Any:
    return lambda http_request, body: error_response(response_status, message)


@pytest.mark.parametrize("gives_stop_reason", [True, False])
@pytest.mark.parametrize("manner", [{}, {"drops_stop_string": False}, {"ignores_stop": True}])
def test_the_text_ends_with_its_stop_string_whatever_the_server_does_with_it(
    manner: dict[str, Any], gives_stop_reason: bool
) -> None:
    reply = run(ask([CALL + " and on I write"], gives_stop_reason=gives_stop_reason, **manner))

    assert (reply.text, reply.finish) == (CALL, Finish.STOP)


@pytest.mark.parametrize("gives_stop_reason", [True, False])
def test_an_answer_that_ends_its_turn_gets_no_stop_string(gives_stop_reason: bool) -> None:
    reply = run(ask([ANSWER], gives_stop_reason=gives_stop_reason))

    assert (reply.text, reply.finish) == (ANSWER, Finish.END)


def test_the_servers_counts_are_taken_over() -> None:
    reply = run(ask(["one two three"]))

    assert (reply.num_tokens, reply.num_context_tokens) == (3, 4)


def test_what_was_written_past_an_ignored_stop_is_not_counted() -> None:
    reply = run(ask([CALL + " and on" * 50], ignores_stop=True))

    assert reply.num_tokens < 30


def test_a_text_cut_by_max_tokens_says_so() -> None:
    reply = run(ask(["one two three four"], request(max_tokens=2)))

    assert (reply.text, reply.finish) == ("one two", Finish.LENGTH)


def test_an_empty_text_is_an_ended_turn() -> None:
    assert run(ask([""])).finish is Finish.END


def test_the_request_arrives_as_it_was_made() -> None:
    served, wanted = (
        ScriptedPolicy(["yes"]),
        request(stop=("a", "b"), temperature=0.3, top_p=0.9, seed=2**31 - 1),
    )

    run(ask(served, wanted))

    assert served.requests == [wanted]


def test_extra_fields_reach_the_server() -> None:
    bodies: list[Mapping[str, Any]] = []

    def record(http_request: web.Request, body: Mapping[str, Any]) -> None:
        bodies.append(body)

    run(
        ask(["yes"], request(stop=()), {"extra_body": {"skip_special_tokens": False}}, fails=record)
    )

    assert bodies[0]["skip_special_tokens"] is False
    assert "stop" not in bodies[0]


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_the_server_rejects_is_a_request_error(status: int) -> None:
    with pytest.raises(RequestError, match=f"HTTP {status}: maximum context length is 2048 tokens"):
        run(ask([], fails=always(status, "maximum context length is 2048 tokens")))


def test_a_long_message_of_the_server_is_shortened() -> None:
    with pytest.raises(RequestError) as caught:
        run(ask([], fails=always(400, "too long " * 1000)))

    assert len(str(caught.value)) < 400


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
    headers: list[str] = []

    def record(http_request: web.Request, body: Mapping[str, Any]) -> None:
        headers.append(http_request.headers["Authorization"])

    run(ask(["yes"], fails=record))

    assert SECRET not in headers[0]


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


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_retried(status: int) -> None:
    failures = [error_response(status, "busy", {"retry-after-ms": "1"}) for _ in range(2)]

    reply = run(
        ask(
            ["yes"],
            settings={"max_retries": 2},
            fails=lambda _, body: failures.pop() if failures else None,
        )
    )

    assert reply.text == "yes"


@pytest.mark.parametrize("status", [429, 500])
def test_a_lasting_failure_is_a_service_error(status: int) -> None:
    calls: list[int] = []

    def fail(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        calls.append(status)
        return error_response(status, "out of memory", {"retry-after-ms": "1"})

    with pytest.raises(ServiceError, match=f"HTTP {status}: out of memory"):
        run(ask([], settings={"max_retries": 2}, fails=fail))

    assert len(calls) == 3


class Sleeper(ScriptedPolicy):
    """Takes its time."""

    async def complete(self, request: Request) -> Completion:
        """Answer after a minute."""
        await asyncio.sleep(60)
        return await super().complete(request)


def test_a_hanging_server_is_a_service_error_that_speaks_of_time() -> None:
    with pytest.raises(ServiceError, match="timeout_seconds"):
        run(ask(Sleeper([]), settings={"timeout_seconds": 0.2}))


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_is_not_there_is_named_with_a_way_to_start_one(host: str) -> None:
    url = f"http://{host}:{free_port()}/v1"

    async def ask_nobody() -> None:
        async with CompletionsPolicy(ServerSettings(url, "tiny", max_retries=0)) as policy:
            await policy.complete(request())

    with pytest.raises(ServiceError) as caught:
        run(ask_nobody())

    assert url in str(caught.value) and "vllm serve tiny" in str(caught.value)


@pytest.mark.parametrize(
    "garbage",
    [
        {"text": '{"choices": [', "content_type": "application/json"},
        {"text": "<html>please log in</html>", "content_type": "text/html"},
        {"text": '{"choices": []}', "content_type": "application/json"},
        {"text": '{"choices": [{"text": null}]}', "content_type": "application/json"},
        {"text": "[1]", "content_type": "application/json"},
        {"body": b"\xff\xfe", "content_type": "application/json"},
    ],
)
def test_a_reply_that_is_no_completion_is_a_service_error(garbage: dict[str, Any]) -> None:
    with pytest.raises(ServiceError, match="does not speak the completions protocol"):
        run(ask([], fails=lambda _, body: web.Response(**garbage)))


def test_more_than_four_stop_strings_are_a_config_error() -> None:
    with pytest.raises(ConfigError, match="at most 4"):
        run(ask([], request(stop=("a", "b", "c", "d", "e"))))


@pytest.mark.parametrize(
    "settings", [ServerSettings(), ServerSettings(base_url="localhost", model="tiny")]
)
def test_settings_that_cannot_work_are_config_errors(settings: ServerSettings) -> None:
    with pytest.raises(ConfigError):
        CompletionsPolicy(settings)


def test_one_policy_works_in_one_event_loop_after_another() -> None:
    policies: list[CompletionsPolicy] = []

    async def ask_once() -> str:
        async with serve(ScriptedPolicy(lambda _: "yes"), port=port) as base_url:
            if not policies:
                policies.append(CompletionsPolicy(ServerSettings(base_url, "scripted")))
            async with policies[0] as policy:
                return (await policy.complete(request())).text

    port = free_port()

    assert [run(ask_once()) for _ in range(3)] == ["yes"] * 3
    gc.collect()


def test_many_requests_are_in_flight_at_once() -> None:
    async def ask_many() -> list[str]:
        async with (
            serve(ScriptedPolicy(lambda asked: f"seed {asked.seed}")) as base_url,
            CompletionsPolicy(ServerSettings(base_url, "scripted")) as policy,
        ):
            replies = await asyncio.gather(*(policy.complete(request(seed=i)) for i in range(64)))
        return [reply.text for reply in replies]

    assert run(ask_many()) == [f"seed {i}" for i in range(64)]


def test_without_a_tokenizer_the_count_of_tokens_depends_on_the_text_alone() -> None:
    assert CompletionsPolicy(ServerSettings(model="tiny")).count_tokens("a b c d " * 500) == 1143


def test_a_policy_without_ids_encodes_nothing() -> None:
    assert CompletionsPolicy(ServerSettings(model="tiny")).encode("text") is None


def restored(text: str, *stop: str, context: str = "", **extra: object) -> tuple[str, Finish]:
    return finished_text(text, "stop", extra, request(context=context, stop=stop))


SEARCH, LOOKUP = "</end_search>", "</end_lookup>"


def test_of_several_stop_strings_the_one_whose_tag_stands_open_is_restored() -> None:
    assert restored("<begin_search> a", LOOKUP, SEARCH) == (
        "<begin_search> a" + SEARCH,
        Finish.STOP,
    )
    assert restored("<begin_search> <begin_lookup> a", SEARCH, LOOKUP)[0].endswith(LOOKUP)


def test_an_inserted_trigger_counts_as_an_open_tag() -> None:
    assert restored(" who", SEARCH, context="... <begin_search>") == (" who" + SEARCH, Finish.STOP)


def test_a_tag_left_open_before_the_answer_is_not_closed_after_it() -> None:
    text = "<begin_search> a </think> \\boxed{b}"

    assert restored(text, SEARCH) == (text, Finish.END)


def test_a_stop_string_that_is_no_tag_is_restored_where_it_is_the_only_one() -> None:
    assert restored("one line", "\n") == ("one line\n", Finish.STOP)
    assert restored("one line", "\n", "###") == ("one line", Finish.END)


@pytest.mark.parametrize("name", ["stop_reason", "matched_stop"])
def test_what_the_server_says_goes_before_what_is_likely(name: str) -> None:
    assert restored("a", SEARCH, LOOKUP, **{name: LOOKUP}) == ("a" + LOOKUP, Finish.STOP)
    for no_string in (None, 151645):
        stated: dict[str, Any] = {name: no_string}
        assert restored("<begin_search> a", SEARCH, **stated) == ("<begin_search> a", Finish.END)


def test_a_text_that_a_filter_ended_is_a_request_error() -> None:
    with pytest.raises(RequestError, match="content_filter"):
        finished_text("a", "content_filter", {}, request())


@given(
    text=st.text(alphabet="ab<>", max_size=12),
    stop=st.lists(st.text(alphabet="ab<>", min_size=1, max_size=3), min_size=1, max_size=4),
)
def test_a_completion_stops_exactly_when_its_text_ends_with_a_stop_string(
    text: str, stop: list[str]
) -> None:
    kept, finish = finished_text(text, "stop", {"stop_reason": None}, request(stop=tuple(stop)))

    assert (finish is Finish.STOP) == any(kept.endswith(item) for item in stop)
    assert text.startswith(kept)
