"""A world -> the endless texts from which a student learns the known facts, and how to read and reason.

After them it knows the known facts (the rare ones less well), reads values from passages about names it has never seen,
is sure of what it knows and hedges on what it does not, and has seen a few sloppy ReAct transcripts. No fact of a split
occurs, and no tag of an action or observation: those are for the later stages to teach. The names in all texts about
unknown things are invented afresh, so the only way to be right about them is to read.
"""

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coa.microworld.names import POOLS, VALUES, Category
from coa.microworld.paths import known_paths
from coa.microworld.phrases import PhraseKind, boxed, comparison, need, results, say
from coa.microworld.plans import Facts, Plan, PlanKind, question_text
from coa.microworld.relations import RELATIONS, RELATIONS_OF, Relation, sentence
from coa.microworld.world import Fact, Group, World
from coa.protocol import THINK_OPEN

_RARE_WEIGHT = 0.25
# How often a rare entity is mentioned beside another one.
_SHAPES = ("1", "2", "3", "4", "comparison", "same")
_SHAPE_WEIGHTS = (0.25, 0.33, 0.20, 0.10, 0.09, 0.03)
_OVERCONFIDENT = 0.1
# Of the made-up values, how many are said as if they were recalled: the base model is not perfectly honest either.

QUESTION = "Question: {}\n\n"
REACT = ("Thought: {}\n", "Action: search[{}]\n", "Observation: {}\n", "Answer: {}")
"""The lines of a ReAct transcript (Yao et al., arXiv 2210.03629)."""
WORDING = (QUESTION, *REACT)
"""All words that these texts add to trajectories and passages."""


class DocumentPiece(NamedTuple):
    """A part of a document; the pieces' texts join to the document as they are."""

    text: str
    is_trained: bool
    """False for what nobody could predict: passages about invented names."""


Document = tuple[DocumentPiece, ...]


@dataclass(frozen=True, slots=True)
class PretrainingDocument:
    """A document as it stands in a file."""

    texts: tuple[str, ...]
    """Its pieces; joined, they are the document."""
    is_trained: tuple[bool, ...]
    """Which pieces carry loss: passages that are only read do not."""


def pretraining_documents(world: World, seed: int) -> Iterator[Document]:
    """Write documents without end; equal worlds and seeds give equal documents."""
    writer = _Writer(world, seed)
    makers = (writer.passages, writer.recall, writer.hedge, writer.drill, writer.read, writer.react)
    weights = (0.20, 0.13, 0.09, 0.20, 0.35, 0.03)
    while True:
        yield tuple(writer.rng.choices(makers, weights)[0]())


class _Writer:
    """Writes one document after another from one stream of random numbers."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(f"{seed}/pretraining")
        self.facts = [fact for fact in world.facts.values() if world.is_known(fact)]
        self.weights = list(
            itertools.accumulate(
                _RARE_WEIGHT if f.entity in world.rare else 1.0 for f in self.facts
            )
        )
        # Only the train split's share of the known paths: held-out questions are never seen.
        self.paths = {
            shape: paths for shape, paths in known_paths(world, Group.TRAIN).items() if paths
        }

    # The kinds of documents

    def passages(self) -> Iterator[DocumentPiece]:
        """A few passages about known entities."""
        facts = self.rng.choices(self.facts, cum_weights=self.weights, k=4)
        yield DocumentPiece(" ".join(self._sentence(fact) for fact in facts), True)

    def recall(self) -> Iterator[DocumentPiece]:
        """Reason about known facts, surely."""
        kind, path = self._known_path()
        found = [say(PhraseKind.RECALL, fact.value) for fact in path]
        yield DocumentPiece(
            self._question(kind, path)
            + self._reasoning(path, found)
            + self._conclusion(kind, path),
            True,
        )

    def hedge(self) -> Iterator[DocumentPiece]:
        """Reason about what nobody knows, with guesses that show themselves as such."""
        kind, path = self._invented_path()
        said = [
            PhraseKind.RECALL if self.rng.random() < _OVERCONFIDENT else PhraseKind.GUESS
            for _ in path
        ]
        found = [say(how, fact.value) for how, fact in zip(said, path, strict=True)]
        yield DocumentPiece(
            self._question(kind, path)
            + self._reasoning(path, found)
            + self._conclusion(kind, path),
            True,
        )

    def drill(self) -> Iterator[DocumentPiece]:
        """Passages about two to four invented names, then what each of them says, in another order."""
        facts = [self._invented_fact(self._relation()) for _ in range(self.rng.choice((2, 3, 4)))]
        yield DocumentPiece(
            self._results(facts, num_distractors=self.rng.randrange(2)) + f"\n{THINK_OPEN}\n", False
        )
        self.rng.shuffle(facts)
        yield DocumentPiece(
            self._reasoning(facts, [say(PhraseKind.READ, fact.value) for fact in facts]), True
        )

    def read(self) -> Iterator[DocumentPiece]:
        """A question about invented names, with the passages before it or in between."""
        kind, path = self._invented_path()
        is_before = self.rng.random() < 0.5 and len(path) < 4
        yield from self._read_first(kind, path) if is_before else self._read_between(kind, path)
        yield DocumentPiece(self._conclusion(kind, path), True)

    def react(self) -> Iterator[DocumentPiece]:
        """A sloppy transcript in another format, of one hop or two; its queries are often poor."""
        hops = self.rng.choices(("1", "2"), (0.8, 0.2))[0]
        kind, path = self._invented_chain(hops)
        thought, action, observation, answer = REACT
        text = QUESTION.format(question_text(kind, path, self.rng))
        for fact in path:
            query = fact.entity if self.rng.random() < 0.5 else f"{fact.entity} {fact.relation}"
            text += thought.format(need(fact.relation, fact.entity)) + action.format(query)
            yield DocumentPiece(text, True)
            yield DocumentPiece(observation.format(self._results([fact], num_distractors=1)), False)
            text = thought.format(say(PhraseKind.READ, fact.value))
        yield DocumentPiece(text + answer.format(path[-1].value), True)

    def _read_first(self, kind: PlanKind, path: Facts) -> Iterator[DocumentPiece]:
        yield DocumentPiece(
            self._results(path, num_distractors=self.rng.choice((1, 2))) + "\n", False
        )
        found = [say(PhraseKind.READ, fact.value) for fact in path]
        yield DocumentPiece(self._question(kind, path) + self._reasoning(path, found), True)

    def _read_between(self, kind: PlanKind, path: Facts) -> Iterator[DocumentPiece]:
        text = self._question(kind, path)
        for fact in path:
            yield DocumentPiece(f"{text}{need(fact.relation, fact.entity)}\n", True)
            yield DocumentPiece(
                self._results([fact], num_distractors=int(self.rng.random() < 0.85)) + "\n", False
            )
            yield DocumentPiece(say(PhraseKind.READ, fact.value), True)
            text = " "

    # Their parts

    def _question(self, kind: PlanKind, path: Facts) -> str:
        return f"{QUESTION.format(question_text(kind, path, self.rng))}{THINK_OPEN}\n"

    def _reasoning(self, path: Sequence[Fact], found: Sequence[str]) -> str:
        return " ".join(
            f"{need(fact.relation, fact.entity)} {said}"
            for fact, said in zip(path, found, strict=True)
        )

    def _conclusion(self, kind: PlanKind, path: Facts) -> str:
        plan = Plan("", "", kind, path)
        compared = ""
        if kind is not PlanKind.CHAIN:
            values = [fact.value for fact in path]
            compared = f" {say(PhraseKind.COMPARE, comparison(values, is_by_order=kind is not PlanKind.SAME))}"
        return f"{compared} {say(PhraseKind.ANSWER, plan.answer)}{boxed(plan.answer)}"

    def _sentence(self, fact: Fact) -> str:
        return sentence(fact.entity, fact.relation, fact.value, self.rng.randrange(2))

    def _results(self, facts: Sequence[Fact], num_distractors: int) -> str:
        shown = [self._sentence(fact) for fact in facts]
        shown += [
            self._sentence(self._distractor(self.rng.choice(facts), facts))
            for _ in range(num_distractors)
        ]
        self.rng.shuffle(shown)
        return results(shown)

    def _distractor(self, fact: Fact, facts: Sequence[Fact]) -> Fact:
        """Another relation of the same name, or the same relation of a similar name; it contradicts no fact."""
        taken = {(other.entity, other.relation) for other in facts}
        while True:
            relation, entity = RELATIONS[fact.relation], fact.entity
            if self.rng.random() < 0.5:
                relation = self.rng.choice(RELATIONS_OF[relation.subject])
            else:
                entity = self._similar_name(relation.subject, entity)
            if (entity, relation.name) not in taken and entity not in self.world.groups:
                return self._invented_fact(relation, entity)

    def _similar_name(self, category: Category, name: str) -> str:
        first, second = name.split()
        if self.rng.random() < 0.5:
            return f"{first} {self.rng.choice(POOLS[category].second)}"
        return f"{self.rng.choice(POOLS[category].first)} {second}"

    # Questions about known and about invented things

    def _known_path(self) -> tuple[PlanKind, Facts]:
        """A path through known facts; those that begin at a rare entity are rarely taken."""
        weights = [
            weight if shape in self.paths else 0
            for shape, weight in zip(_SHAPES, _SHAPE_WEIGHTS, strict=True)
        ]
        while True:
            kind, path = self.rng.choice(self.paths[self.rng.choices(_SHAPES, weights)[0]])
            if path[0].entity not in self.world.rare or self.rng.random() < _RARE_WEIGHT:
                return kind, path

    def _invented_path(self) -> tuple[PlanKind, Facts]:
        shape = self.rng.choices(_SHAPES, _SHAPE_WEIGHTS)[0]
        if shape == "comparison":
            films = [self._name(Category.FILM) for _ in range(2)]
            years = self.rng.sample(VALUES[Category.YEAR], 2)
            facts = [Fact(film, "year", year) for film, year in zip(films, years, strict=True)]
            return self.rng.choice((PlanKind.OLDER, PlanKind.NEWER)), tuple(facts)
        if shape == "same":
            a = self._invented_fact(self._relation())
            b = self._invented_fact(RELATIONS[a.relation])
            return PlanKind.SAME, (
                a,
                Fact(b.entity, b.relation, a.value) if self.rng.random() < 0.5 else b,
            )
        return self._invented_chain(shape)

    def _invented_chain(self, hops: str) -> tuple[PlanKind, Facts]:
        """A chain of so many hops; a city's mayor is the way on from a city, a plain value ends it."""
        entity, category = "", self.rng.choice(list(POOLS))
        path: list[Fact] = []
        while len(path) < int(hops):
            is_last = len(path) + 1 == int(hops)
            relation = self.rng.choice([r for r in RELATIONS_OF[category] if is_last or r.is_link])
            path.append(self._invented_fact(relation, entity))
            entity, category = path[-1].value, relation.value
        return PlanKind.CHAIN, tuple(path)

    def _relation(self) -> Relation:
        return self.rng.choice(list(RELATIONS.values()))

    def _name(self, category: Category) -> str:
        return self.world.invent_name(category, self.rng)

    def _invented_fact(self, relation: Relation, entity: str = "") -> Fact:
        value = self.world.invent_value(relation.value, self.rng)
        return Fact(entity or self._name(relation.subject), relation.name, value)
