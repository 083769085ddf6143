"""Compare the card of a trained model with its folder: chain, data, results of these weights."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from coa.errors import ConfigError, InputError
from coa.store.model_files import fingerprint_files, fingerprint_model
from data_cards.cards import model_card, trained
from data_cards.cards.trained import Result
from data_cards.models import OUT, main
from data_cards.settings import RenderParams

SFT2 = Path("data/train/sft2")
INTERVAL = {"value": 0.54, "low": 0.487, "high": 0.597, "num": 300}


def write_model(folder: Path, stage: str, **settings: Any) -> None:
    """The folder of a finished run; its weights are bytes that nobody loads here."""
    folder.mkdir(parents=True, exist_ok=True)
    common = {
        "prompt": "question.txt",
        "chat_template": "{prompt}\n\n",
        "seed": 3,
        "max_context_tokens": 192,
        "lora": {},
    }
    arguments = {"learning_rate": 0.002, "max_steps": 250}
    params = {"train": {"stage": stage, **common, stage: {**settings, "arguments": arguments}}}
    (folder / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    log = [{"loss": 2.0, "step": 10}, {"eval_loss": 1.25, "eval_runtime": 9.0, "step": 250}]
    (folder / "log.jsonl").write_text(
        "".join(json.dumps(line) + "\n" for line in log), encoding="utf-8"
    )
    (folder / "config.json").write_text(
        json.dumps({"architectures": ["Qwen3ForCausalLM"], "num_hidden_layers": 4})
    )
    (folder / "model.safetensors").write_bytes(f"weights of {folder.name}".encode())
    (folder / "curves.png").write_bytes(b"a picture")


def write_result(name: str, folder: Path, fingerprint: str) -> None:
    setting = {
        "model": str(folder),
        "model_fingerprint": fingerprint,
        "split": "validation",
        "mode": "coa",
        "search": "s1",
    }
    metrics = {
        "exact_match": INTERVAL,
        "f1": INTERVAL,
        "actions": {**INTERVAL, "value": 1.24},
        "cover_exact_match": None,
    }
    Path("results/evaluate").mkdir(parents=True, exist_ok=True)
    result = {"setting": setting, "num_questions": 300, "metrics": metrics}
    Path(f"results/evaluate/{name}.json").write_text(json.dumps(result), encoding="utf-8")


@pytest.fixture
def chain(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a chain of three stages on the sets of a small run, and evaluate the last.

    It is the current folder.
    """
    for path in (small_run / "data").rglob("*.parquet"):
        target = tmp_path / path.relative_to(small_run)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, target)
    (tmp_path / "params.yaml").write_bytes((small_run / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    Path("question.txt").write_text("Question: {question}", encoding="utf-8")
    write_model(
        Path("data/train/pretrain"),
        "pretrain",
        base="",
        documents="data/microworld/pretraining.parquet",
    )
    write_model(
        Path("data/train/sft1"), "sft1", init="data/train/pretrain", pairs="data/assemble/cot_a"
    )
    sets = ["data/assemble/coa", "data/assemble/cot"]
    write_model(
        SFT2,
        "sft2",
        init="data/train/sft1",
        trajectories=sets,
        server={"base_url": "http://secret"},
    )
    write_result("sft2", SFT2, fingerprint_files(SFT2))
    write_result("sft2_before", SFT2, "0123456789abcdef")
    write_result("rl2", Path("data/train/rl2"), "fedcba9876543210")
    return tmp_path


def text() -> str:
    assert main([f"model={SFT2}"])
    return (OUT / "sft2/README.md").read_text(encoding="utf-8")


def test_the_card_tells_the_whole_chain_and_what_it_was_trained_on(chain: Path) -> None:
    shown = text()
    rows = [
        line
        for line in shown.splitlines()
        if line.startswith(("| `pretrain`", "| `sft1`", "| `sft2`"))
    ]
    assert [row.split("|")[1].strip() for row in rows] == ["`pretrain`", "`sft1`", "`sft2`"]
    assert all(row.split("|")[4].strip() == "250" for row in rows)
    for name in ("assemble/cot_a", "assemble/coa", "assemble/cot"):
        for split in ("train", "validation"):
            path = Path(f"data/{name}/{split}.parquet")
            assert hashlib.sha256(path.read_bytes()).hexdigest() in shown
    assert "Masked: prompt, search results, inserted markers." in shown
    assert "trained from scratch" in shown
    assert (OUT / "sft2/curves.png").read_bytes() == b"a picture"


def test_the_fingerprint_is_the_one_that_results_have(chain: Path) -> None:
    assert fingerprint_files(SFT2) == fingerprint_model(str(SFT2))


def test_the_hub_reads_the_metadata_back(chain: Path) -> None:
    text()
    card = ModelCard.load(OUT / "sft2/README.md")
    assert card.data.license == "apache-2.0"
    assert {(it.metric_type, it.metric_value) for it in card.data.eval_results} == {
        ("exact_match", 0.54),
        ("f1", 0.54),
    }
    assert card.data.library_name == "transformers"


def test_a_scripted_teacher_is_named_once_and_addresses_stay_private(chain: Path) -> None:
    shown = text()
    assert shown.count("No language model wrote the trajectories") == 1
    assert shown.partition("The teacher, ")[2].startswith("`scripted/microworld-")
    assert "secret" not in shown


def test_same_files_give_the_same_bytes(chain: Path) -> None:
    assert text() == text()


def test_only_results_of_these_weights_are_shown(chain: Path) -> None:
    results = text().partition("## Results")[2].partition("## Settings")[0]
    assert "54.0% [48.7%, 59.7%]" in results
    assert "1.24 [0.49, 0.60]" in results
    assert sum(line.startswith("| validation") for line in results.splitlines()) == 1
    Path("results/evaluate/sft2.json").unlink()
    assert "It has not been evaluated" in text()


def test_a_chain_that_begins_with_a_base_names_it_and_its_licence(chain: Path) -> None:
    write_model(
        Path("data/train/pretrain"), "pretrain", base="Qwen/Qwen2.5-7B", documents="unused.parquet"
    )
    shown = text()
    assert "begins with `Qwen/Qwen2.5-7B`" in shown
    assert "unused" not in shown.partition("## Trained on")[2].partition("## Licences")[0]
    licences = " ".join(shown.partition("## Licences")[2].split())
    assert "| the model it starts from | `Qwen/Qwen2.5-7B` | **unknown** |" in licences


@pytest.mark.parametrize("harm", ["params.yaml", "stage"])
def test_a_folder_that_no_training_finished_is_an_error(chain: Path, harm: str) -> None:
    path = SFT2 / "params.yaml"
    path.unlink()
    if harm == "stage":
        path.write_text("train: {stage: null}", encoding="utf-8")
    with pytest.raises(InputError, match="not a trained model"):
        main([f"model={SFT2}"])


def test_a_model_must_be_named(chain: Path) -> None:
    with pytest.raises(ConfigError, match="no model is named"):
        main([])


SETTING = {"model_fingerprint": "f1", "split": "test", "mode": "coa", "search": "s1"}


def metrics(value: float, num: int) -> dict[str, dict[str, float] | None]:
    return {"exact_match": {"value": value, "low": 0.0, "high": 1.0, "num": num}, "f1": None}


def write(**more: Any) -> Result:
    """Write a result of 30 questions and read it back."""
    Path("results/evaluate").mkdir(parents=True)
    values = {"setting": SETTING, "num_questions": 30, "metrics": metrics(0.4, 30), **more}
    Path("results/evaluate/sft2.json").write_text(json.dumps(values))
    (found,) = trained.results("f1")
    return found


def cells_of(found: Result) -> list[list[str]]:
    """Return the first cells of the card's lines about a result."""
    lines = [line for line in str(model_card.results_table([found])).splitlines() if "test" in line]
    return [[cell.strip() for cell in line.split("|")[1:4]] for line in lines]


SEVERAL = {
    "by_set": {"nq": metrics(0.5, 20), "hotpotqa": metrics(0.2, 10)},
    "mean_over_sets": metrics(0.35, 30),
}


@pytest.mark.parametrize("more", [{}, {"by_set": {"nq": metrics(0.4, 30)}}])
def test_a_result_of_one_set_or_older_than_the_sets_is_one_line(
    more: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = write(**more)
    assert [(part.title, part.num_questions) for part in found.parts()] == [("", 30)]
    assert cells_of(found) == [["test, coa", "30", "40.0% [0.0%, 100.0%]"]]


def test_a_result_of_several_sets_is_a_line_for_each_and_their_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cells_of(write(**SEVERAL)) == [
        ["test, coa, nq", "20", "50.0% [0.0%, 100.0%]"],
        ["test, coa, hotpotqa", "10", "20.0% [0.0%, 100.0%]"],
        ["test, coa, mean over sets", "30", "35.0% [0.0%, 100.0%]"],
    ]


def test_the_hub_reads_the_figures_of_each_set_as_those_of_a_data_set_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sets = RenderParams("Sets")
    data = model_card._metadata([write(**SEVERAL)], [], sets, title="A model", base="")
    read_back = ModelCardData(**data.to_dict(), ignore_metadata_errors=False)
    results: list[EvalResult] = read_back.eval_results or []
    assert [(found.dataset_name, found.metric_value) for found in results] == [
        ("test, coa, nq", 0.5),
        ("test, coa, hotpotqa", 0.2),
        ("test, coa, mean_over_sets", 0.35),
    ]
