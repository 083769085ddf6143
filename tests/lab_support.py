"""Hold what the tests of the lab share: settings, and rows that are kept."""

import json
from pathlib import Path

from omegaconf import OmegaConf

from coa.trajectory import Sampling
from evaluation.outcomes import Outcome, Setting, summarise
from lab.kept import KeptRow, write_row
from lab.plan import LabParams, plan_rows
from lab.row import make_row
from tests.evaluate_support import outcome
from tests.settings_support import every_setting


def write_params(root: Path, *changes: str) -> None:
    """Write params.yaml of the default profile with other values of some settings."""
    merged = OmegaConf.merge(every_setting(), OmegaConf.from_dotlist(list(changes)))
    Path("params.yaml").write_text(json.dumps(OmegaConf.to_container(merged)))


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


def keep_row(experiment: str, row: str, right: list[bool], seed: int = 0) -> KeptRow:
    """Keep a row as if it had been made with the settings of now."""
    params = LabParams(experiment=experiment, row=row, seed=seed, num_resamples=50)
    (plan,) = plan_rows(params)
    setting = Setting("lab", "m", "f", "coa", "validation", "hash", "p", "bm25", Sampling(), {})
    result = summarise(setting, outcomes(right), num_resamples=50, seed=0)
    made = make_row(plan, result, params, reports={})
    write_row(plan.path, made)
    return made
