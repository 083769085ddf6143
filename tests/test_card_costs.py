"""Count again what the cards of a small run say of costs and of evaluation sets.

The card in the documents is checked as well.
"""

import json
from pathlib import Path

import pytest

from coa.errors import InputError
from coa.records.exclusions import EvaluationSet
from coa.records.question import Question
from coa.store import tables
from coa.store.files import EVALUATION_SETS
from data_cards.cards import yields
from data_cards.cards.safe_markdown import frame_table
from data_cards.catalogue import SetName


@pytest.fixture(autouse=True)
def run(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small run as the current folder."""
    monkeypatch.chdir(small_run)


def contamination(name: SetName) -> str:
    found = yields.evaluation_overlaps(name)
    return "" if found is None else frame_table(found)


def cells(table: str) -> dict[str, list[str]]:
    rows = [
        [cell.strip() for cell in line.strip("| ").split("|")] for line in table.splitlines()[2:]
    ]
    return {row[0]: row[1:] for row in rows}


def test_every_evaluation_set_is_listed_with_its_questions() -> None:
    questions = list(tables.read_table(Path("data/questions.parquet"), Question))
    found = cells(contamination(SetName.COA))
    assert {name: int(row[0]) for name, row in found.items()} == {
        f"`microworld {split}`": sum(question.split == split for question in questions)
        for split in ("test", "validation")
    }


def test_rows_that_touch_a_set_are_counted_by_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert contamination(SetName.COA) == ""
    tables.write_table(EVALUATION_SETS, EvaluationSet, [EvaluationSet("bamboogle", 125, 3, 2, 1)])
    assert [cells(contamination(name))["`bamboogle`"] for name in SetName] == [
        ["125", "2"],
        ["125", "3"],
        ["125", "3"],
        ["125", "1"],
    ]


def test_the_card_says_how_many_tokens_were_read_and_written_and_what_they_cost(
    linked_run: Path,
) -> None:
    from data_cards.render import main as render

    path = Path("metrics/sample_coa.json")
    figures = json.loads(path.read_text(encoding="utf-8"))
    path.unlink()
    read = f"included, read {figures['costs']['context_tokens']:,} tokens, 0 of them from a cache"
    for dollars, said in ((None, "The run names no price for it."), (12.5, "that is $12.50, or $")):
        figures["costs"]["dollars"] = dollars
        path.write_text(json.dumps(figures), encoding="utf-8")
        render([])
        card = Path("data/render/coa/README.md").read_text(encoding="utf-8")
        assert read in card
        assert said in card


def test_figures_that_cannot_be_read_are_an_error() -> None:
    Path("metrics").mkdir(exist_ok=True)
    path = Path("metrics/sample_coa.json")
    before = path.read_bytes()
    path.write_text(json.dumps({"costs": ["not", "a", "mapping"]}), encoding="utf-8")
    try:
        with pytest.raises(InputError, match=r"sample_coa\.json"):
            yields.read_paid(SetName.COA)
    finally:
        path.write_bytes(before)
