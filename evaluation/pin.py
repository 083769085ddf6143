"""Pin the evaluation sets of a split: write the size and checksum of each to a file.

    coa pin split=test pins=evaluation/pins/mine.json

The settings are those of the section `evaluate`. An evaluation with the same `pins` refuses sets
that have changed since. Commit the file: it holds no question.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from coa.errors import ConfigError
from coa.records.question import Question
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import QUESTIONS
from coa.store.whole_files import write_file
from coa.student.evaluate_settings import EvaluateParams
from evaluation.benchmarks import pin_sets, read_pins


def main(arguments: Sequence[str]) -> str:
    """Write the pins and return the summary line."""
    params = Params.load("evaluate", arguments).section(EvaluateParams)
    if not params.pins:
        raise ConfigError(
            "no file is named for the pins",
            where="evaluate.pins",
            expected="pins=evaluation/pins/mine.json",
        )
    path = Path(params.pins)
    if path.exists():
        read_pins(path)  # a file that holds something else is not replaced
    pins = pin_sets(tables.read_table(QUESTIONS, Question), params.split)
    if not pins:
        raise ConfigError(
            f"the split {params.split!r} has no questions",
            where=QUESTIONS,
            expected="split=validation or split=test",
            got=params.split,
        )
    values = {name: asdict(pin) for name, pin in pins.items()}
    write_file(path, json.dumps(values, indent=2) + "\n")
    sizes = ", ".join(f"{name} {pin.num_questions:,}" for name, pin in pins.items())
    return f"{path}: {len(pins)} sets of the split {params.split} ({sizes})"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
