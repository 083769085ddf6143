"""Ask a real server for raw completions, in each of the manners that were found in the field."""

import asyncio
import gc
import socket
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError, ServiceError
from coa.journal import Journal
from coa.journaled import JournaledPolicy
from coa.policy import Completion, Finish, Policy, Request, RequestError
from coa.policy.completions import CompletionsPolicy, ServerSettings
from coa.policy.replies import finished_text
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
        chosen = {
            "base_url": base_url,
            "model": "scripted",
            "patience_minutes": 0.0,
            **(settings or {}),
        }
        async with CompletionsPolicy(ServerSettings(**chosen)) as policy:
            return await policy.complete(wanted or request())


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(coroutine)


def always(response_status: int, message: str, headers: Mapping[str, str] | None = None) -> Any:
    return lambda http_request, body: error_response(response_status, message, headers)


def first(responses: list[web.Response]) -> Any:
    """The responses one after the other, then the policy's own."""
    return lambda http_request, body: responses.pop(0) if responses else None


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


@pytest.mark.parametrize(
    "usage", [None, 7, {}, {"prompt_tokens": 0, "completion_tokens": 0}, {"prompt_tokens": "four"}]
)
def test_a_server_that_counts_nothing_leaves_estimates(usage: object) -> None:
    body = {"choices": [{"text": "one two three", "finish_reason": "stop"}], "usage": usage}

    reply = run(ask([], fails=first([web.json_response(body)])))

    assert (reply.num_tokens, reply.num_context_tokens) == (4, None)


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


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_passing_failure_is_retried(status: int) -> None:
    failures = [error_response(status, "busy") for _ in range(2)]

    reply = run(ask(["yes"], settings={"patience_minutes": 1.0}, fails=first(failures)))

    assert reply.text == "yes"
    assert not failures


def test_repeats_are_counted_for_the_progress_bar(tmp_path: Path) -> None:
    failures = [error_response(503, "busy") for _ in range(2)]

    async def count_repeats() -> int:
        async with serve(ScriptedPolicy(["yes"]), fails=first(failures)) as base_url:
            settings = ServerSettings(base_url, "scripted", patience_minutes=1.0)
            async with CompletionsPolicy(settings) as policy:
                with Journal(tmp_path / "calls.sqlite") as journal:
                    journaled = JournaledPolicy(policy, journal)
                    await journaled.complete(request())
                    return journaled.traffic.retried

    assert run(count_repeats()) == 2


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


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
def test_a_server_that_is_not_there_is_named_with_a_way_to_start_one(host: str) -> None:
    url = f"http://{host}:{free_port()}/v1"

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


def test_a_withheld_text_is_a_request_error_at_once() -> None:
    body = {"choices": [{"text": None, "finish_reason": "content_filter"}]}

    with pytest.raises(RequestError, match="content_filter"):
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


def test_a_reply_under_way_is_waited_for_beyond_the_patience() -> None:
    reply = run(ask(Sleeper(["yes"], seconds=0.5), settings={"patience_minutes": 0.001}))

    assert reply.text == "yes"


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


class WithIds(ScriptedPolicy):
    """Gives ids with its texts."""

    async def complete(self, request: Request) -> Completion:
        return replace(await super().complete(request), ids=(7, 8, 9), num_tokens=3)


def test_ids_go_to_the_server_and_come_back(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from train.student import StudentSettings, new_student

    tokenizer = new_student(["a b"], StudentSettings(16, 1, 2, 32, 64), seed=1).tokenizer
    tokenizer.save_pretrained(tmp_path)
    settings = {"tokenizer": str(tmp_path), "extra_body": {"return_token_ids": True}}
    served = WithIds(["yes"])

    reply = run(ask(served, request(context_ids=(5, 6)), settings))

    assert served.requests is not None
    assert served.requests[0].context_ids == (5, 6)
    assert (reply.text, reply.ids) == ("yes", (7, 8, 9))


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
