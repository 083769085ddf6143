"""What an open model may write in its own format, how it is read, and what is refused at start."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError
from coa.policy import Completion, Finish, Request, Turns
from coa.policy.chat.families import ChatSettings
from coa.policy.chat.replies import Call, ChatReply, Shown
from coa.policy.native import GRAMMARS, NativePolicy, read_turn
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import serve
from coa.policy.server_settings import ServerSettings
from coa.records import protocol
from coa.records.trajectory import Mode, StepKind, StopReason
from coa.rollout.loop import Limits, State
from coa.spending.journaled import policy_key
from coa.store.pending import Done
from tests.chat_support import MODEL, roll, tasks
from tests.doubles.native_writer import write_turn
from tests.native_support import (
    OddWriter,
    last_state,
    load_template,
    make_tokenizer,
    template_text,
    tokenizer_folder,
)

QWEN = GRAMMARS["qwen"]
END = "<|im_end|>"
THOUGHT = "<think>\nI need it.\n</think>\n\n"


def call(name: str = "search", arguments: str = '{"query": "x"}') -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


CALL = call()
ANSWER = f"{THOUGHT}\\boxed{{Udine}}{END}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tokenizer_folder("qwen3", tmp_path_factory.mktemp("tokenizers"))


def ended(folder: Path, *texts: str, **settings: Any) -> State:
    writer = OddWriter(texts, load_template(folder))
    return asyncio.run(last_state(writer, folder, **settings))


@pytest.mark.parametrize(
    ("written", "reason", "said"),
    [
        (call("look_up"), StopReason.FORBIDDEN_ACTION, ""),
        (call("<b>"), StopReason.MALFORMED, "an unknown tool '<b>'"),
        (call(arguments='{"query": "x"'), StopReason.MALFORMED, "not JSON with a name"),
        (call(arguments='["x"]'), StopReason.MALFORMED, "one text: '[\"x\"]'"),
        (call(arguments="3"), StopReason.MALFORMED, "one text: '3'"),
        (CALL.replace("arguments", "query"), StopReason.MALFORMED, "not JSON with a name"),
        (CALL.partition("</")[0], StopReason.MALFORMED, "a call that is not closed"),
        (f"{CALL}\n<tool_response>\nUdine", StopReason.MALFORMED, "text after a call"),
        (f"{CALL} I wait.", StopReason.MALFORMED, "text after a call: 'I wait.'"),
        ("", StopReason.NO_ANSWER, ""),
    ],
)
def test_a_turn_that_cannot_be_used_ends_its_rollout_with_the_reason(
    folder: Path, written: str, reason: StopReason, said: str
) -> None:
    state = ended(folder, THOUGHT + written + END)
    assert isinstance(state.pending, Done)
    assert state.pending.reason is reason
    assert said in state.pending.error
    if "not JSON" in said:
        assert written in state.steps[0].text


def test_a_call_inside_the_reasoning_is_a_thought(folder: Path) -> None:
    state = ended(folder, f"<think>\nI try {CALL}{END}")
    assert state.pending == Done(StopReason.NO_ANSWER)
    assert [step.kind for step in state.steps] == [StepKind.THOUGHT]
    assert state.steps[0].text == f"I try {CALL}"


def test_the_first_of_parallel_calls_is_made_and_the_others_are_cut(folder: Path) -> None:
    broken = CALL.replace("}}", "")
    state = ended(folder, f"{THOUGHT}{CALL}\n{CALL}\n{broken}{END}", ANSWER)
    assert state.pending == Done(StopReason.ANSWERED)
    action = next(step for step in state.steps if step.kind is StepKind.ACTION)
    first, second = map(msgspec.json.decode, action.cut_calls)
    assert first == {"name": "search", "arguments": '{"query": "x"}'}
    assert second["name"] == "" and '"search"' in second["arguments"]
    template = load_template(folder)
    given_ids = msgspec.json.decode(state.turns.messages[1])["given_ids"]
    assert template.decode(given_ids).count("Not called") == 2


def test_our_tags_in_what_the_model_writes_are_broken(folder: Path) -> None:
    tags = f"{protocol.open_tag('search')} y {protocol.close_tag('search')} {protocol.THINK_OPEN}"
    state = ended(folder, f"<think>\nI {tags}\n</think>\n\n{CALL}{END}", ANSWER)
    thought, action = state.steps[:2]
    assert protocol.open_tag("search") not in thought.text
    assert thought.transcribed == f"I {tags}"
    assert (action.text, action.transcribed) == (
        "<begin_search> x </end_search>",
        '{"query": "x"}',
    )


def test_the_turn_that_the_limit_cuts_in_a_call_is_followed_by_a_forced_answer(
    folder: Path,
) -> None:
    texts = (f"{THOUGHT}{CALL[:30]}", f"The answer is \\boxed{{Udine}}.{END}")
    state = ended(folder, *texts)
    assert state.pending == Done(StopReason.CONTEXT_BUDGET)
    assert protocol.answer_text(state.steps).endswith("\\boxed{Udine}")
    cut = ended(folder, *texts[:1], limits=Limits(max_turn_tokens=500))
    assert cut.pending == Done(StopReason.TURN_BUDGET)


def test_a_model_that_shows_no_reasoning_is_malformed_unless_that_is_waived(folder: Path) -> None:
    state = ended(folder, f"\\boxed{{Udine}}{END}", mode=Mode.COT)
    assert state.pending == Done(StopReason.MALFORMED, "the server shows no reasoning")
    state = ended(folder, f"\\boxed{{Udine}}{END}", mode=Mode.COT, waives=("no_reasoning",))
    assert state.pending == Done(StopReason.ANSWERED)


def test_a_template_that_opens_the_reasoning_is_read_so(tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template_text("qwen3").replace(
        "{{- '<|im_start|>assistant\\n' }}", "{{- '<|im_start|>assistant\\n<think>\\n' }}"
    )
    tokenizer.save_pretrained(tmp_path)
    state = ended(tmp_path, f"I know it.\n</think>\n\n\\boxed{{Udine}}{END}", mode=Mode.COT)
    assert state.pending == Done(StopReason.ANSWERED)
    assert [step.text for step in state.steps] == [
        "I know it.",
        "</think>\n\n\\boxed{Udine}",
    ]


WORDS = st.text(st.characters(exclude_characters="<\n", exclude_categories=["C"]), min_size=1)

MARKS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "</tool_response>", "<code>", "\n"]
QUERIES = st.lists(WORDS | st.sampled_from(MARKS), min_size=1).map("".join)
"""The marks of the format may stand in a string of a call's JSON."""


@given(WORDS, WORDS | st.just(""), st.lists(st.tuples(WORDS, QUERIES), max_size=3))
def test_a_turn_is_read_as_it_was_written(
    reasoning: str, content: str, calls: list[tuple[str, str]]
) -> None:
    written = []
    for name, query in calls:
        written.append(Call(name, msgspec.json.encode({"query": query}).decode()))
    reply = ChatReply({}, reasoning, Shown.TEXT, content, tuple(written), is_cut=False)
    if not reasoning.strip():
        reply = reply._replace(shown=Shown.NOTHING)
    text = write_turn(reply, QWEN)
    found = read_turn(text, QWEN, is_thinking=False, is_cut=False)
    assert found.reply == reply
    assert (found.fault, found.is_thinking) == ("", False)


@given(st.lists(st.sampled_from(["<think>", "</think>", "<tool_call>", "</tool_call>", "\n", "{"])))
def test_any_text_is_read(marks: list[str]) -> None:
    text = "".join(marks)
    for is_cut in (False, True):
        reply = read_turn(text, QWEN, is_thinking=False, is_cut=is_cut).reply
        read = reply.reasoning + reply.content
        assert all(read.count(mark) <= text.count(mark) for mark in marks if mark != "\n")


# Refusals


def opened(folder: str, **server: Any) -> NativePolicy:
    settings = ServerSettings("http://127.0.0.1:1/v1", MODEL, tokenizer=folder, **server)
    return NativePolicy(settings, ChatSettings())


def test_a_policy_without_a_tokenizer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"none is named[\s\S]*server\.tokenizer=\.\.\."):
        opened("")


@pytest.mark.parametrize(
    ("template", "said"),
    [(None, "no chat template"), ("llama3", "not known"), ("glm4moe", "not known")],
)
def test_a_tokenizer_without_a_template_of_a_known_format_is_refused(
    tmp_path: Path, template: str | None, said: str
) -> None:
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template and template_text(template)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=rf"{said}[\s\S]*what to do: "):
        opened(str(tmp_path))


def test_a_server_that_gives_no_ids_is_refused(folder: Path) -> None:
    async def ask() -> None:
        async with serve(ScriptedPolicy(lambda request: "yes", MODEL)) as base_url:
            settings = ServerSettings(base_url, MODEL, tokenizer=str(folder))
            async with NativePolicy(settings, ChatSettings()) as policy:
                await roll(policy, tasks(Mode.COT, "chat_cot", 1))

    with pytest.raises(ConfigError, match=r"gives no token ids[\s\S]*teacher\.policy=chat"):
        asyncio.run(ask())


def test_a_server_with_another_tokenizer_is_refused(folder: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(["I need", " it"])
    tokenizer.save_pretrained(tmp_path)
    ids = [len(tokenizer) - 2, len(tokenizer) - 1]

    class Other(ScriptedPolicy):
        async def complete(self, request: Request) -> Completion:
            return Completion("I need it", Finish.END, 2, ids=tuple(ids))

    with pytest.raises(ConfigError, match=r"another tokenizer[\s\S]*teacher\.server\.tokenizer"):
        asyncio.run(last_state(Other([], MODEL), folder))
    asyncio.run(last_state(Other([], MODEL), tmp_path, waives=("no_reasoning",)))


def test_the_journals_key_holds_the_template(folder: Path, tmp_path: Path) -> None:
    tokenizer = make_tokenizer("qwen2_5")
    tokenizer.save_pretrained(tmp_path)
    request = Request("Who?\n\n<think>\n", (), 64, 0.6, 1.0, 7, turns=Turns(("search",), ()))
    keys = {policy_key(opened(str(it)), request) for it in (folder, tmp_path)}
    assert len(keys) == 2
