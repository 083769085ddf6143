"""Ask a real server for raw completions, in each of the manners that were found in the field."""

import gc
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from coa.policy import Completion, Finish, Request
from coa.policy.completions import CompletionsPolicy, finished_text
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import error_response
from coa.policy.server_settings import ServerSettings
from coa.spending.journaled import JournaledPolicy
from coa.store.journal import Journal
from tests.completions_support import (
    ask,
    first,
    free_port,
    request,
    run,
)
from tests.doubles.model_server import serve

CALL = "<think> I wonder. <begin_search> who wrote it </end_search>"
ANSWER = "I know.\n</think>\n\n\\boxed{Ada}"


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


def test_without_a_tokenizer_the_count_of_tokens_depends_on_the_text_alone() -> None:
    assert CompletionsPolicy(ServerSettings(model="tiny")).count_tokens("a b c d " * 500) == 1143


class WithIds(ScriptedPolicy):
    """Gives ids with its texts."""

    async def complete(self, request: Request) -> Completion:
        return replace(await super().complete(request), ids=(7, 8, 9), num_tokens=3)


def test_ids_go_to_the_server_and_come_back(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from coa.student.small import StudentSettings, new_student

    tokenizer = new_student(["a b"], StudentSettings(16, 1, 2, 32, 64), seed=1).tokenizer
    tokenizer.save_pretrained(tmp_path)
    settings = {"tokenizer": str(tmp_path), "extra_body": {"return_token_ids": True}}
    served = WithIds(["yes"])

    reply = run(ask(served, request(context_ids=(5, 6)), settings))

    assert served.requests is not None
    assert served.requests[0].context_ids == (5, 6)
    assert (reply.text, reply.ids) == ("yes", (7, 8, 9))


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
