"""Read rows of sets and sections of a lineage, for its tests."""

import re
from pathlib import Path
from typing import Any

from coa.records.trajectory import Trajectory
from coa.store import tables
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


def save_student(seed: int, folder: str = "student") -> None:
    """Save a tiny model that has learned to search after every line break."""
    import torch

    from coa.student.small import StudentSettings, new_student

    learned = next(tables.read_table(Path("data/sample/coa.parquet"), Trajectory))
    text = learned.prompt + "<begin_search>who</end_search>\n" * 20
    model, tokenizer = new_student([text], StudentSettings(32, 1, 2, 64, 2048), seed=seed)
    ids = torch.tensor([tokenizer(text)["input_ids"]])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(120):
        optimizer.zero_grad()
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
