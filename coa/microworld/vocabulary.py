"""Every word and sign that a world's names, passages, questions, trajectories and pre-training texts are made of."""

import itertools
import re
from collections.abc import Iterator

from coa.microworld import phrases, plans, pretraining
from coa.microworld.names import POOLS, VALUES
from coa.microworld.relations import ASIDES, RELATIONS
from coa.microworld.world import SMALL_TALK, World

_TOKEN = re.compile(r"\w+|[^\w\s]")
_MAX_RESULTS = 10
# Observations number their results; no text shows more of them.


def vocabulary(world: World) -> list[str]:
    """The distinct words and signs, sorted; the tags of the protocol are not among them."""
    return sorted(set(_TOKEN.findall(" ".join(_texts(world)))))


def _texts(world: World) -> Iterator[str]:
    yield from world.groups
    for pool in POOLS.values():
        yield from itertools.chain(*pool)
    yield from itertools.chain(*VALUES.values())
    for relation in RELATIONS.values():
        yield from (relation.synonym, relation.verb, *relation.leads)
    yield from (clause for clause, _ in ASIDES.values())
    yield from SMALL_TALK
    yield from itertools.chain(plans.WORDING, phrases.WORDING, pretraining.WORDING)
    yield from map(str, range(1, _MAX_RESULTS + 1))
