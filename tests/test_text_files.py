"""Text files as people and other programs leave them: every command reads them alike."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from coa.errors import CoaError, InputError
from coa.foreign.files import read_foreign_file
from coa.search.corpus import corpus_files, read_passages
from coa.store.sources import read_rows
from synth.question_file import QuestionFile, read_file
from synth.question_formats import QuestionFormat

ROWS = [
    {"id": "7", "title": "Ada", "text": "Ada was born in 1815."},
    {"id": "8", "title": "Bo", "text": "Bo söng."},
]
BOM = b"\xef\xbb\xbf"


def lines(rows: list[dict[str, Any]], end: bytes = b"\n") -> bytes:
    return end.join(json.dumps(row, ensure_ascii=False).encode() for row in rows)


FORMS = {
    "unix.jsonl": lines(ROWS),
    "windows.jsonl": BOM + lines(ROWS, b"\r\n") + b"\r\n",
    "blank_lines.jsonl": b"\r\n" + lines(ROWS, b"\n\r\n  \n"),
    "bom_blank.jsonl": BOM + b"\r\n" + lines(ROWS),
    "list.json": json.dumps(ROWS, indent=1).encode(),
    "one_line_list.jsonl": BOM + json.dumps(ROWS).encode(),
    "windows_list.json": BOM + json.dumps(ROWS, indent=2).encode().replace(b"\n", b"\r\n"),
    "lines.json": lines(ROWS),
    "packed.jsonl.gz": gzip.compress(BOM + lines(ROWS, b"\r\n")),
    "comma.csv": b"id,title,text\n7,Ada,Ada was born in 1815.\n8,Bo,Bo s\xc3\xb6ng.\n",
    "windows.csv": BOM
    + b"id,title,text\r\n7,Ada,Ada was born in 1815.\r\n8,Bo,Bo s\xc3\xb6ng.\r\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_rows_are_the_same_in_every_form_of_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[name])
    names = {key: key for key in ROWS[0]}
    assert [dict(row.values) for row in read_rows(path, names)] == ROWS
    passages = read_passages(corpus_files(str(path)), names)
    assert [passage.text for passage in passages] == [row["text"] for row in ROWS]
    if not name.endswith("csv"):
        assert [row.values for row in read_foreign_file(path, 10_000)] == ROWS
    columns = {"question_id": "id", "question": "text", "gold_answers": "title"}
    file = QuestionFile(path=str(path), columns=columns, split="train", source="mine")
    questions = [row.outcome for row in read_file(file, drops_bad_rows=False)]
    asked = [question.question for question in questions]  # type: ignore[union-attr]
    assert asked == [row["text"] for row in ROWS]


def test_hotpotqa_is_read_as_its_makers_publish_it(tmp_path: Path) -> None:
    published = [
        {
            "_id": f"5a8b{number}",
            "answer": "yes",
            "question": f"Were {number} of them Finns?",
            "supporting_facts": [["Ada", 0], ["Bo", 1], ["Ada", 2]],
            "context": [["Ada", ["Ada was.", " Here."]]],
            "type": "comparison",
            "level": "hard",
        }
        for number in range(3)
    ]
    path = tmp_path / "hotpot_dev_distractor_v1.json"
    path.write_text(json.dumps(published))
    file = QuestionFile(path=str(path), format=QuestionFormat.HOTPOTQA, split="validation")
    read = [row.outcome for row in read_file(file, drops_bad_rows=False)]
    ids = [question.question_id for question in read]  # type: ignore[union-attr]
    assert ids == ["5a8b0", "5a8b1", "5a8b2"]
    titles = {question.gold_titles for question in read}  # type: ignore[union-attr]
    assert titles == {("Ada", "Bo")}


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "parquet"])
def test_a_missing_column_is_answered_with_the_line_that_maps_it(
    tmp_path: Path, ending: str
) -> None:
    import polars as pl

    path = tmp_path / f"rows.{ending}"
    rows = [{"qid": "1", "question": "Who?", "answer": "Ada", "level": "easy"}]
    if ending == "parquet":
        pl.DataFrame(rows).write_parquet(path)
    elif ending == "csv":
        pl.DataFrame(rows).write_csv(path)
    else:
        path.write_text(json.dumps(rows if ending == "json" else rows[0]))
    file = QuestionFile(path=str(path), split="train", source="mine")
    with pytest.raises(InputError) as raised:
        list(read_file(file, drops_bad_rows=False))
    text = str(raised.value)
    assert "got: columns qid, question, answer, level" in text
    line = "columns: {question_id: qid, gold_answers: answer}"
    assert line in text
    columns = {"question_id": "qid", "gold_answers": "answer"}
    told = QuestionFile(path=str(path), columns=columns, split="train", source="mine")
    (row,) = read_file(told, drops_bad_rows=False)
    assert row.outcome.gold_answers == ("Ada",)  # type: ignore[union-attr]


BROKEN = {
    "utf16": json.dumps(ROWS[0]).encode("utf-16"),
    "latin1": '{"id": "é"}'.encode("latin-1"),
    "deep": b'{"id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "deep_list": b"[" * 100_000 + b"]" * 100_000,
    "digits": b'{"id": ' + b"9" * 10_000 + b"}",
    "digits_in_a_list": b'[{"id": ' + b"9" * 10_000 + b"}]",
    "null": b'{"id": "\0"}',
    "cut": b'[{"id": "1"}, {"id":',
    "number": b"5",
    "text": b'"x"',
    "list_of_numbers": b"[1, 2]",
    "object_of_numbers": b'{"a": 1}',
    "nan_list": b'[{"id": NaN}]',
    "html": b"<!doctype html><title>404</title>",
    "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n",
    "zip": b"PK\x03\x04" + bytes(range(256)) * 20,
    "merge_marks": b"<<<<<<< HEAD\n" + lines(ROWS),
    "empty": b"",
    "blank": b"\n\r\n",
    "only_bom": BOM,
    "surrogate": b'{"id": "\\ud800", "title": "t", "text": "x"}',
    "carriage_returns": lines(ROWS, b"\r"),
}


@pytest.mark.parametrize("ending", ["jsonl", "json", "csv", "jsonl.gz", "jsonl.zst", "parquet"])
@pytest.mark.parametrize("name", BROKEN)
def test_no_file_ends_in_a_traceback(tmp_path: Path, name: str, ending: str) -> None:
    path = tmp_path / f"{name}.{ending}"
    content = BROKEN[name]
    path.write_bytes(gzip.compress(content) if ending.endswith("gz") else content)
    with pytest.raises(CoaError):
        list(read_passages(corpus_files(str(path))))
    file = QuestionFile(path=str(path), split="train", source="mine")
    with pytest.raises(CoaError):
        list(read_file(file, drops_bad_rows=False))
