"""Test sets that get fewer rows than asked for: as large as they can be, or not built, and said."""

import json
import shutil
from pathlib import Path

import polars as pl
import pytest

from coa.errors import ConfigError, InputError
from coa.store import tables
from coa.store.files import BRANCHED
from curate import assemble, filter, report, screen, summary
from data_cards import render
from tests.settings_support import change_settings

FRONT_CARD = render.OUT / "README.md"


def sizes() -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = json.loads(Path("metrics/assemble.json").read_text())
    return found


def num_rows(name: str, split: str) -> int:
    return tables.count_rows(assemble.OUT / name / f"{split}.parquet")


def test_a_set_with_too_few_rows_is_as_large_as_it_can_be_and_says_so(copied_run: Path) -> None:
    line = assemble.main(["allows_fewer=true", "num_cot=1000"])
    size = sizes()["cot"]
    assert size["asked"] == 1000
    assert 6 < size["train"] < 100
    assert f"{size['train']} of 1,000 cot" in line
    assert "20 coa" in line
    assert num_rows("cot", "train") == size["train"]
    pool = pl.scan_parquet("data/filter/kept.parquet").select(
        pl.col("trajectory").struct.field("mode")
    )
    kept = pool.filter(pl.col("mode") == "cot").collect().height
    assert size["train"] + size["validation"] <= kept


def test_sets_that_can_be_filled_are_the_same_with_and_without_the_permission(
    copied_run: Path,
) -> None:
    files = sorted(assemble.OUT.rglob("*.parquet"))
    before = [path.read_bytes() for path in files]
    assemble.main(["allows_fewer=true"])
    assert [path.read_bytes() for path in files] == before


def test_without_the_permission_too_few_rows_are_an_error_that_names_it(copied_run: Path) -> None:
    with pytest.raises(InputError, match="too few rows for the set 'cot'") as raised:
        assemble.main(["num_cot=1000"])
    assert "assemble.allows_fewer: true" in raised.value.details["what to do"]
    assert num_rows("cot", "train") == 6


def test_a_set_of_size_zero_is_not_built_and_that_of_an_earlier_run_goes(copied_run: Path) -> None:
    assert assemble.main(["num_cot=0", "num_rl=0"]) == "data/assemble: 6 cot_a, 20 coa"
    assert sorted(path.name for path in assemble.OUT.iterdir()) == [
        "coa",
        "cot_a",
        "reviewed.parquet",
    ]
    assert list(sizes()) == ["cot_a", "coa"]


def test_a_set_without_a_row_is_not_built_and_says_what_took_them(copied_run: Path) -> None:
    change_settings("assemble", allows_fewer=True)
    filter.main(["max_policy_tokens=1"])
    line = assemble.main([])
    assert line.startswith("data/assemble: 6 cot_a, 10 rl; coa: no row is left; the filter dropped")
    assert "length" in line
    assert "see data/filter/dropped.parquet" in line
    assert sizes()["coa"] == {"asked": 20, "train": 0, "validation": 0}
    assert not (assemble.OUT / "coa").exists()
    assert render.main([]) == "data/render: 7 cot_a, 12 rl (train and validation)"
    card = FRONT_CARD.read_text(encoding="utf-8")
    assert "`coa`, trajectories that search: no train row is left of the 20" in card
    assert "left out: length" in card
    assert "coa: no row is left of 20 that were asked for" in summary.main([])


def test_a_run_that_kept_nothing_ends_and_says_that_nothing_can_be_trained(
    copied_run: Path,
) -> None:
    change_settings("assemble", allows_fewer=True, num_cot_a=0, num_rl=0)
    shutil.rmtree(BRANCHED)
    filter.main(["max_policy_tokens=1"])
    screen.main([])
    line = assemble.main([])
    assert "no set was built, nothing can be trained" in line
    assert line.count("no row is left; the filter dropped 40 (") == 2
    report.main([])
    assert render.main([]) == "data/render: no set was built, nothing can be trained"
    assert [path.name for path in render.OUT.rglob("*")] == ["README.md"]
    card = FRONT_CARD.read_text(encoding="utf-8")
    assert "**No set was built, and nothing can be trained.**" in card
    assert "load_dataset" not in card
    assert "No set was built, nothing can be trained." in summary.main([])


def test_pairs_of_an_earlier_run_are_not_read(copied_run: Path) -> None:
    for path in BRANCHED.iterdir():
        path.write_bytes(b"of an earlier run")
    change_settings("assemble", num_cot_a=0)
    assert "pair" not in screen.main([])
    assemble.main([])
    report.main([])
    render.main([])
    card = (render.OUT / "coa/README.md").read_text(encoding="utf-8")
    assert "branch:" not in card
    assert "forked" not in summary.main([])


def test_a_negative_size_is_refused(copied_run: Path) -> None:
    with pytest.raises(ConfigError, match="bad value"):
        assemble.main(["num_cot=-1"])


def test_what_somebody_put_beside_a_set_stays(copied_run: Path) -> None:
    (assemble.OUT / "cot/notes.txt").write_text("mine")
    assemble.main(["num_cot=0"])
    assert [path.name for path in (assemble.OUT / "cot").iterdir()] == ["notes.txt"]
