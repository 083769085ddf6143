"""Test the profiles for GPUs: they load where they will be loaded, and keep the published settings.

Mistakes are named.
"""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from coa.errors import ConfigError, MissingExtraError
from coa.params import main
from coa.policy.prompts import Prompt
from coa.rollout.factory import TeacherParams
from coa.rollout.forks import require_forks
from coa.settings.params import Params, write_profiles
from coa.settings.stages import Stage
from coa.student.settings import TrainParams

pytest.importorskip("torch")
pytest.importorskip("trl")

from coa.policy.chat_templates import own_template
from train.arguments import check_types, fsdp_checkpoints, make_arguments, shards_weights
from train.stage import StageRun

ROOT = Path(__file__).parent.parent
STAGES = [stage for stage in Stage if stage is not Stage.PRETRAIN]
PROFILES = {"7b": ("paper", "7b"), "32b": ("paper", "7b", "32b")}


def profile(name: str, folder: Path) -> TrainParams:
    files = [ROOT / f"conf/{part}.yaml" for part in PROFILES[name]]
    write_profiles(files, folder / "params.yaml", ROOT / "conf/microworld.yaml")
    return Params.load("train", [], folder / "params.yaml").section(TrainParams)


def kind_of(stage: Stage) -> type[Any]:
    from transformers import TrainingArguments
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.sft_config import SFTConfig

    kinds = {Stage.SFT1: TrainingArguments, Stage.SFT2: SFTConfig, Stage.SFT3: SFTConfig}
    return kinds.get(stage, GRPOConfig)


@pytest.mark.parametrize("name", PROFILES)
def test_trainers_know_every_setting_of_a_profile_and_its_type(name: str, tmp_path: Path) -> None:
    params = profile(name, tmp_path)
    for stage in STAGES:
        check_types(kind_of(stage), getattr(params, stage).arguments, where=stage)


@pytest.mark.parametrize("stage", STAGES)
def test_no_setting_of_the_small_student_leaks_into_the_7b_one(
    stage: Stage, tmp_path: Path
) -> None:
    from omegaconf import OmegaConf

    own: Any = OmegaConf.load(ROOT / "conf/7b.yaml")
    assert (
        getattr(profile("7b", tmp_path), stage).arguments.keys()
        == own.train[stage].arguments.keys()
    )


def test_a_chat_teacher_laid_over_a_profile_keeps_nothing_of_its_completions_server(
    tmp_path: Path,
) -> None:
    files = [ROOT / "conf/hotpotqa.yaml", ROOT / "conf/chat_teacher.yaml"]
    write_profiles(files, tmp_path / "params.yaml", ROOT / "conf/microworld.yaml")
    teacher = Params.load("teacher", [], tmp_path / "params.yaml").section(TeacherParams)
    assert teacher.chat_template == "{prompt}"
    assert teacher.server.extra_body == {}
    require_forks(teacher)


def test_the_published_settings_are_those_of_the_7b_profile(tmp_path: Path) -> None:
    params = profile("7b", tmp_path)
    sft = {
        stage: getattr(params, stage).arguments for stage in (Stage.SFT1, Stage.SFT2, Stage.SFT3)
    }
    assert {stage: given["learning_rate"] for stage, given in sft.items()} == {
        "sft1": 5e-6,
        "sft2": 5e-5,
        "sft3": 5e-5,
    }
    assert {given["num_train_epochs"] for given in sft.values()} == {2}
    published = {
        "learning_rate": 7e-7,
        "temperature": 0.6,
        "beta": 0.001,
        "epsilon": 0.2,
        "num_generations": 5,
        "loss_type": "grpo",
        "scale_rewards": "none",
        "use_bias_correction_kl": False,
    }
    for stage, steps in ((Stage.RL1, 80), (Stage.RL2, 96)):
        given = getattr(params, stage).arguments
        assert published.items() <= given.items()
        assert given["max_steps"] == steps
        paid = {name: weight for name, weight in getattr(params, stage).rewards.items() if weight}
        assert paid == {"exact_match": 1.0, "format_penalty": 0.1}
        assert (
            8 * given["per_device_train_batch_size"] * given["gradient_accumulation_steps"]
            == 48 * 5
        )
    assert (params.sft1.alpha, params.max_context_tokens) == (0.2, 8192)


def test_the_32b_profile_takes_48_prompts_a_step_with_six_processes(tmp_path: Path) -> None:
    for stage in (Stage.RL1, Stage.RL2):
        given = getattr(profile("32b", tmp_path), stage).arguments
        assert (
            6 * given["per_device_train_batch_size"] * given["gradient_accumulation_steps"]
            == 48 * 5
        )


def test_profiles_are_laid_one_over_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("conf", "pipeline"):
        Path(name).symlink_to(ROOT / name)
    summary = main(["conf/paper.yaml", "conf/7b.yaml"])
    assert summary.startswith("params.yaml holds the profile conf/paper.yaml, then conf/7b.yaml;")
    assert summary.endswith("training stages: pretrain, sft1, sft2, sft3, rl1, rl2")
    params = Params.load("assemble")
    assert params.dump(["assemble", "train"]).count("4608") == 1
    assert params.section(TrainParams, "train").max_context_tokens == 8192


@pytest.mark.parametrize(
    "path", sorted((ROOT / "conf/accelerate").glob("*.yaml")), ids=lambda path: path.stem
)
def test_accelerate_launch_takes_every_shipped_configuration(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate.commands.config.config_args import load_config_from_file
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    config: Any = load_config_from_file(str(path))
    assert config.mixed_precision == "bf16"
    arguments = launch_command_parser().parse_args(["--config_file", str(path), "-m", "train.run"])
    arguments, _, _ = _validate_launch_command(arguments)
    assert arguments.use_fsdp is (path.stem == "fsdp2")
    assert arguments.use_deepspeed is path.stem.startswith("deepspeed")
    if path.stem == "fsdp2":
        for name, value in prepare_multi_gpu_env(arguments).items():
            monkeypatch.setenv(name, value)
        assert fsdp_checkpoints() and shards_weights()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("learning_rate", "fast", "float"),
        ("learning_rate", "1e-5", "float"),
        ("max_steps", "ten", "int"),
        ("max_steps", 1.5, "int"),
        ("bf16", "yes", "bool or None"),
        ("lr_scheduler_type", 3, "a name"),
        ("optim", ["adamw"], "a name"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(name: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match="wrong type") as caught:
        make_arguments(
            kind_of(Stage.SFT2), {name: value}, where="params.yaml, train.sft2.arguments"
        )
    details = caught.value.details
    assert details["where"] == f"params.yaml, train.sft2.arguments.{name}"
    assert (details["expected"], details["got"]) == (expected, repr(value))


def test_a_setting_that_is_misspelt_is_answered_with_the_right_one() -> None:
    with pytest.raises(
        ConfigError, match="SFTConfig refuses a setting that it does not know"
    ) as caught:
        make_arguments(kind_of(Stage.SFT2), {"learning_rat": 1.0}, where="here")
    assert "learning_rate" in caught.value.details["expected"]


def test_a_value_that_the_trainer_itself_refuses_is_told_with_its_own_words(tmp_path: Path) -> None:
    given = {
        "lr_scheduler_type": "zigzag",
        "output_dir": str(tmp_path),
        "activation_checkpointing": False,
    }
    with pytest.raises(ConfigError, match="SFTConfig refuses a setting") as caught:
        make_arguments(kind_of(Stage.SFT2), given, where="here")
    assert "zigzag" in caught.value.details["got"]


@pytest.mark.parametrize(
    ("package", "setting"), [("vllm", {"use_vllm": True}), ("deepspeed", {"deepspeed": "ds.json"})]
)
def test_what_a_profile_asks_for_and_is_not_installed_is_named(
    package: str, setting: dict[str, Any]
) -> None:
    if importlib.util.find_spec(package):
        pytest.skip(f"{package} is installed")
    with pytest.raises(MissingExtraError, match=package) as caught:
        make_arguments(kind_of(Stage.RL2), setting, where="here")
    assert f"[{package}]" in caught.value.details["what to do"]


@pytest.mark.parametrize(
    "variables",
    [
        {"ACCELERATE_USE_FSDP": "true"},
        {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"},
    ],
)
def test_lora_is_refused_where_weights_are_sharded(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="LoRA needs the whole model"):
        StageRun(Stage.SFT2, TrainParams(lora={"r": 8}), "").lora()


class Templated:
    """A tokenizer as far as its chat template goes."""

    name_or_path = "somewhere"

    def __init__(self, text: str) -> None:
        self.chat_template = text

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        return self.chat_template.replace("CONTENT", messages[0]["content"])


@pytest.mark.parametrize("opening", ["", "<think>", "<think>\n", "<think>\n\n"])
def test_the_thinking_is_opened_once_whatever_the_template_does(opening: str) -> None:
    template = own_template(Templated("<User>CONTENT<Assistant>" + opening))
    prompt = Prompt.load(ROOT / "train/prompts/question.txt", template)
    assert prompt.fill("who?") == "<User>Question: who?<Assistant><think>\n"


def test_a_tokenizer_without_a_template_is_named() -> None:
    with pytest.raises(ConfigError, match="no chat template") as caught:
        own_template(Templated(""))
    assert caught.value.details["where"] == "somewhere"
