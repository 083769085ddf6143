"""A student that was trained on one prompt is asked the same in tags and over chat."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from coa.errors import ConfigError, InputError
from coa.policy import Request
from coa.policy.chat.families import ChatSettings
from coa.policy.chat.policy import ChatPolicy
from coa.policy.completions import CompletionsPolicy
from coa.policy.prompts import Prompt
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server import PromptForm, serve
from coa.policy.server_settings import ServerSettings
from coa.records.trajectory import Mode, StopReason, Trajectory
from coa.store import tables
from scripts.compare_rows import Likeness, compare, main
from synth.sample import make_tasks
from tests.chat_support import MODEL, ROOT, roll, world

FORM = PromptForm("{prompt}\n\n", known_tools=("search",))
ANSWER = "It says so.\n</think>\n\n\\boxed{yes}"


def rows_of(texts: Sequence[str], mode: Mode) -> tuple[list[Trajectory], list[list[Request]]]:
    """Ask one question in tags and over chat; give both rows, and what the student was asked."""
    rows: list[Trajectory] = []
    requests: list[list[Request]] = []

    async def through() -> None:
        for kind in (CompletionsPolicy, ChatPolicy):
            student = ScriptedPolicy(list(texts), MODEL)
            async with serve(student, form=FORM) as base_url:
                settings = ServerSettings(base_url, MODEL, patience_minutes=0.0)
                is_chat = kind is ChatPolicy
                policy = ChatPolicy(settings, ChatSettings()) if is_chat else kind(settings)
                template = "{prompt}" if is_chat else "{prompt}\n\n"
                prompt = Prompt.load(ROOT / "train/prompts/question.txt", template)
                async with policy:
                    asked = make_tasks(world().questions[:1], mode, 1, prompt)
                    rows.extend(await roll(policy, asked))
            requests.append(student.requests or [])

    asyncio.run(through())
    return rows, requests


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["I need it. <begin_search> Nora </end_search>", ANSWER], Likeness.IDENTICAL),
        (["I need it.<begin_search>Nora\n </end_search>", ANSWER], Likeness.TRANSCRIBED),
        (["No. <begin_search> Nora\n</think>\n\n</think> \\boxed{1}"], Likeness.TRANSCRIBED),
        (["I need it. Nora </end_search>"], Likeness.STRAY_END),
    ],
)
def test_a_student_is_asked_with_the_same_contexts_and_stop_strings(
    texts: list[str], expected: Likeness
) -> None:
    (in_tags, over_chat), (first, second) = rows_of(texts, Mode.COA)
    assert compare(in_tags, over_chat) is expected
    assert [(it.context, it.stop) for it in first] == [(it.context, it.stop) for it in second]


def test_a_student_that_searches_unasked_is_stopped_both_ways() -> None:
    texts = ["I need it. <begin_search> Nora </end_search> <search_result> made up"]
    (in_tags, over_chat), (first, second) = rows_of(texts, Mode.COT)
    assert compare(in_tags, over_chat) is Likeness.IDENTICAL
    assert over_chat.stop_reason is StopReason.FORBIDDEN_ACTION
    assert first[0].stop == second[0].stop == ("</end_search>",)


def write(folder: Path, row: Trajectory) -> str:
    for mode in Mode:
        with tables.TableWriter(folder / f"{mode}.parquet", Trajectory) as table:
            table.write(replace(row, mode=mode))
    return str(folder)


def test_the_command_tells_the_shares_and_fails_on_another_text(tmp_path: Path) -> None:
    (row, over_chat), _ = rows_of([ANSWER], Mode.COA)
    first = write(tmp_path / "in_tags", row)
    second = write(tmp_path / "over_chat", over_chat)
    said = main([first, second])
    assert "coa: 1 rows: 1 identical; answered: 100.0% in tags, 100.0% over chat" in said
    other = write(tmp_path / "other", replace(row, steps=row.steps[:1]))
    with pytest.raises(InputError, match="wrote something else over chat"):
        main([first, other])
    cut = replace(row, stop_reason=StopReason.TRUNCATED)
    with pytest.raises(InputError, match="no row of cot answers"):
        main([write(tmp_path / "cut", cut)] * 2)
    with pytest.raises(InputError, match="other questions"):
        main([first, write(tmp_path / "elsewhere", replace(row, trajectory_id="q/coa/0"))])
    with pytest.raises(ConfigError, match="two folders"):
        main([first])
