"""Test the training command: likelihood stages on a few rows, killed and resumed, and bad input."""

import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
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

from coa import protocol, tables  # noqa: E402
from coa.errors import CoaError, ConfigError, InputError, OutputError  # noqa: E402
from coa.graded import GradedTrajectory  # noqa: E402
from coa.microworld.pretraining import PretrainingDocument  # noqa: E402
from coa.pairs import PreferencePair  # noqa: E402
from coa.policy.local import LocalPolicy, LocalSettings  # noqa: E402
from coa.question import Question  # noqa: E402
from coa.search import Passage  # noqa: E402
from coa.tokens import TextLostError  # noqa: E402
from coa.trajectory import Author, Step, StepKind  # noqa: E402
from tests.sample_records import make_graded, make_pair, make_trajectory  # noqa: E402
from tests.train_support import STEPS  # noqa: E402
from train.checkpoint import Workspace  # noqa: E402
from train.run import main  # noqa: E402
from train.settings import TrainParams  # noqa: E402

PAIRS, SET = "data/assemble/cot_a", "data/assemble/coa"


@pytest.fixture
def folder(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder with tiny sets and settings."""
    monkeypatch.chdir(tmp_path)
    params: dict[str, Any] = msgspec.to_builtins(TrainParams())
    few = {"per_device_train_batch_size": 2, "max_steps": 3, "use_cpu": True, "logging_steps": 1}
    params |= {"prompt": str(root / "train/prompts/question.txt"), "max_context_tokens": 96}
    params["pretrain"] |= {
        "documents": "documents.parquet",
        "corpus": "corpus.parquet",
        "arguments": {"learning_rate": 0.01, **few},
        "student": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 2,
            "intermediate_size": 48,
            "max_context": 128,
            "initializer_range": 0.088,
        },
    }
    params["sft1"] |= {"arguments": few}
    for stage in ("sft2", "sft3"):
        params[stage] |= {"trajectories": [SET], "arguments": few}
    (tmp_path / "params.yaml").write_text(json.dumps({"train": params}))
    documents = [
        PretrainingDocument(("Ada wrote ", f"book {i}."), (False, True)) for i in range(40)
    ]
    tables.write_table(Path("documents.parquet"), PretrainingDocument, documents)
    tables.write_table(Path("corpus.parquet"), Passage, [Passage("p", "Ada", "Ada wrote it.")])
    for split, count in (("train", 20), ("validation", 3)):
        tables.write_table(
            Path(SET, f"{split}.parquet"), GradedTrajectory, map(trajectory, range(count))
        )
        tables.write_table(Path(PAIRS, f"{split}.parquet"), PreferencePair, map(pair, range(count)))
    return tmp_path


def trajectory(i: int) -> GradedTrajectory:
    question = f"Who wrote {'the ' * (i % 3)}book {i}?"
    return make_graded(Question(f"q{i}", question, ("Ada",), "train", "bridge", 1), STEPS)


def pair(i: int) -> PreferencePair:
    wrong = protocol.parse_policy(f"Maybe Bob {i}.\n</think>\n\n\\boxed{{Bob}}")
    prefix = (Step(StepKind.THOUGHT, Author.POLICY, "I need it. "),)
    parent = make_trajectory(Question(f"q{i}", f"Who wrote book {i}?", ("Ada",), "train"), STEPS)
    sides = {"chosen_id": "c", "rejected_id": "r"}
    return make_pair(parent, STEPS[1:], wrong, point=11, prefix=prefix, **sides)


def weights(name: str) -> dict[str, Any]:
    return dict(
        transformers.AutoModelForCausalLM.from_pretrained(f"data/train/{name}").state_dict()
    )


def test_a_run_that_could_not_be_saved_takes_no_further_step(folder: Path) -> None:
    main(["stage=pretrain", "name=straight"])
    (folder / "data/train/blocked").write_text("in the way")
    with pytest.raises(OutputError):
        main(["stage=pretrain", "name=blocked"])
    (folder / "data/train/blocked").unlink()
    summary = main(["stage=pretrain", "name=blocked"])
    assert summary.startswith("data/train/blocked: 3 steps on ")
    straight, saved = weights("straight"), weights("blocked")
    assert all(torch.equal(saved[name], straight[name]) for name in straight)


def test_each_stage_starts_from_the_one_before_and_leaves_a_model_its_log_its_settings_and_figures(
    folder: Path,
) -> None:
    for stage in ("pretrain", "sft1", "sft2", "sft3"):
        summary = main([f"stage={stage}"])
        assert summary.startswith(f"data/train/{stage}: 3 steps on ")
        out = folder / "data/train" / stage
        for file in ("config.json", "tokenizer.json", "params.yaml", "log.jsonl", "curves.png"):
            assert (out / file).is_file()
        assert [json.loads(line)["step"] for line in (out / "log.jsonl").read_text().splitlines()][
            :3
        ] == [1, 2, 3]
        assert json.loads((folder / f"metrics/train_{stage}.json").read_text())["eval_loss"] > 0
        assert not (folder / ".checkpoints" / stage).exists()
    policy = LocalPolicy.load(LocalSettings(model="data/train/sft3", device="cpu"))
    assert policy.count_tokens("<begin_search>") == 1
    before, after = weights("sft2"), weights("sft3")
    assert any(not torch.equal(before[name], after[name]) for name in before)


def test_a_run_killed_hard_goes_on_to_the_weights_of_one_never_stopped(
    folder: Path, root: Path
) -> None:
    main(["stage=pretrain"])
    arguments = [
        "stage=sft2",
        "train.sft2.init=data/train/pretrain",
        "train.sft2.arguments.max_steps=60",
        "train.sft2.arguments.save_steps=20",
    ]
    allow_save_steps(folder)
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "train.run", *arguments]
    with subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(folder / ".checkpoints/sft2/checkpoint-20/trainer_state.json", process)
        process.send_signal(signal.SIGKILL)
    assert not (folder / "data/train/sft2/config.json").exists()

    main(arguments)
    main([*arguments, "name=never_stopped"])

    resumed, whole = weights("sft2"), weights("never_stopped")
    assert all(torch.allclose(resumed[name], whole[name], rtol=0, atol=1e-6) for name in whole)
    log = (folder / "data/train/sft2/log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log if '"loss"' in line] == list(range(1, 61))


@pytest.mark.parametrize("stage", ["sft1", "sft2"])
def test_two_processes_come_to_the_weights_of_one_with_as_large_a_batch(
    folder: Path, root: Path, stage: str
) -> None:
    main(["stage=pretrain"])
    params = json.loads((folder / "params.yaml").read_text())
    params["train"][stage]["arguments"] |= {
        "per_device_train_batch_size": 4,
        "lr_scheduler_type": "constant",
    }
    (folder / "params.yaml").write_text(json.dumps(params))
    start = f"train.{stage}.init=data/train/pretrain"
    main([f"stage={stage}", start, "name=one"])

    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "train.run"]
    half = f"train.{stage}.arguments.per_device_train_batch_size=2"
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *launch, f"stage={stage}", start, "name=two", half]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
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


def test_a_disk_that_fills_up_while_training_leaves_the_last_checkpoint_to_go_on_from(
    folder: Path, root: Path
) -> None:
    params = json.loads((folder / "params.yaml").read_text())
    params["train"]["pretrain"]["arguments"] |= {"save_steps": 1, "max_steps": 400}
    (folder / "params.yaml").write_text(json.dumps(params))
    command = [sys.executable, "-m", "train.run", "stage=pretrain"]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    )
    wait_for(folder / ".checkpoints/pretrain/checkpoint-2/trainer_state.json", process)
    # No file may grow beyond the limit, as on a disk that is full.
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (3_000, 3_000))
    said = process.communicate(timeout=200)[1]
    assert process.returncode == 1, said[-2000:]
    assert "error: cannot write .checkpoints/pretrain" in said
    assert "free some space" in said
    assert "Traceback" not in said

    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
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


@pytest.mark.parametrize(
    ("arguments", "what", "fix"),
    [
        (["stage=rl3"], "a setting has a bad value", ""),
        ([], "no stage is named", ""),
        (["stage=sft2"], "there is no model in data/train/sft1", "python -m train.run stage=sft1"),
        (
            ["stage=sft2", "train.sft2.init=data/train/mine"],
            "there is no model in data/train/mine",
            "stage=STAGE name=mine",
        ),
        (["stage=sft2", "train.sft2.init=nowhere/at/all"], "cannot load the tokenizer", "a folder"),
        (["stage=sft2", "name=../evil"], "not a plain folder name", ""),
    ],
)
def test_bad_settings_are_named(
    folder: Path, arguments: Sequence[str], what: str, fix: str
) -> None:
    with pytest.raises(CoaError, match=what) as caught:
        main(arguments)
    assert fix in caught.value.details["what to do"]


def test_a_missing_model_is_named_before_torch_and_trl_are_imported(
    folder: Path, root: Path
) -> None:
    code = """
import sys
from coa.errors import InputError
from train.run import main
try:
    main(["stage=sft2"])
except InputError as error:
    print(error.what, {"torch", "transformers", "trl"} & sys.modules.keys())
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "there is no model in data/train/sft1 set()\n"


def test_bad_inputs_are_named_with_what_to_change(folder: Path) -> None:
    main(["stage=pretrain"])
    start = ["stage=sft2", "train.sft2.init=data/train/pretrain"]
    with pytest.raises(ConfigError, match="no chat template") as no_template:
        main([*start, "train.chat_template=''"])
    assert "train.chat_template" in no_template.value.details["what to do"]
    with pytest.raises(InputError, match="no row can be trained") as too_long:
        main([*start, "train.max_context_tokens=20"])
    assert too_long.value.details["got"] == "{'too_long': 23}"
    with pytest.raises(ConfigError, match="context is too short"):
        main([*start, "train.max_context_tokens=129"])
    with pytest.raises(ConfigError, match="SFTConfig refuses a setting"):
        main([*start, "train.sft2.arguments={learning_rat: 1}"])
    Path(SET, "train.parquet").unlink()
    tables.write_table(Path(SET, "train.parquet"), Passage, [Passage("p", "Ada", "Ada wrote it.")])
    with pytest.raises(InputError, match="lacks the column 'trajectory'"):
        main(start)
    Path(SET, "train.parquet").unlink()
    with pytest.raises(InputError, match=r"train\.parquet is missing") as missing:
        main(start)
    assert missing.value.details["what to do"].endswith("dvc repro assemble")


def test_what_it_advises_for_rows_that_are_too_long_lets_them_in(folder: Path) -> None:
    main(["stage=pretrain"])
    start = ["stage=sft1", "train.sft1.init=data/train/pretrain"]
    with pytest.raises(InputError, match="no row can be trained") as short_limit:
        main([*start, "train.max_context_tokens=20"])
    advice = short_limit.value.details["what to do"]
    found = re.fullmatch(
        r"set train\.max_context_tokens to (\d+) or more; the student reads (\d+)", advice
    )
    assert found, advice
    assert "steps on" in main([*start, f"train.max_context_tokens={found[1]}"])

    many = "who " * 150
    for split in ("train", "validation"):
        long = [replace(pair(i), question=f"{many}{i}?") for i in range(3)]
        tables.write_table(Path(PAIRS, f"{split}.parquet"), PreferencePair, long)
    with pytest.raises(InputError, match="no row can be trained") as short_window:
        main([*start, "train.max_context_tokens=128"])
    advice = short_window.value.details["what to do"]
    assert "the student reads 128" in advice and "train.sft1.init" in advice
    assert "raise" not in advice


def test_a_stage_says_by_name_whose_text_its_tokenizer_loses(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["stage=pretrain"])
    path = Path("data/train/pretrain/tokenizer.json")
    settings = json.loads(path.read_text())
    assert settings["normalizer"] is None
    path.write_text(json.dumps(settings | {"normalizer": {"type": "NFC"}}))
    thought = Step(StepKind.THOUGHT, Author.POLICY, "It is Rene\u0301e. ")

    def decomposed(i: int) -> GradedTrajectory:
        row = trajectory(i)
        return replace(row, trajectory=replace(row.trajectory, steps=(thought, *STEPS)))

    start = ["stage=sft2", "train.sft2.init=data/train/pretrain"]
    rows = [decomposed(i) if i in (3, 5) else trajectory(i) for i in range(20)]
    tables.write_table(Path(SET, "train.parquet"), GradedTrajectory, rows)
    summary = main(start)
    assert (
        "3 steps on 21 rows, without q3/coa/0, q5/coa/0, whose text the tokenizer loses" in summary
    )
    assert "2 text lost" in capsys.readouterr().err
    figures = json.loads(Path("metrics/train_sft2.json").read_text())
    assert figures["rows"] == {"kept": 21, "text_lost": 2}
    assert list(figures["text_lost"]) == ["q3/coa/0", "q5/coa/0"]
    for split in ("train", "validation"):
        tables.write_table(
            Path(SET, f"{split}.parquet"), GradedTrajectory, [decomposed(i) for i in range(3)]
        )
    with pytest.raises(TextLostError, match="does not give a trajectory's text back"):
        main(start)


def test_running_out_of_memory_says_what_to_change() -> None:
    from train.fitting import explaining_memory
    from train.settings import Stage

    with pytest.raises(ConfigError, match="out of memory") as caught, explaining_memory(Stage.SFT2):
        torch.empty(2**50)
    assert "per_device_train_batch_size" in caught.value.details["what to do"]


def test_a_dry_run_takes_one_step_on_a_tiny_model_of_the_architecture_and_leaves_the_real_one_alone(
    folder: Path,
) -> None:
    main(["stage=pretrain"])
    Path("data/train/pretrain/model.safetensors").unlink()
    main(["stage=sft2", "train.sft2.init=data/train/pretrain", "dry_run=true"])
    assert transformers.AutoConfig.from_pretrained("data/train/sft2_dry_run").model_type == "qwen3"
    assert not Path("data/train/sft2").exists()


def test_a_tokenizers_own_chat_template_is_used_and_the_thinking_is_opened_once(
    folder: Path,
) -> None:
    main(["stage=pretrain"])
    for opening in ("", "<think>\n"):
        tokenizer = transformers.AutoTokenizer.from_pretrained("data/train/pretrain")
        tokenizer.chat_template = (
            "{% for m in messages %}[{{ m['content'] }}]{% endfor %}ME: " + opening
        )
        tokenizer.save_pretrained("data/train/pretrain")
        params = msgspec.convert(
            json.loads(Path("params.yaml").read_text())["train"] | {"chat_template": ""},
            TrainParams,
        )
        from train.settings import Stage
        from train.stage import StageRun

        prompt = StageRun(Stage.SFT2, params, "").prompt(tokenizer)
        assert prompt.fill("who?") == "[Question: who?]ME: <think>\n"


def test_a_fetched_base_leaves_what_the_pipeline_asks_of_the_stage(folder: Path) -> None:
    (folder / "base").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / "base" / name).write_text("{}")

    assert "base" in main(["stage=pretrain", "train.pretrain.base=base"])

    assert json.loads((folder / "metrics/train_pretrain.json").read_text()) == {"base": "base"}
    assert (folder / "metrics/train_pretrain.csv").read_text().split() == ["step,loss"]
    assert (folder / "data/train/pretrain/params.yaml").is_file()
