"""Texts that show the tags of calls as notation: what a student knows of them before SFT 1."""

import itertools
import re
from dataclasses import replace

import pytest

from coa.errors import ConfigError
from coa.microworld.pretraining import Document, pretraining_documents
from coa.microworld.world import SPLITS, World, WorldSettings, make_world
from coa.records import protocol

SHARE = 0.2
NAME = re.compile(r"[A-Z]\w+ [A-Z]\w+")
TAG = re.compile(r"</?\w+>")
CALL = re.compile(r"(?P<lead>[^<>]+) (?P<call><begin_(?P<tool>\w+)> (?P<query>[^<>]+) </end_\3>)")


@pytest.fixture(scope="module")
def world() -> World:
    return make_world(replace(WorldSettings(), calculation_share=0.2))


@pytest.fixture(scope="module")
def documents(world: World) -> list[Document]:
    return list(itertools.islice(pretraining_documents(world, 0, SHARE), 2_000))


@pytest.fixture(scope="module")
def texts(documents: list[Document]) -> list[str]:
    return ["".join(piece.text for piece in document) for document in documents]


@pytest.fixture(scope="module")
def shown(texts: list[str]) -> list[str]:
    return [text for text in texts if "<begin_" in text]


@pytest.fixture(scope="module")
def lines(shown: list[str]) -> list[re.Match[str]]:
    found = [CALL.fullmatch(line) for text in shown for line in text.splitlines()]
    assert None not in found
    return [line for line in found if line is not None]


def test_a_text_with_notation_holds_complete_calls(lines: list[re.Match[str]]) -> None:
    for line in lines:
        (step,) = protocol.parse(line["call"])
        assert (step.tool, step.argument) == (line["tool"], line["query"])


def test_a_call_stands_by_itself_or_beside_a_sentence_about_the_same_name(
    lines: list[re.Match[str]],
) -> None:
    beside = [line for line in lines if line["lead"] != "Like"]
    assert 0.2 < len(beside) / len(lines) < 0.5
    for line in beside:
        assert line["lead"].endswith(".")
        assert " ".join(line["query"].split()[:2]) in line["lead"]


def test_no_call_follows_a_need_or_a_question_and_none_is_observed(
    texts: list[str], shown: list[str]
) -> None:
    for text in shown:
        assert "I need" not in text
        assert "Question" not in text
    for text in set(texts) - set(shown):
        assert set(TAG.findall(text)) <= {protocol.THINK_OPEN, protocol.THINK_CLOSE}


def test_calls_name_known_and_invented_entities_but_none_of_a_split(
    world: World, shown: list[str]
) -> None:
    named = {name for text in shown for name in NAME.findall(text.replace("Like ", ""))}
    groups = {world.groups.get(name) for name in named}
    assert None in groups, "no invented name"
    assert len(groups) == 2, groups
    assert groups.isdisjoint(SPLITS)


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_of_notation_that_is_none_is_an_error(world: World, share: float) -> None:
    with pytest.raises(ConfigError, match=r"microworld\.notation_share"):
        next(pretraining_documents(world, 0, share))
