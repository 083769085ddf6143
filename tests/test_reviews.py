"""Test reviews: their record, how several become one decision, and what it changes in the sets."""

from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from coa.records import protocol
from coa.records.drops import Dropped, DropReason
from coa.records.exclusions import Excluded, ExclusionReason, RowKind
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PairKind, PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Mode
from coa.store import tables
from coa.store.adjudication import AdjudicationParams, Decision, Rule, Standing, decide_all
from coa.store.files import DROPPED
from coa.store.reviews import (
    DECISIVE,
    Answer,
    Applied,
    Effect,
    Review,
    ReviewKind,
    ReviewQuestion,
    dispute_version,
    pair_version,
    read_reviews,
    trajectory_version,
    write_reviews,
)
from curate import assemble
from tests.sample_records import make_graded, make_pair

SIZES = {
    "num_cot_a": 1,
    "num_coa": 1,
    "num_cot": 1,
    "num_rl": 0,
    "allows_fewer": False,
    "validation_share": 0.0,
    "seed": 0,
}
QUESTIONS = [
    Question(f"q{i}", f"Who wrote number {i}?", ("Ada",), "train", "bridge", 2) for i in range(4)
]


def review(
    item: str, kind: ReviewKind, value: str, by: str = "anna", version: str = "v", **more: str
) -> Review:
    """A review; `round` and further answers by name."""
    number = int(more.pop("round", "1"))
    answers = (
        Answer(DECISIVE[kind], (value,)),
        *(Answer(ReviewQuestion(name), (text,)) for name, text in more.items()),
    )
    return Review(item, kind, version, 1, number, by, "2026-01-02T03:04:05Z", answers)


def decide(
    *said: tuple[str, str], rule: Rule = Rule.MAJORITY, least: int = 1, late: str = ""
) -> tuple[Standing, str]:
    reviews = [review("i", ReviewKind.TRAJECTORY, value, by) for by, value in said]
    if late:
        reviews.append(review("i", ReviewKind.TRAJECTORY, late, "zoe", round="2"))
    (decision,) = decide_all(reviews, AdjudicationParams(rule, ("eve",), least))
    return decision.standing, decision.value


A_KEEPS, B_DROPS, C_KEEPS, EVE_FIXES = (
    ("anna", "keep"),
    ("ben", "drop"),
    ("cora", "keep"),
    ("eve", "fix"),
)


def test_the_majority_decides_and_a_tie_is_a_conflict() -> None:
    assert decide(A_KEEPS, B_DROPS, C_KEEPS) == (Standing.DECIDED, "keep")
    assert decide(A_KEEPS, B_DROPS) == (Standing.CONFLICT, "")
    assert decide(A_KEEPS, least=2) == (Standing.PENDING, "")


def test_an_experts_word_decides_a_conflict_and_is_enough_alone() -> None:
    assert decide(A_KEEPS, B_DROPS, EVE_FIXES) == (Standing.DECIDED, "fix")
    assert decide(EVE_FIXES, least=2) == (Standing.DECIDED, "fix")


def test_all_must_agree_where_the_rule_says_so() -> None:
    assert decide(A_KEEPS, C_KEEPS, B_DROPS, rule=Rule.UNANIMOUS) == (Standing.CONFLICT, "")
    assert decide(A_KEEPS, C_KEEPS, rule=Rule.UNANIMOUS) == (Standing.DECIDED, "keep")


def test_experts_alone_count_where_the_rule_says_so() -> None:
    assert decide(A_KEEPS, C_KEEPS, rule=Rule.EXPERT) == (Standing.PENDING, "")
    assert decide(A_KEEPS, C_KEEPS, EVE_FIXES, rule=Rule.EXPERT) == (Standing.DECIDED, "fix")


def test_the_second_round_overrules_the_first() -> None:
    assert decide(A_KEEPS, C_KEEPS, late="drop") == (Standing.DECIDED, "drop")


@given(
    st.lists(st.sampled_from(["keep", "fix", "drop"]), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_a_decision_does_not_depend_on_the_order_of_reviews(
    said: list[str], random: "object"
) -> None:
    reviews = [review("i", ReviewKind.TRAJECTORY, value, f"r{n}") for n, value in enumerate(said)]
    shuffled = list(reviews)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (list(decide_all(order, AdjudicationParams())) for order in (reviews, shuffled))
    assert [it[:5] for it in first] == [it[:5] for it in second]


def test_another_answer_is_taken_from_those_who_agree_with_the_decision() -> None:
    reviews = (
        review("i", ReviewKind.TRAJECTORY, "fix", "anna", accepted_answer="Bo"),
        review("i", ReviewKind.TRAJECTORY, "drop", "ben", accepted_answer="Cy"),
    )
    decision = Decision("i", ReviewKind.TRAJECTORY, "v", Standing.DECIDED, "fix", reviews)
    assert decision.most_said(ReviewQuestion.ACCEPTED_ANSWER) == "Bo"


def test_the_same_reviews_are_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    rows = [
        review(f"i{n}", kind, "keep", by)
        for n in range(3)
        for kind in ReviewKind
        for by in ("anna", "ben")
    ]
    write_reviews(rows, tmp_path / "a.parquet")
    write_reviews(reversed(rows), tmp_path / "b.parquet")
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert sorted(map(str, read_reviews(tmp_path / "a.parquet"))) == sorted(map(str, rows))


def trajectory(asked: Question, mode: Mode, answer: str = "Ada") -> GradedTrajectory:
    steps = protocol.parse_policy(
        f"Hm, {asked.question_id}. {protocol.THINK_CLOSE} \\boxed{{{answer}}}"
    )
    return make_graded(asked, steps, mode, num_environment_tokens=0, num_calls=1, num_actions=0)


def pair(right: GradedTrajectory, wrong: GradedTrajectory) -> PreferencePair:
    return make_pair(right.trajectory, right.trajectory.steps, wrong.trajectory.steps)


KEPT = [trajectory(asked, Mode.COA) for asked in QUESTIONS[:3]] + [
    trajectory(QUESTIONS[0], Mode.COT)
]
WRONG = trajectory(QUESTIONS[3], Mode.COA, "Countess of Lovelace")
PAIRS = [
    pair(row, trajectory(asked, Mode.COA, "Bo"))
    for row, asked in zip(KEPT, QUESTIONS[:3], strict=False)
]
PAIRS.append(pair(trajectory(QUESTIONS[3], Mode.COT), WRONG))


@pytest.fixture
def folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four kept trajectories, one dropped as wrong, and four pairs, in the current folder."""
    monkeypatch.chdir(tmp_path)
    sections = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    Path("params.yaml").write_text(yaml.safe_dump({**sections, "assemble": SIZES}))
    tables.write_table(
        assemble.QUESTIONS, Question, [*QUESTIONS, Question("t0", "Who?", ("Bo",), "test")]
    )
    tables.write_table(assemble.GRADED, GradedTrajectory, [*KEPT, WRONG])
    tables.write_table(assemble.KEPT, GradedTrajectory, KEPT)
    tables.write_table(DROPPED, Dropped, [Dropped(DropReason.WRONG, "", WRONG)])
    tables.write_table(assemble.PAIRS, PreferencePair, PAIRS)
    tables.write_table(assemble.EXCLUDED, Excluded, [])
    write_reviews([])
    return tmp_path


def run(*reviews: Review, coa: int = 3, pairs: int = 4) -> dict[str, Effect]:
    """Assemble with these reviews; what became of each item."""
    write_reviews(reviews)
    assemble.main([f"num_coa={coa}", f"num_cot_a={pairs}"])
    return {it.item_id: it.effect for it in tables.read_table(assemble.REVIEWED, Applied)}


def coa_rows() -> dict[str, GradedTrajectory]:
    path = assemble.OUT / "coa/train.parquet"
    return {row.trajectory.trajectory_id: row for row in tables.read_table(path, GradedTrajectory)}


def pair_rows() -> dict[str, PreferencePair]:
    return {
        row.pair_id: row
        for row in tables.read_table(assemble.OUT / "cot_a/train.parquet", PreferencePair)
    }


def said_of(row: GradedTrajectory, value: str, **more: str) -> Review:
    return review(
        row.trajectory.trajectory_id,
        ReviewKind.TRAJECTORY,
        value,
        version=trajectory_version(row),
        **more,
    )


def said_of_pair(row: PreferencePair, value: str, **more: str) -> Review:
    return review(row.pair_id, ReviewKind.PAIR, value, version=pair_version(row), **more)


def disputed(value: str) -> Review:
    return review(
        WRONG.trajectory.trajectory_id, ReviewKind.DISPUTE, value, version=dispute_version(WRONG)
    )


def test_without_reviews_nothing_changes(folder: Path) -> None:
    DROPPED.unlink()  # not even read
    assert run() == {}
    assert coa_rows() == {row.trajectory.trajectory_id: row for row in KEPT[:3]}
    assert pair_rows() == {row.pair_id: row for row in PAIRS}


def test_a_dropped_trajectory_is_in_no_set_and_a_confirmed_one_is(folder: Path) -> None:
    assert run(said_of(KEPT[0], "drop"), said_of(KEPT[1], "keep"), coa=2) == {
        "q0/coa/0": Effect.DROPPED,
        "q1/coa/0": Effect.CONFIRMED,
    }
    assert coa_rows().keys() == {"q1/coa/0", "q2/coa/0"}


def test_a_verdict_on_a_text_that_has_changed_changes_nothing(folder: Path) -> None:
    stale = replace(said_of(KEPT[0], "drop"), version="0" * 16)
    gone = review("q9/coa/0", ReviewKind.TRAJECTORY, "drop")
    assert run(stale, gone) == {"q0/coa/0": Effect.STALE, "q9/coa/0": Effect.STALE}
    assert coa_rows().keys() == {"q0/coa/0", "q1/coa/0", "q2/coa/0"}


def test_a_fix_adds_an_accepted_answer_to_every_row_of_the_question(folder: Path) -> None:
    found = run(said_of(KEPT[0], "fix", accepted_answer=" Ada  Lovelace "))
    assert found == {"q0/coa/0": Effect.ANSWER_ADDED}
    assert coa_rows()["q0/coa/0"].gold_answers == ("Ada", "Ada Lovelace")
    assert coa_rows()["q1/coa/0"].gold_answers == ("Ada",)
    (cot,) = tables.read_table(assemble.OUT / "cot/train.parquet", GradedTrajectory)
    assert cot.gold_answers == ("Ada", "Ada Lovelace")


@pytest.mark.parametrize("answer", [{}, {"accepted_answer": "x" * 201}])
def test_a_fix_that_names_no_answer_leaves_the_trajectory_out(
    folder: Path, answer: dict[str, str]
) -> None:
    assert run(said_of(KEPT[0], "fix", **answer), coa=2) == {"q0/coa/0": Effect.NOT_FIXED}
    assert "q0/coa/0" not in coa_rows()


def test_the_same_answer_in_other_words_lets_the_trajectory_in_and_voids_its_pair(
    folder: Path,
) -> None:
    found = run(disputed("yes"), coa=4, pairs=3)
    rows = list(tables.read_table(assemble.REVIEWED, Applied))
    assert [it.effect for it in rows] == [Effect.ANSWER_ADDED, Effect.DISCARDED, Effect.LET_IN]
    assert found[PAIRS[3].pair_id] is Effect.DISCARDED
    let_in = coa_rows()["q3/coa/0"]
    assert let_in.gold_answers == ("Ada", "Countess of Lovelace")
    assert let_in.grade.exact_match
    assert PAIRS[3].pair_id not in pair_rows()


def test_what_an_evaluation_set_holds_is_not_let_in(folder: Path) -> None:
    marked = [
        replace(asked, also_in=("nq",)) if asked.question_id == "q3" else asked
        for asked in QUESTIONS
    ]
    tables.write_table(assemble.QUESTIONS, Question, marked)
    run(disputed("yes"), pairs=3)
    assert Effect.LET_IN not in {it.effect for it in tables.read_table(assemble.REVIEWED, Applied)}
    assert "q3/coa/0" not in coa_rows()


def test_reviewers_cannot_let_in_what_a_rule_dropped(folder: Path) -> None:
    assert run(said_of(WRONG, "keep")) == {"q3/coa/0": Effect.STAYS_OUT}
    assert run(said_of(WRONG, "drop")) == {"q3/coa/0": Effect.CONFIRMED}


def test_a_pair_whose_rejected_side_is_better_is_turned(folder: Path) -> None:
    assert run(said_of_pair(PAIRS[0], "rejected"), pairs=4) == {PAIRS[0].pair_id: Effect.FLIPPED}
    turned, kept = pair_rows()[PAIRS[0].pair_id], PAIRS[0]
    assert (turned.chosen, turned.rejected) == (kept.rejected, kept.chosen)
    assert (turned.chosen_id, turned.rejected_id) == ("wrong", "right")
    assert turned.kind is PairKind.THINK_IS_BETTER
    assert pair_rows()[PAIRS[1].pair_id] == PAIRS[1]


@pytest.mark.parametrize(
    ("value", "more"), [("tie", {}), ("both_bad", {}), ("chosen", {"point_right": "no"})]
)
def test_a_pair_that_teaches_nothing_is_left_out(
    folder: Path, value: str, more: dict[str, str]
) -> None:
    assert run(said_of_pair(PAIRS[0], value, **more), pairs=3) == {
        PAIRS[0].pair_id: Effect.DISCARDED
    }
    assert PAIRS[0].pair_id not in pair_rows()


def test_excluded_rows_stay_out_whatever_reviewers_say(folder: Path) -> None:
    excluded = [Excluded("q0/coa/0", "q0", RowKind.TRAJECTORY, ExclusionReason.MARKED, "")]
    tables.write_table(assemble.EXCLUDED, Excluded, excluded)
    run(said_of(KEPT[0], "keep"), coa=2)
    assert "q0/coa/0" not in coa_rows()


def test_what_became_of_a_review_names_no_reviewer(folder: Path) -> None:
    run(said_of(KEPT[0], "keep"))
    assert "anna" not in str(pl.read_parquet(assemble.REVIEWED).rows())


def test_half_is_no_majority() -> None:
    assert decide(A_KEEPS, C_KEEPS, B_DROPS, ("dan", "fix")) == (Standing.CONFLICT, "")


def test_a_conflict_changes_nothing(folder: Path) -> None:
    assert run(said_of(KEPT[0], "drop"), replace(said_of(KEPT[0], "keep"), reviewer="ben")) == {
        "q0/coa/0": Effect.CONFLICT
    }
    assert "q0/coa/0" in coa_rows()
