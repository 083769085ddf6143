"""Keep the result of a finished chain as a row of the lab: lab/EXPERIMENT/ROW-sSEED.json.

    python -m lab.row experiment=alpha row=alpha_0 seed=0

Reads results/evaluate/, and the settings and logs of the chain's models, which must be those that
params.yaml plans. The file is small and is committed, so that no other machine makes it again.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from coa.errors import ConfigError, InputError
from coa.files import TRAINED
from coa.intervals import Interval, mean_interval
from coa.params import Params
from coa.student.results import read_json
from coa.student.verdict import FILE as GATE
from evaluation.outcomes import Result
from evaluation.result_files import read_result
from lab.kept import GROUPS, ROLLOUTS, KeptRow, Point, pack_outcomes, write_row
from lab.plan import LabParams, Plan, check_chain, plan_rows
from train.spending import FILE as SEARCHES

_MEASURES = ("exact_match", "num_actions", "is_broken")
_MAX_POINTS = 60
"""Of a curve; longer ones are thinned, with the last point kept."""


def read_curves(plan: Plan) -> dict[str, dict[str, list[Point]]]:
    """Read from the logs of a chain what its experiment draws, and the rollouts on the way."""
    found = {}
    for training in plan.chain:
        log = TRAINED / f"{training.name}-s{plan.seed}" / "log.jsonl"
        curves: dict[str, list[Point]] = {}
        for entry in _read_log(log):
            for name, value in entry.items():
                is_drawn = name in plan.experiment.curves or name.startswith(ROLLOUTS)
                if is_drawn and isinstance(value, int | float):
                    curves.setdefault(name, []).append((entry["step"], round(value, 4)))
        if curves:
            found[training.name] = {name: _thin(points) for name, points in curves.items()}
    return found


def _read_log(path: Path) -> list[dict[str, Any]]:
    """Read a trainer's log; a model that was fetched has none."""
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _thin(points: list[Point]) -> list[Point]:
    stride = -(-len(points) // _MAX_POINTS)
    return points[::-1][::stride][::-1]


def read_reports(plan: Plan) -> dict[str, dict[str, Any]]:
    """Read what else was measured of a row: by its last training, and of its simulator.

    Raises:
        InputError: a report is missing or broken.
    """
    paths = {}
    for name, file in (("gate", GATE), ("searches", SEARCHES)):
        path = Path(plan.model, file)
        if path.is_file():
            paths[name] = path
    if plan.row.fidelity is not None:
        paths["fidelity"] = plan.fidelity_path
    return {name: read_json(path, dict, command=plan.command) for name, path in paths.items()}


def check_result(plan: Plan, result: Result) -> None:
    """Check that a result was asked as it is planned.

    Raises:
        InputError: it was asked other questions, or otherwise.
    """
    setting = result.setting
    expected: Mapping[str, object] = {"split": plan.split, "mode": plan.row.mode}
    if plan.num_questions:
        expected = {**expected, "num_questions": plan.num_questions}
    got = {"split": setting.split, "mode": setting.mode, "num_questions": result.num_questions}
    # Of several sets each has as many questions; a smaller one is asked whole.
    is_one_set = len(result.by_set) < 2
    wrong = []
    for name, value in expected.items():
        if got[name] != value and (name != "num_questions" or is_one_set):
            wrong.append(f"{name}={got[name]}")
    if wrong:
        path = plan.result_path
        raise InputError(
            f"{path} was asked otherwise than the lab asks",
            expected=", ".join(f"{name}={value}" for name, value in expected.items()),
            got=", ".join(wrong),
            fix=f"move {path} away, then {plan.command}",
        )


def make_row(
    plan: Plan, result: Result, params: LabParams, reports: dict[str, dict[str, Any]]
) -> KeptRow:
    """Reduce a result to what is kept."""
    row = KeptRow(
        experiment=plan.experiment.name,
        row=plan.row.name,
        seed=plan.seed,
        fingerprint=plan.fingerprint,
        common=plan.common,
        command=plan.command,
        date=datetime.now(UTC).date().isoformat(),
        model=result.setting.model_fingerprint,
        split=result.setting.split,
        questions=result.setting.questions,
        num_questions=result.num_questions,
        num_failed=result.num_failed,
        metrics={},
        curves=read_curves(plan),
        columns=pack_outcomes(result.rows()),
        reports=reports,
    )
    for group in GROUPS:
        row.metrics[group] = _measure(row, group, params)
    return row


def _measure(row: KeptRow, group: str, params: LabParams) -> dict[str, Interval | None]:
    found = {}
    outcomes = row.questions_of(group).values()
    for measure in _MEASURES:
        values = [float(outcome[measure] or 0) for outcome in outcomes]
        found[measure] = mean_interval(values, num_resamples=params.num_resamples, seed=0)
    return found


def main(arguments: Sequence[str]) -> str:
    """Keep one row and return the summary line."""
    params = Params.load("lab", arguments).section(LabParams)
    plans = plan_rows(params)
    if len(plans) != 1 or not params.row:
        raise ConfigError(
            "name one row", expected="experiment=alpha row=alpha_0", got=f"{len(plans)} rows"
        )
    (plan,) = plans
    check_chain(plan)
    result = read_result(plan.result_path)
    check_result(plan, result)
    row = make_row(plan, result, params, read_reports(plan))
    write_row(plan.path, row)
    return f"{plan.path}: exact match {row.metrics['all']['exact_match']}; commit it"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
