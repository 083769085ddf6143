"""What is published of a model: files of known names, no links, no keys, none that changed."""

import os
import shutil
from pathlib import Path

import pytest

from coa.errors import InputError
from coa.store.files import ASSEMBLED
from data_cards.catalogue import SetName, local_path, sets_in
from data_cards.publishing.checked_copy import (
    Copy,
    copy_model,
    copy_sets,
    hashes_of,
    require_unchanged,
)
from data_cards.publishing.gate import Reason, key_refusals

pytest.importorskip("linkify_it")
PUBLISHED = (
    "LICENSE",
    "added_tokens.json",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "log.jsonl",
    "merges.txt",
    "model-00001-of-00002.safetensors",
    "model-00002-of-00002.safetensors",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
)
LEFT_OUT = (
    ".env",
    "checkpoint-5",
    "config.json.bak",
    "credentials.json",
    "model.safetensors.tmp",
    "notes.txt",
    "optimizer.pt",
    "params.yaml",
    "service_account.json",
    "training_args.bin",
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model's folder with files that belong there and files that do not."""
    folder = tmp_path / "sft2"
    (folder / "checkpoint-5").mkdir(parents=True)
    for name in (*PUBLISHED, *LEFT_OUT):
        if name != "checkpoint-5":
            (folder / name).write_text("{}", encoding="utf-8")
    return folder


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder for copies."""
    return tmp_path / "private"


def test_only_files_of_known_names_are_copied_and_the_others_are_named(
    model: Path, private: Path
) -> None:
    copied = copy_model(model, private)
    assert copied.left_out == tuple(sorted(LEFT_OUT))
    assert [path.name for path in sorted(private.iterdir())] == sorted(PUBLISHED)


@pytest.mark.parametrize(
    "name", ["tokenizer.json", "model-00001-of-00002.safetensors", "curves.png"]
)
@pytest.mark.parametrize("target", ["secret", "nowhere", "config.json"])
def test_a_link_among_the_files_of_a_model_is_refused_by_name(
    model: Path, private: Path, name: str, target: str
) -> None:
    (model.parent / "secret").write_text("hf_secret", encoding="utf-8")
    (model / name).unlink(missing_ok=True)
    (model / name).symlink_to(model / target if target == "config.json" else model.parent / target)
    with pytest.raises(InputError, match="something else than plain files") as raised:
        copy_model(model, private)
    assert name in str(raised.value)
    assert not private.exists()


def test_a_folder_and_a_pipe_that_bear_a_files_name_are_refused(model: Path, private: Path) -> None:
    for name in ("vocab.json", "merges.txt"):
        (model / name).unlink()
    (model / "vocab.json").mkdir()
    os.mkfifo(model / "merges.txt")
    with pytest.raises(InputError, match=r"merges\.txt, vocab\.json"):
        copy_model(model, private)


@pytest.mark.parametrize(
    "name", ["tokenizer_config.json", "log.jsonl", "chat_template.jinja", "LICENSE"]
)
def test_a_key_in_a_text_file_of_a_model_is_found_however_far_in(
    model: Path, private: Path, name: str
) -> None:
    key = "hf_" + "aB" * 17
    (model / name).write_text(f"{'word ' * 50_000}{key} {'word ' * 50_000}", encoding="utf-8")
    (refusal,) = key_refusals(copy_model(model, private).texts())
    assert refusal.reason is Reason.KEY_IN_FILE
    assert name in refusal.detail
    assert key not in refusal.detail


@pytest.mark.long
def test_a_real_tokenizer_holds_no_key(private: Path) -> None:
    found = Path(os.environ.get("COA_REAL_DATA", "nowhere")) / "tokenizer_qwen2"
    if not found.is_dir():
        pytest.skip("no real tokenizer here")
    texts = copy_model(found, private).texts()
    assert "tokenizer.json" in texts
    assert key_refusals(texts) == []


@pytest.mark.parametrize("change", ["other bytes", "gone", "a folder"])
def test_a_file_that_changes_while_it_is_checked_is_named(
    model: Path, private: Path, change: str
) -> None:
    copies = copy_model(model, private).copies
    require_unchanged(copies)
    (model / "config.json").unlink()
    if change == "other bytes":
        (model / "config.json").write_text("[]", encoding="utf-8")
    elif change == "a folder":
        (model / "config.json").mkdir()
    with pytest.raises(InputError, match="changed while they were checked") as raised:
        require_unchanged(copies)
    assert "config.json" in str(raised.value)
    assert "tokenizer" not in str(raised.value)


def test_the_copy_of_the_sets_is_what_is_read(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(small_run / ASSEMBLED, tmp_path / ASSEMBLED)
    monkeypatch.chdir(tmp_path)
    copies = copy_sets(SetName, tmp_path / "private")
    assert len(copies) == 2 * len(SetName)
    with sets_in(tmp_path / "private" / ASSEMBLED):
        read = local_path(SetName.COA, "train")
    assert Copy(local_path(SetName.COA, "train"), read, hashes_of(read)) in copies
