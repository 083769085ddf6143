"""Write verl's files: questions and trajectories."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from coa.question import Question
from data_cards.catalogue import SetName
from data_cards.formats.source import Source
from data_cards.formats.split_files import write_splits
from data_cards.formats.turns import tool_schemas

_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_GROUND_TRUTH = pa.struct([("target", pa.list_(pa.string()))])
_REWARD_MODEL = pa.struct([("style", pa.string()), ("ground_truth", _GROUND_TRUTH)])
_EXTRA_INFO = pa.struct(
    [("split", pa.string()), ("index", pa.int64()), ("question_id", pa.string())]
)
_RL = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(_MESSAGE)),
        ("ability", pa.string()),
        ("reward_model", _REWARD_MODEL),
        ("extra_info", _EXTRA_INFO),
    ]
)


def write_rl(folder: Path, source: Source) -> dict[str, int]:
    """Write the questions of the RL set and return the number of rows by file.

    Raises:
        InputError: the set is missing or broken.
    """
    if SetName.RL not in source.names:
        return {}
    return write_splits(folder, "", _RL, partial(_rl_rows, source))


def _rl_rows(source: Source, split: str) -> Iterator[dict[str, Any]]:
    for index, question in enumerate(source.questions(split)):
        yield rl_row(question, source.asked(question.question), split, index)


def rl_row(question: Question, prompt: str, split: str, index: int) -> dict[str, Any]:
    """Make verl's row of a question for rule-based rewards, with gold answers as in Search-R1."""
    return {
        "data_source": question.source or "unknown",
        "prompt": [{"role": "user", "content": prompt}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": {"target": list(question.gold_answers)}},
        "extra_info": {"split": split, "index": index, "question_id": question.question_id},
    }


def write_sft(folder: Path, source: Source) -> dict[str, int]:
    """Write trajectories as `messages`, and `tools` as a list, for verl's multi-turn SFT.

    verl reads no JSON text, so `tools` is left out where the tools differ in their parameters.
    """
    counts: dict[str, int] = {}
    for name in source.with_trajectories:
        form = source.call_form(name)
        columns = [pa.field("id", pa.string()), pa.field("messages", form.schema)]
        tools = None
        if form.parameters is not None:
            tools = tool_schemas(form.tools)
            columns.append(pa.field("tools", pa.array([tools]).type))
        rows_of = partial(source.message_rows, name, form=form, tools=tools)
        counts |= write_splits(folder, f"sft/{name}_", pa.schema(columns), rows_of)
    return counts
