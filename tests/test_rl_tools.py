"""RL with two tools: the log counts the calls of each, and the model's settings name them."""

import asyncio
import random
from pathlib import Path

import pytest

from coa.policy import Completion, Finish, Request
from coa.records.trajectory import Author, Mode, Outcome, Sampling, StepKind
from coa.rollout.loop import Limits
from coa.search.tool import SearchTool
from coa.settings.stages import Stage
from coa.tools.calculator import Calculator

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

from coa.student.checkpoint import Student  # noqa: E402
from tests.rl_support import (  # noqa: E402
    KEYS,
    QUESTIONS,
    EncodingPolicy,
    Library,
    make_rollouts,
    make_run,
)
from train.rollouts import Ask, Rollouts  # noqa: E402
from train.run import sections_beside  # noqa: E402

TURNS = (
    "need the author. <begin_search> who wrote </end_search>",
    "so <begin_calculate> 1987 - 1942 </end_calculate>",
    "it says Ada. so</think>\\boxed{Ada}",
)


class Chooser(EncodingPolicy):
    """Searches, calculates or answers, as the request's seed chooses."""

    name = "chooser"

    def _complete(self, request: Request) -> Completion:
        text = random.Random(request.seed).choice(TURNS)
        ends = "</think>" in text
        ids = self.encode(text, author=Author.POLICY)
        if ends:
            ids = (*ids, self._end_id)
        return Completion(text, Finish.END if ends else Finish.STOP, len(ids), None, ids)


def test_the_log_counts_the_calls_of_each_tool_that_was_offered(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    tools = {"search": SearchTool(Library()), "calculate": Calculator()}
    asks = [Ask(question, Mode.COA) for question in QUESTIONS]
    limits = Limits(4, 400, 16)
    rollouts = Rollouts(make_run(tmp_path), student.tokenizer, asks, limits, tools, loop)
    out = rollouts.roll_out(KEYS, Chooser(student.tokenizer), Sampling())

    steps = [step for row in out["graded"] for step in row.trajectory.steps]
    called = [step.tool for step in steps if step.kind is StepKind.ACTION]
    calls = {name: count for name, count in out["logged"].items() if name.startswith("calls/")}
    assert calls == {
        "calls/search": called.count("search") / len(KEYS),
        "calls/calculate": called.count("calculate") / len(KEYS),
    }
    assert called.count("search") and called.count("calculate")
    shown = {step.text.strip() for step in steps if step.tool == "calculate" and step.outcome}
    assert any("45" in text for text in shown)
    assert {step.outcome for step in steps if step.kind is StepKind.OBSERVATION} == {Outcome.OK}


def test_a_log_of_search_alone_counts_no_calls_by_tool(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    rollouts = make_rollouts(make_run(tmp_path), student, loop)
    out = rollouts.roll_out(KEYS, Chooser(student.tokenizer), Sampling())
    assert not any(name.startswith("calls/") for name in out["logged"])


def test_the_settings_beside_an_rl_model_name_its_tools() -> None:
    assert "tools" in sections_beside(Stage.RL2)
    assert sections_beside(Stage.SFT2) == ["train"]
