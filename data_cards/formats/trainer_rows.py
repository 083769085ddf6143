"""Make the rows that TRL's and verl's trainers read without a line of code."""

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from coa.records import protocol
from coa.records.trajectory import Author, Step
from data_cards.catalogue import SetName
from data_cards.formats.messages import PARAMETERS, PLAIN_MESSAGES, table_messages, tool_schemas
from data_cards.formats.published_rows import call_form_of, preference_texts, read_records
from data_cards.formats.source import Row, Source, Table

_TURN = pa.schema([(name, pa.string()) for name in ("id", "prompt", "completion")])
_PAIR = pa.schema([(name, pa.string()) for name in ("id", "prompt", "chosen", "rejected")])
_PROMPT = pa.schema(
    [
        ("id", pa.string()),
        ("prompt", PLAIN_MESSAGES),
        ("gold_answers", pa.list_(pa.string())),
    ]
)
_GROUND_TRUTH = pa.struct([("target", pa.list_(pa.string()))])
_VERL_PROMPT = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", PLAIN_MESSAGES),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", _GROUND_TRUTH)])),
        (
            "extra_info",
            pa.struct(
                [("split", pa.string()), ("index", pa.int64()), ("question_id", pa.string())]
            ),
        ),
    ]
)


def trl_messages(source: Source, name: SetName) -> Table:
    """Make trajectories `messages`, and `tools` JSON text, which TRL's trainers parse."""
    return _messages(source, name, call_form_of(name).tools_json, pa.string())


def verl_messages(source: Source, name: SetName) -> Table:
    """Make trajectories `messages`, and `tools` a list, for verl's multi-turn SFT.

    verl reads no JSON text, so `tools` is left out where the tools differ in their parameters.
    """
    form = call_form_of(name)
    if form.parameters is None:
        return _messages(source, name, None, None)
    # The tools whose one parameter calls have; a tool of another maker where none has it.
    own = [tool for tool, parameter in PARAMETERS.items() if (parameter,) == form.parameters]
    kind = pa.array([tool_schemas(own or ["other"])]).type
    return _messages(source, name, tool_schemas(form.tools), kind)


def _messages(source: Source, name: SetName, tools: Any, kind: pa.DataType | None) -> Table:
    """Make trajectories chat messages, each row with the same `tools`; without them if None."""
    form = call_form_of(name)
    columns = [pa.field("id", pa.string()), pa.field("messages", form.schema)]
    if kind is not None:
        columns.append(pa.field("tools", kind))

    def rows(split: str) -> Iterator[Row]:
        for trajectory in source.trajectories(name, split):
            asked = source.asked(trajectory.question)
            messages = table_messages(asked, trajectory.steps, form)
            yield {"id": trajectory.trajectory_id, "messages": messages, "tools": tools}

    return Table(rows, pa.schema(columns))


def completions(source: Source, name: SetName) -> Table:
    """Make each turn of the policy a row of `prompt` and `completion`, in our tags."""

    def rows(split: str) -> Iterator[Row]:
        for trajectory in source.trajectories(name, split):
            prompt = source.prompt.fill(trajectory.question)
            for before, own in _own_stretches(trajectory.steps):
                yield {
                    "id": trajectory.trajectory_id,
                    "prompt": prompt + before,
                    "completion": own,
                }

    return Table(rows, _TURN)


def _own_stretches(steps: Sequence[Step]) -> Iterator[tuple[str, str]]:
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


def preferences(source: Source, name: SetName) -> Table:
    """Make pairs the texts `prompt`, `chosen` and `rejected`, in our tags."""

    def rows(split: str) -> Iterator[Row]:
        for pair in read_records(name, split):
            prompt = source.prompt.fill(pair.question) + protocol.render(pair.prefix)
            yield {**preference_texts(pair), "id": pair.pair_id, "prompt": prompt}

    return Table(rows, _PAIR)


def trl_prompts(source: Source, name: SetName) -> Table:
    """Make questions prompts for GRPO; reward functions are given `gold_answers`."""

    def rows(split: str) -> Iterator[Row]:
        for question in read_records(name, split):
            yield {
                "id": question.question_id,
                "prompt": [{"role": "user", "content": source.asked(question.question)}],
                "gold_answers": list(question.gold_answers),
            }

    return Table(rows, _PROMPT)


def verl_prompts(source: Source, name: SetName) -> Table:
    """Make questions prompts for rule-based rewards, with gold answers as in Search-R1."""

    def rows(split: str) -> Iterator[Row]:
        for index, question in enumerate(read_records(name, split)):
            truth = {"target": list(question.gold_answers)}
            yield {
                "data_source": question.source or "unknown",
                "prompt": [{"role": "user", "content": source.asked(question.question)}],
                "ability": "fact-reasoning",
                "reward_model": {"style": "rule", "ground_truth": truth},
                "extra_info": {
                    "split": split,
                    "index": index,
                    "question_id": question.question_id,
                },
            }

    return Table(rows, _VERL_PROMPT)
