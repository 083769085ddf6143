"""Test overlap with evaluation questions: which count as the same, which parts as telling."""

import os
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.questions.evaluation_questions import EvaluationQuestion
from coa.questions.near_questions import question_key
from coa.records.plain_words import words
from curate.screening.overlap import EvaluationSets, SharedRun, names
from curate.screening.shingles import hash_words

REAL = Path(os.environ.get("COA_REAL_DATA", ""))
real_data = pytest.mark.skipif(
    "COA_REAL_DATA" not in os.environ,
    reason="COA_REAL_DATA does not name the folder of real questions",
)


def sets(*questions: str, run_words: int = 4) -> EvaluationSets:
    return EvaluationSets(
        (EvaluationQuestion("eval", f"e{i}", q) for i, q in enumerate(questions)),
        run_words=run_words,
    )


def shared(found: EvaluationSets, *texts: str) -> list[SharedRun | None]:
    split = [words(text) for text in texts]
    return found.shared(split, hash_words(split))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who wrote the book?", "who wrote book"),
        ("Who wrote \u201cThe Book\u201d?", "Who wrote 'Book' ?"),
        ("Where was Beyonc\u00e9 born?", "where was Beyonce\u0301 born"),
        ("Where was Beyonc\u00e9 born?", "where was beyonce born?"),
        ("Is it a well-known fact?", "Is it a well known fact"),
        ("Who leads the U.S. team?", "who leads US team"),
        ("Are there 1,000 islands?", "are there 1000 islands"),
        ("\uff37\uff48\uff4f is it?", "Who  is\u00a0it\u200b"),
    ],
)
def test_the_same_question_in_other_spelling_has_the_same_key(one: str, other: str) -> None:
    assert question_key(one) == question_key(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Who wrote it?", "Who wrote them?"),
        ("Is version 3.5 out?", "Is version 35 out?"),
        ("Is 10 11 a number?", "Is 1011 a number?"),
        ("Who is older, Ann or Bob?", "Who is older, Bob or Ann?"),
    ],
)
def test_another_question_has_another_key(one: str, other: str) -> None:
    assert question_key(one) != question_key(other)


def test_an_equal_question_is_named_and_an_empty_one_equals_nothing() -> None:
    found = sets("Who wrote it?", "who wrote IT", "")
    assert found.equal("Who wrote it") == EvaluationQuestion("eval", "e0", "Who wrote it?")
    assert found.equal("Who else?") is None
    assert found.equal("") is None
    assert found.equal("\x00?!") is None


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("Which film did Ada Lovelace direct in 1998?", ["Ada Lovelace"]),
        ("Who is it? Was it Ada? The other one.", ["Ada"]),
        ("What did Mr. Smith and J. R. Tolkien say?", ["Mr Smith", "J R Tolkien"]),
        ("NASA sent whom? Did I know?", ["NASA"]),
        (
            "Is Mary-Ann O'Neill older than Bob, Tom or \u00c9mile?",
            ["Mary Ann O Neill", "Bob", "Tom", "Emile"],
        ),
        ("Andrew Tibbs was what?", ["Tibbs"]),
        ("nothing here", []),
        ("", []),
    ],
)
def test_names_are_capitalised_words_within_a_sentence(question: str, expected: list[str]) -> None:
    own = words(question)
    assert [" ".join(own[first:end]) for first, end in names(question)] == [
        name.lower() for name in expected
    ]


def test_a_run_with_a_whole_name_is_found_in_a_text() -> None:
    found = sets("Who is the mayor of Villa Pellin today?")
    hit, miss = shared(found, "so: THE MAYOR, of villa pellin!", "the mayor of Villa Bella today")
    question = EvaluationQuestion("eval", "e0", "Who is the mayor of Villa Pellin today?")
    assert hit == SharedRun(question, "mayor of villa pellin")
    assert miss is None


def test_boilerplate_a_cut_name_and_a_number_alone_tell_nothing() -> None:
    found = sets(
        "What is the name of the spouse of Orson Jarvis?",
        "What was the population in 2010 of the city near Rome?",
    )
    texts = (
        "what is the name of the film",
        "of the spouse of Orson Foster",
        "what was the population in 2010 of the village",
    )
    assert shared(found, *texts) == [None, None, None]


def test_a_question_without_capitals_counts_with_every_run() -> None:
    found = sets("who got the first nobel prize")
    assert shared(found, "she got the first nobel prize") != [None]
    assert sets("Who got the first nobel prize").num_runs == 0


def test_words_of_two_texts_make_no_run() -> None:
    found = sets("Was the mayor Ada Lovelace?")
    assert shared(found, "the mayor", "ada lovelace", "") == [None, None, None]


def test_questions_shorter_than_a_run_and_no_questions_are_no_error() -> None:
    assert shared(sets("Who is Ada?"), "who is ada") == [None]
    assert shared(sets("Who is Ada?"), "who is ada and why") == [None]
    assert shared(sets(), "who is ada and why", "") == [None, None]
    assert shared(sets("Was the mayor Ada Lovelace?")) == []


@given(st.text(max_size=40), st.text(max_size=40), st.text(max_size=40))
def test_a_text_around_a_telling_question_always_shares_a_run(
    before: str, within: str, after: str
) -> None:
    question = f"who is the mayor of Villa Pellin {within}"
    found = sets(question)
    (hit,) = shared(found, f"{before} {question} {after}")
    assert hit is not None
    assert hit.words in " ".join(words(question))


@given(st.text())
def test_a_key_is_its_own_key_or_empty(text: str) -> None:
    assert sets(text).equal(text) is not None or question_key(text) == ""


@real_data
def test_train_questions_of_autocoa_hardly_touch_its_tests() -> None:
    rows = pl.read_parquet(REAL / "questions_autocoa.parquet").select(
        "split", "dataset", "qid", "question"
    )
    tests = rows.filter(pl.col("split") == "test").select("dataset", "qid", "question")
    found = EvaluationSets((EvaluationQuestion(*row) for row in tests.iter_rows()), run_words=8)
    train = rows.filter(pl.col("split") == "train")["question"].to_list()
    assert len(found) == 2936
    assert sum(found.equal(question) is not None for question in train) == 0
    assert sum(run is not None for run in shared(found, *train)) <= 2
    assert all(found.equal(question) is not None for question in tests["question"])


@real_data
def test_equal_questions_are_exactly_those_that_are_marked() -> None:
    rows = pl.read_parquet(REAL / "questions.parquet").select("question", "also_in")
    autocoa = pl.read_parquet(REAL / "questions_autocoa.parquet").select("split", "qid", "question")
    for split in ("train", "dev", "test"):
        own = autocoa.filter(pl.col("split") == split)
        found = EvaluationSets((EvaluationQuestion(*row) for row in own.iter_rows()), run_words=8)
        equal = [found.equal(question) is not None for question in rows["question"]]
        assert equal == [f"autocoa_{split}" in marks for marks in rows["also_in"]]
