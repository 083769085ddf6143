"""Reviews to how many rows of a set people have read; a review of another version of a row does not count."""

from collections.abc import Iterator

from coa import tables
from coa.files import REVIEWS
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.reviews import DECISIVE, Review, ReviewKind, pair_version, read_reviews, trajectory_version
from data_cards.catalogue import SPLITS, SetName, local_path


def num_reviewed(name: SetName) -> int:
    """Rows of a set that at least one person reviewed as they are now.

    Raises:
        InputError: a file is missing or broken.
    """
    if not REVIEWS.exists():
        return 0
    kind = ReviewKind.PAIR if name is SetName.COT_A else ReviewKind.TRAJECTORY
    seen = {(review.item_id, review.version) for review in read_reviews() if review.kind is kind}
    return (
        sum(version in seen for split in SPLITS for version in _versions(name, split))
        if seen
        else 0
    )


def reviews_of(item_id: str) -> Iterator[tuple[Review, str]]:
    """The reviews of a trajectory or a pair, whatever its version, and what each says in short; no reviewer is named.

    Raises:
        InputError: the file is broken.
    """
    for review in read_reviews() if REVIEWS.exists() else ():
        if review.item_id == item_id:
            said = review.value(DECISIVE[review.kind]) or "nothing decisive"
            yield (
                review,
                f"{review.kind}: {said} ({review.submitted}, round {review.round}, version {review.version})",
            )


def _versions(name: SetName, split: str) -> Iterator[tuple[str, str]]:
    path = local_path(name, split)
    if name is SetName.COT_A:
        yield from (
            (pair.pair_id, pair_version(pair)) for pair in tables.read_table(path, PreferencePair)
        )
    elif name is not SetName.RL:
        for row in tables.read_table(path, GradedTrajectory):
            yield row.trajectory.trajectory_id, trajectory_version(row)
