"""Test the rollouts of RL: the ids that are sampled, the mask, and who wrote what."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from coa.policy import Completion, Finish, Request
from coa.policy.local.model import LocalPolicy
from coa.records.trajectory import Author, Mode, Outcome, Sampling, StepKind, StopReason
from coa.rollout.loop import Limits
from coa.search.tool import SearchTool
from coa.settings.stages import Stage

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

from coa.student.checkpoint import Student  # noqa: E402
from tests.rl_support import (  # noqa: E402
    KEYS,
    LIMITS,
    QUESTIONS,
    Library,
    Wanderer,
    make_rollouts,
    make_run,
)
from train.rollouts import Ask, Rollouts  # noqa: E402


@pytest.mark.parametrize("stage", [Stage.RL1, Stage.RL2])
def test_the_ids_that_are_trained_are_the_ids_that_were_sampled(
    stage: Stage, student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    policy = Wanderer(student.tokenizer)

    out = make_rollouts(make_run(tmp_path, stage), student, loop).roll_out(
        KEYS, policy, Sampling(0.7)
    )

    contexts: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for context, ids in policy.sampled:
        contexts.setdefault(context, []).append(ids)
    observing = student.tokenizer.convert_tokens_to_ids("<search_result>")
    for prompt, completion, mask in zip(
        out["prompt_ids"], out["completion_ids"], out["env_mask"], strict=True
    ):
        for start, stop in runs_of_ones(mask):
            context = (*prompt, *completion[:start])
            assert context[-1] != observing
            assert tuple(completion[start:stop]) in contexts[context]


def runs_of_ones(mask: list[int]) -> list[tuple[int, int]]:
    """Where each run begins and ends."""
    edges = [
        i
        for i in range(len(mask) + 1)
        if (mask[i - 1] if i else 0) != (mask[i] if i < len(mask) else 0)
    ]
    return list(zip(edges[::2], edges[1::2], strict=True))


@pytest.mark.parametrize("stage", [Stage.RL1, Stage.RL2])
def test_the_mask_leaves_out_observations_and_keeps_what_the_policy_forges(
    stage: Stage, student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    out = make_rollouts(make_run(tmp_path, stage), student, loop).roll_out(
        KEYS, Wanderer(student.tokenizer), Sampling()
    )

    outcome = Outcome.SIMULATED if stage is Stage.RL1 else Outcome.OK
    assert any(step.outcome is outcome for row in out["graded"] for step in row.trajectory.steps)
    for row, ids, mask in zip(out["graded"], out["completion_ids"], out["env_mask"], strict=True):
        own = [token for token, is_own in zip(ids, mask, strict=True) if is_own]
        expected = "".join(
            step.text for step in row.trajectory.steps if step.author is Author.POLICY
        )
        assert student.tokenizer.decode(own).replace(student.tokenizer.eos_token, "") == expected
    assert any("forged" in step.text for row in out["graded"] for step in row.trajectory.steps)


def test_a_question_asked_without_the_tool_ends_where_it_is_called(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    rollouts = make_rollouts(make_run(tmp_path), student, loop, mode=Mode.COT)

    out = rollouts.roll_out(
        [f"q{i // 4}/cot" for i in range(16)], Wanderer(student.tokenizer), Sampling()
    )

    reasons = {row.trajectory.stop_reason for row in out["graded"]}
    assert reasons == {StopReason.FORBIDDEN_ACTION, StopReason.ANSWERED}
    assert not any(
        step.kind is StepKind.OBSERVATION for row in out["graded"] for step in row.trajectory.steps
    )


def test_the_gap_between_simulated_and_real_accuracy_is_logged_in_a_validation(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    asks = [Ask(question, Mode.COA) for question in QUESTIONS]
    run = make_run(tmp_path, Stage.RL1)
    rollouts = Rollouts(
        run, student.tokenizer, asks, LIMITS, {"search": SearchTool(Library())}, loop
    )

    simulated = rollouts.roll_out(KEYS, Wanderer(student.tokenizer), Sampling(seed=1))
    real = rollouts.roll_out(
        KEYS, Wanderer(student.tokenizer), Sampling(seed=2), is_validation=True
    )

    def accuracy(out: dict[str, Any]) -> float:
        return sum(row.grade.exact_match for row in out["graded"]) / len(KEYS)

    assert "simulated/gap" not in simulated["logged"]
    assert real["logged"]["simulated/gap"] == accuracy(simulated) - accuracy(real)
    outcomes = {step.outcome for row in real["graded"] for step in row.trajectory.steps}
    assert Outcome.OK in outcomes and Outcome.SIMULATED not in outcomes


def test_another_step_or_process_samples_otherwise_and_the_same_one_again_alike(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    policy = LocalPolicy(student.model.eval(), student.tokenizer, name="student")
    rollouts = make_rollouts(make_run(tmp_path), student, loop, limits=Limits(2, 50, 4))

    def sample(seed: int, first: int = 0) -> Any:
        out = rollouts.roll_out(KEYS[:4], policy, Sampling(1.0, seed=seed), first)
        assert len({tuple(ids) for ids in out["prompt_ids"]}) == 1
        assert len({tuple(ids) for ids in out["completion_ids"]}) == 4
        return out["completion_ids"]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert sample(1) != sample(1, first=4)


class Full(Wanderer):
    """A wanderer whose window holds one search and no more."""

    def _complete(self, request: Request) -> Completion:
        if len(request.context_ids or ()) > 60:
            return Completion("", Finish.LENGTH, 0, None, ())
        return super()._complete(request)


def test_what_follows_the_policys_last_token_is_left_out(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    out = make_rollouts(make_run(tmp_path), student, loop).roll_out(
        KEYS, Full(student.tokenizer), Sampling()
    )

    assert {StopReason.ANSWERED, StopReason.TRUNCATED} <= {
        row.trajectory.stop_reason for row in out["graded"]
    }
    for row, ids, mask in zip(out["graded"], out["completion_ids"], out["env_mask"], strict=True):
        assert len(ids) == len(mask)
        assert mask[-1] == 1
        assert sum(mask) == row.trajectory.num_policy_tokens
        whole = row.trajectory.num_policy_tokens + row.trajectory.num_environment_tokens
        assert (len(mask) < whole) == (row.trajectory.stop_reason is StopReason.TRUNCATED)
