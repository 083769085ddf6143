"""Write the rows of a set as they are published: flat columns that trainers read, then our record.

| set | flat columns | record |
|---|---|---|
| `coa`, `cot` | `id`, `messages`, and `tools`, which may be none | the other columns |
| `cot_a` | `id`, `prompt`, `chosen`, `rejected` as texts; `tool` and its worth | `pair` |
| `rl` | `prompt` as messages | the other columns |

The `prompt` of a pair is the one that a student is trained with; its teacher's is in the record.
`data/assemble` has the records alone. A row is written from its record and read back for the gate,
which compares both (`flat_fault`).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.protocol import observation_body
from coa.records.question import Question
from coa.records.trajectory import Author, Step, StepKind
from coa.settings.params import Params
from coa.store import tables
from coa.student.settings import TrainParams
from data_cards.catalogue import HAS_TRAJECTORIES, SPLITS, SetName, local_path
from data_cards.formats.messages import (
    PLAIN_MESSAGES,
    CallForm,
    call_arguments,
    call_form,
    table_messages,
    user_content,
)

Record = GradedTrajectory | PreferencePair | Question
RECORDS: Mapping[SetName, type[Record]] = {
    SetName.COT_A: PreferencePair,
    SetName.COA: GradedTrajectory,
    SetName.COT: GradedTrajectory,
    SetName.RL: Question,
}
_ROWS_AT_ONCE = 1_000
_TEXTS = ("id", "prompt", "chosen", "rejected", "tool")
_WORTHS = ("worth", "worth_low", "worth_high")
"""What calling the tool was worth at a pair's point, with its interval; null if not measured."""


@dataclass(frozen=True, slots=True)
class _PublishedPair:
    """The part of a published pair that is read back as a record."""

    pair: PreferencePair


class PublishedRow(NamedTuple):
    """A published row."""

    record: Record
    flat: Mapping[str, Any]
    """The columns that trainers read."""


def published_file(name: SetName, split: str, folder: Path) -> Path:
    """Give the path of a split in a folder of published files."""
    return folder / name / f"{split}.parquet"


def student_prompt(params: Params) -> Prompt:
    """Load the prompt that a student is trained with.

    The tokenizer's own chat template is left to its trainer.
    """
    train = params.section(TrainParams, "train")
    return Prompt.load(Path(train.prompt), train.chat_template or "{prompt}\n\n")


def write_published(
    names: Iterable[SetName], folder: Path, prompt: Prompt | None = None
) -> list[Path]:
    """Write the splits of these sets into a folder; skip one without a file here."""
    written = []
    for name in names:
        form = call_form_of(name)
        for split in _splits_of(name):
            path = published_file(name, split, folder)
            rows = (_row(name, record, form, prompt) for record in read_records(name, split))
            write_rows(path, _schema(name, form), rows)
            written.append(path)
    return written


def write_rows(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows to parquet, a group at a time, and return how many there were."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left = iter(rows)
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(left, _ROWS_AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
    return count


def read_records(name: SetName, split: str) -> Iterator[Any]:
    """Read the records of a split, which are what this project has."""
    return tables.read_table(local_path(name, split), RECORDS[name])


def call_form_of(name: SetName) -> CallForm:
    """Find how the calls of a set are written, as in all sets that have a file."""
    form = call_form(_steps_of(HAS_TRAJECTORIES))
    return replace(form, tools=call_form(_steps_of([name])).tools)


def _steps_of(names: Iterable[SetName]) -> Iterator[Sequence[Step]]:
    for name in names:
        for split in _splits_of(name) if name in HAS_TRAJECTORIES else ():
            for row in read_records(name, split):
                yield row.trajectory.steps


def _splits_of(name: SetName) -> list[str]:
    return [split for split in SPLITS if local_path(name, split).exists()]


def read_published(name: SetName, split: str, folder: Path) -> Iterator[PublishedRow]:
    """Read the published rows of a split."""
    path = published_file(name, split, folder)
    file = tables.open_parquet(path)
    known = {"messages", "tools", *_TEXTS, *_WORTHS}
    columns = [column for column in file.schema_arrow.names if column in known]
    records: Iterator[Record] = tables.read_table(path, RECORDS[name])
    if name is SetName.COT_A:
        records = (row.pair for row in tables.read_table(path, _PublishedPair))
    for batch in tables.parquet_batches(path, file, columns):
        for flat in batch.to_pylist():
            yield PublishedRow(next(records), flat)


def _schema(name: SetName, form: CallForm) -> pa.Schema:
    """Return the columns of a published set, with the version of our records."""
    record = tables.schema_of(RECORDS[name])
    if name is SetName.COT_A:
        columns = [pa.field(column, pa.string()) for column in _TEXTS]
        columns += [pa.field(column, pa.float64()) for column in _WORTHS]
        columns.append(pa.field("pair", pa.struct(list(record)), nullable=False))
    elif name is SetName.RL:
        columns = [pa.field("prompt", PLAIN_MESSAGES), *record]
    else:
        columns = [pa.field("id", pa.string()), pa.field("messages", form.schema)]
        columns += [pa.field("tools", pa.string()), *record]
    return pa.schema(columns, metadata=record.metadata)


def _row(name: SetName, record: Any, form: CallForm, prompt: Prompt | None) -> dict[str, Any]:
    """Return a record as a published row."""
    values: dict[str, Any] = msgspec.to_builtins(record)
    if name is SetName.COT_A:
        columns = _pair_columns(record)
        if prompt is not None:
            columns["prompt"] = prompt.fill(record.question) + protocol.render(record.prefix)
        return {**columns, "id": record.pair_id, "pair": values}
    if name is SetName.RL:
        asked = [{"role": "user", "content": user_content(record.question)}]
        return {"prompt": asked, **values}
    trajectory = record.trajectory
    messages = table_messages(user_content(trajectory.question), trajectory.steps, form)
    flat = {"id": trajectory.trajectory_id, "messages": messages, "tools": form.tools_json}
    return {**flat, **values}


def _pair_columns(pair: PreferencePair) -> dict[str, str | float | None]:
    """Return the flat columns of a pair, without its id."""
    columns: dict[str, str | float | None] = {**preference_texts(pair), "tool": pair.tool}
    columns |= dict.fromkeys(_WORTHS)
    if pair.worth is not None:
        columns["worth"] = pair.worth.value
        columns["worth_low"] = pair.worth.low
        columns["worth_high"] = pair.worth.high
    return columns


def preference_texts(pair: PreferencePair) -> dict[str, str]:
    """Return a pair as three texts; a side ends where its first search result would begin."""
    return {
        "prompt": pair.prompt + protocol.render(pair.prefix),
        "chosen": own_beginning(pair.chosen),
        "rejected": own_beginning(pair.rejected),
    }


def own_beginning(steps: Sequence[Step]) -> str:
    """Return the text before the first search result."""
    own = []
    for step in steps:
        if step.author is Author.ENVIRONMENT:
            break
        own.append(step)
    return protocol.render(own)


def flat_own_text(row: PublishedRow) -> str:
    """Return what the flat columns have of the policy's text, for the search for private text."""
    record, flat = row
    if isinstance(record, Question):
        return ""
    if isinstance(record, PreferencePair):
        prefix = protocol.render(record.prefix)
        return "\n".join((prefix, flat["chosen"], flat["rejected"]))
    own = [turn for turn in flat["messages"] if turn["role"] == "assistant"]
    return "\n".join(str(turn["content"]) for turn in own)


def flat_fault(row: PublishedRow) -> str:
    """Say where the flat columns of a row give text to another author than its record does.

    Empty for a sound row. Blanks and our tags do not count; all other characters do.
    """
    record, flat = row
    if isinstance(record, Question):
        asked = [{"role": "user", "content": user_content(record.question)}]
        return "" if flat["prompt"] == asked else "the prompt does not ask the question"
    if isinstance(record, PreferencePair):
        for column, value in _pair_columns(record).items():
            if column != "prompt" and flat[column] != value:
                return f"the column {column} differs from the pair"
        # The prompt is the teacher's, or another one with the same question.
        prompt = str(flat["prompt"])
        begun = protocol.render(record.prefix)
        has_question = user_content(record.question) in prompt
        asks = has_question and prompt.endswith(f"{protocol.THINK_OPEN}\n{begun}")
        is_sound = asks or prompt == record.prompt + begun
        return "" if is_sound else "the column prompt differs from the pair"
    return _message_fault(flat["messages"], record.trajectory.steps)


def _message_fault(messages: Sequence[Mapping[str, Any]], steps: Sequence[Step]) -> str:
    said: dict[str, str] = {"user": "", "assistant": "", "tool": ""}
    calls = []
    for message in messages:
        said[message["role"]] += _letters(message["content"])
        for call in message.get("tool_calls") or ():
            arguments = call["function"]["arguments"]
            calls.append(
                msgspec.json.decode(arguments) if isinstance(arguments, str) else arguments
            )
    policy = ""
    observed = ""
    made = []
    for step in steps:
        if step.kind is StepKind.ACTION:
            made.append(call_arguments(step.tool or "", step.argument or ""))
            continue
        if step.kind is StepKind.OBSERVATION:
            observed += _letters(observation_body(step))
        is_inserted = step.kind is StepKind.MARKER and not protocol.closes_thinking(step)
        if step.author is not Author.ENVIRONMENT and not is_inserted:
            policy += step.text
    if said["assistant"] != _letters(policy):
        return "the assistant's messages differ from what the policy wrote"
    if said["tool"] != observed:
        return "the tools' messages differ from what the environment wrote"
    return "" if calls == made else "the calls differ from those that the policy made"


def _letters(text: str) -> str:
    """Return a text without blanks and without the tags of thinking."""
    for tag in (protocol.THINK_OPEN, protocol.THINK_CLOSE):
        text = text.replace(tag, "")
    return "".join(text.split())
