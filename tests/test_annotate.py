"""Test review without a server: which items people get, and what comes back."""

from dataclasses import replace

import polars as pl
import pytest

from annotate import (
    items,
    pull,
)
from annotate.embedded.query import Phrase, parse
from annotate.settings import PushParams
from coa.store.reviews import ReviewKind, ReviewQuestion
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
