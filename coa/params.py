"""Write `params.yaml` from profiles, and `dvc.yaml` with the stages that they need.

python -m coa.params conf/tiny.yaml                   # from one profile
python -m coa.params conf/paper.yaml conf/7b.yaml     # from several: a later one overrides
python -m coa.params conf/tiny.yaml overwrite=true    # also a dvc.yaml that was changed by hand

Nothing is written where a setting is wrong.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from coa import pipeline
from coa.errors import ConfigError
from coa.pipeline import OVERWRITE
from coa.plan import Plan
from coa.rollout.factory import TeacherParams
from coa.settings.params import (
    PARAMS_FILE,
    Params,
    list_names,
    merge_profiles,
    shipped_profiles,
    write_merged,
)


def main(arguments: Sequence[str]) -> str:
    """Write both files from the profiles that are named, and return the summary line."""
    profiles = [Path(argument) for argument in arguments if argument != OVERWRITE]
    if not profiles:
        known = list_names(shipped_profiles().values())
        raise ConfigError("name a profile", expected=f"python -m coa.params PROFILE..., of {known}")
    merged = merge_profiles(profiles)
    names = ", then ".join(profile.as_posix() for profile in profiles)
    params = Params.of(merged.values, Path(names))
    plan = Plan(params)
    text = pipeline.render_pipeline(plan)
    if OVERWRITE not in arguments:
        pipeline.check_is_ours(text)
    write_merged(merged, profiles)
    pipeline.write_pipeline(text, overwrites=True)
    pipeline.copy_launch_files(plan)
    pipeline.warn_of_key(params.section(TeacherParams, "teacher"))
    return f"{PARAMS_FILE} holds the profile {names}; {pipeline.summary(plan)}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
