"""Find a trajectory, its prompt, question and gold answers in rows with one text."""

from pathlib import Path
from typing import Any

import pytest

from coa.foreign.record import Format
from coa.foreign.rows import FORMATS, read_foreign_row
from coa.foreign.text_rows import TEXT_COLUMNS
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.grading import boxed_answer
from coa.records.trajectory import Author, Mode, StepKind, Trajectory
from coa.records.unreadable import UnreadableError, UnreadableReason
from synth.ingest import ForeignFile, Ingested, Ingestion
from tests.foreign_family_examples import EXAMPLES, Example
from tests.ingest_support import write

TEXT = "<search>q</search><information>i</information><answer>Paris</answer>"
CHAT_ML = "<|im_start|>user\nQuestion: Which?<|im_end|>\n<|im_start|>assistant\n"


def test_every_format_stands_in_the_table() -> None:
    assert {reader.format for reader in FORMATS} == set(Format) - {Format.AUTO}


def reason_of(row: dict[str, Any], expected: Format = Format.AUTO) -> tuple[str, str]:
    with pytest.raises(UnreadableError) as error:
        read_foreign_row(row, expected)
    return error.value.reason, error.value.detail


@pytest.mark.parametrize("name", TEXT_COLUMNS[:7])
def test_a_text_may_stand_in_any_of_the_columns(name: str) -> None:
    row = read_foreign_row({"question": "Which?", name: TEXT})
    assert (row.format, protocol.render(row.steps)) == (Format.SEARCH_R1, TEXT)


def test_two_columns_with_a_text_are_two_readings() -> None:
    row = {"question": "Which?", "output": TEXT, "response": TEXT}
    assert reason_of(row) == ("wrong_format", "the text may be that of response or output")
    assert read_foreign_row({**row, "output": "Paris"}).format is Format.SEARCH_R1


def test_a_prompt_at_the_start_of_the_text_is_not_the_policys() -> None:
    asked = "Search with <search> and </search>. Question: Which?\n"
    row = read_foreign_row({"prompt": asked, "text": asked + TEXT})
    assert (row.prompt, row.question, protocol.render(row.steps)) == (asked, "Which?", TEXT)
    row = read_foreign_row({"text": CHAT_ML + TEXT, "question": "Which?"})
    assert (row.prompt, protocol.render(row.steps)) == (CHAT_ML, TEXT)


@pytest.mark.parametrize(
    ("columns", "question"),
    [
        ({"Question": " Which? "}, "Which?"),
        ({"prompt": "Where is it?"}, "Where is it?"),
        ({"prompt": "Question: a\nQuestion: b"}, "Question: a\nQuestion: b"),
        ({"prompt": [{"role": "user", "content": "Do. Question: Which?\n"}]}, "Which?"),
        ({"instruction": "Where is it?"}, "Where is it?"),
        ({"instruction": "Do.", "input": "Where is it?"}, "Do.\nWhere is it?"),
        ({"input": "user\nDo. Question: Which?\nassistant\n"}, "Which?"),
        ({"prompt": CHAT_ML.replace("Question: ", "")}, "Which?"),
    ],
)
def test_the_question_is_what_was_asked(columns: dict[str, Any], question: str) -> None:
    assert read_foreign_row({**columns, "response": TEXT}).question == question


def test_a_row_without_a_question_has_none_made_up() -> None:
    assert reason_of({"response": TEXT})[0] == "no_question"
    users = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert reason_of({"response": TEXT, "prompt": users})[0] == "no_question"


def test_tags_of_two_formats_are_refused_and_a_named_format_decides() -> None:
    row = {"question": "Which?", "response": TEXT.replace("i</inf", "<result></inf")}
    reason, detail = reason_of(row)
    assert reason == "wrong_format"
    assert detail.startswith("tags of several formats: </answer>")
    assert read_foreign_row(row, Format.SEARCH_R1).format is Format.SEARCH_R1
    labelled = {"question": "Which?", "response": f"Thought: a\n{TEXT}"}
    assert reason_of(labelled)[1] == "the text may be one of react or search_r1"
    assert reason_of(row, Format.ATIF)[0] == "wrong_format"
    assert reason_of({"question": "Which?"}, Format.SEARCH_R1)[0] == "wrong_format"
    assert reason_of({"question": "Which?", "response": "Hm."})[0] == "wrong_format"


def in_own_tags(folder: Path, example: Example) -> Trajectory:
    """Read an example from a file, and write it in our tags."""
    values = {"question": "Which?", "answer": "Paris", "response": example.text}
    ingestion = Ingestion(max_row_bytes=10_000)
    (row,) = ingestion.rows(ForeignFile(str(write(folder / "rows.jsonl", values))))
    assert isinstance(row, Ingested)
    assert protocol.render(row.trajectory.steps) == example.text
    return ingestion.in_own_tags(row, {Mode.COA: Prompt("{question}", "")})


REWRITTEN = [example for example in EXAMPLES if example.format is not Format.TOOL_CALL_TEXT]


@pytest.mark.parametrize("example", REWRITTEN, ids=lambda example: example.format)
def test_every_format_is_written_in_our_tags(tmp_path: Path, example: Example) -> None:
    own = in_own_tags(tmp_path, example)
    assert boxed_answer(protocol.answer_text(own.steps)) == "Paris"
    calls = [step for step in own.steps if step.kind is StepKind.ACTION]
    assert [(call.tool, call.argument) for call in calls] == list(example.calls)
    assert own.steps[0].author is Author.POLICY
    assert protocol.stray_tags(own.steps) == []


def test_two_calls_in_one_turn_cannot_be_written_in_our_tags(tmp_path: Path) -> None:
    (example,) = (one for one in EXAMPLES if one not in REWRITTEN)
    with pytest.raises(UnreadableError) as error:
        in_own_tags(tmp_path, example)
    assert error.value.reason is UnreadableReason.NOT_REWRITTEN
