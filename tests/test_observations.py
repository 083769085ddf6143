"""Test how results are shown: limits in characters and tokens, numbering, repeats.

A repeat is a passage that the trajectory has seen before.
"""

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError
from coa.policy.scripted import ScriptedPolicy
from coa.records.trajectory import Author, Mode, Outcome, Sampling, Step, StepKind
from coa.rollout.drivers import roll_out
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.search import Hit, Passage
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import (
    Numbering,
    ObservationSettings,
    SearchTool,
    TokenCounter,
    shorten_to_chars,
    show,
)
from coa.tools import ALL_SHOWN, Repeats, ToolReply, without_repeats

LONG = "The Danube is a river. It flows through ten countries. Its delta lies in Romania."
DANUBE, DELTA = (
    Passage("p1", "Danube", LONG),
    Passage("p2", "Danube Delta", "A delta of the Danube."),
)
ENGINE = EmbeddedSearch.in_memory([DANUBE, DELTA])
HITS = [Hit(DANUBE, 2.0), Hit(DELTA, 1.0)]


@pytest.mark.parametrize(
    ("numbering", "start"),
    [
        (Numbering.RESULT, "result 2: "),
        (Numbering.BRACKET, "[2] "),
        (Numbering.DOC, "Doc 2: "),
        (Numbering.NONE, ""),
    ],
)
def test_results_are_numbered_as_asked(numbering: Numbering, start: str) -> None:
    assert (
        show(HITS, ObservationSettings(numbering=numbering))[1]
        == f"{start}Danube Delta: A delta of the Danube."
    )


def test_a_text_is_cut_at_characters_where_a_sentence_ends() -> None:
    assert shorten_to_chars(LONG, 60) == "The Danube is a river. It flows through ten countries."
    assert shorten_to_chars(LONG, 20) == "The Danube is a ..."
    assert shorten_to_chars(LONG, 0) == LONG
    (line, _) = show(HITS, ObservationSettings(max_words=0, max_chars=60))
    assert line.endswith("ten countries.")


@given(st.lists(st.text("ab.!? \"'A1", min_size=1).map(str.strip).filter(bool)), st.integers(1, 60))
def test_a_shortened_text_is_a_beginning_of_at_most_so_many_characters(
    parts: list[str], max_chars: int
) -> None:
    text = " ".join(" ".join(parts).split())
    short = shorten_to_chars(text, max_chars).removesuffix(" ...")
    assert text.startswith(short)
    assert len(short) <= max(max_chars, 0)


@pytest.mark.skipif(
    "COA_REAL_DATA" not in os.environ, reason="needs a tokenizer: COA_REAL_DATA is not set"
)
def test_a_text_is_cut_at_tokens() -> None:
    folder = str(Path(os.environ["COA_REAL_DATA"]) / "tokenizer_qwen2")
    settings = ObservationSettings(
        max_words=0, max_tokens=14, tokenizer=folder, numbering=Numbering.NONE
    )
    counter = TokenCounter.load(folder)
    (line, _) = show(HITS, replace(settings, shows_titles=False), counter)
    assert line == "The Danube is a river. It flows through ten countries."
    assert counter.count(line) <= 14


def test_tokens_need_a_tokenizer() -> None:
    with pytest.raises(ConfigError, match="needs a tokenizer"):
        ObservationSettings(max_tokens=10)


def test_settings_beyond_the_first_are_part_of_the_fingerprint_where_they_are_used() -> None:
    plain, changed = (
        SearchTool(ENGINE),
        SearchTool(ENGINE, ObservationSettings(max_chars=9, repeats=Repeats.DROP)),
    )
    assert changed.fingerprint == f"{plain.fingerprint}-max_chars=9-repeats=drop"


# --- repeats


def shown(*passages: str) -> Step:
    return Step(
        StepKind.OBSERVATION,
        Author.ENVIRONMENT,
        "",
        tool="search",
        outcome=Outcome.OK,
        passages=passages,
    )


def reply(repeats: Repeats) -> ToolReply:
    return asyncio.run(
        SearchTool(ENGINE, ObservationSettings(repeats=repeats)).call("danube delta")
    )


COLON = Passage("p3", "", "Delta: a river's mouth, as the Danube's.")


@pytest.mark.parametrize(
    ("settings", "danube", "colon"),
    [
        (ObservationSettings(), "result 1: Danube: shown above.", "result 2: shown above."),
        (
            ObservationSettings(numbering=Numbering.BRACKET),
            "[1] Danube: shown above.",
            "[2] shown above.",
        ),
        (
            ObservationSettings(numbering=Numbering.DOC, shows_titles=False),
            "Doc 1: shown above.",
            "Doc 2: shown above.",
        ),
        (
            ObservationSettings(numbering=Numbering.NONE),
            "Danube: shown above.",
            "shown above.",
        ),
    ],
)
def test_a_marked_passage_keeps_its_number_and_its_title(
    settings: ObservationSettings, danube: str, colon: str
) -> None:
    engine = EmbeddedSearch.in_memory([DANUBE, COLON])
    tool = SearchTool(engine, replace(settings, repeats=Repeats.MARK))
    before = asyncio.run(tool.call("danube"))
    assert before.passages == ("p1", "p3")
    after = without_repeats(before, [shown("p1", "p3")])
    assert after.text == f"{danube}\n{colon}"
    assert after.passages == ()
    first, second = before.text.splitlines()
    assert without_repeats(before, [shown("p1")]).text == f"{danube}\n{second}"
    assert without_repeats(before, [shown("p3")]).text == f"{first}\n{colon}"


def test_passages_shown_before_are_dropped() -> None:
    found = without_repeats(reply(Repeats.DROP), [shown("p1"), shown("p9")])
    assert found == ToolReply(
        Outcome.OK, "result 1: Danube Delta: A delta of the Danube.", ("p2",), (), Repeats.DROP
    )
    assert without_repeats(reply(Repeats.DROP), [shown("p1", "p2")]).text == ALL_SHOWN


def test_by_default_they_are_shown_again() -> None:
    kept = reply(Repeats.KEEP)
    assert without_repeats(kept, [shown("p1", "p2")]) is kept
    assert reply(Repeats.DROP) == without_repeats(reply(Repeats.DROP), [shown("p9")])


@given(
    st.sampled_from(Repeats),
    st.lists(st.sampled_from("abc"), unique=True),
    st.sets(st.sampled_from("abcd")),
)
def test_what_is_new_stays_in_its_order(repeats: Repeats, names: list[str], seen: set[str]) -> None:
    lines = tuple(f"result {n}: {name}" for n, name in enumerate(names, 1))
    before = ToolReply(Outcome.OK, "\n".join(lines), tuple(names), lines, repeats)
    after = without_repeats(before, [shown(*seen)])
    assert after.passages == tuple(
        name for name in names if repeats is Repeats.KEEP or name not in seen
    )
    assert all(
        line in after.text for line, name in zip(lines, names, strict=True) if name not in seen
    )


def test_a_trajectory_sees_a_passage_once_where_repeats_are_dropped() -> None:
    search = "<begin_search> danube delta </end_search>"

    async def roll() -> list[str]:
        tool = SearchTool(ENGINE, ObservationSettings(top_k=1, repeats=Repeats.DROP))
        policy = ScriptedPolicy([search, search, "So.</think>\n\n\\boxed{x}"])
        run = RolloutContext(policy, Sampling(), Limits(), tool.fingerprint)
        task = Task("q/coa/0", "q", Mode.COA, 0, "Q?", "Q?\n", "", tools=("search",))
        row = await roll_out(task, run, policy, {"search": tool})
        return [step.text for step in row.steps if step.kind is StepKind.OBSERVATION]

    first, second = asyncio.run(roll())
    assert "A delta of the Danube." in first
    assert ALL_SHOWN in second
