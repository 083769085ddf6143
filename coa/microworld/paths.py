"""A world -> all the paths through its facts that a question can ask for.

The paths that need known facts only are dealt out to the splits once and for all: no two splits, and no pre-training
text and held-out split, share a question.
"""

import itertools
import random
from collections.abc import Iterator

from coa.microworld.names import POOLS, Category
from coa.microworld.plans import Facts, PlanKind
from coa.microworld.relations import RELATIONS, RELATIONS_OF
from coa.microworld.world import SPLITS, Fact, Group, World

_KNOWN_DEALT = {Group.TRAIN: 0.76, Group.VALIDATION: 0.09, Group.TEST: 0.15}
# What each split gets of the paths that need known facts only; train asks for the most.
_MAX_SAME = 400
# Pairs per relation and answer; without a bound the genres, which many films share, would be nearly all of them.


def split_paths(world: World, split: Group) -> dict[str, list[tuple[PlanKind, Facts]]]:
    """The paths that begin at a split's own entities, by number of hops, `comparison` and `same`."""
    return _paths(world, split)


def known_paths(world: World, split: Group) -> dict[str, list[tuple[PlanKind, Facts]]]:
    """The paths through known facts that are this split's to ask."""
    rng = random.Random(f"{world.settings.seed}/known")
    share_before = sum(_KNOWN_DEALT[other] for other in SPLITS[: SPLITS.index(split)])
    dealt = {}
    for key, paths in _paths(world, Group.KNOWN).items():
        rng.shuffle(paths)
        start, end = (
            round(share * len(paths))
            for share in (share_before, share_before + _KNOWN_DEALT[split])
        )
        dealt[key] = paths[start:end]
    return dealt


def _paths(world: World, group: Group) -> dict[str, list[tuple[PlanKind, Facts]]]:
    found: dict[str, list[tuple[PlanKind, Facts]]] = {str(hops): [] for hops in range(1, 5)}
    for category in POOLS:
        for entity in world.entities[group, category]:
            for path in _chains(world, entity, (), frozenset((entity,))):
                found[str(len(path))].append((PlanKind.CHAIN, path))
    found["comparison"] = list(_comparisons(world, group))
    found["same"] = list(_sames(world, group))
    return found


def _chains(world: World, entity: str, path: Facts, seen: frozenset[str]) -> Iterator[Facts]:
    """All chains of up to four facts that go on from `path`, none through an entity twice."""
    for fact in world.facts_of(entity):
        if fact.value in seen:
            continue
        longer = (*path, fact)
        yield longer
        if len(longer) < 4 and RELATIONS[fact.relation].is_link:
            yield from _chains(world, fact.value, longer, seen | {fact.value})


def _comparisons(world: World, group: Group) -> Iterator[tuple[PlanKind, Facts]]:
    years = [world.facts[film, "year"] for film in world.entities[group, Category.FILM]]
    pairs = ((a, b) for a, b in itertools.combinations(years, 2) if a.value != b.value)
    return zip(itertools.cycle((PlanKind.OLDER, PlanKind.NEWER)), pairs, strict=False)


def _sames(world: World, group: Group) -> Iterator[tuple[PlanKind, Facts]]:
    """Pairs that share a value of a relation, and as many that do not."""
    rng = random.Random(f"{world.settings.seed}/same/{group}")
    for category, relations in RELATIONS_OF.items():
        for relation in relations:
            keys = [(entity, relation.name) for entity in world.entities[group, category]]
            facts = [world.facts[key] for key in keys if key in world.facts]
            sharing = _sharing(facts)
            sharing = rng.sample(sharing, min(_MAX_SAME, len(sharing)))
            for pair in itertools.chain(sharing, _differing(facts, len(sharing), rng)):
                yield PlanKind.SAME, pair


def _sharing(facts: list[Fact]) -> list[Facts]:
    ordered = sorted(facts, key=lambda fact: fact.value)
    groups = (tuple(group) for _, group in itertools.groupby(ordered, key=lambda fact: fact.value))
    return [pair for group in groups for pair in itertools.combinations(group, 2)]


def _differing(facts: list[Fact], count: int, rng: random.Random) -> Iterator[Facts]:
    """Up to `count` distinct pairs of facts with different values; in a tiny world there may be fewer."""
    drawn = (sorted(rng.sample(range(len(facts)), 2)) for _ in range(10 * count))
    pairs = dict.fromkeys(
        (facts[i], facts[j]) for i, j in drawn if facts[i].value != facts[j].value
    )
    return itertools.islice(pairs, count)
