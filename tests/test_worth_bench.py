"""The worth of acting tells what a teacher does not remember from what it does."""

import asyncio
from pathlib import Path

import pytest

from bench.deciding import load
from bench.worth import SETTINGS, DecidingTeacher, Decision, kept_pairs, separation
from coa.records.pairs import Arm

pytestmark = pytest.mark.long
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def decisions() -> list[Decision]:
    teacher = DecidingTeacher(load([str(ROOT / "conf/tiny.yaml")]), 40)
    return asyncio.run(teacher.decisions(40))


def test_unknown_facts_are_worth_more_acting_than_known_ones(decisions: list[Decision]) -> None:
    assert {decision.is_known for decision in decisions} == {True, False}
    assert separation(decisions, 8).low > 0.6


def test_rounds_take_fewer_continuations_than_a_fixed_number(decisions: list[Decision]) -> None:
    for decision in decisions:
        assert all(len(decision.arms[arm]) == 40 for arm in Arm)
    kept = kept_pairs(decisions, SETTINGS)
    assert 0 < kept.num_right <= kept.num_pairs
    assert kept.num_continuations < 0.9 * len(decisions) * 2 * SETTINGS.num_continuations
