"""The first round judges pairs by their text; what was measured is shown only afterwards."""

import html
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from annotate import agreement, items, layouts
from annotate.first_round import reviewed_pairs
from annotate.settings import AnnotateParams, PushParams
from coa.records import protocol
from coa.records.causes import Analysis
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PairKind, PreferencePair
from coa.records.question import Question
from coa.records.worth import ArmSample, estimate_worth
from coa.store import tables
from coa.store.files import ANALYSED, GRADED, PAIRS
from coa.store.reviews import (
    Answer,
    Preference,
    Review,
    ReviewKind,
    ReviewQuestion,
    pair_version,
    trajectory_version,
    write_reviews,
)
from curate.analyse import analyse_all
from curate.diagnosis.rules import Context
from tests.sample_records import make_graded, make_pair

ASKED = Question("q1", "Who wrote it?", ("Ada",), "train")
ROW = make_graded(ASKED, protocol.parse_policy("Ada."))
WORTH = estimate_worth(ArmSample(8, 7, 16), ArmSample(8, 2, 4), price=0.05, confidence=0.9)
FIRST_ROUND = AnnotateParams(push=PushParams(kinds=(ReviewKind.PAIR,)))
SECOND_ROUND = replace(FIRST_ROUND, push=replace(FIRST_ROUND.push, round=2))


def pair(point: int = 3, **changes: Any) -> PreferencePair:
    """A pair whose sides are both forks of the trajectory."""
    acting = protocol.parse_policy("I look. <begin_search> it </end_search>")
    thinking = protocol.parse_policy("Surely Bo.")
    forked = f"q1/coa/0/{point}"
    made = make_pair(
        ROW.trajectory,
        acting,
        thinking,
        point=point,
        chosen_id=f"{forked}/act/0",
        rejected_id=f"{forked}/think/0",
        num_act=8,
        num_act_correct=7,
        num_think=8,
        num_think_correct=2,
        worth=WORTH,
    )
    return replace(made, **changes)


def review(of: PreferencePair, reviewer: str, verdict: Preference, round_: int = 1) -> Review:
    answers = (Answer(ReviewQuestion.PREFERENCE, (verdict,)),)
    return Review(
        of.pair_id,
        ReviewKind.PAIR,
        pair_version(of),
        1,
        round_,
        reviewer,
        "2026-01-02T03:04:05Z",
        answers,
    )


@pytest.fixture(autouse=True)
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables.write_table(GRADED, GradedTrajectory, [ROW])
    tables.write_table(PAIRS, PreferencePair, [pair()])
    in_conflict = [review(pair(), "anna", Preference.CHOSEN), review(pair(), "ben", Preference.TIE)]
    write_reviews(in_conflict)


def shown(params: AnnotateParams) -> dict[str, str]:
    (item,) = items.chosen_items(ReviewKind.PAIR, params)
    return dict(item.fields)


def test_the_first_round_shows_the_same_whatever_was_measured() -> None:
    measured = layouts.pair_fields(pair(), ASKED.gold_answers)
    others: dict[str, Any] = {
        "worth": None,
        "num_act": 3,
        "num_act_correct": 0,
        "num_think_correct": 8,
    }
    assert layouts.pair_fields(pair(**others), ASKED.gold_answers) == measured
    assert shown(FIRST_ROUND) == measured
    assert "Measured" not in "".join(measured.values())


def test_the_second_round_shows_the_worth_beside_the_first_verdicts() -> None:
    first, second = shown(FIRST_ROUND), shown(SECOND_ROUND)
    assert [name for name in first if first[name] != second[name]] == ["sides"]
    added = second["sides"]
    acting = "A" if layouts.is_chosen_left(pair().pair_id) else "B"
    assert "calling is worth &#43;0.5" in added
    assert f"7 of 8 continuations right that call search there, as {acting} does" in added
    assert "90% interval" in added
    assert f"{acting}&#58; 1, no difference&#58; 1" in added
    assert "anna" not in added


def test_a_pair_without_worth_shows_its_counts_in_the_second_round() -> None:
    one_arm = pair(worth=None, num_think=1, num_think_correct=0)
    PAIRS.unlink()
    tables.write_table(PAIRS, PreferencePair, [one_arm])
    second = shown(SECOND_ROUND)["sides"]
    assert "Measured&#58; 7 of 8 continuations right" in second
    assert "interval" not in second


def test_hostile_names_of_tools_are_text_in_the_second_round() -> None:
    PAIRS.unlink()
    tables.write_table(PAIRS, PreferencePair, [pair(tool="<script>alert(1)</script>")])
    assert "<script" not in shown(SECOND_ROUND)["sides"]


def test_pairs_whose_interval_is_nearest_to_zero_are_reviewed_first() -> None:
    unclear = estimate_worth(ArmSample(8, 5), ArmSample(8, 3), price=0.0, confidence=0.9)
    harms = estimate_worth(ArmSample(8, 0), ArmSample(8, 8), price=0.0, confidence=0.9)
    pairs = [pair(1), pair(2, worth=harms), pair(3, worth=unclear)]
    PAIRS.unlink()
    tables.write_table(PAIRS, PreferencePair, pairs)
    order = []
    for num_items in (1, 2, 3):
        push = PushParams(num_items=num_items, audit_share=0.0)
        for item in items.chosen_items(ReviewKind.PAIR, AnnotateParams(push=push)):
            if item.item_id not in order:
                order.append(item.item_id)
    assert [row_id.rpartition("/")[2] for row_id in order] == ["3", "1", "2"]


def test_the_page_of_agreement_shows_the_worth_beside_the_first_verdicts() -> None:
    rejected = review(pair(), "cleo", Preference.REJECTED)
    later = review(pair(), "expert", Preference.CHOSEN, round_=2)
    reviews = [review(pair(), "anna", Preference.CHOSEN), rejected, later]
    write_reviews(reviews)
    sections = {"annotate": msgspec.to_builtins(AnnotateParams())}
    Path("params.yaml").write_text(yaml.safe_dump(sections), encoding="utf-8")
    agreement.main([])
    page = " ".join(agreement.PAGE.read_text(encoding="utf-8").split())
    assert "Of 2 verdicts for one side of a pair with a measured worth, 1 (50%)" in page
    assert '<td>acting: 1, thinking on: 1</td> <td class="n">+0.5' in page


def test_verdicts_are_named_by_the_arm_that_they_prefer() -> None:
    turned = pair(kind=PairKind.THINK_IS_BETTER)
    PAIRS.unlink()
    tables.write_table(PAIRS, PreferencePair, [turned])
    (found,) = reviewed_pairs([review(turned, "anna", Preference.CHOSEN)])
    assert found.said == (("thinking on", 1),)


def test_reviews_of_another_text_are_not_put_beside_the_worth() -> None:
    other = pair(question="Another?")
    assert not list(reviewed_pairs([review(other, "anna", Preference.CHOSEN)]))


def test_the_second_round_shows_the_first_verdicts_on_a_trajectory_without_names() -> None:
    verdicts = {"anna": "keep", "ben": "drop"}
    made = []
    for reviewer, verdict in verdicts.items():
        answers = (Answer(ReviewQuestion.VERDICT, (verdict,)),)
        row_id = ROW.trajectory.trajectory_id
        version = trajectory_version(ROW)
        time = "2026-01-02T03:04:05Z"
        made.append(Review(row_id, ReviewKind.TRAJECTORY, version, 1, 1, reviewer, time, answers))
    write_reviews(made)
    analysed = analyse_all([ROW], {ASKED.question_id: ASKED}, Context())
    tables.write_table(ANALYSED, Analysis, analysed)
    (item,) = items.chosen_items(ReviewKind.TRAJECTORY, SECOND_ROUND)
    assert "The first round said" in html.unescape(item.fields["question"])
    assert "drop: 1, keep: 1" in html.unescape(item.fields["question"])
    assert "anna" not in item.fields["question"]
