"""List the rows that are not there, or were made with other settings than params.yaml has.

python -m lab.missing                        # every experiment, seed 0
python -m lab.missing experiment=alpha seed=1
"""

import sys
from collections.abc import Sequence
from enum import StrEnum

from coa.params import Params
from lab.kept import read_row
from lab.plan import LabParams, Plan, plan_rows


class State(StrEnum):
    """What there is of a row."""

    KEPT = "kept"
    """Made with the settings of now."""
    ABSENT = "not there"
    OTHER = "made with other settings"


def state_of(plan: Plan) -> State:
    """Compare the row that is kept with the one that is planned.

    Raises:
        InputError: the file holds something else.
    """
    if not plan.path.is_file():
        return State.ABSENT
    is_same = read_row(plan.path).fingerprint == plan.fingerprint
    return State.KEPT if is_same else State.OTHER


def main(arguments: Sequence[str]) -> str:
    """Print a line for each missing row, and return the summary line."""
    plans = plan_rows(Params.load("lab", arguments).section(LabParams))
    num_missing = 0
    for plan in plans:
        state = state_of(plan)
        if state is not State.KEPT:
            num_missing += 1
            print(f"{plan.path}: {state}; {plan.command}")
    return f"{num_missing} of {len(plans)} rows are missing"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
