"""Name bad settings and inputs of the training command with advice that works; dry runs."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

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

from coa.errors import CoaError, ConfigError, InputError  # noqa: E402
from coa.records.graded import GradedTrajectory  # noqa: E402
from coa.records.pairs import PreferencePair  # noqa: E402
from coa.records.tokens import TextLostError  # noqa: E402
from coa.records.trajectory import Author, Step, StepKind  # noqa: E402
from coa.search import Passage  # noqa: E402
from coa.store import tables  # noqa: E402
from coa.student.settings import TrainParams  # noqa: E402
from tests.train_support import PAIRS, SET, STEPS, pair, trajectory  # noqa: E402
from train.run import main  # noqa: E402


@pytest.mark.parametrize(
    ("arguments", "what", "fix"),
    [
        (["stage=rl3"], "a setting has a bad value", ""),
        (["stage=sft2", "train.sft2.init=data/train/sft/1"], "cannot load the tokenizer", "folder"),
        ([], "no stage is named", ""),
        (["stage=sft2"], "there is no model in data/train/sft1", "coa train stage=sft1"),
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
    training_folder: Path, arguments: Sequence[str], what: str, fix: str
) -> None:
    with pytest.raises(CoaError, match=what) as caught:
        main(arguments)
    assert fix in caught.value.details["what to do"]


def test_bad_inputs_are_named_with_what_to_change(pretrained_folder: Path) -> None:
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


def test_what_it_advises_for_rows_that_are_too_long_lets_them_in(pretrained_folder: Path) -> None:
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
    pretrained_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
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


def test_a_dry_run_takes_one_step_on_a_tiny_model_of_the_architecture_and_leaves_the_real_one_alone(
    pretrained_folder: Path,
) -> None:
    Path("data/train/pretrain/model.safetensors").unlink()
    main(["stage=sft2", "train.sft2.init=data/train/pretrain", "dry_run=true"])
    assert transformers.AutoConfig.from_pretrained("data/train/sft2_dry_run").model_type == "qwen3"
    assert not Path("data/train/sft2").exists()


def test_a_tokenizers_own_chat_template_is_used_and_the_thinking_is_opened_once(
    pretrained_folder: Path,
) -> None:
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
        from coa.settings.stages import Stage
        from train.stage import StageRun

        prompt = StageRun(Stage.SFT2, params, "").prompt(tokenizer)
        assert prompt.fill("who?") == "[Question: who?]ME: <think>\n"
