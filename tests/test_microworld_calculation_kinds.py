"""Both kinds of questions that need a calculation are asked about equally often."""

from coa.microworld.paths import known_paths
from coa.microworld.world import SPLITS, GroupSize, WorldSettings, make_world

SETTINGS = WorldSettings(
    known=GroupSize(30, 20, 10, 10),
    train=GroupSize(40, 30, 16, 16),
    validation=GroupSize(15, 10, 6, 6),
    test=GroupSize(15, 10, 6, 6),
    calculation_share=0.4,
)
WORLD = make_world(SETTINGS)


def test_no_two_splits_ask_when_a_known_person_had_the_same_age() -> None:
    seen: set[tuple[str, int]] = set()
    for split in SPLITS:
        paths = known_paths(WORLD, split)["turned"]
        found = {(path.facts[0].entity, path.age) for path in paths}
        assert found
        assert not found & seen
        seen |= found
