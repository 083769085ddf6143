"""Read rows of sets and sections of a lineage, for its tests."""

import re
from typing import Any

from coa import tables
from data_cards.catalogue import SetName, local_path


def rows(name: SetName, record: type[Any]) -> list[Any]:
    return list(tables.read_table(local_path(name, "train"), record))


def sections(text: str) -> dict[str, list[tuple[str, str]]]:
    """Title to the facts below it, as printed."""
    found: dict[str, list[tuple[str, str]]] = {}
    for line in text.splitlines():
        if not line.startswith("  "):
            found[line] = []
        else:
            name, _, value = re.sub(r" {2,}", "\t", line.strip()).partition("\t")
            found[list(found)[-1]].append((name, value))
    return found
