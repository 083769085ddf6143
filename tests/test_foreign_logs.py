"""Test the logs of agent frameworks: ATIF, verifiers' traces and Inspect's samples."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coa.doctor.recorded_authors import mask_fault
from coa.foreign.frames import prediction
from coa.foreign.record import Format
from coa.foreign.rows import read_foreign_row
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Outcome, StepKind
from coa.records.unreadable import UnreadableError, UnreadableReason
from coa.store import tables
from coa.store.files import GRADED
from curate import grade
from synth import ingest, questions
from tests.foreign_chat_support import PARIS, QUESTION, Row, Spelling, messages
from tests.ingest_support import make_folder

STEPS: list[Row] = [
    {"step_id": 1, "source": "system", "message": "Use the tools."},
    {"step_id": 2, "source": "user", "message": QUESTION},
    {
        "step_id": 3,
        "source": "agent",
        "message": "Let me search.",
        "reasoning_content": "I look.",
        "tool_calls": [
            {"tool_call_id": "c0", "function_name": "search", "arguments": {"query": "Eiffel"}}
        ],
        "observation": {"results": [{"source_call_id": "c0", "content": "In Paris."}]},
    },
    {"step_id": 4, "source": "agent", "message": "Paris", "reasoning_content": "So it is."},
]
ATIF = {
    "schema_version": "ATIF-v1.8",
    "session_id": "s",
    "agent": {"name": "a", "version": "1", "model_name": "m-1"},
    "steps": STEPS,
    "extra_info": {"answer": "Paris"},
}


def flat_calls(message: Row) -> Row:
    """A message with its calls as verifiers has them."""
    calls = message.get("tool_calls")
    if calls is None:
        return message
    flat = [{"id": call["id"], **call["function"]} for call in calls]
    return {**message, "tool_calls": flat}


def trace() -> Row:
    nodes = []
    for index, message in enumerate(messages(Spelling.DEEPSEEK, PARIS)):
        sampled = message["role"] == "assistant"
        ids = [1, 2]
        node = {"parent": index - 1 if index else None, "message": flat_calls(message)}
        nodes.append({**node, "sampled": sampled, "token_ids": ids, "mask": [False, sampled]})
    task = {"type": "QA", "data": {"idx": 0, "prompt": QUESTION, "answer": "Paris"}}
    return {"version": 1, "task": task, "nodes": nodes, "calls": [{"node": 2, "model": "m-1"}]}


def sample() -> Row:
    items = messages(Spelling.PARTS, PARIS)
    for message in items:
        for call in message.get("tool_calls", ()):
            function = call["function"]
            call.update(function=function["name"], arguments=json.loads(function["arguments"]))
    output = {"model": "m-1", "choices": []}
    columns = {"id": 7, "epoch": 1, "input": QUESTION, "target": "Paris", "scores": {}}
    return {**columns, "messages": items, "output": output}


LOGS: list[tuple[Format, Callable[[], Row]]] = [
    (Format.ATIF, lambda: json.loads(json.dumps(ATIF))),
    (Format.VERIFIERS, trace),
    (Format.INSPECT, sample),
]


@pytest.mark.parametrize(("form", "make"), LOGS)
def test_a_log_is_ingested_graded_and_passes_the_gates_check_of_masks(
    form: Format,
    make: Callable[[], Row],
    tmp_path: Path,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path, root)
    document = json.dumps(make(), indent=2).encode()
    (tmp_path / "a.json").write_bytes(document)
    summary = ingest.main([f"ingest.files=[{{path: a.json, format: {form}, split: train}}]"])
    assert summary.startswith(f"data/ingest: 1 of 1 rows (1 {form}) as 1 coa")
    questions.main([])
    grade.main(["samples=[data/ingest]"])
    (row,) = tables.read_table(GRADED, GradedTrajectory)
    assert row.grade.exact_match and mask_fault(row) == ""
    assert (row.trajectory.model, row.trajectory.question) == ("m-1", QUESTION)


@pytest.mark.parametrize(("form", "make"), LOGS)
def test_a_log_is_told_by_its_columns_and_read_with_every_author(
    form: Format, make: Callable[[], Row]
) -> None:
    row = read_foreign_row(make())
    assert (row.format, row.gold_answers, prediction(row.steps)) == (form, ("Paris",), "Paris")
    first = [(step.kind, step.text) for step in row.steps[:2]]
    assert first == [(StepKind.THOUGHT, "I look."), (StepKind.THOUGHT, "Let me search.")]
    assert row.steps[3].text == "In Paris."


def atif(place: int, **fields: Any) -> Row:
    steps = [dict(step) for step in STEPS]
    steps[place].update(fields)
    return {**ATIF, "steps": steps}


def traced(place: int, **fields: Any) -> Row:
    row = trace()
    row["nodes"][place].update(fields)
    return row


def sampled(place: int, **fields: Any) -> Row:
    row = sample()
    row["messages"][place].update(fields)
    return row


SECOND = {"source_call_id": "c1", "content": "b"}


@pytest.mark.parametrize(
    ("row", "reason", "message"),
    [
        (atif(3, source="critic"), UnreadableReason.UNKNOWN_AUTHOR, 4),
        (atif(3, source="user"), UnreadableReason.UNKNOWN_AUTHOR, 4),
        (atif(2, observation=None), UnreadableReason.NO_OBSERVATION, 4),
        (atif(2, tool_calls=[]), UnreadableReason.WRONG_FORMAT, 3),
        (atif(2, observation={"results": [{}]}), UnreadableReason.NO_OBSERVATION, 3),
        (atif(2, observation={"results": [SECOND]}), UnreadableReason.WRONG_FORMAT, 3),
        (traced(3, parent=1), UnreadableReason.WRONG_FORMAT, 4),
        (traced(2, sampled=False), UnreadableReason.UNKNOWN_AUTHOR, 3),
        (traced(3, sampled=True), UnreadableReason.UNKNOWN_AUTHOR, 4),
        (traced(3, message=None), UnreadableReason.WRONG_FORMAT, 4),
        (sampled(2, source="input"), UnreadableReason.UNKNOWN_AUTHOR, 3),
        (sampled(2, tool_calls=[{"parse_error": "x"}]), UnreadableReason.BAD_CALL, 3),
    ],
)
def test_what_a_log_cannot_say_is_refused_with_the_message(
    row: Row, reason: UnreadableReason, message: int
) -> None:
    with pytest.raises(UnreadableError) as caught:
        read_foreign_row(row)
    assert caught.value.reason is reason
    assert caught.value.detail.startswith(f"message {message}:")


@pytest.mark.parametrize("steps", [None, 3, [], [3], [{}]])
def test_a_log_without_steps_is_refused(steps: Any) -> None:
    for row in ({**ATIF, "steps": steps}, {**trace(), "nodes": [{"message": steps}]}):
        with pytest.raises(UnreadableError):
            read_foreign_row(row)


def test_the_samples_of_a_log_are_rows_with_the_model_of_the_log(tmp_path: Path) -> None:
    samples = [{**sample(), "output": {}}, "broken"]
    log = {"version": 2, "eval": {"model": "openai/gpt"}, "samples": samples}
    (tmp_path / "log.json").write_text(json.dumps(log, indent=2))
    found = ingest.ingest(
        ingest.IngestParams((ingest.ForeignFile(str(tmp_path / "log.json")),), 10_000_000)
    )
    read, broken = list(found)
    assert isinstance(read, ingest.Ingested) and isinstance(broken, ingest.DroppedLine)
    assert (read.trajectory.model, read.trajectory.question_id) == ("openai/gpt", "7")
    assert (broken.line, broken.reason) == (2, UnreadableReason.NOT_JSON)


def test_a_tool_that_failed_in_inspect_is_an_error_that_the_policy_read() -> None:
    row = sampled(3, content="", error={"type": "timeout", "message": "too slow"})
    (shown, _) = [step for step in read_foreign_row(row).steps if step.outcome]
    assert (shown.text, shown.outcome) == ("too slow", Outcome.ERROR)
