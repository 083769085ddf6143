"""Write the sets in the forms that TRL's trainers read without a line of code."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from coa import protocol
from coa.trajectory import Author, Step
from data_cards.catalogue import SetName
from data_cards.formats.messages import CallForm
from data_cards.formats.published_rows import preference_texts
from data_cards.formats.source import Source
from data_cards.formats.split_files import write_splits

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
    counts: dict[str, int] = {}
    for name in source.with_trajectories:
        form = source.call_form(name)
        columns = [pa.field("id", pa.string()), pa.field("messages", form.schema)]
        if form.tools:
            columns.append(pa.field("tools", pa.string()))
        tools = form.tools_json if form.tools else None
        rows_of = partial(source.message_rows, name, form=form, tools=tools)
        counts |= write_splits(folder, f"messages/{name}_", pa.schema(columns), rows_of)
    return counts


def write_completions(folder: Path, source: Source) -> dict[str, int]:
    """Write each turn of the policy as `prompt` and `completion`, in our tags."""
    counts: dict[str, int] = {}
    for name in source.with_trajectories:
        rows_of = partial(_turn_rows, source, name)
        counts |= write_splits(folder, f"completion/{name}_", _TURN, rows_of)
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
    return write_splits(folder, "preference/", _PAIR, partial(_preference_rows, source))


def _preference_rows(source: Source, split: str) -> Iterator[dict[str, Any]]:
    for pair in source.pairs(split):
        asked = source.prompt.fill(pair.question) + protocol.render(pair.prefix)
        yield {**preference_texts(pair), "id": pair.pair_id, "prompt": asked}


def write_prompts(folder: Path, source: Source) -> dict[str, int]:
    """Write questions as prompts for GRPO; reward functions are given `gold_answers`."""
    if SetName.RL not in source.names:
        return {}
    return write_splits(folder, "prompts/", _PROMPT, partial(_prompt_rows, source))


def _prompt_rows(source: Source, split: str) -> Iterator[dict[str, Any]]:
    for question in source.questions(split):
        yield {
            "id": question.question_id,
            "prompt": [{"role": "user", "content": source.asked(question.question)}],
            "gold_answers": list(question.gold_answers),
        }
