"""Read questions from local files: every format becomes one table.

Every bad row is named, or dropped with its reason.
"""

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from coa.errors import CoaError, ConfigError, InputError
from coa.records.question import Question
from synth.question_file import DroppedQuestion, LeftOut, QuestionFile
from synth.question_formats import QuestionFormat, RefusalReason
from synth.questions import QuestionParams, read_outcomes, read_questions

ROW = {
    "qid": "q1",
    "text": " Who? ",
    "answers": ["Paris", ""],
    "type": "bridge",
    "hops": 2,
    "titles": ["A", "B"],
}
COLUMNS = {
    "question_id": "qid",
    "question": "text",
    "gold_answers": "answers",
    "question_type": "type",
    "num_hops": "hops",
    "gold_titles": "titles",
}
EXPECTED = Question("q1", "Who?", ("Paris",), "train", "bridge", 2, ("A", "B"), "here")


def read(path: Path, **changes: object) -> list[Question]:
    settings = {
        "path": str(path),
        "columns": COLUMNS,
        "split": "train",
        "source": "here",
        **changes,
    }
    file = QuestionFile(**settings)  # type: ignore[arg-type]
    return list(read_questions(QuestionParams((file,))))


def jsonl(tmp_path: Path, *rows: dict[str, object]) -> Path:
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n")
    return path


def test_parquet_is_read_with_a_column_mapping(tmp_path: Path) -> None:
    pl.DataFrame([ROW]).write_parquet(tmp_path / "q.parquet")
    assert read(tmp_path / "q.parquet") == [EXPECTED]


def test_question_and_answers_are_composed_and_an_id_made_from_the_text_stays(
    tmp_path: Path,
) -> None:
    plain = {"question": "Who is Rene\u0301e?", "answer": ["Rene\u0301e", "Ren\u00e9e"]}
    path = tmp_path / "nq.jsonl"
    path.write_text(json.dumps(plain) + "\n")
    (question,) = read(path, columns={}, format=QuestionFormat.NQ)
    assert (question.question, question.gold_answers) == ("Who is Ren\u00e9e?", ("Ren\u00e9e",))
    digest = hashlib.sha256(str(plain["question"]).encode()).hexdigest()[:16]
    assert question.question_id == f"nq-{digest}"


def test_csv_is_read_and_answers_are_separated(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text(
        'qid,text,answers,hops\nq1,"Who, then?",Paris|City of Light,2\n'
    )
    (question,) = read(tmp_path / "q.csv", answer_separator="|")
    assert (question.question, question.gold_answers) == ("Who, then?", ("Paris", "City of Light"))
    (question,) = read(tmp_path / "q.csv")
    assert question.gold_answers == ("Paris|City of Light",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"qid": ""}, "question id is empty"),
        ({"qid": "a/b"}, "contains `/`"),
        ({"text": "  "}, "question is empty"),
        ({"answers": []}, "no gold answer"),
        ({"answers": ["", " "]}, "no gold answer"),
        ({"answers": None}, "no value in column 'answers'"),
        ({"answers": ["n", "o"]}, "letters of 'no'"),
        ({"hops": "two"}, "hops is not a number"),
        ({"hops": 1e999}, "hops is not a number"),
        ({"text": {"a": 1}}, "dict stands where a text should"),
        ({"titles": [["a"]]}, "list stands where a text should"),
        ({"titles": ["\ud800"]}, "surrogate pair"),
    ],
)
def test_a_bad_row_is_named_with_file_and_line(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    path = jsonl(tmp_path, ROW, {**ROW, "qid": "q2", **change})
    with pytest.raises(InputError, match=message) as error:
        read(path)
    assert "q.jsonl, line 2" in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.jsonl", b'{"qid": "\xff"}\n', "not UTF-8"),
        ("q.jsonl", b'{"qid": \n', "not JSON"),
        ("q.jsonl", b"[1]\n", "not a JSON object"),
        ("q.jsonl", b'{"other": 1}\n', "lacks the column 'qid'"),
        ("q.csv", b"qid,text\nq1,a\n", "lacks the column 'answers'"),
        ("q.csv", b"qid,text,answers\nq1,\xff,a\n", "not UTF-8"),
        ("q.parquet", b"PAR1 not really", "cannot read"),
        ("q.parquet", None, "is missing"),
        ("q.xlsx", b"", "cannot tell the format"),
    ],
)
def test_a_broken_file_is_an_error_that_says_what_to_do(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(CoaError, match=message):
        read(tmp_path / name)


def test_a_misspelt_path_is_met_with_the_file_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(CoaError, match=r"did you mean .*train\.jsonl\?"):
        read(tmp_path / "trian.jsonl")


def outcomes(path: Path, **changes: object) -> list[Question | LeftOut | DroppedQuestion]:
    settings = {
        "path": str(path),
        "columns": COLUMNS,
        "split": "train",
        **changes,
    }
    file = QuestionFile(**settings)  # type: ignore[arg-type]
    return list(read_outcomes(QuestionParams((file,), drops_bad_rows=True)))


def test_only_the_sources_that_are_kept_are_read(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path,
        *(
            {**ROW, "qid": f"q{i}", "source": source}
            for i, source in enumerate(("a", "b", "a", "c"))
        ),
    )
    found = outcomes(path, keeps=("a", "c"))
    assert [outcome.source for outcome in found if isinstance(outcome, Question)] == ["a", "a", "c"]
    assert found[1] == LeftOut("b")


def test_a_limit_counts_what_is_kept(tmp_path: Path) -> None:
    path = jsonl(tmp_path, *({**ROW, "qid": f"q{i}", "source": "ab"[i % 2]} for i in range(9)))
    assert [question.question_id for question in read(path, keeps=("b",), num_questions=2)] == [
        "q1",
        "q3",
    ]


def test_a_bad_row_of_a_source_that_is_not_kept_stops_no_run(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path, ROW, {**ROW, "answers": ["n", "o"], "source": "other"}, {**ROW, "source": "other"}
    )
    assert read(path, keeps=("here",)) == [EXPECTED]


def test_a_source_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no question is of the source 'hotpot'"):
        read(jsonl(tmp_path, ROW), keeps=("here", "hotpot"))


BAD_ROWS: dict[RefusalReason, dict[str, object]] = {
    RefusalReason.WRONG_FORMAT: {"hops": "two"},
    RefusalReason.NOT_UNICODE: {"text": "\ud800?"},
    RefusalReason.NO_ID: {"qid": None},
    RefusalReason.BAD_ID: {"qid": "a/b"},
    RefusalReason.REPEATED_ID: {"qid": "good"},
    RefusalReason.NO_QUESTION: {"text": " "},
    RefusalReason.NO_ANSWER: {"answers": []},
    RefusalReason.BAD_RUBRIC: {"rubric": [{"text": "It names the city.", "weight": 1.0}]},
    RefusalReason.SPELT_ANSWER: {"answers": ["1", "5", " ", "M", "a", "y"]},
    RefusalReason.UNKNOWN_SPLIT: {"split": "dev"},
    RefusalReason.EVALUATION_QUESTION: {"text": "Where, then?"},
}


def test_every_reason_has_a_smallest_row() -> None:
    assert set(BAD_ROWS) == set(RefusalReason)


@pytest.mark.parametrize("reason", BAD_ROWS)
def test_a_bad_row_is_dropped_with_its_reason_and_the_others_are_read(
    tmp_path: Path, reason: RefusalReason
) -> None:
    bad = {**ROW, "qid": "bad", **BAD_ROWS[reason]}
    test = {**ROW, "qid": "also good", "text": "WHERE then", "split": "test"}
    first, dropped, last = outcomes(jsonl(tmp_path, {**ROW, "qid": "good"}, bad, test))
    assert isinstance(first, Question)
    assert isinstance(last, Question)
    assert isinstance(dropped, DroppedQuestion)
    assert (dropped.reason, dropped.question_id) == (reason, bad["qid"] or "")
    assert dropped.where.endswith("q.jsonl, line 2")


def test_a_file_without_a_usable_row_is_an_error_that_shows_the_first_reason(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        InputError, match=r"holds no question\n.*first reason.*the question id is empty"
    ):
        outcomes(jsonl(tmp_path, ROW, ROW), columns={})


def test_a_format_leaves_no_room_for_columns(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"columns has no meaning"):
        read(jsonl(tmp_path, ROW), format=QuestionFormat.NQ)


def test_parquet_text_that_is_not_utf8_is_an_error(tmp_path: Path) -> None:
    texts = pa.array([b"Who?", b"\xff\xfe"], pa.binary()).view(pa.string())
    columns = {"question_id": ["a", "b"], "question": texts, "gold_answers": ["x", "y"]}
    pq.write_table(pa.table(columns), tmp_path / "q.parquet")
    with pytest.raises(InputError, match="not UTF-8"):
        outcomes(tmp_path / "q.parquet", columns={})


REAL_DATA = os.environ.get("COA_REAL_DATA")
real_data = pytest.mark.skipif(
    not REAL_DATA, reason="needs the folder of real data named by COA_REAL_DATA"
)
REAL_COLUMNS = {
    "question_id": "qid",
    "gold_answers": "answers",
    "question_type": "type",
    "source": "dataset",
    "split": "none",
}


def count_real(name: str, **changes: Any) -> Counter[str]:
    found = outcomes(Path(str(REAL_DATA)) / name, columns=REAL_COLUMNS, **changes)
    return Counter(
        str(item.reason) if isinstance(item, DroppedQuestion) else type(item).__name__
        for item in found
    )


@real_data
def test_of_3735_real_questions_120_are_refused_for_their_spelt_answers() -> None:
    assert count_real("questions.parquet") == {"Question": 3615, "spelt_answer": 120}


@real_data
def test_real_questions_of_one_source_know_the_evaluation_sets_that_hold_them() -> None:
    found = read(
        Path(str(REAL_DATA)) / "questions.parquet", columns=REAL_COLUMNS, keeps=("hotpotqa",)
    )
    assert len(found) == 1864
    assert Counter(name for question in found for name in question.also_in)["autocoa_train"] > 0


@real_data
def test_of_autocoas_9480_questions_those_that_repeat_an_id_of_another_set_are_refused() -> None:
    assert count_real("questions_autocoa.parquet") == {"Question": 9110, "repeated_id": 370}
    one_set = count_real("questions_autocoa.parquet", keeps=("triviaqa",))
    assert one_set == {"Question": 500, "repeated_id": 1, "LeftOut": 8979}
