"""Write the sets in LLaMA-Factory's sharegpt format.

A new turn begins wherever the author changes, so search results are never trained on. Turns
alternate: human and observation at odd places, gpt at even ones. The opening of the thinking and
inserted markers are part of the model's turn here. A chat template closes that turn before each
observation, which a rollout does not; `data_cards/formats/tokenised.py` writes the exact form.
Rows of trajectories name their model, and imported ones their origin and licence, which
LLaMA-Factory does not read.
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
from data_cards.catalogue import SPLITS, SetName, local_path


def conversation(prompt: str, steps: Sequence[Step]) -> list[dict[str, str]]:
    """Return the turns of sharegpt: human and observation at odd places, gpt at even ones."""
    turns = [{"from": "human", "value": prompt}]
    own = protocol.THINK_OPEN + "\n"
    for step in steps:
        if step.author is Author.ENVIRONMENT:
            turns.append({"from": "gpt", "value": own})
            turns.append({"from": "observation", "value": step.text.strip("\n")})
            own = ""
        else:
            own += step.text
    if own:
        turns.append({"from": "gpt", "value": own})
    return turns


def ranking(prompt: str, pair: PreferencePair) -> dict[str, Any]:
    """Return a pair in sharegpt's form.

    The text with which both sides begin goes into both. Each side ends at its first search result.
    """
    shared = conversation(prompt, pair.prefix)
    ends_with_model = len(shared) % 2 == 0
    before = shared.pop()["value"] if ends_with_model else ""
    return {
        "conversations": shared,
        "chosen": {"from": "gpt", "value": before + _first_turn(pair.chosen)},
        "rejected": {"from": "gpt", "value": before + _first_turn(pair.rejected)},
    }


def _first_turn(steps: Sequence[Step]) -> str:
    """Return the text before the first search result."""
    own = []
    for step in steps:
        if step.author is Author.ENVIRONMENT:
            break
        own.append(step)
    return protocol.render(own)


def write_llamafactory(folder: Path, names: Sequence[SetName], prompt: Prompt) -> dict[str, int]:
    """Write the sharegpt files of these sets and dataset_info.json; return the rows of each file.

    Questions have no such file.

    Raises:
        InputError: a set is missing or broken.
    """
    counts = {}
    descriptions = {}
    for name in names:
        if name is SetName.RL:
            continue
        for split in SPLITS:
            file = f"{name}_{split}"
            rows = _sharegpt_rows(name, split, prompt)
            counts[file] = _write_jsonl(folder / f"{file}.jsonl", rows)
            descriptions[file] = _description(name, f"{file}.jsonl")
    info = json.dumps(descriptions, indent=2) + "\n"
    (folder / "dataset_info.json").write_text(info, encoding="utf-8")
    return counts


def _description(name: SetName, file_name: str) -> dict[str, Any]:
    """Return the entry of a file in dataset_info.json."""
    entry: dict[str, Any] = {"file_name": file_name, "formatting": "sharegpt"}
    columns = {"messages": "conversations"}
    if name is SetName.COT_A:
        entry["ranking"] = True
        columns["chosen"] = "chosen"
        columns["rejected"] = "rejected"
    entry["columns"] = columns
    return entry


def _sharegpt_rows(name: SetName, split: str, prompt: Prompt) -> Iterator[dict[str, Any]]:
    path = local_path(name, split)
    if name is SetName.COT_A:
        for pair in tables.read_table(path, PreferencePair):
            yield {"id": pair.pair_id, **ranking(asked(prompt, pair.question), pair)}
        return
    for row in tables.read_table(path, GradedTrajectory):
        trajectory = row.trajectory
        turns = conversation(asked(prompt, trajectory.question), trajectory.steps)
        yield {
            "id": trajectory.trajectory_id,
            "model": trajectory.model,
            "origin": trajectory.origin,
            "license": trajectory.license,
            "conversations": turns,
        }


def asked(prompt: Prompt, question: str) -> str:
    """Fill the prompt without the opening of the thinking, which is the model's here."""
    return prompt.fill(question).removesuffix(protocol.THINK_OPEN + "\n").strip()


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for count, row in enumerate(rows, 1):  # noqa: B007
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return count
