"""Make one row of the lab: the sets and trainings of its plan that are not there, then its figures.

    python -m lab.chain row=sft2 seed=0        # the stage `row` of lab/dvc.yaml: use `dvc repro`

Rows share what they share, and two of them may be made side by side: what one makes, the other
waits for. A killed chain resumes where it stopped: a training from its last checkpoint, sets and
evaluations from .journal/. Before a training on simulated searches the gate is asked; where it
predicts a harm, nothing is trained and the row keeps the verdict alone.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock

from coa.errors import CoaError, ConfigError, InputError
from coa.settings.params import Params
from coa.settings.stages import Stage
from coa.store.files import DATA
from coa.store.whole_files import write_file
from coa.student.results import read_json
from coa.student.verdict import FOLDER as VERDICTS
from coa.student.verdict import GateReport, Prediction
from evaluation.result_files import FOLDER as RESULTS
from evaluation.result_files import read_result
from lab.kept import KeptRow, Verdict, pack_outcomes, write_row
from lab.plan import Plan, Step, read_plan

_LOCKS = Path(".lab")
_MADE = "made.json"
"""Stands in the folder of a set whose commands have all ended well."""


@dataclass(frozen=True, slots=True)
class LabParams:
    """Which row is made."""

    row: str = ""
    """One of experiments.yaml."""
    seed: int = 0
    """Of the chain's trainings."""
    folder: str = "lab"
    """The lab: a folder with experiments.yaml."""


class ChainError(CoaError):
    """A command of a chain has failed."""


def run_module(program: str, module: str, settings: str) -> None:
    """Run a module of the project with settings that stand between spaces."""
    command = [*program.split(), module, *settings.split()]
    if command[0] == "python":
        command[0] = sys.executable
    print("$", " ".join(command), file=sys.stderr, flush=True)
    status = subprocess.run(command, check=False).returncode
    if status:
        raise ChainError(
            f"{module} has failed",
            got=f"status {status}",
            fix="see above; run again, the chain resumes from there",
        )


def make_step(step: Step, seed: int, launch: str) -> Verdict | None:
    """Make a set or a training, unless it is there, and return what the gate said of it.

    A training of which the gate predicts a harm is not made.

    Raises:
        InputError: data that it reads are not there.
    """
    _LOCKS.mkdir(exist_ok=True)
    with FileLock(_LOCKS / f"{step.name}.lock"):
        verdict = _ask_gate(step, seed) if step.stage == Stage.RL1 else None
        if verdict is not None and verdict.predicts == Prediction.HARM:
            return verdict
        # What a stage of training writes last.
        if Path(step.folder, "params.yaml" if step.stage else _MADE).is_file():
            return verdict
        check_data(step)
        if not step.stage:
            for command in step.commands:
                module, _, settings = command.partition(" ")
                run_module("python -m", module, settings)
            write_file(Path(step.folder, _MADE), json.dumps(step.decided_by, indent=1) + "\n")
            return None
        settings = f"stage={step.stage} name={step.name} {_training_settings(step, seed)}"
        # Pre-training runs in one process, as in dvc.yaml.
        run_module("python -m" if step.stage == Stage.PRETRAIN else launch, "train.run", settings)
        return verdict


def check_data(step: Step) -> None:
    """Check that what a step reads of the project's pipeline is there.

    Raises:
        InputError: some of it is not.
    """
    missing = []
    for name in step.decided_by["data"]:
        path = Path(name)
        if path.is_relative_to(DATA) and not path.exists():
            missing.append(name)
    if missing:
        raise InputError(
            f"{step.name} needs data that are not there",
            got=", ".join(missing),
            fix="make them in the project's folder: dvc repro assemble",
        )


def _training_settings(step: Step, seed: int) -> str:
    init = f"train.{step.stage}.init={step.start}" if step.start else ""
    return " ".join([f"train.seed={seed}", init, *step.commands])


def _ask_gate(step: Step, seed: int) -> Verdict:
    path = VERDICTS / f"{step.name}.json"
    if not path.is_file():
        check_data(step)
        run_module(
            "python -m", "evaluation.gate", f"name={step.name} {_training_settings(step, seed)}"
        )
    report = read_json(path, GateReport, command="coa gate")
    return Verdict(str(report.prediction), report.pays)


def evaluate(plan: Plan) -> Path:
    """Evaluate the last model of a chain, unless that is done, and return the result's file."""
    # A name that begins with `lab_` stays out of the table of evaluation.table.
    name = f"lab_{plan.row}-s{plan.seed}-{plan.hash[:10]}"
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        settings = f"name={name} model={plan.steps[-1].folder} {plan.evaluation}"
        run_module("python -m", "evaluation.evaluate", settings)
    return path


def read_logged(folder: Path, names: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Return the first and the last value of quantities of a training's log."""
    found: dict[str, tuple[float, float]] = {}
    log = folder / "log.jsonl"
    if not log.is_file():
        return found
    for line in log.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        for name in names:
            if name in entry:
                value = round(float(entry[name]), 4)
                first = found[name][0] if name in found else value
                found[name] = (first, value)
    return found


def describe_machine() -> dict[str, str]:
    """Say what a row is made on: other machines may round otherwise."""
    return {
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())),
    }


def make_row(plan: Plan, launch: str) -> KeptRow:
    """Make all that a plan names, and return the row.

    Raises:
        InputError: data are missing.
    """
    row = KeptRow(
        row=plan.row,
        seed=plan.seed,
        plan=plan.hash,
        common=plan.common,
        code=plan.decided_by["code"],
        date=datetime.now(UTC).date().isoformat(),
        machine=describe_machine(),
    )
    for step in plan.steps:
        verdict = make_step(step, plan.seed, launch)
        row = replace(row, gate=verdict or row.gate)
        if verdict is not None and verdict.predicts == Prediction.HARM:
            return row
    result = read_result(evaluate(plan))
    return replace(
        row,
        model=result.setting.model_fingerprint,
        questions=result.setting.questions,
        num_questions=result.num_questions,
        num_failed=result.num_failed,
        columns=pack_outcomes(result.rows()),
        logged=read_logged(Path(plan.steps[-1].folder), plan.shows),
    )


def main(arguments: Sequence[str]) -> str:
    """Make the row and return the summary line."""
    loaded = Params.load("lab", arguments)
    params = loaded.section(LabParams)
    folder = Path(params.folder)
    if not params.row:
        raise ConfigError("name a row", expected="row=sft2 seed=0")
    plan = read_plan(params.row, params.seed, folder)
    launch: str = loaded.values(["train"])["train"]["launch"]
    row = make_row(plan, launch)
    path = write_row(row, folder)
    right = row.mean("exact_match")
    found = "the gate predicts a harm" if right is None else f"exact match {100 * right:.1f}%"
    return f"{path}: {found}; commit it with {folder}/dvc.lock"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
