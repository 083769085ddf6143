"""The policy's server speaks OpenAI's protocol: its own client, of independent make, reads it."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import serve

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


def test_openais_client_sends_ids() -> None:
    served = ScriptedPolicy(["yes"])

    ask(served, lambda client: client.completions.create(model="scripted", prompt=[5, 6, 7]))

    assert served.requests is not None
    assert served.requests[0].context_ids == (5, 6, 7)


def test_openais_client_reads_the_list_of_models() -> None:
    page = ask(ScriptedPolicy([]), lambda client: client.models.list())

    assert [model.id for model in page.data] == ["scripted"]


def test_openais_client_reads_the_error_for_an_unknown_model() -> None:
    with pytest.raises(openai.NotFoundError, match="`other` does not exist"):
        ask(
            ScriptedPolicy([]),
            lambda client: client.completions.create(model="other", prompt="Who?"),
        )
