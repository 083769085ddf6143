"""The default world stays as it is, whatever settings are added to it."""

import hashlib
import itertools
from collections.abc import Iterable

from coa.microworld.pretraining import pretraining_documents
from coa.microworld.questions import make_questions
from coa.microworld.world import Group, WorldSettings, make_world

WORLD = make_world(WorldSettings())


def digest(values: Iterable[object]) -> str:
    """Hash the values as Python writes them."""
    hashed = hashlib.sha256()
    for value in values:
        hashed.update(repr(value).encode())
    return hashed.hexdigest()[:16]


def test_the_facts_and_passages_of_the_default_world_stay() -> None:
    assert digest(WORLD.facts.values()) == "a7752d3fe5142dde"
    assert digest(WORLD.passages()) == "b12c79f0d8032257"


def test_the_questions_of_the_default_world_stay() -> None:
    train = make_questions(WORLD, Group.TRAIN, 22_000, seed=0)
    test = make_questions(WORLD, Group.TEST, 2_500, seed=0)
    assert digest(train) == "aaa0e2b222619d18"
    assert digest(test) == "f2658dbe592b72ec"


def test_the_pretraining_texts_of_the_default_world_stay() -> None:
    documents = itertools.islice(pretraining_documents(WORLD, seed=0), 1_000)
    assert digest(documents) == "d8ba8a00531f1942"
