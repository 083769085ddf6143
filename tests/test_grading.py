"""The grader: every decision is a case of cases/answers.json, every law a property."""

import json
import os
import random
import re
import string
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coa.errors import InputError
from coa.records.grading import Verdict, boxed_answer, grade, grade_prediction, normalise

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "cases" / "answers.json").read_text("utf-8")
)
REAL_DATA = os.environ.get("COA_REAL_DATA")

TROUBLE = st.text(
    st.sampled_from(
        "aAtheé e\u0301\u200dßİ٣²½⁻−–—-.,'\"’´_$€°%+^<=:/({[)}]0123459 \t\u00a0!｜．ﬁ\\"
    )
)
law = settings(
    deadline=None
)  # a busy machine stalls now and then; the time limit of the test itself stands
ANY_TEXT = st.text() | TROUBLE
SOME_TEXT = ANY_TEXT.filter(normalise)
WORDS = st.lists(
    st.sampled_from(["yes", "no", "Paris", "New", "York", "3.5", "35", "-5", "the"]), min_size=1
).map(" ".join)


@pytest.mark.parametrize(
    "case", CASES, ids=[f"{i}-{case['why'][:50]}" for i, case in enumerate(CASES)]
)
def test_answers_grade_as_the_cases_say(case: dict[str, Any]) -> None:
    result = (
        grade(case["text"], case["gold"])
        if "text" in case
        else grade_prediction(case["prediction"], case["gold"])
    )

    assert (result.verdict, result.cover_exact_match) == (case["verdict"], case["cover"])
    assert result.exact_match == (result.verdict is Verdict.CORRECT)
    assert result.f1 == pytest.approx(case.get("f1", result.f1), abs=1e-6)
    assert result.matched_alias == case.get("alias", result.matched_alias)
    assert result.prediction == case.get("reads", result.prediction)


@law
@given(
    st.text(st.characters(exclude_characters="\\{}$", exclude_categories=["Cs"])).filter(normalise)
)
def test_a_boxed_gold_answer_grades_as_correct(gold: str) -> None:
    assert (
        grade(f"</think>\n\nThe final answer is \\boxed{{{gold}}}.", [gold]).verdict
        is Verdict.CORRECT
    )


@law
@given(ANY_TEXT)
def test_normalise_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@law
@given(
    st.one_of(ANY_TEXT, WORDS),
    st.lists(st.one_of(SOME_TEXT, WORDS.filter(normalise)), min_size=1),
    st.randoms(),
)
def test_the_order_of_aliases_changes_nothing_but_the_index(
    prediction: str, golds: list[str], order: random.Random
) -> None:
    shuffled = order.sample(golds, len(golds))

    before, after = grade_prediction(prediction, golds), grade_prediction(prediction, shuffled)

    assert [before.verdict, before.cover_exact_match, before.f1] == [
        after.verdict,
        after.cover_exact_match,
        after.f1,
    ]
    assert (before.matched_alias is None) == (after.matched_alias is None)


@law
@given(WORDS, WORDS)
def test_exact_match_implies_cover_and_full_f1_and_cover_implies_overlap(
    prediction: str, gold: str
) -> None:
    result = grade_prediction(prediction, [gold])

    assert not result.exact_match or (
        result.cover_exact_match and result.f1 == 1.0 and result.matched_alias == 0
    )
    assert 0.0 <= result.f1 <= 1.0
    closed = {"yes", "no"} & {normalise(prediction), normalise(gold)}
    assert not result.cover_exact_match or result.f1 > 0 or closed


def squad_normalize_answer(text: str) -> str:
    """Do what SQuAD's published function does.

    `normalise` is compared with it, and nothing else uses it.
    """
    bare = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())


@law
@given(st.text(st.sampled_from(sorted(set(string.printable) - set(string.digits)))))
def test_text_without_digits_normalises_as_in_squad(text: str) -> None:
    expected = squad_normalize_answer(text)

    assert normalise(text) == expected or not expected


@law
@given(st.integers(-(10**9), 10**9), st.integers(0, 999))
def test_numbers_are_equal_exactly_when_their_values_are(whole: int, thousandths: int) -> None:
    written = f"{whole:,}.{thousandths:03}"
    rewritten = f"{whole}" + f".{thousandths:03}".rstrip("0").rstrip(".")
    digits = f"{whole}{thousandths:03}"

    assert grade_prediction(written, [rewritten]).exact_match
    assert not grade_prediction(written, [digits]).exact_match


@law
@given(ANY_TEXT, ANY_TEXT)
def test_text_around_the_last_box_does_not_change_it(before: str, after: str) -> None:
    after = after.replace("\\", "/").replace("}", ")")

    assert boxed_answer(f"{before} \\boxed{{Paris}}{after}") == "Paris"


@pytest.mark.parametrize("no_golds", [[], [" "], ["", "\u200f"], "yes"], ids=repr)
def test_a_question_without_usable_gold_answers_is_an_input_error(no_golds: Any) -> None:
    with pytest.raises(InputError, match="accepted answer"):
        grade("\\boxed{Paris}", no_golds)


HOSTILE = [
    "\\boxed{",
    "\\boxed ",
    "\\",
    "{",
    "}",
    "\\text{",
    "$",
    "1,",
    "1.2.",
    "-",
    "9",
    "a_",
    "é1",
    "$\\$",
]


@pytest.mark.parametrize("piece", HOSTILE)
def test_hostile_text_is_graded_in_linear_time(piece: str) -> None:
    text = piece * (200_000 // len(piece))

    started = time.process_time()
    grade(f"\\boxed{{{text}}}", ["Paris"])
    grade(text, ["Paris"])
    grade_prediction(text, ["Paris", text[:1000]])

    assert time.process_time() - started < 5  # about 0.3 s; a quadratic scan takes minutes


@pytest.mark.skipif(not REAL_DATA, reason="COA_REAL_DATA names no folder with questions.parquet")
def test_every_gold_answer_of_the_real_questions_grades_itself_as_correct() -> None:
    answers = pl.read_parquet(Path(str(REAL_DATA)) / "questions.parquet")["answers"].to_list()

    wrong = [
        gold
        for golds in answers
        for gold in golds
        if normalise(gold) and grade_prediction(gold, golds).verdict is not Verdict.CORRECT
    ]

    assert answers
    assert not wrong
