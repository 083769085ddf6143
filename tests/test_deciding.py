"""Deciding whether to search matters in the priced world, far more than in the default one."""

import asyncio
from pathlib import Path

import pytest

from bench.deciding import HabitScore, compare, load

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def priced() -> list[HabitScore]:
    return asyncio.run(compare(load([str(ROOT / "conf/microworld_priced.yaml")]), 500))


@pytest.mark.long
def test_searching_for_unknown_facts_alone_is_clearly_the_best_policy(
    priced: list[HabitScore],
) -> None:
    always, never, only_unknown = priced
    assert only_unknown.exact_match.low > always.exact_match.high
    assert only_unknown.utility.low > always.utility.high > never.utility.high


@pytest.mark.long
def test_searching_always_harms_here_and_hardly_in_the_default_world(
    priced: list[HabitScore],
) -> None:
    default = asyncio.run(compare(load([str(ROOT / "conf/microworld.yaml")]), 500))
    assert priced[0].exact_match.high + 0.05 < default[0].exact_match.low
