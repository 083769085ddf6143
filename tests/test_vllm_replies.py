"""Replies of the real vLLM, captured by tests/vllm_replies_support.py, are read as they should."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from coa.errors import ServiceError
from coa.policy import Completion, Finish, Request, RequestError, Turns
from coa.policy.chat.families import ChatSettings
from coa.policy.chat.policy import ChatPolicy
from coa.policy.completions import CompletionsPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server_settings import ServerSettings
from coa.records import protocol
from tests.chat_support import ROOT
from tests.doubles.model_server import serve

REPLIES = json.loads((ROOT / "tests/data/vllm_replies.json").read_text(encoding="utf-8"))
MODEL = "tiny"
STOP = ("</end_search>",)
ASKED = "Question: Who directed Iron Harbor?\n\n<think>\n"
THOUGHT = "\nI need the director of Iron Harbor.\n"
FORCED = f"{ASKED}{protocol.ANSWER_MARKER}"


def read(name: str, context: str = ASKED, *, is_chat: bool = True) -> Completion:
    """Ask a server that gives this reply, over a real socket."""
    reply = REPLIES[name]
    status = int(reply["error"]["code"]) if "error" in reply else 200

    def give(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        return web.json_response(reply, status=status)

    async def ask() -> Completion:
        async with serve(ScriptedPolicy([], MODEL), fails=give) as base_url:
            settings = ServerSettings(base_url, MODEL, patience_minutes=0.0)
            policy = CompletionsPolicy(settings)
            request = Request(context, STOP, 100, 0.0, 1.0, 0)
            if is_chat:
                policy = ChatPolicy(settings, ChatSettings())
                request = Request(context, STOP, 100, 0.0, 1.0, 0, turns=Turns(("search",), ()))
            async with policy:
                return await policy.complete(request)

    return asyncio.run(ask())


def test_a_call_is_an_action_after_its_thought() -> None:
    done = read("call")
    query = "director of Iron Harbor"
    assert done.text == f"{THOUGHT}<begin_search> {query} </end_search>"
    assert done.native is not None and not done.native.fault
    assert json.loads(done.native.arguments) == {"query": query}


def test_reasoning_and_content_are_a_thought_and_an_answer() -> None:
    done = read("answer")
    thought, _, answer = done.text.partition("</think>")
    assert thought.strip() == "It says Nora Brandt."
    assert answer == "\n\n\\boxed{Nora Brandt}"
    assert done.finish is Finish.END


@pytest.mark.parametrize("name", ["forced answer", "forced answer, thinking"])
def test_a_forced_answer_goes_on_in_the_markers_box(name: str) -> None:
    done = read(name, FORCED)
    assert done.text == "Nora Brandt}"
    assert done.native is not None
    assert done.native.content == "\\boxed{Nora Brandt}"


@pytest.mark.parametrize("name", ["cut in the thought", "cut in the call"])
def test_a_reply_that_is_cut_calls_nothing(name: str) -> None:
    done = read(name)
    assert done.finish is Finish.LENGTH
    assert "<begin_search>" not in done.text


def test_tokens_are_counted_as_vllm_says() -> None:
    usage = REPLIES["call"]["usage"]
    done = read("call")
    assert done.num_tokens == usage["completion_tokens"]
    assert done.num_context_tokens == usage["prompt_tokens"]
    assert done.usage is not None
    assert done.usage.reasoning_tokens == usage["completion_tokens_details"]["reasoning_tokens"]
    assert done.usage.cached_tokens == 0  # told with --enable-prompt-tokens-details alone


def test_a_call_that_nobody_offered_stays_text() -> None:
    done = read("call without tools")
    assert "<tool_call>" in done.text
    assert "<begin_search>" not in done.text


def test_a_completion_ends_with_its_stop_string() -> None:
    done = read("completion", is_chat=False)
    assert done.text == (
        "I need the director of Iron Harbor. <begin_search> director of Iron Harbor </end_search>"
    )
    assert done.finish is Finish.STOP


def test_a_request_that_is_too_long_is_a_row_with_vllms_words() -> None:
    with pytest.raises(RequestError, match="cannot be greater than max_model_len=1024"):
        read("too long")


def test_a_model_that_is_not_served_is_refused() -> None:
    with pytest.raises(ServiceError, match="does not exist"):
        read("another model")
