"""Write the sets in LLaMA-Factory's sharegpt format.

A new turn begins wherever the author changes, so search results are never trained on. Turns
alternate: human and observation at odd places, gpt at even ones. The opening of the thinking and
inserted markers are part of the model's turn here. A chat template closes that turn before each
observation, which a rollout does not; `data_cards/formats/tokenised.py` writes the exact form.

`call_turns` writes the same trajectories with calls as `function_call`, from which the template of
the model makes tool calls in its own form.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from coa.records import protocol
from coa.records.pairs import PreferencePair
from coa.records.trajectory import Author, Step
from data_cards.catalogue import SetName
from data_cards.formats.messages import call_arguments, thought_block, tool_schemas, turns_of
from data_cards.formats.published_rows import call_form_of, own_beginning, read_records
from data_cards.formats.source import Row, Source, Table

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


def conversations(source: Source, name: SetName) -> Table:
    """Make trajectories conversations in our tags, and pairs conversations that end in two sides.

    Rows of trajectories name their model, origin and licence, which LLaMA-Factory does not read.
    """

    def rows(split: str) -> Iterator[Row]:
        if name is SetName.COT_A:
            for pair in read_records(name, split):
                yield {"id": pair.pair_id, **ranking(source.asked(pair.question), pair)}
            return
        for trajectory in source.trajectories(name, split):
            turns = conversation(source.asked(trajectory.question), trajectory.steps)
            yield {
                "id": trajectory.trajectory_id,
                "model": trajectory.model,
                "origin": trajectory.origin,
                "license": trajectory.license,
                "conversations": turns,
            }

    return Table(rows)


def calls(source: Source, name: SetName) -> Table:
    """Make trajectories conversations with `function_call`, and `tools` JSON text."""
    tools = [tool["function"] for tool in tool_schemas(call_form_of(name).tools)]
    tools_json = json.dumps(tools)

    def rows(split: str) -> Iterator[Row]:
        for trajectory in source.trajectories(name, split):
            turns = call_turns(source.asked(trajectory.question), trajectory.steps)
            yield {"id": trajectory.trajectory_id, "conversations": turns, "tools": tools_json}

    return Table(rows)


def describe(folder: Path) -> None:
    """Write dataset_info.json, which names the files of conversations in a folder."""
    known: dict[str, Any] = {}
    for path in sorted(folder.glob("*_*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            row = json.loads(next(lines))
        if "conversations" not in row:
            continue
        columns = {"messages": "conversations"}
        for name in ("chosen", "rejected", "tools"):
            if name in row:
                columns[name] = name
        entry: dict[str, Any] = {"file_name": path.name, "formatting": "sharegpt"}
        if "chosen" in row:
            entry["ranking"] = True
        known[path.stem] = {**entry, "columns": columns}
    if known:
        text = json.dumps(known, indent=2) + "\n"
        (folder / INFO).write_text(text, encoding="utf-8")
