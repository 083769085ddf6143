"""Test what the interval of a difference is drawn over."""

import pytest

from coa.intervals import Over, difference_over

HALF = [1.0, 0.0] * 200
NOTHING = [0.0] * 400


def width(over: Over, ours: list[list[float]]) -> float:
    theirs = [NOTHING for _ in ours]
    found = difference_over(over, ours, theirs)
    assert found is not None
    return found.high - found.low


@pytest.mark.parametrize("over", [Over.SEEDS, Over.SEEDS_AND_QUESTIONS])
def test_one_seed_says_nothing_of_others(over: Over) -> None:
    assert difference_over(over, [HALF], [NOTHING]) is None


def test_no_questions_have_no_difference() -> None:
    for over in Over:
        assert difference_over(over, [[], []], [[], []]) is None
        assert difference_over(over, [], []) is None


def test_over_seeds_the_interval_is_that_of_the_paired_t_test() -> None:
    ours = [[0.1] * 4, [0.2] * 4, [0.3] * 4]
    theirs = [[0.0] * 4] * 3
    found = difference_over(Over.SEEDS, ours, theirs)
    assert found is not None
    # 4.303 is Student's t for two degrees of freedom; the standard error is .1 / sqrt(3).
    assert found.value == 0.2
    assert found.low == pytest.approx(0.2 - 4.303 * 0.1 / 3**0.5, abs=1e-3)
    assert found.high == pytest.approx(0.2 + 4.303 * 0.1 / 3**0.5, abs=1e-3)
    assert found.num == 3


def test_equal_seeds_are_as_sure_over_both_as_over_questions() -> None:
    seeds = [HALF, HALF, HALF]
    assert width(Over.SEEDS, seeds) == 0
    assert width(Over.SEEDS_AND_QUESTIONS, seeds) == pytest.approx(
        width(Over.QUESTIONS, seeds), rel=0.2
    )


def test_seeds_that_differ_are_less_sure_over_both_than_over_questions() -> None:
    seeds = [[1.0] * 400, HALF, NOTHING]
    assert width(Over.SEEDS_AND_QUESTIONS, seeds) > 3 * width(Over.QUESTIONS, seeds)
    assert width(Over.SEEDS, seeds) > width(Over.SEEDS_AND_QUESTIONS, seeds)
