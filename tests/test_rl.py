"""Test RL on our loop: what TRL is handed, and that only the policy's own tokens are trained."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from omegaconf import OmegaConf

from coa.errors import ConfigError
from coa.factory import SearchParams
from coa.policy import Completion, Finish, Request
from coa.policy.local import LocalPolicy
from coa.question import Question
from coa.rollout import Limits
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.tables import write_table
from coa.tools.factory import ToolsParams
from coa.tools.search import SearchTool
from coa.trajectory import Author, Mode, Outcome, Sampling, StepKind, StopReason
from train.settings import Baseline, Stage

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

from tests.rl_support import (  # noqa: E402
    KEYS,
    LIMITS,
    QUESTIONS,
    Library,
    Wanderer,
    make_rollouts,
    make_run,
    own_mask,
    prepared,
)
from train.checkpoint import Student, load_student  # noqa: E402
from train.grpo import by_length, centred, unpadded  # noqa: E402
from train.rl import choose_modes, make_trainer  # noqa: E402
from train.rollouts import Ask, Rollouts  # noqa: E402
from train.run import main  # noqa: E402


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


def test_a_group_is_one_question_and_its_rollouts_differ(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    policy = LocalPolicy(student.model.eval(), student.tokenizer, name="student")

    out = make_rollouts(make_run(tmp_path), student, loop).roll_out(KEYS[:8], policy, Sampling(1.0))

    assert len({tuple(ids) for ids in out["prompt_ids"][:4]}) == 1
    assert len({tuple(ids) for ids in out["completion_ids"]}) == 8


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
    assert real["logged"] == {"simulated/gap": accuracy(simulated) - accuracy(real)}
    outcomes = {step.outcome for row in real["graded"] for step in row.trajectory.steps}
    assert Outcome.OK in outcomes and Outcome.SIMULATED not in outcomes


def test_advantages_within_equal_numbers_of_actions_say_nothing_of_acting() -> None:
    rewards = torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0])

    found = centred(rewards, [("q", 1), ("q", 1), ("q", 0), ("q", 0), ("p", 0)])

    assert found.tolist() == [0.5, -0.5, 0.0, 0.0, 0.0]


SPLIT_GROUP = """
import sys
from pathlib import Path

import torch
from accelerate import Accelerator

from train.fitting import leave_process_group
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


def test_another_step_or_process_samples_otherwise_and_the_same_one_again_alike(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    policy = LocalPolicy(student.model.eval(), student.tokenizer, name="student")
    rollouts = make_rollouts(make_run(tmp_path), student, loop, limits=Limits(2, 50, 4))

    def sample(seed: int, first: int = 0) -> Any:
        return rollouts.roll_out(KEYS[:4], policy, Sampling(1.0, seed=seed), first)[
            "completion_ids"
        ]

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)
    assert sample(1) != sample(1, first=4)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_share_of_questions_without_the_tool_is_exact_and_follows_from_the_seed(
    share: float,
) -> None:
    asks = choose_modes(QUESTIONS, share, seed=3)

    assert sum(ask.mode is Mode.COT for ask in asks) == share * len(QUESTIONS)
    assert choose_modes(reversed(QUESTIONS), share, seed=3) == asks


def test_a_share_that_is_none_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="cot_share"):
        choose_modes(QUESTIONS, 1.5, seed=0)


@pytest.mark.parametrize(
    "name", ["use_transformers_paged", "top_k", "repetition_penalty", "no_such_setting"]
)
def test_a_setting_that_would_be_ignored_is_refused_by_name(
    name: str, student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {name: 2}
    run = make_run(tmp_path, **settings)
    asks = [Ask(question, Mode.COA) for question in QUESTIONS]

    with pytest.raises(ConfigError, match="setting") as error:
        make_trainer(run, student, {"train": asks}, make_rollouts(run, student, loop))
    assert name in str(error.value)


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


@pytest.mark.parametrize("stage", [Stage.RL1, Stage.RL2])
def test_a_micro_batch_as_long_as_its_own_rows_has_the_same_loss_and_gradient(
    stage: Stage, student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    trainer, batch = prepared(make_run(tmp_path, stage, beta=0.3, entropy_coef=0.2), student, loop)
    shortest = batch["completion_mask"].sum(1).argsort()[:4]
    padded = {
        name: value[shortest] if torch.is_tensor(value) and value.dim() else value
        for name, value in batch.items()
    }
    found = []
    for micro in (padded, unpadded(padded)):
        trainer.model.zero_grad()
        loss = trainer.compute_loss(trainer.model, micro)
        loss.backward()
        found.append(
            [loss.detach(), *(parameter.grad.clone() for parameter in trainer.model.parameters())]
        )

    assert unpadded(padded)["completion_ids"].shape[1] == padded["completion_mask"].sum(1).max()
    assert unpadded(padded)["completion_ids"].shape[1] < padded["completion_ids"].shape[1] - 10
    assert own_mask(unpadded(padded)).sum() == own_mask(padded).sum() > 0
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


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


def test_two_real_steps_change_the_model_and_log_what_the_monitors_watch(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    run = make_run(tmp_path, rewards={"f1": 1.0, "format_penalty": 1.0}, temperature=1.5)
    asks = [Ask(question, Mode.COA) for question in QUESTIONS]
    trainer = make_trainer(
        run, student, {"train": asks}, make_rollouts(run, student, loop, limits=Limits(2, 60, 4))
    )

    trainer.train()

    logged = trainer.state.log_history[0]
    watched = {
        "entropy",
        "frac_reward_zero_std",
        "searches/mean",
        "format/forged",
        "format/broken",
        "reward",
    }
    assert watched <= logged.keys()
    assert trainer.state.global_step == 2


def test_a_resumed_run_ends_with_the_weights_of_one_that_never_stopped(
    student_folder: Path, loop: asyncio.Runner, tmp_path: Path
) -> None:
    def trained(workspace: Path, max_steps: int, **options: Any) -> Any:
        workspace.mkdir(exist_ok=True)
        student = load_student(str(student_folder))
        arguments: dict[str, Any] = {
            "save_strategy": "steps",
            "save_steps": 2,
            "lr_scheduler_type": "constant",
            "max_steps": max_steps,
        }
        run = make_run(workspace, rewards={"f1": 1.0, "format_penalty": 1.0}, **arguments)
        asks = [Ask(question, Mode.COA) for question in QUESTIONS]
        trainer = make_trainer(
            run,
            student,
            {"train": asks},
            make_rollouts(run, student, loop, limits=Limits(2, 40, 4)),
        )
        trainer.train(**options)
        return trainer

    straight = trained(tmp_path / "straight", 4)
    trained(tmp_path / "killed", 2)
    last = tmp_path / "killed" / "checkpoints" / "checkpoint-2"
    resumed = trained(tmp_path / "killed", 4, resume_from_checkpoint=str(last))

    assert resumed.state.global_step == straight.state.global_step == 4
    for ours, theirs in zip(resumed.model.parameters(), straight.model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def write_project(tmp_path: Path, stage: Stage, student_folder: Path, **changes: Any) -> None:
    """Write an index, questions and settings, those of the stage with `changes`."""
    build_index(
        [Passage("p1", "book", "the book by Ada")],
        Path("data/index"),
        IndexSettings(),
        "corpus",
        None,
    )
    for split in ("train", "validation"):
        write_table(Path(f"data/rl/{split}.parquet"), Question, QUESTIONS)
    params = make_run(tmp_path, stage).params
    section = replace(
        getattr(params, stage),
        init=str(student_folder),
        questions="data/rl",
        cot_share=0.5,
        **changes,
    )
    settings = {
        "train": replace(params, max_context_tokens=40, rl1=section, rl2=section),
        "search": SearchParams(),
        "tools": ToolsParams(),
        "rollout": Limits(),
    }
    Path("params.yaml").write_text(
        OmegaConf.to_yaml(OmegaConf.create(msgspec.to_builtins(settings)))
    )


@pytest.mark.parametrize("stage", [Stage.RL1, Stage.RL2])
def test_the_command_goes_from_questions_to_a_model(
    stage: Stage,
    student_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, stage, student_folder)

    summary = main([])

    assert summary.startswith(f"data/train/{stage}: 2 steps, reward ")
    assert load_student(f"data/train/{stage}").model.config.hidden_size == 32
    measured = json.loads(Path(f"metrics/train_{stage}.json").read_text())
    assert {"eval_reward", "eval_format/broken", "eval_accuracy/coa"} <= measured.keys()
    warned = (
        f"WARNING before rl1: the fidelity of {student_folder} was not measured"
        in capsys.readouterr().err
    )
    assert warned == (stage is Stage.RL1)


def test_what_the_world_model_invents_is_held_against_the_search_after_rl1(
    student_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, Stage.RL1, student_folder, validates_with_search=True)
    main(["train.monitors.limits={simulation_gap: -2.0}"])
    measured = json.loads(Path("metrics/train_rl1.json").read_text())
    assert "eval_simulated/gap" in measured
    assert capsys.readouterr().err.count("warning at step 2: simulation_gap") == 1
    main(["train.monitors.limits={simulation_gap: 2.0}", "name=quiet"])
    assert "simulation_gap" not in capsys.readouterr().err


@pytest.mark.long
def test_two_processes_train_on_groups_that_they_share(
    student_folder: Path, root: Path, tmp_path: Path
) -> None:
    with contextlib.chdir(tmp_path):
        write_project(tmp_path, Stage.RL2, student_folder, baseline=Baseline.ACTIONS)
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "train.run"]
    split = "train.rl2.arguments.per_device_train_batch_size=6"
    done = subprocess.run(
        [sys.executable, "-m", *launch, split],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "data/train/rl2: 2 steps, reward " in done.stdout
