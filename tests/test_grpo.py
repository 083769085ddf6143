"""Test GRPO's loss, advantages and micro-batches against what a hand would count."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coa.settings.stages import Stage

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

from coa.student.checkpoint import Student, load_student  # noqa: E402
from tests.rl_support import (  # noqa: E402
    KEYS,
    make_run,
    own_mask,
    prepared,
)
from train.grpo import by_length, centred, unpadded  # noqa: E402


def test_advantages_within_equal_numbers_of_actions_say_nothing_of_acting() -> None:
    rewards = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])

    found = centred(rewards, [("q", 1), ("q", 1), ("q", 0), ("q", 0), ("p", 0)])

    assert found.tolist() == [0.5, -0.5, 0.0, 0.0, 0.0]


SPLIT_GROUP = """
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from train.stage import leave_process_group
from train.grpo import centred_in_all

accelerator = Accelerator(cpu=True)
assert accelerator.num_processes == 2
rank = accelerator.process_index
values = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 5.0]][rank])
strata = [[("q", 0, None), ("q", 1, None), ("q", 0, None)],
          [("q", 0, None), ("q", 1, None), ("q", 1, "1/2")]][rank]
found = centred_in_all(accelerator, values, strata)
torch.save(found, Path(sys.argv[1]) / f"{rank}.pt")
leave_process_group()
"""


@pytest.mark.slow
def test_a_group_that_two_processes_share_is_compared_as_a_whole(
    tmp_path: Path, root: Path
) -> None:
    (tmp_path / "split.py").write_text(SPLIT_GROUP)
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launch, str(tmp_path / "split.py"), str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    torch.testing.assert_close(first, torch.tensor([1 / 3, -1 / 2, -2 / 3]))
    torch.testing.assert_close(second, torch.tensor([1 / 3, 1 / 2, 0.0]))


def by_hand(
    model: Any, reference: Any, batch: dict[str, Any], beta: float, bonus: float
) -> tuple[Any, Any, Any]:
    """GRPO's first step over the policy's tokens alone: loss, mean KL, mean entropy."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    attention = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    length = batch["completion_ids"].shape[1]

    def log_chances(of: Any) -> Any:
        return (
            of(input_ids=ids, attention_mask=attention).logits[:, -length - 1 : -1] / 0.7
        ).log_softmax(-1)

    own = own_mask(batch).bool()
    chances, wanted = log_chances(model), batch["completion_ids"][..., None]
    losses, divergences, entropies = [], [], []
    with torch.no_grad():
        given = log_chances(reference).gather(-1, wanted)[..., 0]
    taken = chances.gather(-1, wanted)[..., 0]
    for row in range(len(ids)):
        new, old = taken[row][own[row]], given[row][own[row]]
        divergence = (old - new).exp() - (old - new) - 1
        gain = (new - new.detach()).exp() * batch["advantages"][row]
        losses.append((beta * divergence - gain).mean())
        divergences.append(divergence)
        entropies.append(-(chances[row].exp() * chances[row]).sum(-1)[own[row]])
    entropy = torch.cat(entropies).mean()
    return torch.stack(losses).mean() - bonus * entropy, torch.cat(divergences).mean(), entropy


@pytest.mark.parametrize("stage", [Stage.RL1, Stage.RL2])
def test_loss_kl_entropy_and_gradient_are_those_of_the_policys_tokens_alone(
    stage: Stage, student: Student, student_folder: Path, loop: asyncio.Runner, tmp_path: Path
) -> None:
    beta, bonus = 0.3, 0.2
    trainer, batch = prepared(
        make_run(tmp_path, stage, beta=beta, entropy_coef=bonus), student, loop
    )
    assert (
        batch["completion_mask"].sum() - own_mask(batch).sum()
    ) > 20  # there is much to leave out
    assert batch["advantages"].abs().max() > 0
    with torch.no_grad():  # away from the reference, so that the KL has a gradient
        for parameter in trainer.model.parameters():
            parameter.add_(
                0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
            )

    loss = trainer.compute_loss(trainer.model, batch)
    loss.backward()
    gradients = {
        name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()
    }
    trainer.model.zero_grad()
    expected, kl, entropy = by_hand(
        trainer.model, load_student(str(student_folder)).model, batch, beta, bonus
    )
    expected.backward()

    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)
    assert trainer._metrics["train"]["kl"][-1] == pytest.approx(kl.item(), rel=1e-4)
    assert trainer._metrics["train"]["entropy"][-1] == pytest.approx(entropy.item(), rel=1e-4)


def micro_batches(trainer: Any, number: int) -> list[dict[str, Any]]:
    """What the trainer takes in its first `number` micro-steps."""
    taken = []
    for trainer._step in range(number):
        taken.append(trainer._prepare_inputs([{"prompt": key} for key in KEYS]))
    return taken


def lengths(batch: dict[str, Any]) -> list[int]:
    found: list[int] = batch["completion_mask"].sum(1).tolist()
    return found


def test_a_step_takes_its_rows_by_their_length_in_micro_batches_as_long_as_they_are(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    run = make_run(tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=8)
    trainer, batch = prepared(run, student, loop)
    taken = micro_batches(trainer, 8)
    for micro in taken:
        assert micro["completion_ids"].shape[1] == max(lengths(micro))
        assert micro["prompt_ids"].shape[1] == micro["prompt_mask"].sum(1).max()
    assert [length for micro in taken for length in lengths(micro)] == sorted(lengths(batch))
    assert len({max(lengths(micro)) for micro in taken}) > 1


def test_rows_stay_in_the_optimiser_step_that_they_were_drawn_for(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    run = make_run(
        tmp_path,
        per_device_train_batch_size=2,
        gradient_accumulation_steps=4,
        steps_per_generation=8,
    )
    trainer, _ = prepared(run, student, loop)
    found = [length for micro in micro_batches(trainer, 8) for length in lengths(micro)]
    assert found[:8] == sorted(found[:8])
    assert found[8:] == sorted(found[8:])
    assert found != sorted(found)


@pytest.mark.parametrize(
    "own_norm", [{"loss_type": "bnpo"}, {"entropy_coef": 0.1}, {"top_entropy_quantile": 0.5}]
)
def test_a_loss_with_a_norm_of_each_micro_batch_keeps_its_rows_as_they_were_drawn(
    own_norm: dict[str, Any], student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    run = make_run(
        tmp_path, per_device_train_batch_size=2, gradient_accumulation_steps=8, **own_norm
    )
    trainer, _ = prepared(run, student, loop)
    found = [length for micro in micro_batches(trainer, 8) for length in lengths(micro)]
    assert found != sorted(found)


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo", "dapo"])
def test_rows_divided_by_length_have_the_same_gradient(
    loss_type: str, student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    run = make_run(tmp_path, loss_type=loss_type, gradient_accumulation_steps=4, beta=0.3)
    trainer, batch = prepared(run, student, loop)
    trainer.current_gradient_accumulation_steps = 4
    drawn = [
        {
            name: value[i::4] if torch.is_tensor(value) and value.dim() else value
            for name, value in batch.items()
        }
        for i in range(4)
    ]
    divided = [unpadded(micro) for micro in by_length(drawn, 4)]
    assert [lengths(micro) for micro in divided] != [lengths(micro) for micro in drawn]
    found = []
    for micros in (drawn, divided):
        trainer.model.zero_grad()
        for micro in micros:
            trainer.compute_loss(trainer.model, micro).backward()
        found.append([parameter.grad.clone() for parameter in trainer.model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("scale", ["none", "group"])
def test_advantages_are_rewards_less_their_groups_mean_divided_or_not(
    scale: str, student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    trainer, batch = prepared(make_run(tmp_path, scale_rewards=scale), student, loop)

    logged = trainer._logs["rewards"]
    rewards = torch.tensor(list(logged["exact_match"])) + 0.1 * torch.tensor(
        list(logged["format_penalty"])
    )
    groups = rewards.view(4, 4)
    expected = groups - groups.mean(1, keepdim=True)
    if scale == "group":
        expected = expected / (groups.std(1, keepdim=True) + 1e-4)
    torch.testing.assert_close(batch["advantages"], expected.flatten())
