"""Put the shards of a stage together: the same output as one process, and no call.

    coa merge stage=sample mode=coa      # also branch, evaluate and stages of curation

The other arguments are those that the shards were given. All shards must be over, have run with the
same settings on the same items, and have their files as they wrote them. Their journals become one,
in .journal/, and the stage runs from it; of grade, analyse, filter and screen the tables are
joined. Then the shards' own files are removed.
"""

import sys
from collections.abc import Sequence
from importlib import import_module

from coa.errors import ConfigError, unknown_name
from coa.shards.stage import MERGED

MODULES = {
    "sample": "synth.sample",
    "grade": "curate.grade",
    "analyse": "curate.analyse",
    "filter": "curate.filter",
    "branch": "curate.branch",
    "screen": "curate.screen",
    "evaluate": "evaluation.evaluate",
}
"""The stages that can run in shards, and their commands. The stages themselves know which files and
settings are theirs, so the merge is a run of the stage."""


def main(arguments: Sequence[str]) -> str:
    """Run the stage from its shards' journals; return its summary line."""
    stages = [argument for argument in arguments if argument.startswith("stage=")]
    if not stages:
        raise ConfigError("name the stage", expected=f"stage= one of {', '.join(MODULES)}")
    stage = stages[-1].removeprefix("stage=")
    if stage not in MODULES:
        raise unknown_name("stage with shards", stage, MODULES)
    rest = [argument for argument in arguments if argument not in stages]
    summary: str = import_module(MODULES[stage]).main([*rest, MERGED])
    return summary


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
