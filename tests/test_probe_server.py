"""What a server does is looked at before a run relies on it, and a contradiction is an error."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from coa.errors import ConfigError, ServiceError
from coa.journal import Journal, JournalReader
from coa.policy import Completion, Finish, Request
from coa.policy.chat.families import FAMILIES, FamilyName
from coa.policy.chat.policy import ChatSettings, Waiver
from coa.policy.probe.questions import STORY
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import error_response
from tests.chat_support import MODEL, faulty
from tests.completions_support import free_port
from tests.doubles.model_server import Personality
from tests.probe_support import like, probed

SHOWING = [it for it in Personality if it is not Personality.PLAIN]


class Counting(ScriptedPolicy):
    """A script that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(lambda request: "no", MODEL)
        self.num_calls = 0

    async def complete(self, request: Request) -> Completion:
        """Continue one request."""
        self.num_calls += 1
        return await super().complete(request)


@pytest.mark.parametrize("personality", SHOWING)
def test_a_chat_server_with_the_manners_of_its_family_is_seen_to_have_them(
    journal_path: Path, personality: Personality
) -> None:
    chat = ChatSettings(family=FamilyName(personality.value))
    script = Counting()
    seen = probed(journal_path, chat=chat, personality=personality, script=script).seen
    sends_seeds = "seed" in FAMILIES[chat.family].sampling
    assert seen == {
        "reasoning": "shown as text",
        "model": "the one that was asked for",
        "tool_calls": "parsed",
        "earlier_turns": "taken back",
        "forced_answer": "given",
        "seeds": seen["seeds"],
        "usage": "counted, cached tokens too",
    }
    assert seen["seeds"].startswith("honoured" if sends_seeds else "not sent")
    assert script.num_calls == (6 if sends_seeds else 3)


@pytest.mark.parametrize(
    ("manner", "stop"),
    [
        ({}, "honoured, and dropped from the text, but named beside it"),
        ({"gives_stop_reason": False}, "honoured, and dropped from the text"),
        ({"drops_stop_string": False}, "honoured, and kept in the text"),
        ({"ignores_stop": True}, "ignored: texts are cut here"),
    ],
)
def test_raw_completions_are_seen_to_keep_drop_or_ignore_a_stop_string(
    journal_path: Path, manner: dict[str, bool], stop: str
) -> None:
    script = Counting()
    seen = probed(journal_path, script=script, **manner).seen
    assert seen["stop_strings"] == stop
    assert seen["continuation"] == "goes on from a beginning as if it had not been cut"
    assert seen["seeds"].startswith("honoured")
    assert seen["token_ids"] == "not asked for"
    assert seen["usage"] == "counted, without cached tokens"
    assert script.num_calls == 6


def test_at_temperature_0_no_seeds_are_tried(journal_path: Path) -> None:
    script = Counting()
    seen = probed(journal_path, script=script, asked=like(temperature=0.0)).seen
    assert seen["seeds"] == "unknown: at temperature 0 nothing is drawn"
    assert script.num_calls == 3


class Unseeded(ScriptedPolicy):
    """A model whose draws no seed decides, or which always writes the same."""

    def __init__(self, *, draws: bool) -> None:
        super().__init__(lambda request: "no", MODEL)
        self._draws = draws
        self._number = 0

    async def complete(self, request: Request) -> Completion:
        """Write another text each time."""
        self._number += self._draws
        return Completion(f" a man who had {self._number} dogs and a boat", Finish.LENGTH, 9)


def test_seeds_that_decide_nothing_are_told_apart_from_a_model_that_draws_nothing(
    journal_path: Path, tmp_path: Path
) -> None:
    seen = probed(journal_path, script=Unseeded(draws=True)).seen
    assert seen["seeds"] == "not honoured: the same seed gave another text"
    seen = probed(tmp_path / "other.sqlite", script=Unseeded(draws=False)).seen
    assert seen["seeds"] == "unknown: two seeds gave the same text"


@pytest.mark.parametrize(
    ("personality", "kind", "said"),
    [
        (Personality.PLAIN, "", "shows no reasoning"),
        (Personality.VLLM, "summary", "only a summary"),
        (Personality.VLLM, "other_model", "another model's: somebody-else"),
    ],
)
def test_a_server_that_cannot_teach_is_refused_by_name_before_the_first_question(
    journal_path: Path, personality: Personality, kind: str, said: str
) -> None:
    script = Counting()
    faults = faulty(kind, share=1.0) if kind else None
    chat = ChatSettings(family=FamilyName(personality.value))
    with pytest.raises(ConfigError, match=rf"cannot teach[\s\S]*{said}[\s\S]*waives=\["):
        probed(journal_path, chat=chat, personality=personality, script=script, faults=faults)
    assert script.num_calls == 6


def test_what_is_waived_is_seen_and_named(journal_path: Path) -> None:
    chat = ChatSettings(family=FamilyName.PLAIN, waives=(Waiver.NO_REASONING,))
    seen = probed(journal_path, chat=chat, personality=Personality.PLAIN).seen
    assert seen["reasoning"] == "not shown (accepted: no_reasoning)"


def message(**fields: Any) -> Any:
    """A server whose messages are all like this."""

    def answer(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        said = {"role": "assistant", "content": None, "reasoning": "Let me see.", **fields}
        choice = {"index": 0, "message": said, "finish_reason": "stop"}
        usage = {"prompt_tokens": 9, "completion_tokens": 9}
        return web.json_response({"model": MODEL, "choices": [choice], "usage": usage})

    return answer


CALL = '<tool_call>\n{"name": "search", "arguments": {"query": "France"}}\n</tool_call>'


@pytest.mark.parametrize(
    ("fields", "place"), [({"reasoning": CALL}, "reasoning"), ({"content": CALL}, "answer")]
)
def test_a_call_that_no_parser_of_the_server_reads_is_an_error(
    journal_path: Path, fields: dict[str, str], place: str
) -> None:
    with pytest.raises(ConfigError, match=rf"unparsed[\s\S]*the {place}[\s\S]*tool-call-pars"):
        probed(journal_path, chat=ChatSettings(), fails=message(**fields))


def test_a_model_that_makes_no_call_is_unknown_and_no_error(journal_path: Path) -> None:
    seen = probed(journal_path, chat=ChatSettings(), fails=message(content="Paris.")).seen
    assert seen["tool_calls"] == "unknown: the model made none"
    assert seen["earlier_turns"] == "unknown: there was no call to go on from"
    assert seen["usage"] == "counted, without cached tokens"


def test_the_wrong_family_is_found_at_the_turn_after_a_call(journal_path: Path) -> None:
    chat = ChatSettings(family=FamilyName.GPT_OSS)
    with pytest.raises(ConfigError, match=r"passed back[\s\S]*teacher\.chat\.family"):
        probed(journal_path, chat=chat, personality=Personality.DEEPSEEK)


def no_tools(http_request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
    said = '"auto" tool choice requires --enable-auto-tool-choice'
    return error_response(400, said) if body.get("tools") else None


def test_a_server_that_takes_no_tools_is_refused_where_tools_are_offered(
    journal_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"turn with tools[\s\S]*enable-auto-tool-choice"):
        probed(journal_path, chat=ChatSettings(), personality=Personality.VLLM, fails=no_tools)
    asked = like(turns=like().turns.__class__((), ()))
    seen = probed(
        tmp_path / "cot.sqlite",
        chat=ChatSettings(),
        personality=Personality.VLLM,
        fails=no_tools,
        asked=asked,
    ).seen
    assert seen["tool_calls"] == "no tool is offered"


def echo(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
    choice = {"index": 0, "text": body["prompt"] + " a man", "finish_reason": "length"}
    return web.json_response({"model": MODEL, "choices": [choice]})


def test_an_echo_is_an_error(journal_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"repeats the text[\s\S]*`echo`"):
        probed(journal_path, fails=echo)


def test_what_is_recorded_is_not_asked_again_and_other_stages_read_it(journal_path: Path) -> None:
    port = free_port()
    script = Counting()
    first = probed(journal_path, script=script, port=port)
    again = probed(journal_path, script=script, port=port)
    other = journal_path.with_name("branch.sqlite")
    elsewhere = probed(other, script=script, port=port)
    assert script.num_calls == 6
    assert first.seen == again.seen == elsewhere.seen
    with JournalReader(other) as journal:
        assert not list(journal.calls())


def test_a_server_that_failed_is_asked_again_and_every_question_is_recorded(
    journal_path: Path,
) -> None:
    port = free_port()
    chat = ChatSettings(family=FamilyName.VLLM)
    for _ in range(2):
        script = Counting()
        with pytest.raises(ConfigError, match="cannot teach"):
            probed(journal_path, chat=chat, personality=Personality.PLAIN, script=script, port=port)
        assert script.num_calls == 6
    set_right = probed(journal_path, chat=chat, personality=Personality.VLLM, port=port)
    assert set_right.seen["reasoning"] == "shown as text"
    with Journal(journal_path) as journal:
        assert journal.num_recorded == 0
    with JournalReader(journal_path) as reader:
        assert len(list(reader.calls())) == 18


def test_a_key_that_a_server_repeats_is_not_recorded(
    journal_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEACHER_KEY", "sk-probe-77")

    def tell(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        choice = {"index": 0, "text": " a man and a dog and a boat", "finish_reason": "length"}
        heard = http_request.headers["Authorization"]
        return web.json_response({"model": MODEL, "choices": [choice], "debug": heard})

    probed(journal_path, server={"api_key_env": "TEACHER_KEY"}, fails=tell)
    assert b"sk-probe-77" not in journal_path.read_bytes()
    with JournalReader(journal_path) as reader:
        replies = [json.loads(call.reply) for call in reader.calls()]
    assert any("***" in reply["sent"] for reply in replies)


def test_a_probe_that_was_interrupted_goes_on_and_counts_as_a_whole_one(
    journal_path: Path, tmp_path: Path
) -> None:
    port = free_port()
    whole = probed(tmp_path / "whole.sqlite", port=port)
    assert whole.ledger.used.total.calls == 6

    def dies_after_four(http_request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
        is_later = "stop" in body or body["prompt"] != STORY
        return error_response(503, "gone") if is_later else None

    other = tmp_path / "elsewhere"
    other.mkdir()
    with pytest.raises(ServiceError, match="gone"):
        probed(
            other / "a.sqlite", fails=dies_after_four, port=port, server={"patience_minutes": 0.0}
        )
    resumed = probed(other / "a.sqlite", port=port)
    assert resumed.seen == whole.seen
    assert resumed.ledger.used.metrics() == whole.ledger.used.metrics()
    with JournalReader(other / "a.sqlite") as reader:
        assert len(list(reader.calls())) == 6
