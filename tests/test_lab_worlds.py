"""What the lab shows of simulated searches: the gate's agreement, fidelity."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from coa.errors import InputError
from coa.intervals import Interval
from coa.student.verdict import GateReport, Prediction
from evaluation.fidelity import Fidelity, Report
from evaluation.world_measures import calibration_error, contradicts, entities, entity_precision
from lab import page
from lab.comparing import System, find
from lab.experiments import find_experiment
from lab.kept import write_row
from lab.plan import LabParams, Plan, plan_rows
from lab.row import read_reports
from lab.worlds import find_trials, show_fidelity, summarise
from tests.lab_support import keep_row, write_params


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_params(root)
    return tmp_path


def keep(
    experiment: str, row: str, num_right: int, model: str, seed: int = 0, **reports: Any
) -> None:
    """Keep a row of 60 questions with reports of a model of that fingerprint."""
    kept = keep_row(experiment, row, [number < num_right for number in range(60)], seed)
    path = Path(f"lab/{experiment}/{row}-s{seed}.json")
    write_row(path, replace(kept, model=model, reports=reports))


def systems_of(experiment: str) -> tuple[System, ...]:
    return find(find_experiment(experiment)).systems


def gate_report(prediction: Prediction, bearing: float) -> dict[str, Any]:
    figure = Interval(bearing, bearing, bearing, 9)
    report = GateReport(
        "data/train/sft3-s0", "weights of sft3", "sim", 9, 9, 9, figure, None, figure, prediction
    )
    return asdict(report)


def test_predictions_are_held_against_what_was_gained() -> None:
    keep("gate", "sft3", 30, "weights of sft3")
    for row, num_right, prediction, bearing in (
        ("gate_recorded_sft3", 45, Prediction.GAIN, 0.9),
        ("gate_policy_sft3", 10, Prediction.HARM, 0.1),
        ("gate_model_sft3", 44, Prediction.HARM, 0.2),
    ):
        keep("gate", row, num_right, row, gate=gate_report(prediction, bearing))
    harm, surprise, gain = find_trials(systems_of("gate"))
    assert (harm.name, harm.measured, harm.agrees) == (
        "policy, from SFT 1,2,3, seed 0",
        Prediction.HARM,
        True,
    )
    assert harm.gain.value == pytest.approx(-1 / 3, abs=1e-4)
    assert (gain.measured, gain.agrees) == (Prediction.GAIN, True)
    assert not surprise.agrees
    said = summarise([harm, surprise, gain])
    assert said.startswith("The gate is right in 2 of 3 runs; beyond noise, 1 harm and 2 gain.")
    assert said.endswith("That proves nothing yet: it takes 8 runs, 3 that harm, 2 that gain.")
    assert not summarise([harm] * 3 + [gain] * 5).endswith("2 that gain.")
    page.main([])
    text = page.OUT.read_text()
    assert "<td>policy, from SFT 1,2,3, seed 0</td><td>0.1 [0.1, 0.1]</td><td>none</td>" in text
    assert "The gate is right in 2 of 3 runs" in text


def test_a_run_whose_model_was_not_evaluated_before_is_no_trial() -> None:
    keep("gate", "sft3", 30, "other weights")
    keep("gate", "gate_policy_sft3", 10, "m", gate=gate_report(Prediction.HARM, 0.1))
    assert find_trials(systems_of("gate")) == []


def test_fidelity_is_shown_over_the_steps_of_sft3_and_beside_other_simulators() -> None:
    def report(steps: int, share: float, simulator: str) -> dict[str, Any]:
        figure = Interval(share, share - 0.125, share + 0.125, 4)
        found = Fidelity(figure, figure, figure, calibration_error=0.125)
        nothing = Fidelity(None, None, None)
        made = Report("m", "f", "r", 4, found, found, nothing, (), simulator, steps)
        return asdict(made)

    assert show_fidelity(systems_of("fidelity")) is None
    keep("fidelity", "sft3_30", 1, "m", fidelity=report(30, 0.25, "simulated/sft3_30/64tokens"))
    keep("fidelity", "sft3", 1, "m", fidelity=report(360, 0.5, "simulated/sft3/64tokens"))
    keep("fidelity", "recorded", 1, "m", fidelity=report(360, 0.75, "recorded/9calls"))
    shown = show_fidelity(systems_of("fidelity"))
    assert shown is not None
    assert [row[:3] for row in shown.table.rows] == [
        ["SFT 3, as in the profile", "360", "50.0 [37.5, 62.5]"],
        ["SFT 3, 30 steps", "30", "25.0 [12.5, 37.5]"],
        ["recorded searches", "", "75.0 [62.5, 87.5]"],
    ]
    assert shown.table.rows[1][-3:] == ["12.5", "25.0 [12.5, 37.5]", ""]
    assert ">steps of SFT 3</text>" in shown.picture.svg

    again = report(30, 0.75, "simulated/sft3_30/64tokens")
    keep("fidelity", "sft3_30", 1, "m", seed=1, fidelity=again)
    shown = show_fidelity(systems_of("fidelity"))
    assert shown is not None
    assert shown.table.rows[1][2] == "50.0 [25.0, 75.0]"


def plan_of(experiment: str, row: str) -> Plan:
    (plan,) = plan_rows(LabParams(experiment=experiment, row=row))
    return plan


def test_a_row_keeps_what_its_training_and_its_simulator_left() -> None:
    model = Path("data/train/gate_model_sft3-s0")
    model.mkdir(parents=True)
    model.joinpath("gate.json").write_text('{"prediction": "gain"}')
    model.joinpath("searches.json").write_text('{"real": 3}')
    plan = plan_of("gate", "gate_model_sft3")
    assert read_reports(plan) == {"gate": {"prediction": "gain"}, "searches": {"real": 3}}
    assert [training.name for training in plan.chain][-2:] == ["sft3", "gate_model_sft3"]
    with pytest.raises(InputError, match="make lab EXPERIMENT=fidelity"):
        read_reports(plan_of("fidelity", "recorded"))


REAL = "result 1: The year of Iron Harbor is 1999. Iron Harbor was directed by Ada Poole."


@pytest.mark.parametrize(
    ("predicted", "precision", "contradicted"),
    [
        ("result 1: The year of Iron Harbor is 1999.", 1.0, False),
        ("result 1: The year of Iron Harbor is 1998.", 0.5, True),
        ("Iron Harbor was directed by Tom Reed.", 0.5, True),
        ("The year of Green Hill is 1998.", 0.0, False),
        ("nothing is known", None, False),
        (REAL, 1.0, False),
    ],
)
def test_entities_that_are_not_real_and_other_values_are_found(
    predicted: str, precision: float | None, contradicted: bool
) -> None:
    assert entity_precision(predicted, REAL) == precision
    assert contradicts(predicted, REAL) is contradicted


def test_entities_are_names_and_long_numbers() -> None:
    assert entities("The Iron Harbor opened in 1999, 12 of them. It was Ada's.") == {
        "Iron Harbor",
        "1999",
        "Ada's",
    }


def test_a_calibrated_model_has_no_error_and_a_boastful_one_has() -> None:
    assert calibration_error([], []) is None
    assert calibration_error([0.55, 0.55], [True, False]) == pytest.approx(0.05)
    assert calibration_error([0.95, 1.0, 0.15], [False, False, False]) == pytest.approx(0.7)
