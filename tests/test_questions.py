"""Questions from local files: three formats, one table; every bad row is named."""

import json
from pathlib import Path

import polars as pl
import pytest

from coa.errors import ConfigError, InputError
from coa.question import Question
from synth.questions import QuestionParams, read_questions

ROW = {"qid": "q1", "text": " Who? ", "answers": ["Paris", ""], "type": "bridge", "hops": 2, "titles": ["A", "B"]}
COLUMNS = {
    "question_id": "qid", "question": "text", "gold_answers": "answers", "question_type": "type", "num_hops": "hops",
    "gold_titles": "titles",
}  # fmt: skip
EXPECTED = Question("q1", "Who?", ("Paris",), "train", "bridge", 2, ("A", "B"), "here")


def read(path: Path, **changes: object) -> list[Question]:
    settings = {"path": str(path), "columns": COLUMNS, "split": "train", "source": "here", **changes}
    return list(read_questions(QuestionParams(**settings)))  # type: ignore[arg-type]


def jsonl(tmp_path: Path, *rows: dict[str, object]) -> Path:
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_parquet_is_read_with_a_column_mapping(tmp_path: Path) -> None:
    pl.DataFrame([ROW]).write_parquet(tmp_path / "q.parquet")
    assert read(tmp_path / "q.parquet") == [EXPECTED]


def test_json_lines_are_read(tmp_path: Path) -> None:
    assert read(jsonl(tmp_path, ROW)) == [EXPECTED]


def test_csv_is_read_and_answers_are_separated(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text('qid,text,answers,hops\nq1,"Who, then?",Paris|City of Light,2\n')
    (question,) = read(tmp_path / "q.csv", answer_separator="|")
    assert (question.question, question.gold_answers) == ("Who, then?", ("Paris", "City of Light"))


def test_without_a_separator_a_text_is_one_answer(tmp_path: Path) -> None:
    (question,) = read(jsonl(tmp_path, {**ROW, "answers": "Paris, France"}))
    assert question.gold_answers == ("Paris, France",)


def test_a_limit_keeps_the_first_rows(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *({**ROW, "qid": f"q{i}"} for i in range(5)))
    assert [question.question_id for question in read(path, limit=2)] == ["q0", "q1"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qid": ""}, "question id is empty"),
        ({"qid": "a/b"}, "contains `/`"),
        ({"text": "  "}, "question is empty"),
        ({"answers": []}, "no gold answer"),
        ({"answers": ["", " "]}, "no gold answer"),
        ({"answers": None}, "no value in column 'answers'"),
        ({"hops": "two"}, "hops is not a number"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = jsonl(tmp_path, ROW, {**ROW, "qid": "q2", **change})
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert "q.jsonl, line 2" in str(error.value)


def test_a_repeated_id_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'q1' occurs twice"):
        read(jsonl(tmp_path, ROW, ROW))


def test_an_unknown_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'dev' is not one of train, validation, test"):
        read(jsonl(tmp_path, ROW), split="dev")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", b'{"qid": "\xff"}\n', "not UTF-8"),
        ("q.jsonl", b'{"qid": \n', "not JSON"),
        ("q.jsonl", b"[1]\n", "not a JSON object"),
        ("q.jsonl", b'{"other": 1}\n', "no value in column"),
        ("q.csv", b"qid,text\nq1,a\n", "lacks the column 'answers'"),
        ("q.csv", b"qid,text,answers\nq1,\xff,a\n", "not UTF-8"),
        ("q.parquet", b"PAR1 not really", "cannot read"),
    ],
)
def test_a_broken_file_is_an_error_that_says_what_to_do(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(tmp_path / name)


def test_a_missing_file_and_an_unknown_format_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        read(tmp_path / "q.parquet")
    with pytest.raises(ConfigError, match="cannot tell the format"):
        read(tmp_path / "q.xlsx")
