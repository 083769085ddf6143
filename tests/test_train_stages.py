"""Run the likelihood stages on a few rows: killed and resumed, split over two, on a full disk."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("trl")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings(
        "ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"
    ),
]

from coa.errors import OutputError  # noqa: E402
from coa.policy.local.model import LocalPolicy, LocalSettings  # noqa: E402
from coa.student.checkpoint import Workspace  # noqa: E402
from train.run import main  # noqa: E402


def weights(name: str) -> dict[str, Any]:
    return dict(
        transformers.AutoModelForCausalLM.from_pretrained(f"data/train/{name}").state_dict()
    )


def test_a_run_that_could_not_be_saved_takes_no_further_step(training_folder: Path) -> None:
    main(["stage=pretrain", "name=straight"])
    (training_folder / "data/train/blocked").write_text("in the way")
    with pytest.raises(OutputError):
        main(["stage=pretrain", "name=blocked"])
    (training_folder / "data/train/blocked").unlink()
    summary = main(["stage=pretrain", "name=blocked"])
    assert summary.startswith("data/train/blocked: 3 steps on ")
    straight, saved = weights("straight"), weights("blocked")
    assert all(torch.equal(saved[name], straight[name]) for name in straight)


def test_each_stage_starts_from_the_one_before_and_leaves_a_model_its_log_its_settings_and_figures(
    training_folder: Path,
) -> None:
    for stage in ("pretrain", "sft1", "sft2", "sft3"):
        summary = main([f"stage={stage}"])
        assert summary.startswith(f"data/train/{stage}: 3 steps on ")
        out = training_folder / "data/train" / stage
        for file in ("config.json", "tokenizer.json", "params.yaml", "log.jsonl", "curves.png"):
            assert (out / file).is_file()
        assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()][
            :3
        ] == [1, 2, 3]
        assert (
            json.loads((training_folder / f"metrics/train_{stage}.json").read_text())["eval_loss"]
            > 0
        )
        assert not (training_folder / ".checkpoints" / stage).exists()
    policy = LocalPolicy.load(LocalSettings(model="data/train/sft3", device="cpu"))
    assert policy.count_tokens("<begin_search>") == 1
    before, after = weights("sft2"), weights("sft3")
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_stage_imports_few_modules_of_ours_and_none_of_what_it_does_not_use(
    pretrained_folder: Path, root: Path
) -> None:
    code = (
        "import sys; from coa.cli import run; from train.run import main; "
        "main(['stage=sft2', 'train.sft2.init=data/train/pretrain']); "
        "ours = [name for name in sys.modules if name.split('.')[0] in ('coa', 'train')]; "
        "print(*ours)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=pretrained_folder,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    ours = set(done.stdout.split())
    assert "train.sft" in ours
    assert len(ours) <= 60
    assert not ours & {
        "coa.rollout.factory",
        "coa.store.journal",
        "coa.rollout.loop",
        "coa.policy.completions",
    }


@pytest.mark.long
def test_a_run_killed_hard_goes_on_to_the_weights_of_one_never_stopped(
    pretrained_folder: Path, root: Path
) -> None:
    arguments = [
        "stage=sft2",
        "train.sft2.init=data/train/pretrain",
        "train.sft2.arguments.max_steps=60",
        "train.sft2.arguments.save_steps=20",
    ]
    allow_save_steps(pretrained_folder)
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "train.run", *arguments]
    with subprocess.Popen(
        command, cwd=pretrained_folder, env=environment, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(pretrained_folder / ".checkpoints/sft2/checkpoint-20/trainer_state.json", process)
        process.send_signal(signal.SIGKILL)
    assert not (pretrained_folder / "data/train/sft2/config.json").exists()

    main(arguments)
    main([*arguments, "name=never_stopped"])

    resumed, whole = weights("sft2"), weights("never_stopped")
    assert all(torch.allclose(resumed[name], whole[name], rtol=0, atol=1e-6) for name in whole)
    log = (pretrained_folder / "data/train/sft2/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log if '"loss"' in line] == list(range(1, 61))


@pytest.mark.long
@pytest.mark.parametrize("stage", ["sft1", "sft2"])
def test_two_processes_come_to_the_weights_of_one_with_as_large_a_batch(
    pretrained_folder: Path, root: Path, stage: str
) -> None:
    params = json.loads((pretrained_folder / "params.yaml").read_text())
    params["train"][stage]["arguments"] |= {
        "per_device_train_batch_size": 4,
        "lr_scheduler_type": "constant",
    }
    (pretrained_folder / "params.yaml").write_text(json.dumps(params))
    start = f"train.{stage}.init=data/train/pretrain"
    main([f"stage={stage}", start, "name=one"])

    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "train.run"]
    half = f"train.{stage}.arguments.per_device_train_batch_size=2"
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launch, f"stage={stage}", start, "name=two", half]
    done = subprocess.run(
        command, cwd=pretrained_folder, env=environment, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr[-2000:]
    one, two = weights("one"), weights("two")
    assert all(torch.allclose(one[name], two[name], rtol=0, atol=1e-6) for name in one)
    assert any(not torch.equal(one[name], before) for name, before in weights("pretrain").items())


def allow_save_steps(folder: Path) -> None:
    """Overriding never adds a key, so the file must have it."""
    params = json.loads((folder / "params.yaml").read_text())
    params["train"]["sft2"]["arguments"]["save_steps"] = 20
    (folder / "params.yaml").write_text(json.dumps(params))


def wait_for(path: Path, process: subprocess.Popen[Any]) -> None:
    end = time.monotonic() + 200
    while not path.is_file():
        assert process.poll() is None and time.monotonic() < end, f"{path} never appeared"
        time.sleep(0.005)


@pytest.mark.long
def test_a_disk_that_fills_up_while_training_leaves_the_last_checkpoint_to_go_on_from(
    training_folder: Path, root: Path
) -> None:
    params = json.loads((training_folder / "params.yaml").read_text())
    params["train"]["pretrain"]["arguments"] |= {"save_steps": 1, "max_steps": 400}
    (training_folder / "params.yaml").write_text(json.dumps(params))
    command = [sys.executable, "-m", "train.run", "stage=pretrain"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        command, cwd=training_folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_for(training_folder / ".checkpoints/pretrain/checkpoint-2/trainer_state.json", process)
    # No file may grow beyond the limit, as on a disk that is full.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (3_000, 3_000))
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 1, said[-2000:]
    assert "error: cannot write .checkpoints/pretrain" in said
    assert "free some space" in said
    assert "Traceback" not in said

    done = subprocess.run(
        command, cwd=training_folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "going on from .checkpoints/pretrain/checkpoint-" in done.stderr
    assert "400 steps" in done.stdout


def test_a_checkpoint_that_was_cut_off_or_belongs_to_other_settings_is_not_taken_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    workspace = Workspace("sft2")
    assert workspace.resume_from("settings", []) is None
    for step, state in ((10, "{}"), (20, "{}"), (30, '{"cut'), (40, None)):
        checkpoint = workspace.checkpoints / f"checkpoint-{step}"
        checkpoint.mkdir()
        if state is not None:
            (checkpoint / "trainer_state.json").write_text(state)
    assert workspace.resume_from("settings", []) == str(workspace.checkpoints / "checkpoint-20")
    assert workspace.resume_from("other settings", []) is None
    assert workspace.resume_from("other settings", []) is None


def test_a_fetched_base_leaves_what_the_pipeline_asks_of_the_stage(training_folder: Path) -> None:
    (training_folder / "base").mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (training_folder / "base" / name).write_text("{}")

    assert "base" in main(["stage=pretrain", "train.pretrain.base=base"])

    assert json.loads((training_folder / "metrics/train_pretrain.json").read_text()) == {
        "base": "base"
    }
    assert (training_folder / "data/train/pretrain/params.yaml").is_file()
