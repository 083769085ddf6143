"""What training will need is checked before anything is paid for: each fault has advice that works.

The check loads no model and imports neither torch nor transformers.
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from coa.errors import CoaError, ConfigError
from coa.records.question import Question
from coa.store import tables
from tests.settings_support import every_setting
from train import check
from train.base import window_of

QUESTIONS = [
    *(Question(f"t{i}", f"Who wrote book {i}?", ("Ada",), "train") for i in range(4)),
    *(Question(f"v{i}", f"Who printed book {i}?", ("Ada",), "validation") for i in range(3)),
]
CONFIG = {"max_position_embeddings": 64}
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def project(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with the settings of the default profile, three validation questions and a base."""
    monkeypatch.chdir(tmp_path)
    for folder in ("synth", "train"):
        (tmp_path / folder).symlink_to(root / folder)
    settings = every_setting()
    settings.evaluate.num_questions = 3
    # A short prompt leaves room in the small windows of these tests.
    settings.train.prompt = "train/prompts/question.txt"
    settings.evaluate.prompts = dict.fromkeys(("coa", "cot", "react"), settings.train.prompt)
    OmegaConf.save(settings, tmp_path / "params.yaml")
    tables.write_table(Path("data/questions.parquet"), Question, QUESTIONS)
    write_base(Path("base"))
    return tmp_path


def write_base(folder: Path, **changes: Any) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG | changes))
    (folder / "model.safetensors").write_bytes(b"weights")
    words = {"[UNK]": 0}
    model = {"type": "WordLevel", "vocab": words, "unk_token": "[UNK]"}
    tokenizer = {"version": "1.0", "added_tokens": [], "model": model}
    tokenizer["pre_tokenizer"] = {"type": "Whitespace"}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}))


NO_REWARDS = [
    f"train.rl1.rewards.{name}=0.0"
    for name in ("exact_match", "recalled", "acted", "format_penalty")
]
ON_BASE = ["train.pretrain.base=base", "train.max_context_tokens=64"]


def advised(error: CoaError) -> list[str]:
    """The settings that an error's advice names, as arguments."""
    return re.findall(r"[a-z_.0-9]+=[0-9]+", error.details["what to do"])


def test_the_default_profile_is_in_order_and_the_file_never_changes(project: Path) -> None:
    said = check.main([])
    assert "pretrain, sft1, sft2, sft3, rl1, rl2 will find what they need" in said
    assert "words" in said
    before = Path("data/train_check.json").read_bytes()
    check.main(["train.max_context_tokens=300"])
    assert Path("data/train_check.json").read_bytes() == before


def test_pairs_may_be_trained_on_after_stage_2(project: Path) -> None:
    after = ["train.sft2.init=data/train/pretrain", "train.sft1.init=data/train/sft2"]
    said = check.main(after)
    assert "pretrain, sft1, sft2, sft3, rl1, rl2 will find what they need" in said


def test_a_base_in_a_folder_is_counted_with_its_own_tokenizer(project: Path) -> None:
    pytest.importorskip("tokenizers")
    said = check.main([*ON_BASE, "train.chat_template=''"])
    assert said.endswith("tokens")
    assert "not checked" not in said


def test_a_base_on_the_hub_is_not_fetched_and_said_so(project: Path) -> None:
    said = check.main(["train.pretrain.base=somebody/no-such-model"])
    assert "not checked: somebody/no-such-model" in said
    assert "words" in said


@pytest.mark.parametrize(
    ("arguments", "what", "advice"),
    [
        (["train.sft2.init=data/train/sft3"], "in a circle", "train.sft2.init"),
        (["train.sft2.init=/nowhere/model"], "no such model", ""),
        (["train.pretrain.base=/nowhere/model"], "no such model", ""),
        (["train.max_context_tokens=513"], "context is too short", "max_context_tokens"),
        (
            ["train.pretrain.base=base", "train.max_context_tokens=65"],
            "context is too short",
            "train.max_context_tokens=64",
        ),
        (["train.max_context_tokens=5"], "no room for an answer", "train.max_context_tokens"),
        (
            ["evaluate.limits.max_context_tokens=5"],
            "no room for an answer",
            "evaluate.limits.max_context_tokens",
        ),
        (["evaluate.split=train"], "'train' cannot be evaluated on", "split=validation"),
        (["evaluate.num_questions=4"], "cannot be evaluated on", "num_questions=3"),
        (["evaluate.prompts.react=no.txt"], "cannot read the prompt file no.txt", ""),
        (
            ["train.rl2.asking=react", "train.rl2.react_prompt=no.txt"],
            "cannot read the prompt file no.txt",
            "",
        ),
        (
            ["assemble.num_cot_a=0"],
            "sft1 reads data/assemble/cot_a, which is not built",
            "assemble.num_cot_a",
        ),
        (
            ["assemble.num_cot=0"],
            "sft1 reads data/assemble/cot, which is not built",
            "assemble.num_cot",
        ),
        (["train.sft3.trajectories=[mine]"], "nothing to train sft3 on", "train.parquet"),
        (
            ["train.sft2.trajectories=[data/student/assemble/coa]", "pipeline.student=sft1"],
            "nothing to train sft2 on",
            "add rft",
        ),
        (
            ["train.sft2.trajectories=[data/student/assemble/coa]"],
            "the student cannot be rl2: sft2 is trained on what the student wrote",
            "another student",
        ),
        (
            ["train.rl1.init=data/train/sft1", "train.sft1.pairs=data/student/assemble/cot_a"],
            "the student cannot be rl2: sft1 is trained on what the student wrote",
            "another student",
        ),
        (["train.sft1.trajectories=[mine]"], "nothing to train sft1 on", "train.parquet"),
        (["train.sft1.likelihood_share=0.0"], "bad value", ""),
        (["train.rl2.rewards.exact_mach=1.0"], "unknown reward 'exact_mach'", ""),
        (NO_REWARDS, "no reward is weighted", ""),
        (["pipeline.student=null", "pipeline.training=[]"], "no training stage is named", ""),
        (
            ["pipeline.training=[pretrain,sft1,rft]", "pipeline.student=rft"],
            "the student cannot be rft",
            "another student",
        ),
    ],
)
def test_a_fault_is_found_with_advice(
    project: Path, arguments: list[str], what: str, advice: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(what)) as found:
        check.main(arguments)
    assert advice in found.value.details["what to do"]
    assert not Path("data/train_check.json").exists()


def test_questions_to_watch_by_are_asked_for_before_anything_is_sampled(project: Path) -> None:
    tested = [replace(question, split="test") for question in QUESTIONS[4:]]
    tables.write_table(Path("data/questions.parquet"), Question, [*QUESTIONS[:4], *tested])
    with pytest.raises(ConfigError, match="no question to watch") as found:
        check.main(["evaluate.split=test"])
    assert "split: validation" in found.value.details["what to do"]
    check.main(["evaluate.split=test", *advised(found.value)])


def test_a_misspelt_argument_of_a_trainer_is_found_without_importing_it(project: Path) -> None:
    pytest.importorskip("trl")
    with pytest.raises(ConfigError, match="GRPOConfig refuses") as found:
        check.main(["train.rl2.arguments.num_generation=4"])
    assert "num_generations" in found.value.details["what to do"]


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_folder_that_is_no_model_is_named_with_what_it_lacks(project: Path, missing: str) -> None:
    Path("base", missing).unlink()
    with pytest.raises(ConfigError, match="not a model that can be trained") as found:
        check.main(ON_BASE)
    lacks = "*.safetensors" if missing.endswith("safetensors") else missing
    assert lacks in found.value.details["got"]


def test_another_chat_format_in_evaluation_than_in_training_is_said(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = [*ON_BASE, "train.chat_template=''"]
    check.main(own)
    assert "another chat format" in capsys.readouterr().err
    check.main([*own, "evaluate.policy.chat_template=''"])
    check.main([])
    assert not capsys.readouterr().err


def test_a_base_without_a_chat_template_asks_for_one(project: Path) -> None:
    Path("base/tokenizer_config.json").write_text("{}")
    with pytest.raises(ConfigError, match="no chat template") as found:
        check.main([*ON_BASE, "train.chat_template=''"])
    assert "train.chat_template" in found.value.details["what to do"]


def test_the_advice_for_a_context_that_is_too_short_works(project: Path) -> None:
    with pytest.raises(ConfigError) as window:
        check.main(["train.pretrain.base=base", "train.max_context_tokens=1000"])
    assert "will find" in check.main(["train.pretrain.base=base", *advised(window.value)])


def test_the_window_of_a_model_with_pictures_is_that_of_its_text() -> None:
    assert window_of({"max_position_embeddings": 7, "text_config": CONFIG}) == 64
    assert window_of({"n_positions": 1024}) == 1024
    assert window_of({}) is None
