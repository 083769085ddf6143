"""Train one stage: from the model that its section names to a model in data/train/.

    coa train stage=sft2                    # pretrain, sft1, sft2, sft3, rl1, rl2 or rft
    coa train stage=rl2 train.rl2.arguments.max_steps=10    # any setting of params.yaml
    coa train stage=sft2 name=sft2_only train.sft2.init=data/train/pretrain
    coa train stage=rl2 dry_run=true     # one step on a tiny model of that architecture

Run again, it resumes from its last checkpoint. On several GPUs:
`accelerate launch --config_file conf/accelerate/fsdp2.yaml -m train.run stage=sft2`.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

from coa.errors import ConfigError, MissingExtraError
from coa.settings.params import Params
from coa.settings.stages import TRAINING_MODULES, Stage
from coa.student.settings import TrainParams


def main(arguments: Sequence[str]) -> str:
    """Train the stage and return the summary line."""
    loaded = Params.load("train", arguments)
    params = loaded.section(TrainParams)
    if params.stage is None:
        raise ConfigError("no stage is named", expected=f"stage=, one of {', '.join(Stage)}")
    # Importing them takes seconds, which a mistake in the settings need not wait for.
    for package in ("torch", "trl"):
        if find_spec(package) is None:
            raise MissingExtraError(package, "train")
    from train.stage import StageRun, leave_process_group

    run = StageRun(params.stage, params, loaded.dump(sections_beside(params.stage)), loaded)
    import_module(TRAINING_MODULES[params.stage]).train(run)
    leave_process_group()
    return run.report.summary


def sections_beside(stage: Stage) -> list[str]:
    """Name the sections of the settings that are written beside the model of a stage."""
    sections = ["train"]
    if stage in (Stage.RL1, Stage.RL2):
        sections += ["search", "tools", "rollout"]
    if stage is Stage.RL1:
        sections += ["simulator", "gate"]
    return sections


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
