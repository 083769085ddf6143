"""Write the sets in LLaMA-Factory's sharegpt format.

A new turn begins wherever the author changes, so search results are never trained on. Turns
alternate: human and observation at odd places, gpt at even ones. The opening of the thinking and
inserted markers are part of the model's turn here. A chat template closes that turn before each
observation, which a rollout does not; `data_cards/formats/tokenised.py` writes the exact form.
Rows of trajectories name their model, and imported ones their origin and licence, which
LLaMA-Factory does not read.

`call_turns` writes the same trajectories with calls as `function_call`, from which the template of
the model makes tool calls in its own form.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coa import protocol
from coa.pairs import PreferencePair
from coa.trajectory import Author, Step
from data_cards.catalogue import SPLITS, SetName
from data_cards.formats.messages import thought_block
from data_cards.formats.published_rows import own_beginning
from data_cards.formats.row_files import write_lines
from data_cards.formats.source import Source
from data_cards.formats.turns import call_arguments, tool_schemas, turns_of

INFO = "dataset_info.json"
"""The file that names all others to LLaMA-Factory."""


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
        "chosen": {"from": "gpt", "value": before + own_beginning(pair.chosen)},
        "rejected": {"from": "gpt", "value": before + own_beginning(pair.rejected)},
    }


def call_turns(prompt: str, steps: Sequence[Step]) -> list[dict[str, str]]:
    """Return the turns of sharegpt with calls as `function_call`: a thought, then JSON."""
    turns = [{"from": "human", "value": prompt}]
    for turn in turns_of(steps):
        thought = thought_block(turn.thought)
        if thought:
            thought += "\n\n"
        if turn.call is None:
            turns.append({"from": "gpt", "value": f"{thought}{turn.answer}"})
            continue
        arguments = call_arguments(turn.call.tool or "", turn.call.argument or "")
        call = json.dumps({"name": turn.call.tool, "arguments": arguments}, ensure_ascii=False)
        turns.append({"from": "function_call", "value": f"{thought}{call}"})
        turns.append({"from": "observation", "value": turn.result or ""})
    return turns


def write_llamafactory(folder: Path, source: Source) -> dict[str, int]:
    """Write sharegpt files, `cot_a` with `ranking`, and add them to dataset_info.json.

    Questions have no such file.

    Raises:
        InputError: a set is missing or broken.
    """
    counts = {}
    for name in source.names:
        if name is SetName.RL:
            continue
        for split in SPLITS:
            file = f"{name}_{split}"
            rows = _sharegpt_rows(source, name, split)
            counts[file] = write_lines(folder / f"{file}.jsonl", rows)
            if counts[file]:
                describe(folder, file, ranking=name is SetName.COT_A)
    return counts


def write_calls(folder: Path, source: Source) -> dict[str, int]:
    """Write sharegpt files with calls as `function_call`, and add them to dataset_info.json.

    Raises:
        InputError: a set is missing or broken.
    """
    counts = {}
    for name in source.with_trajectories:
        tools = json.dumps(
            [tool["function"] for tool in tool_schemas(source.call_form(name).tools)]
        )
        for split in SPLITS:
            file = f"{name}_calls_{split}"
            rows = _call_rows(source, name, split, tools)
            counts[file] = write_lines(folder / f"{file}.jsonl", rows)
            if counts[file]:
                describe(folder, file, has_tools=True)
    return counts


def describe(folder: Path, file: str, *, ranking: bool = False, has_tools: bool = False) -> None:
    """Add a file to dataset_info.json."""
    path = folder / INFO
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    entry: dict[str, Any] = {"file_name": f"{file}.jsonl", "formatting": "sharegpt"}
    columns = {"messages": "conversations"}
    if ranking:
        entry["ranking"] = True
        columns["chosen"] = "chosen"
        columns["rejected"] = "rejected"
    if has_tools:
        columns["tools"] = "tools"
    entry["columns"] = columns
    known[file] = entry
    path.write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")


def _sharegpt_rows(source: Source, name: SetName, split: str) -> Iterator[dict[str, Any]]:
    if name is SetName.COT_A:
        for pair in source.pairs(split):
            yield {"id": pair.pair_id, **ranking(source.asked(pair.question), pair)}
        return
    for trajectory in source.trajectories(name, split):
        yield {
            "id": trajectory.trajectory_id,
            "model": trajectory.model,
            "origin": trajectory.origin,
            "license": trajectory.license,
            "conversations": conversation(source.asked(trajectory.question), trajectory.steps),
        }


def _call_rows(source: Source, name: SetName, split: str, tools: str) -> Iterator[dict[str, Any]]:
    for trajectory in source.trajectories(name, split):
        turns = call_turns(source.asked(trajectory.question), trajectory.steps)
        yield {"id": trajectory.trajectory_id, "conversations": turns, "tools": tools}
