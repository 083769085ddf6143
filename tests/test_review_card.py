"""What a card says of reviews: each set its own, nothing where nobody reviewed."""

from pathlib import Path

import pytest

from coa.store import tables
from coa.store.files import AGREEMENT, REVIEWED
from coa.store.reviews import Agreement, Applied, Between, Effect, ReviewKind, ReviewQuestion
from data_cards.cards import reviews
from data_cards.cards.card import fill
from data_cards.cards.reviews import agreement_table, change_table
from data_cards.catalogue import SetName


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def applied(*rows: tuple[str, ReviewKind, Effect]) -> None:
    tables.write_table(
        REVIEWED,
        Applied,
        [Applied(item, kind, effect, "1 x", 1) for item, kind, effect in rows],
    )


def agreed(
    kind: ReviewKind,
    question: ReviewQuestion,
    alpha: float | None,
    between: Between = Between.REVIEWERS,
) -> Agreement:
    return Agreement(kind, question, between, "", 12, 24, 0.75, alpha, None)


def test_without_reviews_a_card_says_nothing_of_them() -> None:
    assert change_table(SetName.COA) == agreement_table(SetName.COA) == ""
    applied()
    tables.write_table(AGREEMENT, Agreement, [])
    assert change_table(SetName.COA) == agreement_table(SetName.COA) == ""
    assert fill("reviews.md", {"reviews": "", "agreement": ""}).strip() == ""


def test_each_set_counts_what_concerns_it() -> None:
    applied(
        ("q1/coa/0", ReviewKind.TRAJECTORY, Effect.DROPPED),
        ("q2/coa/0", ReviewKind.TRAJECTORY, Effect.DROPPED),
        ("q3/coa/0", ReviewKind.DISPUTE, Effect.ANSWER_ADDED),
        ("q1/cot/0", ReviewKind.TRAJECTORY, Effect.CONFIRMED),
        ("q1/cot/0/7", ReviewKind.PAIR, Effect.FLIPPED),
    )
    coa, cot, pairs = (change_table(name) for name in (SetName.COA, SetName.COT, SetName.COT_A))
    assert coa and cot and pairs
    assert [line.split("|")[2].strip() for line in coa.splitlines()[2:]] == ["2", "1"]
    assert "left out" in coa and "one more accepted answer" in coa
    assert "agree with the program" in cot
    assert "sides changed places" in pairs
    assert change_table(SetName.RL) == ""


def test_every_effect_has_words_of_its_own() -> None:
    assert reviews.EFFECTS.keys() == {str(effect) for effect in Effect}


def test_agreement_is_told_for_the_questions_that_decide() -> None:
    rows = [
        agreed(ReviewKind.TRAJECTORY, ReviewQuestion.VERDICT, 0.612),
        agreed(ReviewKind.TRAJECTORY, ReviewQuestion.SEARCH_QUALITY, 0.1),
        agreed(ReviewKind.DISPUTE, ReviewQuestion.SAME_ANSWER, None),
        agreed(ReviewKind.PAIR, ReviewQuestion.PREFERENCE, 0.5),
        agreed(ReviewKind.DISPUTE, ReviewQuestion.SAME_ANSWER, 0.9, Between.GRADER),
    ]
    tables.write_table(AGREEMENT, Agreement, rows)
    told = agreement_table(SetName.COA)
    assert "0.61" in told and "75.0%" in told
    assert "search quality" not in told and "preference" not in told and "0.90" not in told
    assert "preference" in agreement_table(SetName.COT_A)
