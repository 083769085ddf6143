"""Settings and a seed -> a world: entities in four groups, the facts about them, the passages that state the facts.

The known group is what a student learns in pre-training. The entities of the three splits have to be searched; the
facts of a split point to the same split or to the known group, never to another split.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from coa.errors import ConfigError
from coa.microworld.names import POOLS, VALUES, Category, all_names
from coa.microworld.relations import ASIDES, RELATIONS_OF, Relation, sentence
from coa.search import Passage

_SMALL_TALK = (
    ("Maps", "Clocks", "Boats", "Roads", "Birds"),
    ("rarely", "often"),
    ("slow", "loud", "cheap", "heavy"),
)
SMALL_TALK = [
    f"{thing} are {how_often} {quality}."
    for thing, how_often, quality in itertools.product(*_SMALL_TALK)
]
"""Passages that have nothing to do with anything; the first word is the title."""


class Group(StrEnum):
    """Which entities belong together."""

    KNOWN = "known"
    """Learnt in pre-training; questions of every split may use them."""
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


SPLITS = (Group.TRAIN, Group.VALIDATION, Group.TEST)
"""The groups that have to be searched."""


@dataclass(frozen=True, slots=True)
class GroupSize:
    """How many entities of each category a group has."""

    person: int
    """People."""
    film: int
    """Films."""
    company: int
    """Companies."""
    city: int
    """Cities."""


@dataclass(frozen=True, slots=True)
class WorldSettings:
    """How large a world is; the defaults give 22,000 train questions with distinct paths."""

    seed: int = 0
    """Names, facts and passages follow from it."""
    known: GroupSize = field(default_factory=lambda: GroupSize(90, 60, 30, 30))
    """Entities that questions of every split may use."""
    train: GroupSize = field(default_factory=lambda: GroupSize(550, 375, 190, 190))
    """Entities of the train questions."""
    validation: GroupSize = field(default_factory=lambda: GroupSize(130, 90, 45, 45))
    """Entities of the validation questions."""
    test: GroupSize = field(default_factory=lambda: GroupSize(220, 150, 75, 75))
    """Entities of the test questions."""
    known_value_share: float = 0.25
    """Of the facts about an entity that has to be searched, how many lead to a known entity."""
    rare_share: float = 0.2
    """Of the known entities, how many the pre-training text seldom mentions."""
    namesake_share: float = 0.12
    """For how many facts there is a passage about a similar name."""
    aside_share: float = 0.12
    """For how many facts there is a passage with something else about the entity."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact."""

    entity: str
    relation: str
    """A key of `RELATIONS`."""
    value: str


@dataclass(frozen=True, slots=True)
class World:
    """A world; nothing in it depends on anything but its settings."""

    settings: WorldSettings
    entities: dict[tuple[Group, Category], tuple[str, ...]]
    facts: dict[tuple[str, str], Fact]
    """By entity and relation."""
    groups: dict[str, Group]
    """Of each entity."""
    categories: dict[str, Category]
    """Of each entity."""
    rare: frozenset[str]
    """The known entities that the pre-training text seldom mentions."""

    def is_known(self, fact: Fact) -> bool:
        """Whether a student is to know the fact from pre-training."""
        return self.groups[fact.entity] is Group.KNOWN

    def facts_of(self, entity: str) -> list[Fact]:
        """The facts about an entity, in the order of the relations."""
        keys = ((entity, relation.name) for relation in RELATIONS_OF[self.categories[entity]])
        return [self.facts[key] for key in keys if key in self.facts]

    def invent_name(self, category: Category, rng: random.Random) -> str:
        """A name made of the same words that no entity bears."""
        pool = POOLS[category]
        while True:
            name = f"{rng.choice(pool.first)} {rng.choice(pool.second)}"
            if name not in self.groups:
                return name

    def invent_value(self, category: Category, rng: random.Random) -> str:
        """An invented name, or one of the plain values."""
        return (
            rng.choice(VALUES[category]) if category in VALUES else self.invent_name(category, rng)
        )

    def passages(self) -> list[Passage]:
        """The corpus: a sentence for every fact, and distractors that contradict none; the ids are stable."""
        return [
            Passage(f"mw-{i:06d}", title, text)
            for i, (title, text) in enumerate(dict.fromkeys(_passage_texts(self)))
        ]


def make_world(settings: WorldSettings) -> World:
    """Make the world that the settings describe; equal settings give equal worlds.

    Raises:
        ConfigError: a group is too small, or there are too few words for so many names.
    """
    entities = _name_entities(settings)
    rng = random.Random(f"{settings.seed}/facts")
    facts = [fact for group in Group for fact in _group_facts(entities, group, settings, rng)]
    known = [name for category in POOLS for name in entities[Group.KNOWN, category]]
    rng = random.Random(f"{settings.seed}/rare")
    return World(
        settings,
        entities,
        {(fact.entity, fact.relation): fact for fact in facts},
        {name: group for (group, _), names in entities.items() for name in names},
        {name: category for (_, category), names in entities.items() for name in names},
        frozenset(rng.sample(known, round(settings.rare_share * len(known)))),
    )


def _name_entities(settings: WorldSettings) -> dict[tuple[Group, Category], tuple[str, ...]]:
    rng = random.Random(f"{settings.seed}/names")
    entities = {}
    for category in POOLS:
        sizes = {group: getattr(getattr(settings, group), category) for group in Group}
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


def _group_facts(
    entities: dict[tuple[Group, Category], tuple[str, ...]],
    group: Group,
    settings: WorldSettings,
    rng: random.Random,
) -> Iterator[Fact]:
    """The facts of a group; marriages are mutual, so with an odd number one person is unmarried."""
    spouses = _pair_up(entities[group, Category.PERSON], rng)

    def draw(relation: Relation, entity: str) -> str:
        if not relation.is_link:
            return rng.choice(VALUES[relation.value])
        leads_to_known = group is not Group.KNOWN and rng.random() < settings.known_value_share
        source = entities[Group.KNOWN if leads_to_known else group, relation.value]
        return rng.choice(source)

    for category in POOLS:
        for entity, relation in itertools.product(
            entities[group, category], RELATIONS_OF[category]
        ):
            if relation.name != "spouse":
                yield Fact(entity, relation.name, draw(relation, entity))
            elif entity in spouses:
                yield Fact(entity, relation.name, spouses[entity])


def _pair_up(people: tuple[str, ...], rng: random.Random) -> dict[str, str]:
    shuffled = rng.sample(people, len(people))
    couples = list(zip(shuffled[::2], shuffled[1::2], strict=False))
    return dict(couples) | {b: a for a, b in couples}


def _passage_texts(world: World) -> Iterator[tuple[str, str]]:
    """Titles and texts of all passages."""
    rng = random.Random(f"{world.settings.seed}/passages")
    namesakes: set[str] = set()
    for fact in world.facts.values():
        yield fact.entity, sentence(fact.entity, fact.relation, fact.value, rng.randrange(2))
        if rng.random() < world.settings.namesake_share:
            name = _namesake(world, fact.entity, rng)
            if name not in namesakes:  # one sentence about each, so that none contradicts another
                namesakes.add(name)
                relation = next(
                    r
                    for r in RELATIONS_OF[world.categories[fact.entity]]
                    if r.name == fact.relation
                )
                yield (
                    name,
                    sentence(
                        name,
                        fact.relation,
                        world.invent_value(relation.value, rng),
                        rng.randrange(2),
                    ),
                )
        if rng.random() < world.settings.aside_share:
            clause, category = ASIDES[world.categories[fact.entity]]
            other = rng.choice(world.entities[world.groups[fact.entity], category])
            if other != fact.entity:
                yield fact.entity, f"{fact.entity} {clause} {other}."
    yield from ((text.split()[0], text) for text in SMALL_TALK)


def _namesake(world: World, entity: str, rng: random.Random) -> str:
    """A name that no entity bears and that shares one word with the entity's."""
    pool = POOLS[world.categories[entity]]
    first, second = entity.split()
    while True:
        name = (
            f"{first} {rng.choice(pool.second)}"
            if rng.random() < 0.5
            else f"{rng.choice(pool.first)} {second}"
        )
        if name not in world.groups:
            return name
