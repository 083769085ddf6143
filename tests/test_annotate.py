"""Test review without a server: which items people get, what comes back, and how far they agree."""

from dataclasses import replace

import polars as pl
import pytest

from annotate import (
    agreement,
    items,
    measures,
    pull,
)
from annotate.embedded.query import Phrase, parse
from annotate.settings import AnnotateParams, PushParams
from coa.store.reviews import Answer, Between, Review, ReviewKind, ReviewQuestion
from tests.annotate_support import (
    said,
)

CANDIDATES = pl.DataFrame(
    {
        "row_id": [f"r{i:03}" for i in range(100)],
        "group": ["rare"] * 5 + ["common"] * 95,
        "worth": [float(i % 10) for i in range(100)],
    }
)


def test_groups_get_their_turn_and_the_best_of_each_come_first() -> None:
    chosen = items.choose(CANDIDATES, PushParams(num_items=10, audit_share=0.0))
    assert list(chosen.values()).count("rare") == 5
    common = [int(row_id[1:]) % 10 for row_id, group in chosen.items() if group == "common"]
    assert common == [0] * 5


def test_the_random_share_is_drawn_from_all_and_stays_when_more_is_asked_for() -> None:
    few = items.choose(CANDIDATES, PushParams(num_items=20, audit_share=0.5))
    more = items.choose(CANDIDATES, PushParams(num_items=40, audit_share=0.5))
    audits = [
        {row_id for row_id, why in chosen.items() if why == items.AUDIT} for chosen in (few, more)
    ]
    assert (len(few), len(audits[0]), len(audits[1])) == (20, 10, 20)
    assert audits[0] < audits[1]
    assert items.choose(CANDIDATES.reverse(), PushParams(num_items=20, audit_share=0.5)) == few


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("new york", [Phrase(("new",)), Phrase(("york",))]),
        ('"New York"', [Phrase(("new", "york"))]),
        ("wor*", [Phrase(("wor",), is_prefix=True)]),
        ('"wor*', [Phrase(("wor",), is_prefix=True)]),
        ("!!! ( ) | -", []),
        (")) a ((", [Phrase(("a",))]),
    ],
)
def test_a_search_is_read_as_its_words_phrases_and_beginnings(
    text: str, expected: list[Phrase]
) -> None:
    assert parse(text) == expected


def record(
    values: dict[str, object], status: str = "submitted", item: str = "q1/coa/0"
) -> dict[str, object]:
    response = {
        "status": status,
        "user_id": "u1",
        "updated_at": "2026-01-02T03:04:05.678901",
        "values": {},
    }
    response["values"] = {name: {"value": value} for name, value in values.items()}
    return {"external_id": f"{item}@v", "responses": [response]}


KEY = (ReviewKind.TRAJECTORY, "q1/coa/0", "v", 1, 1)


def test_a_submitted_response_becomes_a_review_in_the_order_of_the_questions() -> None:
    asked = record(
        {"search_quality": 4, "verdict": "fix", "causes": ["budget", "format"], "comment": ""}
    )
    (review,) = pull.reviews_of(asked, KEY, {"u1": "anna"})
    assert (review.reviewer, review.submitted) == ("anna", "2026-01-02T03:04:05Z")
    assert [(it.question, it.values) for it in review.answers] == [
        (ReviewQuestion.VERDICT, ("fix",)),
        (ReviewQuestion.CAUSES, ("budget", "format")),
        (ReviewQuestion.SEARCH_QUALITY, ("4",)),
    ]


@pytest.mark.parametrize("status", ["draft", "discarded"])
def test_what_was_not_submitted_is_no_review(status: str) -> None:
    assert list(pull.reviews_of(record({"verdict": "keep"}, status), KEY, {})) == []


def test_pulling_takes_back_what_was_withdrawn_and_leaves_what_another_deployment_said() -> None:
    here, elsewhere = said("anna", "here", "keep"), said("zoe", "elsewhere", "drop")
    key = (ReviewKind.TRAJECTORY, "here", "v", 1, 1)
    assert pull.merged([here, elsewhere], {key: []}) == [elsewhere]
    changed = replace(here, submitted="2026-02-02T03:04:05Z")
    assert pull.merged([here, elsewhere], {key: [changed]}) == [elsewhere, changed]


# The example of Krippendorff's "Computing Krippendorff's alpha-reliability" (2011), part C.
PUBLISHED = {
    "a": "1 2 3 3 2 1 4 1 2 . . .",
    "b": "1 2 3 3 2 2 4 1 2 5 . 3",
    "c": ". 3 3 3 2 3 4 2 2 5 1 .",
    "d": "1 2 3 3 2 4 4 1 2 5 1 .",
}


def test_alpha_is_the_one_that_was_published() -> None:
    reviews = [
        said(who, f"i{i}", value)
        for who, row in PUBLISHED.items()
        for i, value in enumerate(row.split())
        if value != "."
    ]
    (verdict, *_) = measures.agreement_of_reviewers(reviews)
    assert verdict.question is ReviewQuestion.VERDICT
    assert verdict.alpha == pytest.approx(0.743, abs=5e-4)
    assert (verdict.num_items, verdict.num_answers) == (11, 40)


def test_kappa_of_two_people_is_cohens() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, by chance 0.5.
    counts = {("keep", "keep"): 20, ("keep", "drop"): 5, ("drop", "keep"): 10, ("drop", "drop"): 15}
    pairs = [pair for pair, count in counts.items() for _ in range(count)]
    reviews = [
        said(who, f"i{i}", value)
        for i, pair in enumerate(pairs)
        for who, value in zip("ab", pair, strict=True)
    ]
    (verdict, *_) = measures.agreement_of_reviewers(reviews)
    assert verdict.kappa == pytest.approx(0.4)
    assert verdict.equal_share == pytest.approx(0.7)


def test_where_all_say_the_same_there_is_no_figure_of_chance() -> None:
    (verdict, causes) = measures.agreement_of_reviewers(
        [said(who, f"i{i}", "keep") for who in "ab" for i in range(5)]
    )
    assert (verdict.equal_share, verdict.alpha, verdict.kappa) == (1.0, None, None)
    assert causes.alpha is None


def test_people_are_held_against_the_automatic_causes_and_the_grader() -> None:
    reviews = [
        said("a", "i0", "drop", "bad_query", right="no"),
        said("b", "i0", "drop", right="yes"),
        said("a", "i1", "keep", right="yes"),
    ]
    automatic = {"i0": frozenset({"bad_query"}), "i1": frozenset[str]()}
    (cause,) = measures.agreement_with_causes(reviews, automatic)
    assert (cause.value, cause.between, cause.num_items, cause.num_answers) == (
        "bad_query",
        Between.CAUSES,
        2,
        3,
    )
    assert cause.equal_share == pytest.approx(2 / 3, abs=1e-3)
    (grader,) = measures.agreement_with_grader(reviews, {"i0": False, "i1": True})
    assert grader.equal_share == pytest.approx(2 / 3, abs=1e-3)


def test_the_page_of_agreement_escapes_what_reviewers_are_called() -> None:
    reviews = [said("<script>", "i<b>", "keep"), said("ben", "i<b>", "drop")]
    decisions = list(agreement.decide_all(reviews, AnnotateParams().adjudication))
    page = agreement.page(list(measures.agreement_of_reviewers(reviews)), decisions, reviews)
    assert "<script>" not in page
    assert "i&lt;b&gt;" in page
    assert "verdict" in page


def test_the_first_bad_step_is_held_against_the_step_that_the_analysis_blames() -> None:
    def naming(item: str, step: str) -> Review:
        made = said("a", item, "drop")
        return replace(
            made, answers=(*made.answers, Answer(ReviewQuestion.FIRST_BAD_STEP, (step,)))
        )

    reviews = [naming("i0", "step 3"), naming("i1", "2"), naming("i2", "no idea")]
    (figure,) = measures.agreement_with_steps(reviews, {"i0": 3, "i1": 5, "i2": 1})
    assert (figure.question, figure.between) == (ReviewQuestion.FIRST_BAD_STEP, Between.CAUSES)
    assert (figure.num_items, figure.equal_share) == (2, 0.5)
