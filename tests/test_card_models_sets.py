"""Test what a model's card shows of an evaluation on several sets."""

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import EvalResult, ModelCardData

from data_cards.cards import model_card, trained
from data_cards.cards.trained import Result
from data_cards.settings import RenderParams

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
