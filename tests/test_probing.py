"""A server is asked two questions before a run relies on it, and a contradiction is an error."""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from coa.errors import ConfigError
from coa.policy import Completion, Policy, Request, Turns
from coa.policy.chat.families import ChatSettings, FamilyName, Waiver
from coa.policy.chat.policy import ChatPolicy
from coa.policy.completions import CompletionsPolicy
from coa.policy.probe import STORY
from coa.policy.react import THINKING_OPENED
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import error_response
from coa.policy.server_settings import ServerSettings
from coa.records.tokens import PieceEncoder
from coa.rollout.probe import Probe
from coa.spending.ledger import Ledger
from coa.store.journal import Journal, JournalReader
from tests.chat_support import MODEL, faulty
from tests.completions_support import free_port
from tests.doubles.model_server import Personality, serve

SHOWING = [it for it in Personality if it is not Personality.PLAIN]


def like(**changes: Any) -> Request:
    """A request of a run."""
    values: dict[str, Any] = {
        "context": f"Who?{THINKING_OPENED}",
        "stop": ("</search>",),
        "max_tokens": 600,
        "temperature": 0.6,
        "top_p": 1.0,
        "seed": 1,
        "turns": Turns(("search",), ()),
    }
    return Request(**{**values, **changes})


class Counting(ScriptedPolicy):
    """A script that counts what it is asked."""

    def __init__(self) -> None:
        super().__init__(lambda request: "no", MODEL)
        self.num_calls = 0

    async def complete(self, request: Request) -> Completion:
        """Continue one request."""
        self.num_calls += 1
        return await super().complete(request)


def probed(
    journal: Path,
    *,
    chat: ChatSettings | None = None,
    server: Mapping[str, Any] | None = None,
    script: Policy | None = None,
    asked: Request | None = None,
    port: int = 0,
    may_ask: bool = True,
    **manner: Any,
) -> Probe:
    """Probe a server with these manners, over chat or raw completions."""

    async def look() -> Probe:
        async with serve(script or Counting(), port=port, **manner) as base_url:
            settings = ServerSettings(
                base_url, MODEL, **{"patience_minutes": 0.1, **(server or {})}
            )
            policy = CompletionsPolicy(settings) if chat is None else ChatPolicy(settings, chat)
            with Journal(journal) as opened:
                async with policy:
                    probe = Probe(policy, opened, Ledger(opened))
                    await probe.look(asked or like(), may_ask=may_ask)
                    return probe

    return asyncio.run(look())


@pytest.mark.parametrize("personality", SHOWING)
def test_a_chat_server_is_asked_one_question_with_a_tool_and_one_without(
    journal_path: Path, personality: Personality, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = ChatSettings(family=FamilyName(personality.value))
    script = Counting()
    seen = probed(journal_path, chat=chat, personality=personality, script=script).seen
    assert seen == {
        "reasoning": "shown as text",
        "model": "the one that was asked for",
        "tool_calls": "parsed",
        "usage": "counted",
    }
    assert script.num_calls == 2
    told = capsys.readouterr().err
    assert "asked the server what this run relies on (2 questions):" in told
    assert "tool calls: parsed" in told


@pytest.mark.parametrize("manner", [{}, {"drops_stop_string": False}, {"ignores_stop": True}])
def test_a_server_of_raw_completions_is_asked_one_question(
    journal_path: Path, manner: dict[str, bool]
) -> None:
    script = Counting()
    seen = probed(journal_path, script=script, **manner).seen
    assert seen == {
        "continuation": "begins where the text ends",
        "token_ids": "not asked for",
        "usage": "counted",
    }
    assert script.num_calls == 1


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
    faults = faulty(kind, share=1.0) if kind else None
    chat = ChatSettings(family=FamilyName(personality.value))
    with pytest.raises(ConfigError, match=rf"cannot teach[\s\S]*{said}[\s\S]*waives=\["):
        probed(journal_path, chat=chat, personality=personality, faults=faults)


def test_what_is_waived_is_named(journal_path: Path) -> None:
    waives = (Waiver.NO_REASONING, Waiver.OTHER_MODEL)
    chat = ChatSettings(family=FamilyName.PLAIN, waives=waives)
    seen = probed(journal_path, chat=chat, personality=Personality.PLAIN).seen
    assert seen["reasoning"] == "as it is (accepted: no_reasoning)"
    assert seen["model"] == "accepted, whichever it is"


def message(**fields: Any) -> Any:
    """A server whose messages are all like this."""

    def answer(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
        said = {"role": "assistant", "content": None, "reasoning": "Let me see.", **fields}
        choice = {"index": 0, "message": said, "finish_reason": "stop"}
        return web.json_response({"model": MODEL, "choices": [choice]})

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
    assert seen["usage"] == "not counted by the server: counted or estimated here"


def no_tools(http_request: web.Request, body: Mapping[str, Any]) -> web.Response | None:
    said = '"auto" tool choice requires --enable-auto-tool-choice'
    return error_response(400, said) if body.get("tools") else None


def test_a_server_that_takes_no_tools_is_refused_where_tools_are_offered(
    journal_path: Path, tmp_path: Path
) -> None:
    manner: dict[str, Any] = {"chat": ChatSettings(), "personality": Personality.VLLM}
    with pytest.raises(ConfigError, match=r"refuses a question[\s\S]*enable-auto-tool-choice"):
        probed(journal_path, fails=no_tools, **manner)
    asked = like(turns=Turns((), ()))
    seen = probed(tmp_path / "cot.sqlite", fails=no_tools, asked=asked, **manner).seen
    assert seen["tool_calls"] == "no tool is offered"


def echo(http_request: web.Request, body: Mapping[str, Any]) -> web.Response:
    choice = {"index": 0, "text": body["prompt"] + " a man", "finish_reason": "length"}
    return web.json_response({"model": MODEL, "choices": [choice]})


def test_an_echo_is_an_error(journal_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"repeats the text[\s\S]*`echo`"):
        probed(journal_path, fails=echo)


def test_what_is_recorded_is_not_asked_again(journal_path: Path) -> None:
    port = free_port()
    script = Counting()
    first = probed(journal_path, script=script, port=port)
    again = probed(journal_path, script=script, port=port, may_ask=False)
    assert script.num_calls == 1
    assert first.seen == again.seen
    assert first.ledger.used.metrics() == again.ledger.used.metrics()


def test_a_server_that_failed_is_asked_again_and_every_reply_is_recorded(
    journal_path: Path,
) -> None:
    port = free_port()
    chat = ChatSettings(family=FamilyName.VLLM)
    for _ in range(2):
        script = Counting()
        with pytest.raises(ConfigError, match="cannot teach"):
            probed(journal_path, chat=chat, personality=Personality.PLAIN, script=script, port=port)
        assert script.num_calls == 2
    set_right = probed(journal_path, chat=chat, personality=Personality.VLLM, port=port)
    assert set_right.seen["reasoning"] == "shown as text"
    with JournalReader(journal_path) as reader:
        assert len(list(reader.calls())) == 6


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


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    """A tokenizer in a folder, as a server's settings name it."""
    pytest.importorskip("torch")
    from coa.student.small import StudentSettings, new_student

    texts = [f"{STORY} an old man by the river, two dogs and many apple trees."]
    made = new_student(texts, StudentSettings(16, 1, 2, 32, 64), seed=1).tokenizer
    made.save_pretrained(tmp_path / "tokenizer")
    return made


class WithIds(ScriptedPolicy):
    """A script that reads and writes ids: some of them changed, or none."""

    def __init__(self, tokenizer: Any, *, moved: int = 0, gives_none: bool = False) -> None:
        super().__init__(lambda request: "no", MODEL)
        self._encoder = PieceEncoder(tokenizer)
        self._moved = moved
        self._gives_none = gives_none

    async def complete(self, request: Request) -> Completion:
        """Continue one request."""
        assert request.context_ids is not None
        context = self._encoder.decode(request.context_ids)
        written = await super().complete(replace(request, context=context))
        ids = self._encoder.encode(written.text)
        moved = tuple(token + self._moved for token in ids)
        return replace(written, ids=None if self._gives_none else moved)


def with_ids(folder: Path) -> dict[str, object]:
    asked = {"return_token_ids": True}
    return {"tokenizer": str(folder / "tokenizer"), "extra_body": asked}


def test_ids_that_are_those_of_the_text_are_seen_to_be(tmp_path: Path, tokenizer: Any) -> None:
    script = WithIds(tokenizer)
    seen = probed(tmp_path / "a.sqlite", server=with_ids(tmp_path), script=script).seen
    assert seen["token_ids"] == "those of the text"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"moved": 1}, r"not those of the text[\s\S]*server\.tokenizer"),
        ({"gives_none": True}, r"returns no token ids[\s\S]*return_token_ids"),
    ],
)
def test_ids_of_another_tokenizer_and_ids_that_do_not_come_are_errors(
    tmp_path: Path, tokenizer: Any, change: dict[str, Any], said: str
) -> None:
    script = WithIds(tokenizer, **change)
    with pytest.raises(ConfigError, match=said):
        probed(tmp_path / "a.sqlite", server=with_ids(tmp_path), script=script)
