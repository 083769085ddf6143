"""Write `params.yaml` from profiles, and `dvc.yaml` with the stages that they need.

python -m coa.params conf/tiny.yaml                   # from one profile
python -m coa.params conf/paper.yaml conf/7b.yaml     # from several: a later one overrides
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from coa import pipeline
from coa.errors import ConfigError
from coa.params import DEFAULT_PROFILE, PARAMS_FILE, find_profiles, list_names, write_profiles


def main(arguments: Sequence[str]) -> str:
    """Write both files from the profiles that are named, and return the summary line."""
    if not arguments:
        profiles = list_names(find_profiles(DEFAULT_PROFILE.parent).values())
        raise ConfigError(
            "name a profile", expected=f"python -m coa.params PROFILE..., of {profiles}"
        )
    write_profiles([Path(argument) for argument in arguments])
    return f"{PARAMS_FILE} holds the profile {', then '.join(arguments)}; {pipeline.main([])}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
