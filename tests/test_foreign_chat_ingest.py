"""Foreign chats go through `synth.ingest` and `curate.grade` like any trajectory."""

from pathlib import Path
from typing import TypeGuard

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coa.doctor.recorded_authors import mask_fault
from coa.errors import InputError
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Author, StepKind
from coa.store import tables
from coa.store.files import GRADED
from curate import grade
from synth import ingest, questions
from synth.ingest import DroppedLine
from tests.foreign_chat_support import PARIS, Run, Spelling, chat_row
from tests.ingest_support import TRAINING, ingest_params, make_folder, write

REACT_CHAT = [
    {"role": "user", "content": "Which?"},
    {"role": "assistant", "content": "Thought: a\nAction: finish[Paris]"},
]


@pytest.fixture
def folder(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with settings and prompts."""
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path, root)
    return tmp_path


def graded(*samples: str) -> list[GradedTrajectory]:
    """Run the stages from the files to the grades."""
    questions.main([])
    grade.main([f"samples=[{','.join(samples)}]"])
    return list(tables.read_table(GRADED, GradedTrajectory))


@pytest.mark.parametrize("spelling", list(Spelling))
def test_a_chat_is_ingested_graded_and_passes_the_gates_check_of_masks(
    spelling: Spelling, folder: Path
) -> None:
    write(folder / "a.jsonl", chat_row(spelling, PARIS))
    summary = ingest.main(["ingest.files=[{path: a.jsonl, split: train}]"])
    kind = "sharegpt" if spelling is Spelling.SHAREGPT else "messages"
    assert summary.startswith(f"data/ingest: 1 of 1 rows (1 {kind}) as 1 coa")
    (row,) = graded("data/ingest")
    assert row.grade.exact_match
    assert mask_fault(row) == ""
    steps = row.trajectory.steps
    called = [step for step in steps if step.kind is StepKind.ACTION]
    assert [step.tool for step in called] == ["search", "visit_page"]
    assert all(step.transcribed for step in called)
    assert {step.author for step in steps} == {Author.POLICY, Author.ENVIRONMENT}


def test_chats_of_fireact_are_told_from_chats_that_call_tools(folder: Path) -> None:
    rows = [chat_row(Spelling.DEEPSEEK, PARIS), {"messages": REACT_CHAT}]
    write(folder / "a.jsonl", *rows, TRAINING, {"messages": [{"role": "user"}]})
    summary = ingest.main(["ingest.files=[{path: a.jsonl}]"])
    assert "1 of 4 rows (1 messages)" in summary
    dropped = list(tables.read_table(Path("data/ingest/dropped.parquet"), DroppedLine))
    assert [(row.line, str(row.reason)) for row in dropped] == [
        (2, "no_gold_answer"),
        (3, "no_gold_answer"),
        (4, "no_question"),
    ]


def test_parquet_gives_the_same_steps_though_it_adds_nulls_for_the_fields_of_other_rows(
    folder: Path,
) -> None:
    rows = [chat_row(Spelling.GPT_OSS, PARIS), chat_row(Spelling.GPT_OSS, Run((), "", "Paris"))]
    table = pa.Table.from_pylist(rows)
    assert table.to_pylist() != rows
    pq.write_table(table, folder / "a.parquet")
    write(folder / "b.jsonl", *rows)
    found = list(ingest.ingest(ingest_params("a.parquet"))) + list(
        ingest.ingest(ingest_params("b.jsonl"))
    )
    first, second, third, fourth = [row.trajectory.steps for row in found if is_read(row)]
    assert (first, second) == (third, fourth)


def is_read(row: ingest.Ingested | DroppedLine) -> TypeGuard[ingest.Ingested]:
    return isinstance(row, ingest.Ingested)


def test_a_row_of_parquet_that_is_not_utf8_is_dropped_with_its_number(folder: Path) -> None:
    answers = pa.array([b"Paris", b"\xff", b"a\0"]).cast(pa.string(), safe=False)
    pq.write_table(pa.table({"answer": answers, "messages": [[], [], []]}), folder / "a.parquet")
    found = list(ingest.ingest(ingest_params("a.parquet")))
    reasons = [(row.line, row.reason.value) for row in found if isinstance(row, DroppedLine)]
    assert reasons == [(1, "no_question"), (2, "not_utf8"), (3, "null_byte")]
    (folder / "b.parquet").write_bytes(b"x")
    with pytest.raises(InputError, match=r"cannot read b\.parquet"):
        list(ingest.ingest(ingest_params("b.parquet")))
