"""What is published of the sets: their checked copy, and nothing that changed meanwhile."""

import shutil
from pathlib import Path

import pytest

from coa.errors import InputError
from coa.store.files import ASSEMBLED
from data_cards.catalogue import SetName, local_path, sets_in
from data_cards.publishing.checked_copy import (
    Copy,
    copy_sets,
    hashes_of,
    require_unchanged,
)


@pytest.fixture
def copies(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Copy, ...]:
    """The copies of the sets of a run, which is the current folder."""
    shutil.copytree(small_run / ASSEMBLED, tmp_path / ASSEMBLED)
    monkeypatch.chdir(tmp_path)
    return copy_sets(SetName, tmp_path / "private")


@pytest.mark.parametrize("change", ["other bytes", "gone", "a folder"])
def test_a_file_that_changes_while_it_is_checked_is_named(
    copies: tuple[Copy, ...], change: str
) -> None:
    require_unchanged(copies)
    path = local_path(SetName.COA, "train")
    path.unlink()
    if change == "other bytes":
        path.write_text("[]", encoding="utf-8")
    elif change == "a folder":
        path.mkdir()
    with pytest.raises(InputError, match="changed while they were checked") as raised:
        require_unchanged(copies)
    assert "coa/train.parquet" in str(raised.value)
    assert "cot" not in str(raised.value)


def test_the_copy_of_the_sets_is_what_is_read(copies: tuple[Copy, ...], tmp_path: Path) -> None:
    assert len(copies) == 2 * len(SetName)
    with sets_in(tmp_path / "private" / ASSEMBLED):
        read = local_path(SetName.COA, "train")
    assert Copy(local_path(SetName.COA, "train"), read, hashes_of(read)) in copies
