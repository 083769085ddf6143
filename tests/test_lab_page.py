"""Test the lab's page: what stands beside what, and what each difference is drawn over."""

from pathlib import Path

import pytest

from coa.intervals import Interval, Over
from lab import page
from lab.kept import Verdict
from lab.page import compare, find_systems
from lab.plan import write_plan
from lab.records import read_lab
from tests.lab_support import LOCK, keep_row, plans_of, write_params


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def part_of(name: str) -> str:
    """Write the page, and return an experiment's part of it."""
    page.main([])
    return (
        (page.REPORTS / "lab.html")
        .read_text()
        .partition(f'<h2 id="{name}"')[2]
        .partition("<h2 id=")[0]
    )


def test_without_rows_the_page_says_of_every_experiment_that_it_is_not_run(folder: Path) -> None:
    assert "0 of " in page.main([])
    text = (page.REPORTS / "lab.html").read_text()
    assert text.count("Not run") == len(read_lab().experiments)
    assert "dvc --cd lab repro row@alpha_0-0" in text
    assert "<script" not in text


def test_seeds_stand_side_by_side_and_differences_say_what_they_are_over(folder: Path) -> None:
    for seed in (0, 1):
        keep_row("test_sft2_only", [number % 5 == seed for number in range(60)], seed)
        keep_row("test_sft2", [number % 5 < 4 for number in range(60)], seed)
    text = part_of("table")
    assert "<td>SFT 1,2</td><td>0: 80.0; 1: 80.0</td>" in text
    assert "<td>31.8</td>" in text  # the paper's SFT 1,2
    for over in ("questions, 2 seeds", "seeds, 2 seeds", "seeds and questions, 2 seeds"):
        assert f"<td>SFT 1,2 over SFT 2</td><td>{over}</td><td><b>+60.0 [" in text
    assert "Not run: no action; ReAct; SFT 1; SFT 1,2,3;" in text


def test_with_one_seed_a_difference_is_over_questions_alone(folder: Path) -> None:
    keep_row("sft2", [True] * 30)
    keep_row("sft2_only", [False] * 30)
    text = part_of("sft_stages")
    assert "<td>questions, 1 seed</td>" in text
    assert "<td>seeds" not in text


def test_a_difference_is_over_the_seeds_that_both_have(folder: Path) -> None:
    keep_row("sft2", [True] * 20)
    keep_row("sft2", [False] * 20, seed=1)
    keep_row("sft2_only", [False] * 20)
    lab = read_lab()
    systems, _ = find_systems(lab, lab.experiments["sft_stages"])
    by_name = {system.name: system for system in systems}
    found = compare(by_name["sft2"], by_name["sft2_only"], Over.QUESTIONS)
    assert found is not None
    assert (found.value, found.num) == (1.0, 20)


def test_a_row_of_other_questions_is_left_out_and_named(folder: Path) -> None:
    keep_row("sft1", [True] * 12)
    keep_row("sft2", [True] * 12, common="others")
    text = part_of("sft_stages")
    assert "SFT 1,2, seed 0: left out" in text
    assert "<td>SFT 1,2</td>" not in text


def test_a_row_of_an_earlier_plan_is_shown_and_named(folder: Path) -> None:
    write_params()
    Path("dvc.lock").write_text(LOCK)
    planned = plans_of(("sft1", "sft2"))
    for plan in planned.values():
        write_plan(plan)
    keep_row("sft1", [True] * 12, plan=planned["sft1"].hash)
    keep_row("sft2", [True] * 12, plan="earlier")
    text = part_of("sft_stages")
    assert "SFT 1,2, seed 0: made with other settings, data or code than there are now" in text
    assert "SFT 1, seed 0: made" not in text


def test_the_gates_verdicts_and_the_log_have_columns_where_there_are_some(folder: Path) -> None:
    verdict = Verdict("harm", Interval(-0.2, -0.3, -0.1, 50))
    keep_row("gate_policy_sft2", [], gate=verdict)
    text = part_of("gate")
    assert "<td>policy, from SFT 1,2</td><td>0: not trained</td>" in text
    assert "<td>seed 0: harm (-20.0 [-30.0, -10.0])</td>" in text
    keep_row("alpha_0", [False] * 12, logged={"logps/chosen": (-2.3, -3.2)})
    text = part_of("alpha")
    assert "<th>logps/chosen, first to last</th>" in text
    assert "<td>seed 0: -2.30 to -3.20</td>" in text
    assert "the gate predicts</th>" not in text
