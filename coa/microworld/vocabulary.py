"""List every word and sign that the texts of a world are made of.

The texts are its names, passages, questions, trajectories and pre-training texts.
"""

import itertools
import re
from collections.abc import Iterator

from coa.microworld import phrases, plans, pretraining
from coa.microworld.names import POOLS, VALUES, Category
from coa.microworld.relations import ASIDES, BIRTH_YEAR, RELATIONS
from coa.microworld.world import SMALL_TALK, World

_TOKEN = re.compile(r"\w+|[^\w\s]")
_MAX_RESULTS = 10
"""Observations number their results; no text shows more of them."""
_NUMBERS = (*range(-9, 110), *range(1920, 2050))
"""The ages, the years and the results of calculations, right or wrong."""


def vocabulary(world: World, *, shows_notation: bool = False) -> list[str]:
    """List the distinct words and signs, sorted, without the tags of the protocol."""
    texts = [*_texts(world)]
    if shows_notation:
        texts.append(pretraining.NOTATION)
    tokens = _TOKEN.findall(" ".join(texts))
    return sorted(set(tokens))


def _texts(world: World) -> Iterator[str]:
    yield from world.groups
    for pool in POOLS.values():
        yield from itertools.chain(*pool)
    for category, values in VALUES.items():
        if category is not Category.BIRTH_YEAR:
            yield from values
    for relation in RELATIONS.values():
        yield from (relation.synonym, relation.verb, *relation.leads)
    for clause, _ in ASIDES.values():
        yield clause
    yield from SMALL_TALK
    yield from itertools.chain(plans.WORDING, phrases.WORDING, pretraining.WORDING)
    for number in range(1, _MAX_RESULTS + 1):
        yield str(number)
    if world.settings.calculation_share:
        yield from plans.CALCULATION_WORDING
        yield from BIRTH_YEAR.leads
        yield from (BIRTH_YEAR.verb, "+ -")
        yield from map(str, _NUMBERS)
