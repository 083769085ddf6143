"""Test the rows that the lab keeps, and what a chain does without training."""

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import InputError
from coa.intervals import Interval
from coa.student.verdict import GateReport
from lab import chain, subset
from lab.chain import ChainError, check_data, make_row, make_step, read_logged
from lab.kept import Verdict, pack, pack_outcomes, read_row, unpack
from lab.plan import Step
from tests.lab_support import LOCK, keep_row, outcomes, plans_of, write_params
from tests.train_support import trajectory


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def a_set(folder: str, *commands: str) -> Step:
    return Step("some-s0-1", folder, "", "", commands, {"data": {}})


def test_a_kept_row_is_small_and_holds_every_question(folder: Path) -> None:
    right = [number % 5 < 2 for number in range(600)]
    made = keep_row("sft1", right)
    path = Path("lab/rows/sft1-s0.json")
    assert path.stat().st_size < 4_000
    kept = read_row(path)
    assert kept == made
    found = kept.questions_of()
    assert [bool(found[place]["exact_match"]) for place in range(600)] == right
    assert len(kept.questions_of("popular")) == 200


def test_the_figures_of_a_row_stand_where_dvc_reads_them(folder: Path) -> None:
    keep_row("sft1", [True, False, True, True])
    values = json.loads(Path("lab/rows/sft1-s0.json").read_text())
    assert values.pop("about")
    assert values["exact_match"] == 0.75
    assert values["exact_match multi hop"] == 0.5
    assert all(isinstance(value, int | float) for value in values.values())


def test_a_row_without_a_model_has_its_verdict_and_no_figure(folder: Path) -> None:
    verdict = Verdict("harm", Interval(-0.2, -0.3, -0.1, 50))
    keep_row("gate_model_sft2", [], gate=verdict)
    values = json.loads(Path("lab/rows/gate_model_sft2-s0.json").read_text())
    assert list(values) == ["about"]
    assert read_row(Path("lab/rows/gate_model_sft2-s0.json")).gate == verdict


def test_a_file_that_is_no_row_is_refused(folder: Path) -> None:
    Path("row.json").write_text('{"exact_match": 1}')
    with pytest.raises(InputError, match="cannot read row"):
        read_row(Path("row.json"))


@given(st.lists(st.none() | st.integers(0, 254), max_size=50))
def test_a_column_comes_back_as_it_was_packed(values: list[int | None]) -> None:
    assert unpack(pack(values), len(values)) == values


def test_more_than_a_byte_holds_is_kept_as_the_largest_number() -> None:
    assert unpack(pack([300]), 1) == [254]


@pytest.mark.parametrize("text", ["no base64!", "AAAA", pack([1, 2])])
def test_a_broken_column_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        unpack(text, 3)


def test_the_order_of_the_outcomes_changes_no_column() -> None:
    rows = outcomes([True, False, True])
    assert pack_outcomes(rows[::-1]) == pack_outcomes(rows)


def test_a_set_is_made_once_and_again_after_a_kill(folder: Path) -> None:
    made = a_set("data/lab/some", "json.tool --help")
    assert make_step(made, 0, "python -m") is None
    assert Path("data/lab/some/made.json").is_file()
    broken = a_set("data/lab/some", "no_such_module")
    make_step(broken, 0, "python -m")  # it is there
    Path("data/lab/some/made.json").unlink()
    with pytest.raises(ChainError, match="no_such_module has failed"):
        make_step(broken, 0, "python -m")
    assert not Path("data/lab/some/made.json").exists()


def test_missing_data_are_named_with_the_command_that_makes_them(folder: Path) -> None:
    step = Step("sft2-s0-1", "data/train/sft2-s0-1", "sft2", "", ("",), {"data": {"data/a": "1"}})
    with pytest.raises(InputError, match="dvc repro assemble"):
        check_data(step)


def test_where_the_gate_predicts_a_harm_the_row_keeps_the_verdict_and_nothing_is_trained(
    folder: Path,
) -> None:
    write_params()
    Path("dvc.lock").write_text(LOCK)
    plan = plans_of(("gate_model_sft2",))["gate_model_sft2"]
    for step in plan.steps[:-1]:
        Path(step.folder).mkdir(parents=True)
        Path(step.folder, "params.yaml").touch()
    pays = Interval(-0.2, -0.3, -0.1, 50)
    report = GateReport("m", "f", "s", 60, 50, 70, None, None, pays, "harm")  # type: ignore[arg-type]
    path = chain.VERDICTS / f"{plan.steps[-1].name}.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(msgspec.json.encode(report))
    row = make_row(plan, "python -m")
    assert row.gate == Verdict("harm", pays)
    assert (row.num_questions, row.figures()) == (0, {})
    assert not Path(plan.steps[-1].folder).exists()


def test_the_first_and_the_last_value_of_what_is_logged_are_kept(folder: Path) -> None:
    Path("log.jsonl").write_text(
        '{"step": 1, "logps/chosen": -2.0}\n{"step": 2, "loss": 1}\n'
        '{"step": 3, "logps/chosen": -3.5}\n'
    )
    names = ["logps/chosen", "logps/rejected"]
    assert read_logged(Path(), names) == {"logps/chosen": (-2.0, -3.5)}


def test_a_wide_choice_takes_one_row_of_each_question_first() -> None:
    rows = [trajectory(number) for number in (1, 1, 1, 2, 3)]
    wide = subset.choose(rows, 3, is_wide=True, seed=0)
    assert sorted(subset.question_of(row) for row in wide) == ["q1", "q2", "q3"]
    narrow = subset.choose(rows, 3, is_wide=False, seed=0)
    assert [subset.question_of(row) for row in narrow] == ["q1", "q1", "q1"]
