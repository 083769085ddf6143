"""Fetch another maker's model: from a folder, or from a Hub that has none or cannot be reached."""

from pathlib import Path

import pytest

pytest.importorskip("huggingface_hub")

from coa.errors import ServiceError
from train.base import fetch_base


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in (
        "config.json",
        "tokenizer.json",
        "chat_template.jinja",
        "model.safetensors",
        "pytorch_model.bin",
        "x.py",
    ):
        (folder / name).write_text(name)
    return folder


def test_the_files_of_a_model_are_brought_and_nothing_that_runs_when_it_is_loaded(
    model: Path, tmp_path: Path
) -> None:
    assert fetch_base(str(model), "", tmp_path / "out", has_weights=True) == str(model)

    found = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert found == ["chat_template.jinja", "config.json", "model.safetensors", "tokenizer.json"]


def test_a_dry_run_brings_no_weights(model: Path, tmp_path: Path) -> None:
    fetch_base(str(model), "", tmp_path / "out", has_weights=False)

    assert not list((tmp_path / "out").glob("*.safetensors"))
    assert (tmp_path / "out/config.json").is_file()


def test_a_hub_that_cannot_be_reached_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ServiceError, match="cannot be reached") as error:
        fetch_base("somebody/no-such-model", "", tmp_path / "out", has_weights=True)
    assert "HF_ENDPOINT" in str(error.value)
