"""Test RL against a served policy: no rollout waits for another, and the rows stay the same."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from coa.policy import Completion, Policy, Request, UnbatchedPolicy
from coa.records.trajectory import Mode, Outcome, Sampling
from coa.rollout.simulated import SimulatedTools
from coa.settings.stages import Stage

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytest.importorskip("requests")
pytestmark = pytest.mark.usefixtures("one_thread")

from coa.student.checkpoint import Student  # noqa: E402
from tests.rl_support import (  # noqa: E402
    KEYS,
    LIMITS,
    QUESTIONS,
    Wanderer,
    make_rollouts,
    make_run,
)
from tests.vllm_fake_support import open_served, serve_to_client  # noqa: E402
from train.rollouts import Ask, Rollouts  # noqa: E402

SAMPLING = Sampling(0.7)
SECONDS = 60.0


class Holding(UnbatchedPolicy):
    """Answers when all rollouts have asked, and the first only after so many other requests."""

    def __init__(self, policy: Wanderer, num_others: int) -> None:
        super().__init__(policy)
        self._num_others = num_others
        self._all_have_asked = asyncio.Event()
        self._others_are_over = asyncio.Event()
        self.num_asked = self.num_answered = 0

    async def complete(self, request: Request) -> Completion:
        self.num_asked += 1
        is_first = self.num_asked == 1
        if self.num_asked == len(KEYS):
            self._all_have_asked.set()
        await asyncio.wait_for(self._all_have_asked.wait(), SECONDS)
        if is_first:
            await asyncio.wait_for(self._others_are_over.wait(), SECONDS)
        self.num_answered += 1
        if self.num_answered == self._num_others:
            self._others_are_over.set()
        return await super().complete(request)


def num_requests(row: Any) -> int:
    """Count the requests of a rollout, those of its simulated observations included."""
    trajectory = row.trajectory
    simulated = [step for step in trajectory.steps if step.outcome is Outcome.SIMULATED]
    return int(trajectory.num_calls) + len(simulated)


def roll_out_served(
    rollouts: Rollouts, student: Student, server: Policy | None = None
) -> dict[str, Any]:
    """Roll out the questions against a served policy, by default one that wanders."""
    served = server or UnbatchedPolicy(Wanderer(student.tokenizer))

    async def through() -> dict[str, Any]:
        async with (
            serve_to_client(served) as client,
            open_served(client, student.tokenizer, "wanderer") as policy,
        ):
            return await asyncio.to_thread(rollouts.roll_out, KEYS, policy, SAMPLING)

    return asyncio.run(through())


@pytest.mark.parametrize("stage", [Stage.RL1, Stage.RL2])
def test_a_slow_rollout_holds_back_no_other(
    stage: Stage, student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    rollouts = make_rollouts(make_run(tmp_path, stage), student, loop)
    in_turns = rollouts.roll_out(KEYS, Wanderer(student.tokenizer), SAMPLING)
    counts = [num_requests(row) for row in in_turns["graded"]]
    assert max(counts) > 2

    # Whichever rollout is asked first: at most so many requests are its own.
    server = Holding(Wanderer(student.tokenizer), sum(counts) - max(counts))
    by_itself = roll_out_served(rollouts, student, server)

    assert by_itself == in_turns | {"logged": by_itself["logged"]}
    assert server.num_answered == sum(counts)


def test_the_trainer_in_server_mode_rolls_out_so(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    rollouts = make_rollouts(make_run(tmp_path), student, loop)
    sampling = Sampling(0.7, 1.0, seed=3)
    expected = rollouts.roll_out(KEYS, Wanderer(student.tokenizer), sampling)

    async def through() -> dict[str, Any]:
        async with serve_to_client(UnbatchedPolicy(Wanderer(student.tokenizer))) as client:
            trainer = SimpleNamespace(
                temperature=0.7,
                top_p=1.0,
                state=SimpleNamespace(global_step=3, max_steps=9),
                accelerator=SimpleNamespace(process_index=0, wait_for_everyone=lambda: None),
                model=student.model.train(),
                args=SimpleNamespace(use_vllm=True),
                vllm_generation=SimpleNamespace(mode="server", vllm_client=client),
            )
            return await asyncio.to_thread(rollouts, KEYS, trainer)

    found = asyncio.run(through())
    for name in ("prompt_ids", "completion_ids", "env_mask"):
        assert found[name] == expected[name]


class Counting(Wanderer):
    """A frozen model that counts what it writes together."""

    name = "frozen"

    def __init__(self, tokenizer: Any) -> None:
        super().__init__(tokenizer)
        self.sizes: list[int] = []

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        self.sizes.append(len(requests))
        return super().complete_batch(requests)


def test_a_simulator_in_this_process_still_answers_in_batches(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    frozen = Counting(student.tokenizer)
    rollouts = Rollouts(
        make_run(tmp_path, Stage.RL1),
        student.tokenizer,
        [Ask(question, Mode.COA) for question in QUESTIONS],
        LIMITS,
        {},
        loop,
        simulate=lambda policy: SimulatedTools(frozen, max_tokens=40),
    )
    in_turns = rollouts.roll_out(KEYS, Wanderer(student.tokenizer), SAMPLING)
    sizes = frozen.sizes.copy()
    served = roll_out_served(rollouts, student)

    assert served["completion_ids"] == in_turns["completion_ids"]
    assert sizes[0] > 1
    assert frozen.sizes == [*sizes, *sizes]


def test_searches_are_counted_one_by_one(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    rollouts = make_rollouts(make_run(tmp_path), student, loop)

    found = roll_out_served(rollouts, student)
    searched = sum(row.trajectory.num_actions for row in found["graded"])
    assert found["logged"]["spent/real_searches"] == searched > 0
