"""Make a world from settings and a seed: entities, facts about them, passages that state the facts.

The entities are in four groups. The known group is what a student learns in pre-training. The
entities of the three splits have to be searched; the facts of a split point to the same split or to
the known group, never to another split.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from coa.errors import ConfigError
from coa.microworld.names import POOLS, VALUES, Category, all_names
from coa.microworld.relations import (
    ASIDES,
    BIRTH_YEAR,
    BY_NAME,
    RELATIONS_OF,
    Relation,
    sentence,
)
from coa.search import Passage

_THINGS = ("Maps", "Clocks", "Boats", "Roads", "Birds")
_FREQUENCIES = ("rarely", "often")
_QUALITIES = ("slow", "loud", "cheap", "heavy")
SMALL_TALK = [
    f"{thing} are {how_often} {quality}."
    for thing, how_often, quality in itertools.product(_THINGS, _FREQUENCIES, _QUALITIES)
]
"""Passages about none of the entities; the first word is the title."""


class Group(StrEnum):
    """A group of entities that belong together."""

    KNOWN = "known"
    """Learnt in pre-training; questions of every split may use them."""
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


SPLITS = (Group.TRAIN, Group.VALIDATION, Group.TEST)
"""The groups that have to be searched."""


@dataclass(frozen=True, slots=True)
class GroupSize:
    """The numbers of entities in a group, by category."""

    person: int
    """People."""
    film: int
    """Films."""
    company: int
    """Companies."""
    city: int
    """Cities."""


class PassageFault(StrEnum):
    """What is wrong with what the corpus states about a known fact.

    Real search has such faults too, so a search for what one knows has a risk.
    """

    STALE = "stale"
    """The only passage states a wrong value."""
    CONTRADICTED = "contradicted"
    """One passage states the right value, another one a wrong value."""
    DISTRACTED = "distracted"
    """No passage states it; two passages state the same of similar names."""


@dataclass(frozen=True, slots=True)
class FaultShares:
    """The shares of the known facts whose passages mislead; together at most 1."""

    stale: float = 0.0
    """Share whose only passage states a wrong value."""
    contradicted: float = 0.0
    """Share about which one passage is right and another one wrong."""
    distracted: float = 0.0
    """Share that no passage states; two passages state the same of similar names."""


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """The size of a world; the defaults give 22,000 train questions with distinct paths."""

    seed: int = 0
    """Decides the names, facts and passages."""
    known: GroupSize = field(default_factory=lambda: GroupSize(90, 60, 30, 30))
    """Entities that questions of every split may use."""
    train: GroupSize = field(default_factory=lambda: GroupSize(550, 375, 190, 190))
    """Entities of the train questions."""
    validation: GroupSize = field(default_factory=lambda: GroupSize(130, 90, 45, 45))
    """Entities of the validation questions."""
    test: GroupSize = field(default_factory=lambda: GroupSize(220, 150, 75, 75))
    """Entities of the test questions."""
    known_value_share: float = 0.25
    """Share of the links from entities that have to be searched that lead to a known entity."""
    rare_share: float = 0.2
    """Share of the known entities that the pre-training text seldom mentions."""
    namesake_share: float = 0.12
    """Share of the facts for which there is also a passage about a similar name."""
    aside_share: float = 0.12
    """Share of the facts for which there is also a passage with something else about the entity."""
    faults: FaultShares = field(default_factory=FaultShares)
    """Passages that mislead whoever searches for a known fact; the facts themselves stay true."""
    calculation_share: float = 0.0
    """Share of the questions that need a calculation with years; above 0 every person has a year
    of birth."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact: an entity, a relation and its value."""

    entity: str
    relation: str
    """A key of `BY_NAME`."""
    value: str


@dataclass(frozen=True, slots=True)
class World:
    """A world; everything in it follows from its settings."""

    settings: WorldSettings
    entities: dict[tuple[Group, Category], tuple[str, ...]]
    facts: dict[tuple[str, str], Fact]
    """The facts by entity and relation."""
    groups: dict[str, Group]
    """The group of each entity."""
    categories: dict[str, Category]
    """The category of each entity."""
    rare: frozenset[str]
    """The known entities that the pre-training text seldom mentions."""

    def is_known(self, fact: Fact) -> bool:
        """Tell whether a student should know the fact from pre-training."""
        return self.groups[fact.entity] is Group.KNOWN

    def facts_of(self, entity: str) -> list[Fact]:
        """List the facts about an entity that chains go through, in the order of the relations."""
        found = []
        for relation in RELATIONS_OF[self.categories[entity]]:
            fact = self.facts.get((entity, relation.name))
            if fact is not None:
                found.append(fact)
        return found

    def invent_name(self, category: Category, rng: random.Random) -> str:
        """Make a name of the same words that no entity has."""
        pool = POOLS[category]
        while True:
            name = f"{rng.choice(pool.first)} {rng.choice(pool.second)}"
            if name not in self.groups:
                return name

    def invent_value(self, category: Category, rng: random.Random) -> str:
        """Invent a name, or choose one of the plain values."""
        if category in VALUES:
            return rng.choice(VALUES[category])
        return self.invent_name(category, rng)

    def passage_faults(self) -> dict[tuple[str, str], PassageFault]:
        """Choose the known facts whose passages mislead, by entity and relation."""
        rng = random.Random(f"{self.settings.seed}/faults")
        shares = self.settings.faults
        kinds = (*PassageFault, None)
        weights = [shares.stale, shares.contradicted, shares.distracted]
        weights.append(1 - sum(weights))
        chosen = {}
        for key, fact in self.facts.items():
            fault = rng.choices(kinds, weights)[0] if self.is_known(fact) else None
            if fault is not None:
                chosen[key] = fault
        return chosen

    def passages(self) -> list[Passage]:
        """Write the corpus: a sentence for every fact, and distractors.

        Without `faults` in the settings no passage contradicts a fact.

        Equal worlds give equal passages with equal ids.
        """
        distinct = dict.fromkeys(_passage_texts(self))  # in order
        return [
            Passage(f"mw-{number:06d}", title, text)
            for number, (title, text) in enumerate(distinct)
        ]


def make_world(settings: WorldSettings) -> World:
    """Make the world that the settings describe; equal settings give equal worlds.

    Raises:
        ConfigError: a group is too small, there are too few words for so many names, or the shares
            of misleading passages or of calculations are no shares.
    """
    shares = (settings.faults.stale, settings.faults.contradicted, settings.faults.distracted)
    if min(shares) < 0 or sum(shares) > 1:
        raise ConfigError(
            "the shares of misleading passages are no shares",
            where="microworld.world.faults",
            expected="none below 0, together at most 1",
            got=settings.faults,
        )
    if not 0 <= settings.calculation_share < 1:
        raise ConfigError(
            "the share of calculations is no share",
            where="microworld.world.calculation_share",
            expected="0 or more, below 1",
            got=settings.calculation_share,
        )
    entities = _name_entities(settings)
    groups: dict[str, Group] = {}
    categories: dict[str, Category] = {}
    for (group, category), names in entities.items():
        groups.update(dict.fromkeys(names, group))
        categories.update(dict.fromkeys(names, category))
    return World(
        settings=settings,
        entities=entities,
        facts=_draw_facts(entities, settings),
        groups=groups,
        categories=categories,
        rare=_choose_rare(entities, settings),
    )


def _name_entities(settings: WorldSettings) -> dict[tuple[Group, Category], tuple[str, ...]]:
    rng = random.Random(f"{settings.seed}/names")
    entities = {}
    for category in POOLS:
        sizes: dict[Group, int] = {}
        for group in Group:
            group_size: GroupSize = getattr(settings, group)
            sizes[group] = getattr(group_size, category)
        names = all_names(category)
        _check_sizes(category, sizes, len(names))
        drawn = iter(rng.sample(names, sum(sizes.values())))
        for group, size in sizes.items():
            entities[group, category] = tuple(itertools.islice(drawn, size))
    return entities


def _check_sizes(category: Category, sizes: dict[Group, int], num_names: int) -> None:
    smallest = min(sizes, key=lambda group: sizes[group])
    if sizes[smallest] < 2:
        raise ConfigError(
            f"the group {smallest} is too small",
            where=f"{smallest}.{category}",
            expected="at least 2, for facts need a value other than their own entity",
            got=sizes[smallest],
        )
    # The other half of the names stays free for invented ones.
    if sum(sizes.values()) > num_names // 2:
        raise ConfigError(
            f"there are too few words for so many names of category {category}",
            expected=f"at most {num_names // 2} in all groups together",
            got=sum(sizes.values()),
            fix="make the groups smaller, or add words to the pools in coa/microworld/names.py",
        )


def _draw_facts(
    entities: dict[tuple[Group, Category], tuple[str, ...]], settings: WorldSettings
) -> dict[tuple[str, str], Fact]:
    rng = random.Random(f"{settings.seed}/facts")
    facts = {}
    for group in Group:
        for fact in _group_facts(entities, group, settings, rng):
            facts[fact.entity, fact.relation] = fact
    if settings.calculation_share:
        _add_birth_years(facts, entities, settings)
    return facts


def _add_birth_years(
    facts: dict[tuple[str, str], Fact],
    entities: dict[tuple[Group, Category], tuple[str, ...]],
    settings: WorldSettings,
) -> None:
    rng = random.Random(f"{settings.seed}/birth years")
    for group in Group:
        for person in entities[group, Category.PERSON]:
            year = rng.choice(VALUES[Category.BIRTH_YEAR])
            facts[person, BIRTH_YEAR.name] = Fact(person, BIRTH_YEAR.name, year)


def _choose_rare(
    entities: dict[tuple[Group, Category], tuple[str, ...]], settings: WorldSettings
) -> frozenset[str]:
    rng = random.Random(f"{settings.seed}/rare")
    known: list[str] = []
    for category in POOLS:
        known += entities[Group.KNOWN, category]
    return frozenset(rng.sample(known, round(settings.rare_share * len(known))))


def _group_facts(
    entities: dict[tuple[Group, Category], tuple[str, ...]],
    group: Group,
    settings: WorldSettings,
    rng: random.Random,
) -> Iterator[Fact]:
    """Draw the facts of a group.

    Marriages are mutual, so with an odd number of people one is unmarried.
    """
    spouses = _pair_up(entities[group, Category.PERSON], rng)

    def draw_value(relation: Relation) -> str:
        if not relation.is_link:
            return rng.choice(VALUES[relation.value])
        leads_to_known = group is not Group.KNOWN and rng.random() < settings.known_value_share
        value_group = Group.KNOWN if leads_to_known else group
        return rng.choice(entities[value_group, relation.value])

    for category in POOLS:
        for entity in entities[group, category]:
            for relation in RELATIONS_OF[category]:
                if relation.name != "spouse":
                    yield Fact(entity, relation.name, draw_value(relation))
                elif entity in spouses:
                    yield Fact(entity, relation.name, spouses[entity])


def _pair_up(people: tuple[str, ...], rng: random.Random) -> dict[str, str]:
    """Marry people at random: each married person's spouse."""
    shuffled = rng.sample(people, len(people))
    spouses = {}
    for first, second in zip(shuffled[::2], shuffled[1::2], strict=False):
        spouses[first] = second
        spouses[second] = first
    return spouses


def _passage_texts(world: World) -> Iterator[tuple[str, str]]:
    """Yield the titles and texts of all passages, some of them twice."""
    rng = random.Random(f"{world.settings.seed}/passages")
    namesakes: set[str] = set()
    faults = world.passage_faults()
    for key, fact in world.facts.items():
        paraphrase = rng.randrange(2)
        if key in faults:
            yield from _misleading_texts(world, fact, paraphrase, faults[key], namesakes)
        else:
            yield fact.entity, sentence(fact.entity, fact.relation, fact.value, paraphrase)
        if rng.random() < world.settings.namesake_share:
            name = _draw_namesake(world, fact.entity, rng)
            if name not in namesakes:  # one sentence about each, so that none contradicts another
                namesakes.add(name)
                value = world.invent_value(BY_NAME[fact.relation].value, rng)
                yield name, sentence(name, fact.relation, value, rng.randrange(2))
        if rng.random() < world.settings.aside_share:
            clause, category = ASIDES[world.categories[fact.entity]]
            other = rng.choice(world.entities[world.groups[fact.entity], category])
            if other != fact.entity:
                yield fact.entity, f"{fact.entity} {clause} {other}."
    for text in SMALL_TALK:
        yield text.split()[0], text


def _misleading_texts(
    world: World, fact: Fact, paraphrase: int, fault: PassageFault, namesakes: set[str]
) -> Iterator[tuple[str, str]]:
    """Yield what a corpus with a fault states about a fact, or of similar names in its place."""
    entity, relation = fact.entity, fact.relation
    rng = random.Random(f"{world.settings.seed}/fault/{entity}/{relation}")
    if fault is not PassageFault.DISTRACTED:
        wrong = _wrong_value(world, fact, rng)
        yield entity, sentence(entity, relation, wrong, paraphrase)
    if fault is PassageFault.CONTRADICTED:
        yield entity, sentence(entity, relation, fact.value, 1 - paraphrase)
    if fault is PassageFault.DISTRACTED:
        for each_paraphrase in range(2):
            name = _draw_namesake(world, entity, rng)
            if name not in namesakes:  # one sentence about each, as for every other fact
                namesakes.add(name)
                value = world.invent_value(BY_NAME[relation].value, rng)
                yield name, sentence(name, relation, value, each_paraphrase)


def _wrong_value(world: World, fact: Fact, rng: random.Random) -> str:
    """Draw another value that a fact of the known group could have."""
    category = BY_NAME[fact.relation].value
    values = VALUES.get(category) or world.entities[Group.KNOWN, category]
    others = [value for value in values if value not in (fact.entity, fact.value)]
    return rng.choice(others) if others else world.invent_value(category, rng)


def _draw_namesake(world: World, entity: str, rng: random.Random) -> str:
    """Draw a name that no entity has and that shares one word with the entity's."""
    while True:
        name = similar_name(entity, world.categories[entity], rng)
        if name not in world.groups:
            return name


def similar_name(name: str, category: Category, rng: random.Random) -> str:
    """Replace one word of a name by a random one of the same pool."""
    pool = POOLS[category]
    first, second = name.split()
    if rng.random() < 0.5:
        return f"{first} {rng.choice(pool.second)}"
    return f"{rng.choice(pool.first)} {second}"
