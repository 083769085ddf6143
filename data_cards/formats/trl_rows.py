"""Write the sets in the forms that TRL's trainers read without a line of code."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from coa import protocol
from coa.trajectory import Author, Step
from data_cards.catalogue import SPLITS, SetName
from data_cards.formats.messages import CallForm
from data_cards.formats.published_rows import preference_texts
from data_cards.formats.row_files import write_rows
from data_cards.formats.source import Source

_TURN = pa.schema([(name, pa.string()) for name in ("id", "prompt", "completion")])
_PAIR = pa.schema([(name, pa.string()) for name in ("id", "prompt", "chosen", "rejected")])
_PROMPT = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", CallForm((), None).schema),
        ("gold_answers", pa.list_(pa.string())),
    ]
)


def write_messages(folder: Path, source: Source) -> dict[str, int]:
    """Write trajectories as `messages`, and `tools` as JSON text, which TRL's trainers parse."""
    counts = {}
    for name in source.with_trajectories:
        form = source.call_form(name)
        columns = [pa.field("id", pa.string()), pa.field("messages", form.schema)]
        if form.tools:
            columns.append(pa.field("tools", pa.string()))
        for split in SPLITS:
            path = folder / f"messages/{name}_{split}.parquet"
            tools = form.tools_json if form.tools else None
            rows = source.message_rows(name, split, form, tools)
            counts[f"trl/messages/{name}_{split}"] = write_rows(path, pa.schema(columns), rows)
    return counts


def write_completions(folder: Path, source: Source) -> dict[str, int]:
    """Write each turn of the policy as `prompt` and `completion`, in our tags."""
    counts = {}
    for name in source.with_trajectories:
        for split in SPLITS:
            path = folder / f"completion/{name}_{split}.parquet"
            rows = _turn_rows(source, name, split)
            counts[f"trl/completion/{name}_{split}"] = write_rows(path, _TURN, rows)
    return counts


def _turn_rows(source: Source, name: SetName, split: str) -> Iterator[dict[str, Any]]:
    for trajectory in source.trajectories(name, split):
        prompt = source.prompt.fill(trajectory.question)
        for before, own in own_stretches(trajectory.steps):
            yield {
                "id": trajectory.trajectory_id,
                "prompt": prompt + before,
                "completion": own,
            }


def own_stretches(steps: Sequence[Step]) -> Iterator[tuple[str, str]]:
    """Yield each stretch that the policy wrote, after all the text before it."""
    before = ""
    own = ""
    for step in steps:
        if step.author is Author.POLICY:
            own += step.text
            continue
        if own:
            yield before, own
        before += own + step.text
        own = ""
    if own:
        yield before, own


def write_preferences(folder: Path, source: Source) -> dict[str, int]:
    """Write pairs as the texts `prompt`, `chosen` and `rejected`, in our tags."""
    if SetName.COT_A not in source.names:
        return {}
    counts = {}
    for split in SPLITS:
        path = folder / f"preference/{split}.parquet"
        rows = _preference_rows(source, split)
        counts[f"trl/preference/{split}"] = write_rows(path, _PAIR, rows)
    return counts


def _preference_rows(source: Source, split: str) -> Iterator[dict[str, Any]]:
    for pair in source.pairs(split):
        asked = source.prompt.fill(pair.question) + protocol.render(pair.prefix)
        yield {**preference_texts(pair), "id": pair.pair_id, "prompt": asked}


def write_prompts(folder: Path, source: Source) -> dict[str, int]:
    """Write questions as prompts for GRPO; reward functions are given `gold_answers`."""
    if SetName.RL not in source.names:
        return {}
    counts = {}
    for split in SPLITS:
        path = folder / f"prompts/{split}.parquet"
        rows = _prompt_rows(source, split)
        counts[f"trl/prompts/{split}"] = write_rows(path, _PROMPT, rows)
    return counts


def _prompt_rows(source: Source, split: str) -> Iterator[dict[str, Any]]:
    for question in source.questions(split):
        yield {
            "id": question.question_id,
            "prompt": [{"role": "user", "content": source.asked(question.question)}],
            "gold_answers": list(question.gold_answers),
        }
