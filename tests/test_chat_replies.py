"""Replies of chat servers, however odd, are a turn, a row with a reason, or asked for again."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.network.http_client import PassingFailure, Reply
from coa.policy import Completion, Finish, Request, RequestError, Turns
from coa.policy.chat.families import ChatSettings, FamilyName, Waiver
from coa.policy.chat.policy import ChatPolicy
from coa.policy.chat.replies import is_served_model, without_keep_alive
from coa.policy.server_settings import ServerSettings
from coa.records import protocol
from coa.records.trajectory import StepKind

MODEL = "maker/model"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
TAGS = st.sampled_from(sorted(protocol.all_tags(("search",))))
TEXTS = st.lists(TAGS | st.text(max_size=6), max_size=6).map("".join)
CALLS = st.lists(
    JSON
    | st.fixed_dictionaries(
        {
            "id": st.just("a"),
            "function": st.fixed_dictionaries(
                {
                    "name": st.sampled_from(("search", "Search it", "")) | JSON,
                    "arguments": TEXTS.map(lambda it: msgspec.json.encode({"q": it}).decode()),
                }
            ),
        }
    ),
    max_size=3,
)
MESSAGES = st.fixed_dictionaries(
    {},
    optional={
        "content": TEXTS | JSON,
        "reasoning": TEXTS | JSON,
        "reasoning_details": JSON | st.lists(st.fixed_dictionaries({"type": TEXTS, "text": JSON})),
        "tool_calls": CALLS | JSON,
    },
)


def read(message: object, ended: str | None = "stop", **body: Any) -> Completion:
    settings = ServerSettings("http://127.0.0.1:1/v1", MODEL)
    chat = ChatSettings(family=FamilyName.OPENROUTER, waives=tuple(Waiver))
    choices = [{"message": message, "finish_reason": ended}]
    sent = msgspec.json.encode({"choices": choices, **body})
    turns = Turns(("search",), ())
    request = Request("Question: who?\n\n<think>\n", (), 64, 0.6, 1.0, 7, turns=turns)
    return ChatPolicy(settings, chat)._read(Reply(200, sent, {}), request)


@given(MESSAGES, st.sampled_from(("stop", "tool_calls", "length", None)))
def test_no_message_crashes_the_run_or_acts_by_its_texts(
    message: dict[str, Any], ended: str | None
) -> None:
    try:
        completion = read(message, ended)
    except (PassingFailure, RequestError):
        return
    steps = protocol.parse_policy(completion.text)
    assert not protocol.stray_tags(steps)
    num_actions = sum(step.kind is StepKind.ACTION for step in steps)
    has_calls = isinstance(message.get("tool_calls"), list) and bool(message["tool_calls"])
    assert completion.native is not None
    if has_calls:
        assert num_actions == (not completion.native.fault)
    else:
        assert num_actions == 0


@pytest.mark.parametrize(
    "body",
    [b"", b"\n\n", b"null", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}', b": ping\n\n"],
)
def test_a_reply_without_a_message_is_asked_for_again(body: bytes) -> None:
    settings = ServerSettings("http://127.0.0.1:1/v1", MODEL)
    request = Request("Who?", (), 64, 0.6, 1.0, 7)
    with pytest.raises(PassingFailure):
        ChatPolicy(settings, ChatSettings())._read(Reply(200, body, {}), request)


def test_keep_alive_lines_before_a_reply_are_skipped() -> None:
    body = b'\n\n: keep-alive\n\n: keep-alive\n\n{"model": "m", "choices": []}'
    assert without_keep_alive(body) == b'{"model": "m", "choices": []}'


@pytest.mark.parametrize("ended", ["insufficient_system_resource", "error", "abort"])
def test_a_message_that_the_server_could_not_finish_is_asked_for_again(ended: str) -> None:
    with pytest.raises(PassingFailure, match=ended):
        read({"content": "half"}, ended)


def test_what_is_said_beside_a_call_follows_the_reasoning() -> None:
    call = {"id": "a", "function": {"name": "search", "arguments": '{"query": "Nora"}'}}
    said = read({"reasoning": "I need it.", "content": "Let me look.", "tool_calls": [call]})
    assert said.text == "I need it.\n\nLet me look." + protocol.render(
        protocol.parse_policy(f"{protocol.open_tag('search')} Nora {protocol.close_tag('search')}")
    )


def test_blank_content_is_no_answer_and_a_cut_thought_is_one_of_its_length() -> None:
    assert protocol.THINK_CLOSE not in read({"reasoning": "So.", "content": "\n\n"}).text
    cut = read({"reasoning": "So and so and", "content": None}, "length")
    assert (cut.text, cut.finish) == ("So and so and", Finish.LENGTH)


def test_pieces_of_reasoning_are_joined_where_there_is_no_plain_field() -> None:
    pieces = [
        {"type": "reasoning.text", "text": "One. "},
        {"type": "reasoning.encrypted", "data": "x"},
        {"type": "reasoning.text", "text": "Two."},
    ]
    reply = read({"reasoning_details": pieces, "content": "yes"})
    assert reply.text.startswith("One. Two.")
    assert reply.native is not None
    assert msgspec.json.decode(reply.native.message)["reasoning_details"] == pieces


@pytest.mark.parametrize(
    ("named", "is_same"),
    [
        (None, True),
        ("maker/model", True),
        ("model", True),
        ("model-2026-01-01", True),
        ("maker/model:free", True),
        ("model-mini", False),
        ("maker/other", False),
    ],
)
def test_a_models_date_and_variant_are_not_another_model(named: str | None, is_same: bool) -> None:
    assert is_served_model(named, MODEL, ()) == is_same
