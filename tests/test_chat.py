"""The chat teacher over real sockets: what it writes, what it sends, and when it is refused."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from aiohttp import web

from coa.errors import ConfigError, ServiceError
from coa.microworld.factory import MicroworldParams
from coa.policy import Request, RequestError, Turns, reads_turns
from coa.policy.chat.families import FAMILIES, ChatSettings, FamilyName, Waiver
from coa.policy.chat.policy import ChatPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import error_response
from coa.policy.server_settings import ServerSettings
from coa.records import protocol
from coa.records.trajectory import Mode, StepKind, StopReason
from coa.rollout.factory import PolicyKind, TeacherParams, open_policy
from coa.rollout.loop import Limits
from coa.spending.journaled import policy_key
from tests.chat_support import (
    MODEL,
    ROOT,
    chat_rows,
    differing,
    faulty,
    raw_rows,
    roll,
    tasks,
)
from tests.completions_support import SECRET
from tests.doubles.model_server import Personality, serve

SHOWING = [it for it in Personality if it is not Personality.PLAIN]
NUM_QUESTIONS = 120


@pytest.mark.parametrize("personality", SHOWING)
@pytest.mark.parametrize("mode", list(Mode))
def test_rows_over_chat_are_those_of_the_same_teacher_in_tags(
    mode: Mode, personality: Personality
) -> None:
    has_seeds = "seed" in FAMILIES[FamilyName(personality.value)].sampling
    raw = raw_rows(mode, NUM_QUESTIONS, has_seeds=has_seeds)
    assert differing(raw, chat_rows(mode, NUM_QUESTIONS, personality)) == []


def test_a_server_that_shows_no_reasoning_gives_the_same_calls_and_answers() -> None:
    raw = raw_rows(Mode.COA, NUM_QUESTIONS)
    rows = chat_rows(Mode.COA, NUM_QUESTIONS, Personality.PLAIN, waives=(Waiver.NO_REASONING,))
    same = 0
    for a, b in zip(raw, rows, strict=True):
        kept = [step.text for step in a.steps if step.kind is not StepKind.THOUGHT]
        same += kept == [step.text for step in b.steps]
    assert same == NUM_QUESTIONS  # the thoughts are what this server cannot express


@pytest.mark.parametrize("personality", [Personality.VLLM, Personality.DEEPSEEK])
def test_an_answer_is_forced_when_the_actions_are_used_up(personality: Personality) -> None:
    limits = Limits(max_actions=1)
    rows = chat_rows(Mode.COA, 40, personality, limits=limits)
    has_seeds = personality is Personality.VLLM
    assert differing(raw_rows(Mode.COA, 40, has_seeds=has_seeds, limits=limits), rows) == []
    forced = [row for row in rows if row.stop_reason is StopReason.ACTION_BUDGET]
    assert len(forced) > 10
    for row in forced:
        marker, answer = row.steps[-2:]
        assert marker.text == protocol.ANSWER_MARKER
        assert answer.text.endswith("}") and "boxed" not in answer.text
        assert answer.transcribed is not None and answer.transcribed.strip().startswith("The final")


def test_the_record_says_what_was_transcribed_and_keeps_the_original() -> None:
    rows = chat_rows(Mode.COA, 40, Personality.OPENROUTER)
    for row in rows:
        for step in row.steps:
            if step.kind is StepKind.ACTION:
                assert msgspec.json.decode(step.transcribed or "") == {"query": step.argument}
            elif step.kind is StepKind.ANSWER:
                assert step.transcribed is not None
                assert step.text == f"{protocol.THINK_CLOSE}\n\n{step.transcribed}"
            else:
                assert step.transcribed is None  # to the character, or not the policy's


@pytest.mark.parametrize("kind", ["summary", "other_model"])
def test_what_is_waived_by_name_is_accepted(kind: str) -> None:
    rows = chat_rows(
        Mode.COT, 20, Personality.VLLM, faults=faulty(kind, share=1.0), waives=(Waiver(kind),)
    )
    assert {row.stop_reason for row in rows} == {StopReason.ANSWERED}


def policy(**chat: Any) -> ChatPolicy:
    settings = ServerSettings("http://127.0.0.1:1/v1", MODEL, patience_minutes=0.0)
    return ChatPolicy(settings, ChatSettings(**chat))


def asked(context: str, turns: Turns) -> Request:
    return Request(context, (), 64, 0.6, 1.0, 7, turns=turns)


def body_of(request: Request, **chat: Any) -> Mapping[str, Any]:
    sent: Mapping[str, Any] = msgspec.json.decode(policy(**chat)._body(request))
    return sent


def test_a_request_holds_the_prompt_the_tools_and_what_the_family_takes() -> None:
    request = asked("Question: who?\n\n<think>\n", Turns(("search",), ()))
    vllm = body_of(request, family="vllm", tools={"search": "Look it up."})
    assert vllm["messages"] == [{"role": "user", "content": "Question: who?"}]
    assert vllm["tools"][0]["function"]["description"] == "Look it up."
    assert (vllm["parallel_tool_calls"], vllm["seed"], vllm["temperature"]) == (False, 7, 0.6)
    deepseek = body_of(request, family="deepseek")
    assert deepseek["thinking"] == {"type": "enabled"}
    assert not deepseek.keys() & {"seed", "temperature", "top_p", "parallel_tool_calls"}


def test_a_prompt_that_shows_our_tags_is_refused_with_the_right_files() -> None:
    with pytest.raises(ConfigError, match=r"shows our tags[\s\S]*chat_coa\.txt"):
        asyncio.run(roll(policy(), tasks(Mode.COA, "coa", 1)))


def test_a_rollout_that_another_policy_began_is_refused() -> None:
    task = tasks(Mode.COA, "chat_coa", 1)[0]
    begun = replace(task, prefix=protocol.parse("I need it. "))
    with pytest.raises(ConfigError, match="middle of a trajectory"):
        asyncio.run(roll(policy(), [begun]))


def test_a_chat_template_is_refused() -> None:
    params = TeacherParams(
        policy=PolicyKind.CHAT,
        chat_template="<|user|>{prompt}<|assistant|>",
        server=ServerSettings(model=MODEL),
    )
    with pytest.raises(ConfigError, match="template of its own"):
        open_policy(params, MicroworldParams())


def test_the_journals_key_holds_what_a_chat_reply_depends_on() -> None:
    request = asked("Question: who?\n\n<think>\n", Turns(("search",), ()))
    keys = {
        policy_key(policy(), request),
        policy_key(policy(), replace(request, turns=Turns((), ()))),
        policy_key(policy(family="deepseek"), request),
        policy_key(policy(waives=(Waiver.SUMMARY,)), request),
        policy_key(policy(tools={"search": "Look it up."}), request),
    }
    assert len(keys) == 5
    assert reads_turns(policy())


def test_without_turns_a_text_is_asked_for_as_one_message() -> None:
    async def ask() -> str:
        script = ScriptedPolicy(lambda request: "</think>\n\nyes", MODEL)
        async with (
            serve(script, personality=Personality.VLLM) as base_url,
            ChatPolicy(ServerSettings(base_url, MODEL), ChatSettings()) as chat,
        ):
            return (await chat.complete(Request("Who?", (), 64, 0.6, 1.0, 7))).text

    assert asyncio.run(ask()).strip() == "yes"


def test_a_withheld_message_and_a_missing_page_say_what_helps() -> None:
    async def ask(url: str) -> None:
        async with ChatPolicy(
            ServerSettings(url, MODEL, patience_minutes=0), ChatSettings()
        ) as chat:
            await chat.complete(Request("Who?", (), 64, 0.6, 1.0, 7))

    async def served() -> None:
        async with serve(ScriptedPolicy(["yes"], "another")) as base_url:
            with pytest.raises(Exception, match="one of its models: another"):
                await ask(base_url)
            with pytest.raises(Exception, match="refuses us"):
                await ask(base_url.removesuffix("/v1"))

    asyncio.run(served())


def test_the_table_of_families_is_that_of_the_records() -> None:
    text = (ROOT / "docs/teachers.md").read_text(encoding="utf-8")
    for name, family in FAMILIES.items():
        cells = (
            f"`{name}`",
            ", ".join(f"`{it}`" for it in family.returns) or "nothing",
            ", ".join(family.sampling) or "none",
            "switched off" if family.switches_off_parallel_calls else "cut",
            ", ".join(family.forks),
        )
        assert f"| {' | '.join(cells)} |" in text


@pytest.mark.parametrize("status", [400, 401, 500])
def test_no_error_of_a_chat_server_repeats_the_key(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", SECRET)
    sent: list[str] = []

    def refuse(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        sent.append(http_request.headers["Authorization"])
        return error_response(status, f"no, {SECRET}")

    async def ask() -> None:
        async with serve(ScriptedPolicy([], MODEL), fails=refuse) as base_url:
            settings = ServerSettings(base_url, MODEL, "TEACHER_KEY", patience_minutes=0.0)
            async with ChatPolicy(settings, ChatSettings()) as chat:
                await chat.complete(Request("Who?", (), 64, 0.6, 1.0, 7))

    with pytest.raises((RequestError, ServiceError)) as caught:
        asyncio.run(ask())
    assert sent[0] == f"Bearer {SECRET}"
    assert SECRET not in str(caught.value) + repr(caught.value)
