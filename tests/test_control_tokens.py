"""The names of control tokens: text from outside bears none, whatever the model's chat format."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.policy.prompts import Prompt
from coa.policy.scripted import ScriptedPolicy
from coa.records import control_tokens, protocol
from coa.records.tokens import PieceEncoder
from coa.records.trajectory import Mode, Outcome, Sampling
from coa.rollout.loop import Limits, RolloutContext, Task, advance, observe, request, start
from coa.tools import ToolReply

FORMATS = {
    "mistral": (
        "[INST] [/INST] [AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] [TOOL_CALLS] [ARGS] "
        "[SYSTEM_PROMPT] [/SYSTEM_PROMPT] [TOOL_CONTENT] [CALL_ID] [THINK] [IMG] [PREFIX] <s> </s>"
    ),
    "llama 2": "[INST] [/INST] <<SYS>> <</SYS>> <s> </s> <unk>",
    "llama 3": "<|begin_of_text|> <|start_header_id|> <|eot_id|> <|python_tag|>",
    "qwen": "<|im_start|> <|im_end|> <tool_call> </tool_call> <think> </think> <|endoftext|>",
    "glm": "<|user|> <|assistant|> <|observation|> <|system|> [gMASK] [sMASK] <sop> <eop> "
    "<arg_key> </arg_key> <arg_value> </arg_value> <tool_call>",
    "seed": "<seed:bos> <seed:eos> <seed:think> </seed:think> <seed:tool_call> </seed:tool_call> "
    "<seed:cot_budget_reflect> </seed:cot_budget_reflect>",
    "minimax": "]~!b[ ]~b] [e~[ ]!d~[ <minimax:tool_call> </minimax:tool_call> <fim_prefix>",
    "deepseek": "<｜User｜> <｜Assistant｜> <｜end▁of▁sentence｜> <｜tool▁calls▁begin｜>",
    "gemma": "<start_of_turn> <end_of_turn> <bos> <eos> <pad> <mask> <unused7>",
    "kimi": "<|im_user|> <|im_middle|> [BOS] [EOS] [EOT] [start_header_id] [end_header_id]",
    "gpt-oss": "<|channel|> <|message|> <|start|> <|end|> <|call|>",
    "command r": "<|START_OF_TURN_TOKEN|> <BOS_TOKEN> <|CHATBOT_TOKEN|>",
}
"""Control tokens as the models' tokenizers name them."""
NAMES = sorted({name for names in FORMATS.values() for name in names.split()})
OWN = ["[STEER]", "<turn>", "▁<PRE>", ">>TITLE<<", "[a[a[", "]]", "||"]
"""Names that only a tokenizer can tell of."""
PARTS = [
    *NAMES,
    *OWN,
    *"<>[]|~",
    "[IN",
    "ST]",
    "]~b",
    "b]",
    "［INST］",
    "＜sop＞",
    "\ud800",
    "\u0338",
    " ",
]
HOSTILE = st.lists(st.sampled_from(PARTS) | st.text(max_size=5), max_size=12).map("".join)


@pytest.mark.parametrize("model", FORMATS)
def test_no_name_of_a_models_control_tokens_passes(model: str) -> None:
    names = FORMATS[model].split()
    harmless = protocol.neutralise(f"a {FORMATS[model]} b")
    assert [name for name in names if name in harmless] == []
    body = protocol.observation_text("search", FORMATS[model])
    assert [name for name in names if name in body] == []


@given(HOSTILE, st.lists(st.sampled_from(OWN), unique=True))
def test_neutralised_text_bears_no_control_token_in_any_form(text: str, own: list[str]) -> None:
    harmless = protocol.neutralise(text, own)
    for read in (harmless, unicodedata.normalize("NFKC", harmless)):
        assert [name for name in (*NAMES, *control_tokens.KNOWN, *own) if name in read] == []
    assert protocol.neutralise(harmless, own) == harmless
    assert protocol.neutralise(harmless) == harmless


@pytest.mark.parametrize(
    "text",
    [
        "[Sep 2020]",
        "see [1], [2] and [note]",
        "a [mask] in lower case",
        "x]~y[",
        "int[a][b]",
        "[INST without an end",
        "<seed>",
        "A <b>bold</b> word",
        "p < 0.5 > q",
        "a || b",
        "<unused>",
        "［１］",
        "Mask the [area]",
    ],
)
def test_ordinary_brackets_pass_unchanged(text: str) -> None:
    assert protocol.neutralise(text) == text


@pytest.mark.parametrize("unit", ["[INST]", "]~b", "[e~", "[", "<a_", "<seed:", "]<]", "[a["])
def test_a_megabyte_of_names_takes_no_quadratic_time(unit: str) -> None:
    harmless = protocol.neutralise(unit * (1_000_000 // len(unit)), ("[a[a[",))
    assert not control_tokens.is_in(harmless, control_tokens.KNOWN)


def test_a_tokenizers_own_control_tokens_are_those_that_are_special_or_look_like_tags() -> None:
    added = [
        ("[STEER]", True),
        ("<turn>", False),
        ("    ", False),
        ("\n\n", False),
        ("PAD", True),
        ("word", False),
        ("a|b", False),
        ("a|b|", True),
    ]
    assert control_tokens.names_of(added) == ("<turn>", "[STEER]", "a|b|")


def test_a_piece_encoder_tells_the_names_that_need_telling() -> None:
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    backend = tokenizers.Tokenizer(tokenizers.models.BPE())
    backend.add_special_tokens(["[STEER]", "<|im_end|>", "</s>"])
    backend.add_tokens(["<turn>", "   ", protocol.open_tag("search")])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=backend)
    assert PieceEncoder(tokenizer).control_tokens == ("<turn>", "[STEER]")


class Steered(ScriptedPolicy):
    """A policy whose tokenizer has a control token of its own."""

    control_tokens = ("[STEER]",)


def test_a_policys_own_control_tokens_stand_in_no_question_and_no_observation() -> None:
    call = f"{protocol.open_tag('search')} x {protocol.close_tag('search')}"
    policy = Steered([call])
    prompt = Prompt("[STEER] {question}\n<think>\n", "hash").for_policy(policy)
    task = Task("q/coa/0", "q", Mode.COA, 0, "Q?", prompt.fill("[STEER] who?"), "hash", ("search",))
    state = start(task, RolloutContext(policy, Sampling(), Limits()))
    state = advance(state, policy.complete_batch([request(state)])[0])
    state = observe(state, ToolReply(Outcome.OK, "A [STEER] b [INST]"))
    assert state.context.count("[STEER]") == 1  # the prompt file's own
    assert state.steps[-1].text == "\n<search_result> A ⟦STEER] b ⟦INST] </search_result>\n"


@given(st.integers(1, 300), st.sampled_from(["<{}_result>", "</{}_result>", "< / {}_RESULT >"]))
def test_no_tools_tag_passes_however_long_its_name(length: int, form: str) -> None:
    name = "a" * length
    body = form.format(name)
    assert "<" not in protocol.neutralise(body)
    step = protocol.observation(name, f"x </{name}_result> y", Outcome.OK)
    assert len(re.findall(f"</{name}_result>", step.text)) == 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("search", True),
        ("get_weather2", True),
        ("a" * 128, True),
        ("a" * 129, False),
        ("", False),
        ("Search", False),
        ("a__b", False),
        ("_a", False),
        ("a_", False),
        ("a b", False),
        ("ä", False),
        ("a\n", False),
    ],
)
def test_a_tools_name_is_one_that_is_read_back(name: str, expected: bool) -> None:
    assert protocol.is_tool_name(name) is expected
    if expected:
        text = f"{protocol.open_tag(name)} x {protocol.close_tag(name)}"
        assert protocol.parse_policy(text)[-1].tool == name
