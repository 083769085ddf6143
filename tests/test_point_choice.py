"""Which trajectories and points are chosen by blame, by doubt and by the seed."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from coa.policy.chat.families import FAMILIES, FamilyName
from coa.policy.chat.record import Unforkable
from coa.records import protocol
from coa.records.causes import Analysis
from coa.records.graded import GradedTrajectory
from coa.records.pairs import Arm
from coa.records.trajectory import Mode, Sampling
from coa.rollout.forks import BranchParams, PointChoice
from curate.forks.blamed_points import read_blamed
from curate.forks.choice import Refused, choose_parents, find_forks, forks_of
from curate.forks.point_scores import PointScores, doubt_in_words
from tests.blame_support import BLAME, analysed, forks_by_blame, named, text_before, write
from tests.causes_support import end, row, turn

TEXTS = (
    "It is old. Night Train comes first. I recall that Otto Lang directed it. He is from Oslo.",
    "The film is from 1959. I need the director. It was Otto Lang. He was born in Oslo.",
    "It is so. Somebody directed it. Maybe Eva Berg directed it. Then the city is Oslo. So be it.",
)
RANDOM = BranchParams(points=PointChoice.RANDOM)


def wrong_rows() -> list[GradedTrajectory]:
    rows = [row(*end(text, "Oslo"), mode=Mode.COT) for text in TEXTS]
    rows.append(
        row(
            *turn("I need the director.", "Night Train director", "film"),
            *turn("It says Ada Novak. Where was she born?", "Ada Novak born", "person", "other"),
            *end("The passage says Oslo. So it is Oslo.", "Oslo"),
        )
    )
    return [named(wrong, f"q{number}/x/0") for number, wrong in enumerate(rows)]


def chosen_points(graded: Path, analysed_path: Path, params: BranchParams) -> list[tuple[str, int]]:
    parents = choose_parents(graded, params, analysed_path)
    scores = PointScores(read_blamed(analysed_path, parents), doubt_in_words)
    is_by_blame = params.points is PointChoice.BLAME
    forks = find_forks(graded, parents, params, None, Refused(), scores if is_by_blame else None)
    return [(fork.parent.trajectory.trajectory_id, fork.point) for fork in forks]


def shuffled(analyses: list[Analysis]) -> list[Analysis]:
    """Give each analysis the findings of the next one."""
    made = []
    for own, other in zip(analyses, analyses[1:] + analyses[:1], strict=True):
        made.append(
            replace(
                own,
                cause=other.cause,
                step=other.step,
                evidence=other.evidence,
                contributing=other.contributing,
            )
        )
    return made


def test_with_shuffled_causes_other_points_are_chosen(tmp_path: Path) -> None:
    rows = wrong_rows()
    analyses = [analysed(wrong) for wrong in rows]
    true_points = chosen_points(*write(tmp_path, rows, analyses), BLAME)
    assert true_points == chosen_points(*write(tmp_path, rows, analyses), BLAME)
    other_points = chosen_points(*write(tmp_path, rows, shuffled(analyses)), BLAME)
    assert len(true_points) == len(other_points) == len(rows)
    assert set(true_points).isdisjoint(other_points)
    for params in (BranchParams(), RANDOM):
        kept = chosen_points(*write(tmp_path, rows, analyses), params)
        assert kept == chosen_points(*write(tmp_path, rows, shuffled(analyses)), params)


@pytest.mark.parametrize("hedge", ["Maybe it was Ada.", "I don't remember her.", "I guess Ada."])
def test_words_of_doubt_decide_where_nothing_is_blamed(tmp_path: Path, hedge: str) -> None:
    text = f"It is a film. It is old. Somebody made it. {hedge} She was born in Riga. So Riga."
    right = row(*end(text, "Riga"), mode=Mode.COT)
    (fork,) = forks_by_blame(tmp_path, right)
    assert text_before(right.trajectory.steps, fork.point) == "Somebody made it."
    assert (fork.cause, fork.score) == ("", 0.4)


def test_points_of_like_score_are_spread_over_the_text(tmp_path: Path) -> None:
    text = " ".join(f"Thing {number} is here." for number in range(30))
    first: Counter[int] = Counter()
    for number in range(60):
        right = named(row(*end(text, "Riga"), mode=Mode.COT), f"q{number}/cot/0")
        points = forks_by_blame(tmp_path, right, replace(BLAME, points_per_trajectory=3))
        stretches = {3 * fork.point // len(text) for fork in points}
        assert len(stretches) == 3
        (one,) = forks_by_blame(tmp_path, right)
        first[3 * one.point // len(text)] += 1
    assert min(first.values()) >= 10


def test_imported_trajectories_are_not_forked_by_blame(tmp_path: Path) -> None:
    rows = wrong_rows()
    foreign = Sampling(temperature=-1.0, top_p=-1.0, seed=-1)
    rows[0] = replace(rows[0], trajectory=replace(rows[0].trajectory, sampling=foreign))
    graded, path = write(tmp_path, rows)
    assert choose_parents(graded, BLAME, path) == {"q1/x/0", "q2/x/0", "q3/x/0"}


def test_random_points_are_all_that_blame_may_choose_from() -> None:
    acted = wrong_rows()[3]
    every = forks_of(acted, replace(RANDOM, points_per_trajectory=99))
    before = [(fork.arm, text_before(acted.trajectory.steps, fork.point)) for fork in every]
    assert before == [
        (Arm.THINK, "I need the director."),
        (Arm.THINK, "Where was she born?"),
        (Arm.ACT, before[2][1]),
        (Arm.ACT, "So it is Oslo."),
    ]
    assert before[2][1].endswith("The passage says Oslo.")
    seeds = {forks_of(acted, replace(RANDOM, seed=seed))[0].point for seed in range(40)}
    assert seeds == {fork.point for fork in every}


@pytest.mark.parametrize("points", [PointChoice.BLAME, PointChoice.RANDOM])
def test_points_that_a_chat_policy_cannot_fork_are_counted(points: PointChoice) -> None:
    acted = wrong_rows()[3]
    refused = Refused()
    params = replace(RANDOM, points=points, points_per_trajectory=99)
    scores = PointScores({}, doubt_in_words) if points is PointChoice.BLAME else None
    forks = forks_of(acted, params, FAMILIES[FamilyName.PLAIN], refused, scores)
    num_text = len(forks_of(acted, params, scores=scores))
    assert refused.total() > 0 and set(refused) <= set(Unforkable)
    assert len(forks) < num_text
    for fork in forks:
        protocol.split_at(acted.trajectory.steps, fork.point)
