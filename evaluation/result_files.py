"""Write the result of an evaluation under results/evaluate/, and read it back."""

import json
from dataclasses import asdict
from pathlib import Path

from coa.store.whole_files import write_file
from coa.student.results import read_json
from evaluation.outcomes import Result

FOLDER = Path("results/evaluate")


def write_result(result: Result, folder: Path = FOLDER) -> Path:
    """Write results/evaluate/{name}.json, each column of outcomes on a line of its own."""
    values = asdict(result)
    columns = values.pop("outcomes")
    if not result.probe:
        del values["probe"]
    if not result.setting.search_price:
        del values["setting"]["search_price"]
        del values["utility_by_hops"]
    for name in ("tools", "judge", "baseline", "is_told_by_gold", "pins"):
        if not values["setting"][name]:
            del values["setting"][name]
    if not result.by_tries:
        del values["by_tries"]
    lines = []
    for name, column in columns.items():
        lines.append(f"    {json.dumps(name)}: {json.dumps(column, separators=(',', ':'))}")
    head = json.dumps(values, indent=2).removesuffix("\n}")
    text = head + ',\n  "outcomes": {\n' + ",\n".join(lines) + "\n  }\n}\n"
    path = folder / f"{result.setting.name}.json"
    write_file(path, text)
    return path


def read_result(path: Path) -> Result:
    """Read a result back.

    Raises:
        InputError: the file is missing, or holds something else.
    """
    return read_json(path, Result, command="coa evaluate")
