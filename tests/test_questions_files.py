"""Questions from several files: ids, the cut for validation, and train questions that are tests."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from coa.errors import CoaError, ConfigError, InputError
from coa.records.question import Question
from coa.settings.params import Params
from coa.store import tables
from synth.question_file import DroppedQuestion, QuestionFile
from synth.question_formats import QuestionFormat, RefusalReason
from synth.questions import DROPPED, OUT, QuestionParams, main, read_outcomes, read_questions


@dataclass(frozen=True)
class Mapped:
    """A section with a mapping of records."""

    files: dict[str, QuestionFile]


TEXTS = (
    "Who wrote Emma?",
    "Where is Oslo?",
    "When was Ada born?",
    "What is tea?",
    "Why is it blue?",
)


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(name: str, *rows: dict[str, Any]) -> str:
    lines = [json.dumps({"gold_answers": ["x"], **row}) for row in rows]
    Path(name).write_text("\n".join(lines) + "\n")
    return name


def row(question_id: str, question: str, **more: Any) -> dict[str, Any]:
    return {"question_id": question_id, "question": question, **more}


def many(prefix: str, number: int) -> list[dict[str, Any]]:
    return [row(f"{prefix}{i}", f"Who is {prefix} number {i}?") for i in range(number)]


def ids(found: Iterable[object]) -> list[str]:
    return [item.question_id for item in found if isinstance(item, Question)]


def dropped(params: QuestionParams) -> list[tuple[str, str, RefusalReason]]:
    return [
        (item.where, item.question_id, item.reason)
        for item in read_outcomes(params)
        if isinstance(item, DroppedQuestion)
    ]


def test_files_are_read_one_after_the_other_each_in_its_own_form() -> None:
    own = write("own.jsonl", {"qid": "a", "question": "Who?", "gold_answers": "x|y"})
    nq = write("nq.jsonl", {"question": "Where?", "answer": ["x"]})
    params = QuestionParams(
        (
            QuestionFile(
                own,
                columns={"question_id": "qid"},
                split="train",
                source="mine",
                answer_separator="|",
            ),
            QuestionFile(nq, format=QuestionFormat.NQ, split="test"),
        )
    )
    first, second = read_questions(params)
    assert (first.question_id, first.gold_answers, first.split, first.source) == (
        "a",
        ("x", "y"),
        "train",
        "mine",
    )
    assert (second.question, second.split, second.source) == ("Where?", "test", "nq")


def test_sources_that_count_their_rows_alike_are_told_apart_by_their_name() -> None:
    own = write(
        "own.jsonl",
        {**row("dev_1", "Who is one?"), "source": "nq"},
        {**row("dev_1", "Who is the other?"), "source": "musique"},
    )
    file = QuestionFile(own, split="test", names_source=True)
    assert ids(read_questions(QuestionParams((file,)))) == ["nq-dev_1", "musique-dev_1"]
    with pytest.raises(InputError, match="occurs twice"):
        list(read_questions(QuestionParams((replace(file, names_source=False),))))


def test_an_id_in_two_files_is_an_error_that_names_both_places() -> None:
    a = write("a.jsonl", *many("a", 2))
    b = write("b.jsonl", row("b", "Who is b?"), row("a1", "Who is another?"))
    files = (QuestionFile(a, split="train"), QuestionFile(b, split="test"))
    with pytest.raises(InputError, match="'a1' occurs twice") as error:
        list(read_questions(QuestionParams(files)))
    assert "b.jsonl, line 2" in str(error.value)
    assert "a.jsonl, line 2, entry 1 of questions.files" in str(error.value)
    assert "questions.drops_bad_rows" in str(error.value)


def test_of_two_rows_with_one_id_the_one_that_is_evaluated_stays_else_the_first() -> None:
    a = write("a.jsonl", row("x", "Who is x?"), row("y", "Who is y?"))
    b = write("b.jsonl", row("x", "Where is x?"), row("z", "Who is z?"))
    c = write("c.jsonl", row("y", "Where is y?"), row("z", "Where is z?"))
    files = (
        QuestionFile(a, split="train"),
        QuestionFile(b, split="test"),
        QuestionFile(c, split="train"),
        QuestionFile(write("d.jsonl", row("w", "Who is w?")), split="train"),
    )
    params = QuestionParams(files[:2] + files[3:], drops_bad_rows=True)
    assert [(q.question_id, q.split) for q in read_questions(params)] == [
        ("y", "train"),
        ("x", "test"),
        ("z", "test"),
        ("w", "train"),
    ]
    assert dropped(params) == [("a.jsonl, line 1", "x", RefusalReason.REPEATED_ID)]
    params = QuestionParams((files[2], files[0]), drops_bad_rows=True)
    assert ids(read_questions(params)) == ["y", "z", "x"]


def test_a_file_that_is_named_twice_gives_each_question_once() -> None:
    file = QuestionFile(write("a.jsonl", *many("a", 3)), split="train")
    with pytest.raises(InputError, match="occurs twice"):
        list(read_questions(QuestionParams((file, file))))
    files = (file, QuestionFile("a.jsonl", split="test", num_questions=1))
    found = list(read_questions(QuestionParams(files, drops_bad_rows=True)))
    assert [(q.question_id, q.split) for q in found] == [
        ("a1", "train"),
        ("a2", "train"),
        ("a0", "test"),
    ]


def test_a_limit_counts_the_questions_that_a_file_keeps() -> None:
    train = write("a.jsonl", *many("a", 6))
    test = write("b.jsonl", row("t", "who is A, number 0"), row("t2", "Who is t?"))
    files = (
        QuestionFile(train, split="train", num_questions=3),
        QuestionFile(test, split="test", num_questions=1),
    )
    params = QuestionParams(files, drops_bad_rows=True)
    assert ids(read_questions(params)) == ["a1", "a2", "a3", "t"]


def test_questions_for_evaluation_that_nothing_was_compared_with_are_not_read() -> None:
    rows = [
        row("a", "Who is the test?", split="train"),
        row("b", "Who is b?", split="train"),
        row("late", "Who is b?", split="test"),
        row("c", "Who is c?", split="train"),
    ]
    files = (
        QuestionFile(write("a.jsonl", *rows), num_questions=2),
        QuestionFile(write("t.jsonl", row("t", "Who is the test?")), split="test"),
    )
    assert ids(read_questions(QuestionParams(files, drops_bad_rows=True))) == ["b", "c", "t"]


# --- the cut for validation


def cut(number: int, **more: Any) -> QuestionParams:
    path = write("a.jsonl", *many("a", 50))
    return QuestionParams((QuestionFile(path, split="train", num_validation=number),), **more)


def validation(params: QuestionParams) -> set[str]:
    return {q.question_id for q in read_questions(params) if q.split == "validation"}


def test_train_questions_are_set_aside_for_validation_by_seed_and_id() -> None:
    chosen = validation(cut(10))
    assert len(chosen) == 10
    assert ids(read_questions(cut(10))) == [f"a{i}" for i in range(50)]
    assert validation(cut(10)) == chosen
    assert validation(cut(10, seed=1)) != chosen
    assert validation(cut(5)) < chosen  # a smaller cut is a part of a larger one
    reversed_rows = list(reversed(many("a", 50)))
    file = QuestionFile(write("b.jsonl", *reversed_rows), split="train", num_validation=10)
    assert validation(QuestionParams((file,))) == chosen


def test_more_than_there_are_cannot_be_set_aside() -> None:
    assert len(validation(cut(50))) == 50
    with pytest.raises(ConfigError, match="more questions shall be set aside") as error:
        list(read_questions(cut(51)))
    assert "at most 50" in str(error.value)
    assert "num_validation of a.jsonl" in str(error.value)
    file = QuestionFile("a.jsonl", split="test", num_validation=1)
    with pytest.raises(ConfigError, match="more questions"):
        list(read_questions(QuestionParams((file,))))
    with pytest.raises(ConfigError, match="names no file"):
        list(read_questions(QuestionParams(())))


def test_a_question_that_is_a_test_question_already_is_not_set_aside() -> None:
    a = write("a.jsonl", row("a", "Who is b?"), row("c", "Who is c?"))
    b = write("b.jsonl", row("b", "who is B"))
    files = (
        QuestionFile(a, split="train", num_validation=1),
        QuestionFile(b, split="test"),
    )
    params = QuestionParams(files, drops_bad_rows=True)
    assert validation(params) == {"c"}
    assert dropped(params) == [("a.jsonl, line 1", "a", RefusalReason.EVALUATION_QUESTION)]


# --- train questions that are evaluated


@pytest.mark.parametrize("split", ["validation", "test"])
@pytest.mark.parametrize("first", ["train", "evaluation"])
@pytest.mark.parametrize(
    "text",
    ["Who wrote Emma?", "who wrote  EMMA", "Who wrote \u00c9mma?", "Who wr\u043ete the Emma?!"],
)
def test_a_train_question_with_the_words_of_an_evaluated_one_is_an_error_that_names_both(
    split: str, first: str, text: str
) -> None:
    train = QuestionFile(
        write("train.jsonl", row("a", TEXTS[1]), row("b", text)), split="train", source="one"
    )
    other = QuestionFile(write("other.jsonl", row("t", TEXTS[0])), split=split, source="two")
    files = (train, other) if first == "train" else (other, train)
    with pytest.raises(InputError, match="a train question asks what") as error:
        list(read_questions(QuestionParams(files)))
    shown = str(error.value)
    assert "train.jsonl, line 2" in shown
    assert f"the {split} question 't' (other.jsonl, line 1) asks the same" in shown

    params = QuestionParams(files, drops_bad_rows=True)
    assert sorted(ids(read_questions(params))) == ["a", "t"]
    assert dropped(params) == [("train.jsonl, line 2", "b", RefusalReason.EVALUATION_QUESTION)]


def test_a_copy_of_a_question_that_was_set_aside_does_not_stay_in_train() -> None:
    rows = [row("a", TEXTS[0]), row("b", TEXTS[0]), row("c", TEXTS[1])]
    file = QuestionFile(write("a.jsonl", *rows), split="train", num_validation=3)
    assert validation(QuestionParams((file,))) == {"a", "b", "c"}
    for seed in range(8):
        file = QuestionFile("a.jsonl", split="train", num_validation=1)
        params = QuestionParams((file,), drops_bad_rows=True, seed=seed)
        questions = list(read_questions(params))
        if validation(params) == {"c"}:
            assert ids(questions) == ["a", "b", "c"]
        else:
            assert len(questions) == 2
            assert [found[2] for found in dropped(params)] == [RefusalReason.EVALUATION_QUESTION]


def test_a_test_row_that_is_dropped_for_its_id_still_keeps_its_words_out_of_train() -> None:
    train = write("train.jsonl", row("t", TEXTS[2]), row("u", TEXTS[3]))
    first = write("first.jsonl", row("dev_1", TEXTS[0]))
    second = write("second.jsonl", row("dev_1", TEXTS[2]), row("dev_2", TEXTS[4]))
    files = (
        QuestionFile(train, split="train"),
        QuestionFile(first, split="test"),
        QuestionFile(second, split="test"),
    )
    params = QuestionParams(files, drops_bad_rows=True)
    assert ids(read_outcomes(params)) == ["u", "dev_1", "dev_2"]
    reasons = [reason for _, _, reason in dropped(params)]
    assert reasons == [RefusalReason.EVALUATION_QUESTION, RefusalReason.REPEATED_ID]


def test_a_file_of_which_nothing_is_left_is_an_error() -> None:
    train = QuestionFile(write("a.jsonl", row("a", TEXTS[0])), split="train")
    test = QuestionFile(write("b.jsonl", row("b", TEXTS[0])), split="test")
    with pytest.raises(InputError, match=r"a\.jsonl holds no question") as error:
        list(read_questions(QuestionParams((train, test), drops_bad_rows=True)))
    assert "asks the same" in str(error.value)


# --- the command and its settings


PARAMS = """questions:
  files:
  - {path: a.jsonl, split: train, num_validation: 2}
  - {path: b.jsonl, split: test}
  drops_bad_rows: true
  seed: 0
"""


def test_the_command_counts_what_was_set_aside_and_what_was_dropped() -> None:
    Path("params.yaml").write_text(PARAMS)
    write("a.jsonl", *many("a", 6))
    write("b.jsonl", row("t", "who is a number 3"))
    assert main([]) == (
        "data/questions.parquet: 6 questions from 2 files (3 train, 2 validation, 1 test, "
        "2 of the validation questions taken from train, 1 dropped: evaluation_question)"
    )
    assert len(list(tables.read_table(OUT, Question))) == 6
    (found,) = tables.read_table(DROPPED, DroppedQuestion)
    assert found.question_id == "a3"
    metrics = json.loads(Path("metrics/questions.json").read_text())
    assert (metrics["validation"], metrics["set_aside_for_validation"]) == (2, 2)
    assert metrics["dropped"]["evaluation_question"] == 1


@pytest.mark.parametrize(
    ("entry", "message", "shown"),
    [
        ("{pth: a.jsonl}", "unknown key 'pth'", "entry 2"),
        (
            "{path: b.jsonl, colums: {}}",
            "unknown key 'colums'",
            "num_validation, path, reader, source",
        ),
        ("{split: test}", "the key 'path' is missing", "entry 2"),
        ("{path: b.jsonl, format: hotpot}", "bad value", "hotpotqa, musique"),
        ("{path: b.jsonl, num_validation: -1}", "bad value", "num_validation"),
        ("{path: b.jsonl, columns: {questoin: q}}", "unknown column 'questoin'", "b.jsonl"),
        ("b.jsonl", "bad value", "files[1]"),
    ],
)
def test_a_mistake_in_an_entry_is_named(entry: str, message: str, shown: str) -> None:
    Path("params.yaml").write_text(PARAMS.replace("{path: b.jsonl, split: test}", entry))
    write("a.jsonl", *many("a", 6))
    write("b.jsonl", row("t", "Who?", split="test"))
    with pytest.raises(CoaError, match=message) as error:
        main([])
    assert shown in str(error.value)


def test_a_mapping_of_records_refuses_unknown_keys_too() -> None:
    Path("params.yaml").write_text("mine: {files: {a: {path: x, pth: y}}}\n")
    with pytest.raises(ConfigError, match="unknown key 'pth'") as error:
        Params.load("mine").section(Mapped)
    assert "key 'files', entry 'a'" in str(error.value)
    Path("params.yaml").write_text("mine: {files: {a: {path: x}}}\n")
    assert Params.load("mine").section(Mapped).files["a"] == QuestionFile("x")


@pytest.mark.parametrize(
    ("more", "fix"),
    [
        ({}, "set `split:` to one of train, validation, test in the entry of a.jsonl"),
        ({"split": "dev"}, '`columns: {split: ""}` hides it'),
    ],
)
def test_the_advice_for_a_row_without_a_known_split_works(more: dict[str, str], fix: str) -> None:
    path = write("a.jsonl", row("a", "Who?", **more))
    with pytest.raises(InputError, match="is not one of train") as error:
        list(read_questions(QuestionParams((QuestionFile(path),))))
    assert fix in str(error.value)
    columns = {"split": ""} if more else {}
    file = QuestionFile(path, columns=columns, split="test")
    assert [q.split for q in read_questions(QuestionParams((file,)))] == ["test"]
