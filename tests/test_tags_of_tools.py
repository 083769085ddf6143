"""The tags of every tool at hand are known: to masks, to the doctor and to ReAct's lines."""

from typing import Any

import pytest

from coa.doctor.tags import own_tags, tools_in
from coa.policy import Completion, Finish, Request
from coa.policy.react import from_react, to_react
from coa.records import protocol
from coa.records.tokens import PieceEncoder, tools_with_tags
from coa.records.trajectory import Author, Outcome

pytest.importorskip("transformers")

from coa.policy.react import ReactIdsPolicy
from tests.rl_support import EncodingPolicy
from tests.tokenizers_support import byte_level

TOOLS = ("search", "calculate")
CALL = "<begin_calculate> 1987 - 1942 </end_calculate>"


def with_special_tags(*tools: str) -> Any:
    """A tokenizer in which the tags of these tools are special tokens."""
    tokenizer = byte_level(special=True)
    tokenizer.add_tokens(sorted(protocol.all_tags(tools)), special_tokens=True)
    return tokenizer


def test_a_tool_is_known_by_both_tags_of_its_calls() -> None:
    names = {"<begin_calculate>", "</end_calculate>", "<begin_of_image>", "calculate", "<s>"}
    assert tools_with_tags(names) == {"calculate"}


def test_a_call_of_any_tool_is_written_with_the_tokenizers_own_tags() -> None:
    tokenizer = with_special_tags("calculate")
    ids = PieceEncoder(tokenizer).encode(CALL, author=Author.POLICY)
    assert ids[0] == tokenizer.convert_tokens_to_ids("<begin_calculate>")
    assert ids[-1] == tokenizer.convert_tokens_to_ids("</end_calculate>")


def test_an_observation_never_holds_the_tags_of_a_tool() -> None:
    tokenizer = with_special_tags("calculate")
    tags = set(tokenizer.convert_tokens_to_ids(sorted(protocol.all_tags(TOOLS))))
    encoder = PieceEncoder(tokenizer)
    ids = encoder.encode(CALL, author=Author.ENVIRONMENT)
    assert tags.isdisjoint(ids)
    assert encoder.decode(ids) == CALL


def test_a_special_token_that_only_looks_like_a_tag_is_not_parsed() -> None:
    tokenizer = byte_level(special=True)
    tokenizer.add_tokens(["<begin_of_image>"], special_tokens=True)
    ids = PieceEncoder(tokenizer).encode("<begin_of_image> x", author=Author.POLICY)
    assert tokenizer.convert_tokens_to_ids("<begin_of_image>") not in ids


def test_the_doctor_looks_at_the_tags_of_the_tools_that_rows_call() -> None:
    text = f"<think>\nI need it. {CALL}\n<calculate_result> 45 </calculate_result>\n</think>"
    assert tools_in(text) == {"calculate"}
    assert tools_in("I need it.") == set()
    assert "<begin_calculate>" in own_tags(tools_in(text))
    assert own_tags() == sorted(protocol.all_tags(("search",)))


def test_react_writes_and_reads_the_calls_of_any_tool() -> None:
    observed = protocol.observation_text("calculate", "45")
    lines = to_react(f"Question: q\n\n<think>\nIt is so. {CALL}{observed}").text
    assert "\nAction: calculate[1987 - 1942]\nObservation: 45\nThought:" in lines
    written, has_moved = from_react(" It is so.\nAction: calculate[1987 - 1942]\n")
    assert written == f"It is so. {CALL}"
    assert has_moved


class Silent(EncodingPolicy):
    """A policy that is only asked for ids."""

    name = "silent"

    def _complete(self, request: Request) -> Completion:
        return Completion("", Finish.END, 0, None, ())


def test_observations_of_any_tool_are_lines_in_ids_too() -> None:
    tokenizer = byte_level()
    policy = ReactIdsPolicy(Silent(tokenizer), TOOLS)
    ids: list[int] = []
    for piece in protocol.pieces("", (protocol.observation("calculate", "45", Outcome.OK),)):
        ids += policy.encode(piece.text, author=piece.author)
    assert PieceEncoder(tokenizer).decode(ids) == "Observation: 45\n"
