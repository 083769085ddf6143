"""The policy's server speaks OpenAI's protocol: its own client, of independent make, reads it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from coa.errors import InputError
from coa.policy import Request
from coa.policy.scripted import ScriptedPolicy
from tests.doubles.model_server import Personality, serve

openai = pytest.importorskip("openai")


def ask(served: ScriptedPolicy, question: Callable[[Any], Awaitable[Any]], **manner: Any) -> Any:
    async def through() -> Any:
        async with (
            serve(served, **manner) as base_url,
            openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client,
        ):
            return await question(client)

    return asyncio.run(through())


def test_openais_client_reads_a_completion() -> None:
    served = ScriptedPolicy(["one two </end> three"])

    reply = ask(
        served,
        lambda client: client.completions.create(
            model="scripted", prompt="Who?", stop=["</end>"], max_tokens=9, temperature=0.5, seed=3
        ),
    )

    (choice,) = reply.choices
    assert (choice.text, choice.finish_reason) == ("one two ", "stop")
    assert choice.model_extra["stop_reason"] == "</end>"
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (2, 3)
    assert served.requests is not None
    (request,) = served.requests
    assert (request.context, request.stop, request.max_tokens) == ("Who?", ("</end>",), 9)
    assert (request.temperature, request.seed) == (0.5, 3)


def test_openais_client_reads_the_list_of_models() -> None:
    page = ask(ScriptedPolicy([]), lambda client: client.models.list())

    assert [model.id for model in page.data] == ["scripted"]


def test_openais_client_reads_the_error_for_an_unknown_model() -> None:
    with pytest.raises(openai.NotFoundError, match="`other` does not exist"):
        ask(
            ScriptedPolicy([]),
            lambda client: client.completions.create(model="other", prompt="Who?"),
        )


SEARCH: Any = {
    "type": "function",
    "function": {"name": "search", "parameters": {"type": "object", "properties": {}}},
}


def chat(client: Any, *later: Any, **options: Any) -> Any:
    asked = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Who?"},
        *later,
    ]
    return client.chat.completions.create(
        model="scripted", messages=asked, tools=[SEARCH], **options
    )


def test_a_script_that_does_not_know_the_question_says_so_over_the_wire() -> None:
    def refuse(request: Request) -> str:
        raise InputError("the scripted teacher does not know the question")

    for ask_page in (
        lambda client: client.completions.create(model="scripted", prompt="Who?"),
        lambda client: client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": "Who?"}]
        ),
    ):
        with pytest.raises(openai.BadRequestError, match="does not know the question"):
            ask(ScriptedPolicy(refuse), ask_page)


def test_openais_client_reads_reasoning_and_a_call() -> None:
    served = ScriptedPolicy(["I need it. <begin_search> Nora </end_search> more"])
    reply = ask(served, chat, personality=Personality.DEEPSEEK)
    (choice,) = reply.choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.model_extra["reasoning_content"] == "I need it. "
    (call,) = choice.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("search", '{"query": "Nora"}')
    usage = reply.usage.model_extra
    told = usage["prompt_cache_hit_tokens"] + usage["prompt_cache_miss_tokens"]
    assert told == reply.usage.prompt_tokens
    assert served.requests is not None
    assert served.requests[0].context.startswith("Be brief.\nWho?\n")


CALL: Any = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "search", "arguments": "{}"}}
    ],
}


@pytest.mark.parametrize(
    ("personality", "later", "said"),
    [
        (Personality.DEEPSEEK, [CALL], "reasoning_content of earlier turns must be passed back"),
        (Personality.VLLM, [CALL], "a tool call has no result"),
        (Personality.VLLM, [CALL, {"role": "user", "content": "?"}], "must be followed by results"),
        (
            Personality.VLLM,
            [CALL, {"role": "tool", "tool_call_id": "b", "content": "x"}],
            "the call a has no result",
        ),
        (Personality.VLLM, [{"role": "tool", "tool_call_id": "b", "content": "x"}], "no call"),
        (
            Personality.OPENROUTER,
            [{"role": "assistant", "content": "x", "reasoning": "y"}],
            "reasoning_details must be passed back",
        ),
    ],
)
def test_a_conversation_that_a_real_server_refuses_is_refused(
    personality: Personality, later: list[Any], said: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=said):
        ask(ScriptedPolicy([]), lambda client: chat(client, *later), personality=personality)


def test_a_stream_is_refused_in_words() -> None:
    with pytest.raises(openai.BadRequestError, match="does not stream"):
        ask(ScriptedPolicy([]), lambda client: chat(client, stream=True))
