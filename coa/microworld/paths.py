"""Enumerate all the paths through a world's facts that a question can ask for.

The paths that need known facts only are dealt out to the splits once and for all: no two splits,
and no pre-training text and held-out split, share a question.
"""

import itertools
import random
from collections.abc import Iterator
from typing import NamedTuple

from coa.microworld.names import POOLS, Category
from coa.microworld.plans import AGES, Facts, PlanKind
from coa.microworld.relations import BIRTH_YEAR, RELATIONS, RELATIONS_OF
from coa.microworld.world import SPLITS, Fact, Group, World

_KNOWN_SHARES = {Group.TRAIN: 0.76, Group.VALIDATION: 0.09, Group.TEST: 0.15}
"""What each split gets of the paths that need known facts only; train asks for the most."""
_MAX_SAME = 400
"""Pairs per relation that share a value.

Without a bound the genres, which many films share, would be nearly all of them.
"""
_MAX_HOPS = 4
_FILMS_PER_PERSON = 20
"""Films about whose year a question asks how old a person was."""
_AGES_PER_PERSON = 20
"""Ages about which a question asks when a person had them; as many as films, so that both kinds of
calculations have enough paths."""


class Path(NamedTuple):
    """What a question can ask for."""

    kind: PlanKind
    facts: Facts
    age: int = 0
    """The age that a question of the kind `turned` asks about."""


def known_paths(world: World, split: Group) -> dict[str, list[Path]]:
    """List the paths through known facts that this split may ask, by the keys of `split_paths`."""
    rng = random.Random(f"{world.settings.seed}/known")
    earlier_splits = SPLITS[: SPLITS.index(split)]
    share_before = sum(_KNOWN_SHARES[earlier] for earlier in earlier_splits)
    share_after = share_before + _KNOWN_SHARES[split]
    dealt = {}
    for key, paths in split_paths(world, Group.KNOWN).items():
        rng.shuffle(paths)
        start = round(share_before * len(paths))
        end = round(share_after * len(paths))
        dealt[key] = paths[start:end]
    return dealt


def split_paths(world: World, group: Group) -> dict[str, list[Path]]:
    """List the paths that begin at a group's own entities.

    Returns:
        The paths by the number of their hops ("1" to "4"), by `comparison` and by `same`; where
        people have a year of birth, also by `age` and by `turned`.
    """
    found: dict[str, list[Path]] = {}
    for hops in range(1, _MAX_HOPS + 1):
        found[str(hops)] = []
    for category in POOLS:
        for entity in world.entities[group, category]:
            for path in _chains(world, entity, (), frozenset((entity,))):
                found[str(len(path))].append(Path(PlanKind.CHAIN, path))
    found["comparison"] = list(_comparisons(world, group))
    found["same"] = list(_pairs_for_same(world, group))
    if world.settings.calculation_share:
        found["age"] = list(_pairs_for_age(world, group))
        found["turned"] = list(_birth_years(world, group))
    return found


def _birth_years(world: World, group: Group) -> Iterator[Path]:
    """Yield years of birth, each with several ages."""
    rng = random.Random(f"{world.settings.seed}/turned/{group}")
    for person in world.entities[group, Category.PERSON]:
        facts = (world.facts[person, BIRTH_YEAR.name],)
        for age in rng.sample(AGES, _AGES_PER_PERSON):
            yield Path(PlanKind.TURNED, facts, age)


def _pairs_for_age(world: World, group: Group) -> Iterator[Path]:
    """Yield pairs of a person's year of birth and the year of a film, known or of the group."""
    rng = random.Random(f"{world.settings.seed}/age/{group}")
    known_films = world.entities[Group.KNOWN, Category.FILM]
    own_films = world.entities[group, Category.FILM]
    for person in world.entities[group, Category.PERSON]:
        films: dict[str, None] = {}  # a set that keeps the order
        for _ in range(_FILMS_PER_PERSON):
            is_known = rng.random() < world.settings.known_value_share
            films[rng.choice(known_films if is_known else own_films)] = None
        for film in films:
            facts = (world.facts[person, BIRTH_YEAR.name], world.facts[film, "year"])
            yield Path(PlanKind.AGE, facts)


def _chains(world: World, entity: str, path: Facts, seen: frozenset[str]) -> Iterator[Facts]:
    """Yield all chains of up to four facts that continue `path`, none through an entity twice."""
    for fact in world.facts_of(entity):
        if fact.value in seen:
            continue
        longer = (*path, fact)
        yield longer
        if len(longer) < _MAX_HOPS and RELATIONS[fact.relation].is_link:
            yield from _chains(world, fact.value, longer, seen | {fact.value})


def _comparisons(world: World, group: Group) -> Iterator[Path]:
    """Yield the pairs of films of different years; every other pair asks for the newer one."""
    years = [world.facts[film, "year"] for film in world.entities[group, Category.FILM]]
    kinds = itertools.cycle((PlanKind.OLDER, PlanKind.NEWER))
    for a, b in itertools.combinations(years, 2):
        if a.value != b.value:
            yield Path(next(kinds), (a, b))


def _pairs_for_same(world: World, group: Group) -> Iterator[Path]:
    """Yield pairs that share a value of a relation, and as many that do not."""
    rng = random.Random(f"{world.settings.seed}/same/{group}")
    for category, relations in RELATIONS_OF.items():
        for relation in relations:
            keys = [(entity, relation.name) for entity in world.entities[group, category]]
            facts = [world.facts[key] for key in keys if key in world.facts]
            sharing = _sharing_pairs(facts)
            sharing = rng.sample(sharing, min(_MAX_SAME, len(sharing)))
            for pair in sharing:
                yield Path(PlanKind.SAME, pair)
            for pair in _differing_pairs(facts, len(sharing), rng):
                yield Path(PlanKind.SAME, pair)


def _sharing_pairs(facts: list[Fact]) -> list[Facts]:
    """List all pairs of facts with the same value, sorted by value."""
    by_value: dict[str, list[Fact]] = {}
    for fact in facts:
        by_value.setdefault(fact.value, []).append(fact)
    pairs: list[Facts] = []
    for value in sorted(by_value):
        pairs += itertools.combinations(by_value[value], 2)
    return pairs


def _differing_pairs(facts: list[Fact], count: int, rng: random.Random) -> list[Facts]:
    """Draw up to `count` distinct pairs of facts with different values.

    In a tiny world there may be fewer.
    """
    pairs: dict[Facts, None] = {}  # a set that keeps the order
    for _ in range(10 * count):
        i, j = sorted(rng.sample(range(len(facts)), 2))
        if facts[i].value != facts[j].value:
            pairs[facts[i], facts[j]] = None
    return list(pairs)[:count]
