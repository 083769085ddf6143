"""Keep the result of each part as a file of its own, written as soon as the part is done."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from coa.store.whole_files import write_file

Figure = float | str


@dataclass(frozen=True, slots=True)
class Row:
    """What one measurement of a part gave."""

    part: str
    """The part that it belongs to."""
    name: str
    """What was measured, such as `sft2`."""
    figures: Mapping[str, Figure] = field(default_factory=dict)
    """Each with its unit in its name."""
    not_run: str = ""
    """Why it was not run; empty where it was."""
    command: str = ""
    """What makes it again."""
    device: str = ""
    """Where it ran."""
    is_rehearsal: bool = False
    """Whether sizes were tiny, so that the figures prove only that the code runs."""


def row_path(folder: Path, part: str, name: str) -> Path:
    """Return the file of a row."""
    return folder / f"{part}-{name}.json"


def write_row(folder: Path, row: Row) -> None:
    """Write a row."""
    text = msgspec.json.format(msgspec.json.encode(row)).decode()
    write_file(row_path(folder, row.part, row.name), f"{text}\n")


def read_rows(folder: Path) -> list[Row]:
    """Read all rows of a folder, sorted by their files' names."""
    rows = []
    for path in sorted(folder.glob("*.json")):
        rows.append(msgspec.json.decode(path.read_bytes(), type=Row))
    return rows
