"""Teachers behind the real vLLM, on a CPU: `make test-vllm`.

The tiny model knows four questions by heart (tests/vllm_support.py), so every row is known.
"""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytestmark = [pytest.mark.vllm, pytest.mark.slow]

from coa.policy.chat.policy import ChatPolicy, ChatSettings  # noqa: E402
from coa.policy.completions import CompletionsPolicy  # noqa: E402
from coa.policy.server_settings import ServerSettings  # noqa: E402
from coa.records.graded import grade_trajectory  # noqa: E402
from coa.records.trajectory import Mode, Sampling, StepKind, StopReason, Trajectory  # noqa: E402
from coa.rollout.drivers import roll_out_all  # noqa: E402
from coa.rollout.loop import Limits, RolloutContext  # noqa: E402
from synth.sample import make_tasks  # noqa: E402
from tests.vllm_replies_support import PARSERS, REPLIES, captured  # noqa: E402
from tests.vllm_support import (  # noqa: E402
    DIRECTORS,
    MODEL,
    prompt,
    questions,
    save_model,
    search_tool,
    serve_vllm,
)

GREEDY = Sampling(temperature=0.0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the tiny model."""
    folder = tmp_path_factory.mktemp("model")
    save_model(folder)
    return folder


@pytest.fixture(scope="module", params=["qwen3", "deepseek_r1"])
def parser(request: pytest.FixtureRequest) -> str:
    """Name vLLM's parser of reasoning."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def vllm(model: Path, parser: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Serve the model, with vLLM's own parsers of calls and reasoning."""
    log = tmp_path_factory.mktemp("vllm") / "log.txt"
    with serve_vllm(model, log, *PARSERS, parser) as base_url:
        yield base_url


def roll(
    policy: CompletionsPolicy, prompt_name: str, limits: Limits | None = None
) -> list[Trajectory]:
    """Ask all questions that the model knows."""

    async def through() -> list[Trajectory]:
        run = RolloutContext(policy, GREEDY, limits or Limits(max_context_tokens=900))
        tasks = make_tasks(questions(), Mode.COA, 1, prompt(prompt_name))
        rollouts = roll_out_all(tasks, run, policy, {"search": search_tool()}, concurrency=4)
        rows = [row async for row in rollouts]
        await policy.aclose()
        return rows

    return asyncio.run(through())


def require_right(rows: list[Trajectory], ended: StopReason) -> None:
    """Check that every row searches once, ends so, and is right."""
    assert [row.stop_reason for row in rows] == [ended] * len(DIRECTORS), rows[0].error
    for row, question in zip(rows, questions(), strict=True):
        assert row.num_actions == 1
        assert grade_trajectory(row, question).grade.exact_match


def test_raw_completions_with_ids_end_at_the_stop_string(vllm: str, model: Path) -> None:
    extra_body = {
        "return_token_ids": True,
        "skip_special_tokens": False,
        "add_special_tokens": False,
    }
    settings = ServerSettings(vllm, MODEL, tokenizer=str(model), extra_body=extra_body)
    rows = roll(CompletionsPolicy(settings), "coa")
    require_right(rows, StopReason.ANSWERED)
    for row, film in zip(rows, DIRECTORS, strict=True):
        assert [step.kind for step in row.steps] == [
            StepKind.THOUGHT,
            StepKind.ACTION,
            StepKind.OBSERVATION,
            StepKind.THOUGHT,
            StepKind.ANSWER,
        ]
        assert row.steps[1].text == f"<begin_search> director of {film} </end_search>"
        assert row.steps[1].transcribed is None


def test_calls_and_reasoning_that_vllm_parsed_are_read_from_chat(vllm: str) -> None:
    rows = roll(ChatPolicy(ServerSettings(vllm, MODEL), ChatSettings()), "chat_coa")
    require_right(rows, StopReason.ANSWERED)
    for row, film in zip(rows, DIRECTORS, strict=True):
        thought, action, _, second, answer = row.steps
        assert thought.text.strip() == f"I need the director of {film}."
        assert json.loads(action.transcribed or "") == {"query": f"director of {film}"}
        assert second.text.strip() == f"It says {DIRECTORS[film]}."
        assert (answer.transcribed or "").strip() == f"\\boxed{{{DIRECTORS[film]}}}"


def test_an_answer_is_forced_over_chat(vllm: str) -> None:
    policy = ChatPolicy(ServerSettings(vllm, MODEL), ChatSettings())
    rows = roll(policy, "chat_coa", Limits(max_actions=1, max_context_tokens=900))
    require_right(rows, StopReason.ACTION_BUDGET)


def test_the_kept_replies_are_those_of_vllm(vllm: str, parser: str) -> None:
    kept = json.loads(REPLIES.read_text(encoding="utf-8"))
    if parser == "deepseek_r1":
        # It does not know that thinking can be switched off, and counts such reasoning as none.
        forced = kept["forced answer, thinking"]
        forced["usage"]["completion_tokens_details"]["reasoning_tokens"] = 0
        kept["forced answer"] = forced
    assert captured(vllm) == kept
