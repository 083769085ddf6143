"""Hold what the tests of the lab share: settings, plans, and rows that are kept."""

import json
from pathlib import Path

from coa.settings.params import Params
from evaluation.outcomes import Outcome
from lab.kept import KeptRow, Verdict, pack_outcomes, write_row
from lab.plan import Plan, Planner, read_data
from lab.records import read_lab
from tests.evaluate_support import outcome
from tests.settings_support import PROFILE

LOCK = """schema: '2.0'
stages:
  assemble: {outs: [{path: data/assemble, md5: sets}]}
  questions: {outs: [{path: data/questions.parquet, md5: questions}]}
  branch: {outs: [{path: data/branch/pairs.parquet, md5: pairs}]}
"""


def write_params(*changes: str) -> None:
    """Write params.yaml of the default profile with other values of some settings."""
    params = Params.load("pipeline", changes, PROFILE)
    Path("params.yaml").write_text(json.dumps(params.chosen))


def plans_of(rows: tuple[str, ...], seed: int = 0) -> dict[str, Plan]:
    """Plan some rows of the lab with the settings and the data of the current folder."""
    planner = Planner(read_lab(), Params.load("train"), read_data())
    return {row: planner.plan(row, seed) for row in rows}


def outcomes(right: list[bool]) -> list[Outcome]:
    """Make outcomes of questions with one or two hops, of which every third is popular."""
    rows = []
    for number, is_right in enumerate(right):
        row = outcome(
            f"q{number:03}",
            is_right,
            num_hops=1 + number % 2,
            num_actions=number % 4,
            needs_no_search=number % 3 == 0,
        )
        rows.append(row)
    return rows


def keep_row(
    row: str,
    right: list[bool],
    seed: int = 0,
    *,
    plan: str = "plan",
    common: str = "common",
    gate: Verdict | None = None,
    logged: dict[str, tuple[float, float]] | None = None,
) -> KeptRow:
    """Keep a row; without questions it is one of which the gate predicts a harm."""
    kept = KeptRow(
        row=row,
        seed=seed,
        plan=plan,
        common=common,
        code="code",
        date="2026-11-25",
        machine={"platform": "test"},
        gate=gate,
        questions="questions" if right else "",
        num_questions=len(right),
        columns=pack_outcomes(outcomes(right)) if right else {},
        logged=logged or {},
    )
    write_row(kept)
    return kept
