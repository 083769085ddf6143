"""The choice of rows: exact, proportional, stable."""

from hypothesis import given
from hypothesis import strategies as st

from coa.records.ranking import seeded_rank
from curate.assemble import AssembleParams, split_candidates
from curate.strata import Candidate, apportion, choose, divide_evenly

SIZES = st.dictionaries(st.tuples(st.integers(0, 5)), st.integers(1, 200), min_size=1)


@given(SIZES, st.integers(0, 1200))
def test_shares_add_up_and_never_exceed_a_stratum(sizes: dict[tuple[int], int], count: int) -> None:
    shares = apportion(sizes, count)
    assert sum(shares.values()) == min(count, sum(sizes.values()))
    assert all(0 <= shares[stratum] <= size for stratum, size in sizes.items())


@given(SIZES, st.integers(0, 1200))
def test_shares_are_proportional_within_one_row(sizes: dict[tuple[int], int], count: int) -> None:
    total = sum(sizes.values())
    for stratum, share in apportion(sizes, min(count, total)).items():
        assert abs(share - min(count, total) * sizes[stratum] / total) < 1


def pool(size: int) -> list[Candidate]:
    return [Candidate(f"q{i // 2}/coa/{i % 2}", f"q{i // 2}", (), (i % 3,)) for i in range(size)]


def test_the_choice_is_exact_and_follows_from_the_seed() -> None:
    chosen = choose(pool(300), 100, seed=1)
    assert len(chosen) == 100
    assert chosen == choose(pool(300)[::-1], 100, seed=1)
    assert chosen != choose(pool(300), 100, seed=2)


def test_no_question_is_in_two_splits() -> None:
    split = split_candidates(pool(1000), AssembleParams(validation_share=0.2))
    questions = {
        name: {candidate.question_id for candidate in rows} for name, rows in split.items()
    }
    assert not questions["train"] & questions["validation"]
    assert 60 < len(questions["validation"]) < 140


def test_groups_get_equal_numbers_as_far_as_they_reach() -> None:
    assert divide_evenly({("a",): 10, ("b",): 100, ("c",): 100}, 90) == {
        ("a",): 10,
        ("b",): 40,
        ("c",): 40,
    }


@given(SIZES, st.integers(0, 1200))
def test_groups_add_up(sizes: dict[tuple[int], int], count: int) -> None:
    shares = divide_evenly(sizes, count)
    assert sum(shares.values()) == min(count, sum(sizes.values()))
    assert all(0 <= shares[group] <= size for group, size in sizes.items())


def test_a_rank_depends_on_its_purpose() -> None:
    assert seeded_rank("q1", 0, "split") != seeded_rank("q1", 0, "set")
