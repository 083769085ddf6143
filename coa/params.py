"""Write `params.yaml` from profiles, and `dvc.yaml` with the stages that they need.

    coa params conf/tiny.yaml                   # from one profile
    coa params conf/paper.yaml conf/7b.yaml     # from several: a later one overrides
    coa params                                  # dvc.yaml alone, after a change of params.yaml
    coa params conf/tiny.yaml overwrite=true    # also files that were changed by hand

Nothing is written where a setting is wrong.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from coa import pipeline
from coa.code_hashes import PIPELINE_FILE
from coa.errors import ConfigError
from coa.plan import Plan
from coa.rollout.factory import TeacherParams
from coa.settings.params import PARAMS_FILE, Params, merge_profiles, write_merged
from coa.store.output_file import check_unchanged

OVERWRITE = "overwrite=true"
"""The argument that lets files be replaced that were changed by hand."""


def main(arguments: Sequence[str]) -> str:
    """Write both files from the profiles that are named, or dvc.yaml; return the summary line."""
    profiles = [Path(argument) for argument in arguments if argument != OVERWRITE]
    settings = [argument for argument in arguments if "=" in argument and argument != OVERWRITE]
    if settings:
        raise ConfigError(
            "this command takes profiles, and no settings",
            got=" ".join(settings),
            fix=f"write it into {PARAMS_FILE} or a profile, or: dvc exp run -S {settings[0]}",
        )
    if profiles:
        merged = merge_profiles(profiles)
        names = ", then ".join(profile.as_posix() for profile in profiles)
        params = Params.of(merged.values, Path(names))
        said = f"{PARAMS_FILE} holds the profile {names}; "
    else:
        params = Params.load("pipeline")
        said = ""
    plan = Plan(params)
    text = pipeline.render_pipeline(plan)
    if OVERWRITE not in arguments:
        if profiles:
            check_unchanged(PARAMS_FILE, merged.text)
        check_unchanged(PIPELINE_FILE, text)
    if profiles:
        write_merged(merged, profiles)
    pipeline.write_pipeline(text)
    pipeline.copy_launch_files(plan)
    pipeline.warn_of_key(params.section(TeacherParams, "teacher"))
    return said + pipeline.summary(plan)


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
