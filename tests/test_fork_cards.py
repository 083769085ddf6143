"""Cards, licences and the gate when another model than the teacher wrote the forks of pairs."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from coa.records.pairs import PreferencePair
from coa.store import tables
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.render import main
from tests.card_support import TEACHER, card, cells, write_rows

OPEN_MODEL = "Qwen/Qwen3-8B"


def set_forker(name: str, *, teacher: str = TEACHER) -> None:
    """Say in every pair who wrote its two sides."""
    for split in SPLITS:
        path = local_path(SetName.COT_A, split)
        pairs = list(tables.read_table(path, PreferencePair))
        path.unlink()
        changed = [replace(pair, model=teacher, fork_model=name) for pair in pairs]
        tables.write_table(path, PreferencePair, changed)


def test_the_card_names_the_model_that_wrote_the_forks_with_its_licence(card_run: Path) -> None:
    main([])
    assert "forking model" not in card("cot_a").text
    set_forker(OPEN_MODEL, teacher="deepseek-reasoner")
    main([])
    text = card("cot_a").text
    written = cells(text, "| teacher or forking model")
    assert [row[0] for row in written] == [f"`{OPEN_MODEL}`", "`deepseek-reasoner`"]
    licences = cells(text, "## Licences")
    assert ["the forks' text", f"`{OPEN_MODEL}`", "**unknown**"] in licences
    assert ["the teacher's text", "`deepseek-reasoner`", "**unknown**"] in licences


def test_a_script_that_wrote_the_forks_is_named_too(card_run: Path) -> None:
    set_forker("scripted/forks", teacher="deepseek-reasoner")
    main([])
    assert "No language model wrote a part of this text" in card("cot_a").text
    assert "`scripted/forks`" in card("cot_a").text


def test_the_card_says_where_turns_were_forked_and_shows_the_forks_prompt(card_run: Path) -> None:
    write_rows("data/branch/points.parquet", [{"outcome": "paired", "way": "forced call"}] * 9)
    settings = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    own = {"policy": {"policy": "completions"}, "prompts": {"coa": "forks.txt"}}
    Path("params.yaml").write_text(yaml.safe_dump({**settings, "branch": own}), encoding="utf-8")
    Path("forks.txt").write_text("For the forks: {question}", encoding="utf-8")
    main([])
    text = card("cot_a").text
    assert "A chat model forked some of them, turn by turn." in text
    assert "For the forks: {question}" in text
    assert "For the forks" not in card("coa").text


@pytest.mark.parametrize("name", ["", TEACHER])
def test_files_without_the_column_and_forks_of_the_teacher_read_the_same(
    card_run: Path, name: str
) -> None:
    set_forker(name)
    main([])
    (row,) = cells(card("cot_a").text, "| teacher")
    assert row[0] == f"`{TEACHER}`"
