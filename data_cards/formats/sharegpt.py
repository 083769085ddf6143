"""The sets to LLaMA-Factory's sharegpt: a turn wherever the author changes, so that search results are never trained.

Turns alternate: human and observation at odd places, gpt at even ones. The opening of the thinking and inserted markers
are part of the model's turn here; a chat template closes that turn before each observation, which a rollout does not.
`data_cards/formats/tokenised.py` is the exact form.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from coa import protocol, tables
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.prompts import Prompt
from coa.trajectory import Author, Step
from data_cards.catalogue import HAS_TRAJECTORIES, SPLITS, SetName, local_path


def conversation(prompt: str, steps: Sequence[Step]) -> list[dict[str, str]]:
    """Turns of sharegpt: human and observation at odd places, gpt at even ones."""
    turns = [{"from": "human", "value": prompt}]
    own = protocol.THINK_OPEN + "\n"
    for step in steps:
        if step.author is Author.ENVIRONMENT:
            turns += [
                {"from": "gpt", "value": own},
                {"from": "observation", "value": step.text.strip("\n")},
            ]
            own = ""
        else:
            own += step.text
    return [*turns, {"from": "gpt", "value": own}] if own else turns


def ranking(prompt: str, pair: PreferencePair) -> dict[str, Any]:
    """A pair of sharegpt's: what both sides begin with goes into both, each up to the first search result."""
    shared = conversation(prompt, pair.prefix)
    before = shared.pop()["value"] if len(shared) % 2 == 0 else ""
    sides = {"chosen": pair.chosen, "rejected": pair.rejected}
    return {
        "conversations": shared,
        **{
            name: {"from": "gpt", "value": before + _first_turn(steps)}
            for name, steps in sides.items()
        },
    }


def _first_turn(steps: Sequence[Step]) -> str:
    end = next((i for i, step in enumerate(steps) if step.author is Author.ENVIRONMENT), len(steps))
    return protocol.render(steps[:end])


def write_llamafactory(folder: Path, prompt: Prompt) -> dict[str, int]:
    """Write the sharegpt files and dataset_info.json; returns rows by name.

    Raises:
        InputError: a set is missing or broken.
    """
    counts, described = {}, {}
    for name in (SetName.COT_A, *HAS_TRAJECTORIES):
        for split in SPLITS:
            file = f"{name}_{split}"
            counts[file] = _write_jsonl(
                folder / f"{file}.jsonl", _sharegpt_rows(name, split, prompt)
            )
            columns = {"messages": "conversations"}
            ranked = {"ranking": True} if name is SetName.COT_A else {}
            columns |= {"chosen": "chosen", "rejected": "rejected"} if ranked else {}
            described[file] = {
                "file_name": f"{file}.jsonl",
                "formatting": "sharegpt",
                **ranked,
                "columns": columns,
            }
    (folder / "dataset_info.json").write_text(
        json.dumps(described, indent=2) + "\n", encoding="utf-8"
    )
    return counts


def _sharegpt_rows(name: SetName, split: str, prompt: Prompt) -> Iterator[dict[str, Any]]:
    path = local_path(name, split)
    if name is SetName.COT_A:
        for pair in tables.read_table(path, PreferencePair):
            yield {"id": pair.pair_id, **ranking(asked(prompt, pair.question), pair)}
    else:
        for row in tables.read_table(path, GradedTrajectory):
            it = row.trajectory
            yield {
                "id": it.trajectory_id,
                "conversations": conversation(asked(prompt, it.question), it.steps),
            }


def asked(prompt: Prompt, question: str) -> str:
    """The prompt without the opening of the thinking, which is the model's in these formats."""
    return prompt.fill(question).removesuffix(protocol.THINK_OPEN + "\n").strip()


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, row in enumerate(rows, 1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count
