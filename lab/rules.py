"""Write make's rules of the rows that are missing: their sets, trainings and evaluations.

    python -m lab.rules experiment=alpha seed=0      # `make lab EXPERIMENT=alpha` calls it

lab.mk includes the file, .lab/rules.mk. Trainings are calls of `chain`, which table.mk defines. A
row that is kept with the settings of now has no rule, so nothing of it is made again.
"""

import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from coa.params import Params
from coa.whole_files import write_file
from lab.missing import State, state_of
from lab.plan import LabParams, Plan, plan_rows
from lab.records import Training

OUT = Path(".lab/rules.mk")


def write_rules(
    plans: Iterable[Plan], params: LabParams, searches: Mapping[str, Plan]
) -> Iterator[str]:
    """Yield the rules of rows; trainings and evaluations that rows share have one rule.

    Args:
        plans: The rows that are to be made.
        params: What the lab is asked for.
        searches: For each experiment the row whose searches its simulators are to answer.
    """
    trained: set[str] = set()
    evaluated: set[str] = set()
    for plan in plans:
        sources = [plan]
        if plan.row.fidelity is not None:
            sources.append(searches[plan.experiment.name])
        for source in sources:
            for training in source.chain:
                if training.name not in trained and not training.is_of_table:
                    yield from _training_rules(training)
                trained.add(training.name)
            if source.result not in evaluated:
                yield from _evaluation_rule(source)
            evaluated.add(source.result)
        if plan.row.fidelity is not None:
            yield from _fidelity_rule(plan, searches[plan.experiment.name])
        yield from _row_rule(plan, params)


def _training_rules(training: Training) -> Iterator[str]:
    settings = f"lab_settings_{training.name}"
    yield f"{settings} := {_quoted(training.settings)}"
    call = f"chain,{training.name},{training.stage},{training.start},$({settings})"
    yield f"$(eval $(call {call}))"
    if training.needs:
        yield f"$(call trained,{training.name}): $(call trained,{training.needs})"
    if training.subset:
        out = training.subset[0].removeprefix("out=")
        done = f"{out}/validation.parquet"
        yield f"$(call trained,{training.name}): {done}"
        yield f"{done}: | sets"
        yield f"\tpython -m lab.subset {_quoted(training.subset, in_recipe=True)}"


def _evaluation_rule(plan: Plan) -> Iterator[str]:
    arguments = [
        f"name={plan.result}",
        f"model={plan.model}",
        f"mode={plan.row.mode}",
        *(f"{name}={value}" for name, value in plan.asked.items()),
        *plan.row.settings,
    ]
    yield f"{plan.result_path}: $(call trained,{plan.row.training})"
    yield f"\tpython -m evaluation.evaluate {_quoted(arguments, in_recipe=True)}"


def _fidelity_rule(plan: Plan, searches: Plan) -> Iterator[str]:
    arguments = [
        f"name={plan.fidelity_path.stem}",
        f"model={plan.model}",
        f"rollouts=data/evaluate/{searches.result}.parquet",
        *(plan.row.fidelity or ()),
    ]
    yield f"{plan.fidelity_path}: {searches.result_path} $(call trained,{plan.row.training})"
    yield f"\tpython -m evaluation.fidelity {_quoted(arguments, in_recipe=True)}"


def _row_rule(plan: Plan, params: LabParams) -> Iterator[str]:
    target = f"lab-{plan.experiment.name}-{plan.row.name}"
    arguments = [
        f"experiment={plan.experiment.name}",
        f"row={plan.row.name}",
        f"seed={plan.seed}",
        *(f"{name}={value}" for name, value in plan.asked.items()),
        f"pretrain_steps={params.pretrain_steps}",
        f"rl_steps={params.rl_steps}",
    ]
    made = [plan.result_path]
    if plan.row.fidelity is not None:
        made.append(plan.fidelity_path)
    yield f".PHONY: {target}"
    yield f"LAB_ROWS += {target}"
    yield f"{target}: {' '.join(map(str, made))}"
    yield f"\tpython -m lab.row {' '.join(arguments)}"


def _quoted(settings: Iterable[str], *, in_recipe: bool = False) -> str:
    """Quote settings for the shell; a dollar sign is doubled for each time that make reads it."""
    quoted = " ".join(shlex.quote(setting) for setting in settings)
    return quoted.replace("$", "$$" if in_recipe else "$$$$")


def main(arguments: Sequence[str]) -> str:
    """Write the rules and return the summary line."""
    params = Params.load("lab", arguments).section(LabParams)
    plans = plan_rows(params)
    missing = [plan for plan in plans if state_of(plan) is not State.KEPT]
    searches = {plan.experiment.name: plan for plan in plans if plan.row.name == "sft3"}
    write_file(OUT, "".join(f"{line}\n" for line in write_rules(missing, params, searches)))
    return f"{OUT}: {len(missing)} of {len(plans)} rows are to be made"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
