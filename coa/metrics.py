"""The figures of a stage: one small JSON file each under metrics/, tracked by DVC and shown by `dvc metrics show`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coa.errors import ConfigError, writing_error

FOLDER = Path("metrics")


def write_metrics(name: str, values: Mapping[str, Any]) -> None:
    """Write metrics/{name}.json; only what follows from the data belongs there, so that a re-run writes the same bytes.

    Raises:
        OutputError: the file cannot be written.
    """
    path = FOLDER / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise writing_error(path, error) from error


def metrics_name(out: str) -> str:
    """What the metrics of an output are called: data/student/grade.parquet has metrics/student_grade.json.

    Raises:
        ConfigError: the output is not under data/.
    """
    data, *parts = Path(out).with_suffix("").parts or ("",)
    if data != "data" or not parts or ".." in parts:
        raise ConfigError(
            "an output of a data stage stands under data/", expected="out=data/student/...", got=out
        )
    return "_".join(parts)


def rate(part: int, whole: int) -> float:
    """A share rounded to four places; 0 of nothing."""
    return round(part / whole, 4) if whole else 0.0
