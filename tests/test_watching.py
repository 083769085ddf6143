"""Test the rollouts that are watched while a stage trains: each alarm on a real run, and silence.

One small student is trained on the tiny profile; that training is healthy. From it each other run
starts with one setting that is worse.
"""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from transformers import TrainerCallback
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from coa.records.question import Question
from coa.student.held_out import choose_watched
from coa.student.settings import TrainParams
from train.monitors.callbacks import PREFIX
from train.run import main

pytestmark = pytest.mark.usefixtures("one_thread")

NEW_ALARMS = {
    "falling_search_rate",
    "collapsed_text",
    "falling_answer_share",
    "searches_for_known_facts",
}
STUDENT = {
    "hidden_size": 64,
    "num_layers": 2,
    "num_heads": 2,
    "intermediate_size": 160,
    "max_context_tokens": 384,
}


def make_watched_run(small_run: Path, root: Path, folder: Path, *steps: int) -> Path:
    """Make a project with a student that was trained for so many steps in two stages."""
    folder.mkdir()
    (folder / "data").mkdir()
    for path in (small_run / "data").iterdir():
        (folder / "data" / path.name).symlink_to(path)
    values: Any = OmegaConf.load(small_run / "params.yaml")
    values.train.prompt = str(root / TrainParams().prompt)
    values.train.monitors.num_questions = 24
    values.train.pretrain.student = {**values.train.pretrain.student, **STUDENT}
    values.train.pretrain.arguments.max_steps, values.train.sft2.arguments.max_steps = steps
    OmegaConf.save(values, folder / "params.yaml")
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        main(["stage=pretrain"])
        main(["stage=sft2", "train.sft2.init=data/train/pretrain"])
    return folder


@pytest.fixture(scope="module")
def watched_run(small_run: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a project with a small student that searches and answers."""
    return make_watched_run(small_run, root, tmp_path_factory.mktemp("watched") / "run", 80, 120)


def train(*arguments: str) -> list[dict[str, float]]:
    """Train a stage from the student, and return what was watched."""
    main(["name=tried", *arguments])
    return watched_of("tried")


def watched_of(name: str) -> list[dict[str, float]]:
    lines = Path(f"data/train/{name}/log.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    return [entry for entry in entries if f"{PREFIX}answered" in entry]


def alarms(capsys: pytest.CaptureFixture[str]) -> set[str]:
    """Return the alarms that were printed since the last call."""
    return set(re.findall(r"warning at step \d+: (\w+):", capsys.readouterr().err)) & NEW_ALARMS


@pytest.mark.slow
@pytest.mark.long
def test_alarms_see_what_one_bad_setting_does_and_are_silent_on_healthy_runs(
    watched_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(watched_run)
    healthy = watched_of("sft2")
    assert [entry["step"] for entry in healthy] == [0, 30, 60, 90, 120]
    assert healthy[-1][f"{PREFIX}answered"] > 0.6
    assert healthy[-1][f"{PREFIX}searched"] > 0.5
    assert alarms(capsys) == set()

    short = ["train.sft3.init=data/train/sft2", "train.sft3.arguments.max_steps=8"]
    train("stage=sft3", *short, "train.sft3.arguments.learning_rate=2e-4")
    assert alarms(capsys) == set()

    train(
        "stage=sft1",
        "train.sft1.init=data/train/sft2",
        "train.sft1.arguments.max_steps=8",
        "train.sft1.arguments.learning_rate=0.05",
    )
    assert {"collapsed_text", "falling_answer_share"} <= alarms(capsys)

    train(
        "stage=sft2",
        "train.sft2.init=data/train/sft2",
        "train.sft2.arguments.max_steps=24",
        "train.sft2.trajectories=[data/assemble/cot]",
    )
    assert alarms(capsys) == {"falling_search_rate"}


def test_questions_are_chosen_of_the_split_validation_whatever_their_order() -> None:
    questions = [
        Question(f"q{number}", "who?", ("Ada",), "validation" if number % 2 else "train")
        for number in range(20)
    ]
    chosen = choose_watched(questions, 5)
    assert len(chosen) == 5
    assert {question.split for question in chosen} == {"validation"}
    assert choose_watched(questions[::-1], 5) == chosen


@pytest.mark.slow
@pytest.mark.long
def test_the_students_turns_have_a_limit_of_their_own(
    watched_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(watched_run)
    one_step = ["stage=rl2", "train.rl2.init=data/train/sft2", "train.rl2.arguments.max_steps=1"]
    limited = train(*one_step, "train.max_turn_tokens=2")
    assert [entry[f"{PREFIX}answered"] for entry in limited] == [0.0, 0.0]
    assert watched_of("sft2")[-1][f"{PREFIX}answered"] > 0.25


class Recorder(TrainerCallback):
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        TOLD.clear()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: object) -> None:
        TOLD.append({**logs, "step": state.global_step})


TOLD: list[dict[str, float]] = []


@pytest.mark.slow
def test_a_tracker_that_is_named_gets_all_that_the_log_holds(
    small_run: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_watched_run(small_run, root, tmp_path / "run", 2, 2))
    monkeypatch.setitem(INTEGRATION_TO_CALLBACK, "recorder", Recorder)
    train(
        "stage=rl2",
        "train.rl2.init=data/train/sft2",
        "train.rl2.arguments.max_steps=2",
        "train.rl2.arguments.logging_steps=1",
        "train.rl2.arguments.report_to=recorder",
    )
    lines = Path("data/train/tried/log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == TOLD
    watched_at = [entry["step"] for entry in TOLD if f"{PREFIX}answered" in entry]
    assert watched_at[0] == 0 and watched_at[-1] == 2
    trained_at = [entry["step"] for entry in TOLD if "reward" in entry and "loss" in entry]
    assert trained_at == [1, 2]
