"""Write the endless texts from which a student learns the known facts, and how to read and reason.

After them the student knows the known facts (the rare ones less well), reads values from passages
about names it has never seen, states what it knows as certain and what it does not know as a guess,
and has seen a few sloppy ReAct transcripts. No fact of a split occurs. The names in all texts about
unknown things are invented for that text, so the only way to be right about them is to read.

No trajectory occurs, either: the later stages teach when to act. The tags of calls occur only where
a share of the texts shows them as notation, after the word `Like` or beside a sentence. A model
that has met a tag in text can be taught when to write it; one that has not never samples it.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from coa.errors import ConfigError
from coa.microworld.names import POOLS, VALUES, Category
from coa.microworld.paths import known_paths
from coa.microworld.phrases import calculation, comparison, need, say
from coa.microworld.plans import AGES, Facts, Plan, PlanKind, question_text
from coa.microworld.relations import (
    BIRTH_YEAR,
    BY_NAME,
    RELATIONS,
    RELATIONS_OF,
    Relation,
    sentence,
)
from coa.microworld.world import Fact, Group, World, similar_name
from coa.policy.teacher.sentences import PhraseKind, boxed, calculate, results, search
from coa.records.protocol import THINK_OPEN

_RARE_WEIGHT = 0.25
"""How often a rare entity is mentioned, where another one is mentioned once."""
_SHAPE_WEIGHTS = {"1": 0.25, "2": 0.33, "3": 0.20, "4": 0.10, "comparison": 0.09, "same": 0.03}
"""How often each shape of question is asked: chains by their number of hops, and pairs."""
_SHAPES = tuple(_SHAPE_WEIGHTS)
_OVERCONFIDENT = 0.1
"""Share of the invented values that are stated as if they were recalled.

The base model is not perfectly honest either.
"""

_PROMPTED_SHARE = 0.5
"""Share of the documents with a question that begin with the prompt."""

QUESTION = "Question: {}\n\n"
REACT = ("Thought: {}\n", "Action: search[{}]\n", "Observation: {}\n", "Answer: {}")
"""The lines of a ReAct transcript (Yao et al., arXiv 2210.03629)."""
NOTATION = "Like {}\n"
"""A line that shows how a call is written, by itself."""
_NOTATION_LINES = (2, 3, 4)
"""How many calls such a text shows."""


class DocumentPiece(NamedTuple):
    """A part of a document; the texts of its pieces, joined, are the document."""

    text: str
    is_trained: bool
    """False for what nobody could predict: passages about invented names."""


Document = tuple[DocumentPiece, ...]


@dataclass(frozen=True, slots=True)
class PretrainingDocument:
    """A document as it is stored in a file."""

    texts: tuple[str, ...]
    """Its pieces; joined, they are the document."""
    is_trained: tuple[bool, ...]
    """Which pieces carry loss: passages that are only read do not."""


def pretraining_documents(
    world: World, seed: int, notation_share: float = 0.0, prompt: str = ""
) -> Iterator[Document]:
    """Write documents without end; equal arguments give equal documents.

    Args:
        world: The world whose known facts are taught.
        seed: Chooses the documents.
        notation_share: Share of the documents that show the tags of calls as notation.
        prompt: What half of the documents with a question begin with, as a policy is asked later.

    Raises:
        ConfigError: `notation_share` is no share.
    """
    if not 0 <= notation_share < 1:
        raise ConfigError(
            "the share of texts with notation is no share",
            where="microworld.notation_share",
            expected="0 or more, below 1",
            got=notation_share,
        )
    writer = _Writer(world, seed)
    makers = [writer.passages, writer.recall, writer.hedge, writer.drill, writer.read, writer.react]
    weights = [0.20, 0.13, 0.09, 0.20, 0.35, 0.03]
    if world.settings.calculation_share:
        makers.append(writer.calculation)
        weights.append(0.10)
    if notation_share:
        makers.append(writer.notation)
        weights.append(sum(weights) * notation_share / (1 - notation_share))
    asking = (writer.recall, writer.hedge, writer.read, writer.calculation)
    prompting = random.Random(f"{seed}/prompts")
    while True:
        make_document = writer.rng.choices(makers, weights)[0]
        pieces = tuple(make_document())
        if prompt and make_document in asking and prompting.random() < _PROMPTED_SHARE:
            pieces = (DocumentPiece(prompt, is_trained=False), *pieces)
        yield pieces


class _Writer:
    """A writer of documents, one after another, from one stream of random numbers."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.rng = random.Random(f"{seed}/pretraining")
        self.relations = list(RELATIONS.values())
        if world.settings.calculation_share:
            self.relations.append(BIRTH_YEAR)
        self.facts: list[Fact] = []
        self.cumulative_weights: list[float] = []
        total = 0.0
        for fact in world.facts.values():
            if world.is_known(fact):
                total += _RARE_WEIGHT if fact.entity in world.rare else 1.0
                self.facts.append(fact)
                self.cumulative_weights.append(total)
        # Only the train split's share of the known paths: held-out questions are never seen.
        self.paths = known_paths(world, Group.TRAIN)

    # The kinds of documents

    def passages(self) -> Iterator[DocumentPiece]:
        """Write a few passages about known entities."""
        facts = self.rng.choices(self.facts, cum_weights=self.cumulative_weights, k=4)
        sentences = [self._sentence(fact) for fact in facts]
        yield DocumentPiece(" ".join(sentences), is_trained=True)

    def recall(self) -> Iterator[DocumentPiece]:
        """Reason about known facts, stated as certain."""
        kind, path = self._known_path()
        found = [say(PhraseKind.RECALL, fact.value) for fact in path]
        question = self._question(kind, path)
        text = question + self._reasoning(path, found) + self._conclusion(kind, path)
        yield DocumentPiece(text, is_trained=True)

    def hedge(self) -> Iterator[DocumentPiece]:
        """Reason about what nobody knows, with guesses that are worded as guesses."""
        kind, path = self._invented_path()
        found = []
        for fact in path:
            is_overconfident = self.rng.random() < _OVERCONFIDENT
            said = PhraseKind.RECALL if is_overconfident else PhraseKind.GUESS
            found.append(say(said, fact.value))
        question = self._question(kind, path)
        text = question + self._reasoning(path, found) + self._conclusion(kind, path)
        yield DocumentPiece(text, is_trained=True)

    def drill(self) -> Iterator[DocumentPiece]:
        """Show passages about two to four invented names, then read each in another order."""
        num_facts = self.rng.choice((2, 3, 4))
        facts = [self._invented_fact(self._relation()) for _ in range(num_facts)]
        shown = self._results(facts, num_distractors=self.rng.randrange(2))
        yield DocumentPiece(f"{shown}\n{THINK_OPEN}\n", is_trained=False)
        self.rng.shuffle(facts)
        yield DocumentPiece(self._reasoning(facts, _as_read(facts)), is_trained=True)

    def read(self) -> Iterator[DocumentPiece]:
        """Answer a question about invented names, with the passages before it or in between."""
        kind, path = self._invented_path()
        is_before = self.rng.random() < 0.5 and len(path) < 4
        if is_before:
            yield from self._read_first(kind, path)
        else:
            yield from self._read_between(kind, path)
        yield DocumentPiece(self._conclusion(kind, path), is_trained=True)

    def react(self) -> Iterator[DocumentPiece]:
        """Write a sloppy ReAct transcript of one hop or two; its queries are often poor."""
        hops = self.rng.choices(("1", "2"), (0.8, 0.2))[0]
        kind, path = self._invented_chain(hops)
        thought, action, observation, answer = REACT
        text = QUESTION.format(question_text(kind, path, self.rng))
        for fact in path:
            is_poor = self.rng.random() < 0.5
            query = fact.entity if is_poor else f"{fact.entity} {fact.relation}"
            text += thought.format(need(fact.relation, fact.entity))
            text += action.format(query)
            yield DocumentPiece(text, is_trained=True)
            shown = self._results([fact], num_distractors=1)
            yield DocumentPiece(observation.format(shown), is_trained=False)
            text = thought.format(say(PhraseKind.READ, fact.value))
        text += answer.format(path[-1].value)
        yield DocumentPiece(text, is_trained=True)

    def calculation(self) -> Iterator[DocumentPiece]:
        """Calculate with two invented years."""
        birth_year = self._invented_fact(BIRTH_YEAR)
        film_year = self._invented_fact(RELATIONS["year"])
        facts = (birth_year, film_year)
        kind, path = self.rng.choice(((PlanKind.AGE, facts), (PlanKind.TURNED, facts[:1])))
        age = self.rng.choice(AGES) if kind is PlanKind.TURNED else 0
        text = question_text(kind, path, self.rng, age)
        plan = Plan("", text, kind, path, age)
        values = [fact.value for fact in path]
        equation = calculation(plan.expression(values), plan.answer)
        reasoning = self._reasoning(path, [say(PhraseKind.GUESS, value) for value in values])
        asked = f"{QUESTION.format(text)}{THINK_OPEN}\n"
        concluded = f"{say(PhraseKind.COMPARE, equation)} {say(PhraseKind.ANSWER, plan.answer)}"
        yield DocumentPiece(f"{asked}{reasoning} {concluded}{boxed(plan.answer)}", is_trained=True)

    def notation(self) -> Iterator[DocumentPiece]:
        """Show how calls are written: by themselves, or beside a sentence that one would find.

        No line says that anything is needed, so none shows a decision to act. Half of the names are
        known and half invented, so that the tags say nothing of what is known.
        """
        for _ in range(self.rng.choice(_NOTATION_LINES)):
            if self.world.settings.calculation_share and self.rng.random() < 0.3:
                yield DocumentPiece(NOTATION.format(self._calculator_call()), is_trained=True)
            elif self.rng.random() < 0.5:
                call = self._search_call(self._any_fact())
                yield DocumentPiece(NOTATION.format(call), is_trained=True)
            else:
                fact = self._any_fact()
                is_known = fact.entity in self.world.groups
                yield DocumentPiece(self._sentence(fact), is_trained=is_known)
                yield DocumentPiece(f" {self._search_call(fact)}\n", is_trained=True)

    def _any_fact(self) -> Fact:
        """Choose a known fact, or invent one."""
        if self.rng.random() < 0.5:
            return self._invented_fact(self._relation())
        return self.rng.choices(self.facts, cum_weights=self.cumulative_weights)[0]

    def _search_call(self, fact: Fact) -> str:
        relation = BY_NAME[fact.relation]
        noun, verb = relation.name, relation.verb
        return search(f"{fact.entity} {self.rng.choice((noun, verb, f'{noun} {verb}'))}")

    def _calculator_call(self) -> str:
        year = self.rng.choice(VALUES[Category.YEAR])
        birth_year = self.rng.choice(VALUES[Category.BIRTH_YEAR])
        age = self.rng.choice(AGES)
        return calculate(self.rng.choice((f"{year} - {birth_year}", f"{birth_year} + {age}")))

    def _read_first(self, kind: PlanKind, path: Facts) -> Iterator[DocumentPiece]:
        shown = self._results(path, num_distractors=self.rng.choice((1, 2)))
        yield DocumentPiece(f"{shown}\n", is_trained=False)
        text = self._question(kind, path) + self._reasoning(path, _as_read(path))
        yield DocumentPiece(text, is_trained=True)

    def _read_between(self, kind: PlanKind, path: Facts) -> Iterator[DocumentPiece]:
        before = self._question(kind, path)
        for fact in path:
            needed = need(fact.relation, fact.entity)
            yield DocumentPiece(f"{before}{needed}\n", is_trained=True)
            has_distractor = self.rng.random() < 0.85
            shown = self._results([fact], num_distractors=int(has_distractor))
            yield DocumentPiece(f"{shown}\n", is_trained=False)
            yield DocumentPiece(say(PhraseKind.READ, fact.value), is_trained=True)
            before = " "

    # Their parts

    def _question(self, kind: PlanKind, path: Facts) -> str:
        question = QUESTION.format(question_text(kind, path, self.rng))
        return f"{question}{THINK_OPEN}\n"

    def _reasoning(self, path: Sequence[Fact], found: Sequence[str]) -> str:
        """Say of each fact that it is needed, then what was found."""
        sentences = []
        for fact, said in zip(path, found, strict=True):
            sentences.append(need(fact.relation, fact.entity))
            sentences.append(said)
        return " ".join(sentences)

    def _conclusion(self, kind: PlanKind, path: Facts) -> str:
        """Compare the values where the question asks for it, then state and box the answer."""
        plan = Plan("", "", kind, path)
        compared = ""
        if kind is not PlanKind.CHAIN:
            values = [fact.value for fact in path]
            relation = comparison(values, is_by_order=kind is not PlanKind.SAME)
            compared = f" {say(PhraseKind.COMPARE, relation)}"
        return f"{compared} {say(PhraseKind.ANSWER, plan.answer)}{boxed(plan.answer)}"

    def _sentence(self, fact: Fact) -> str:
        return sentence(fact.entity, fact.relation, fact.value, self.rng.randrange(2))

    def _results(self, facts: Sequence[Fact], num_distractors: int) -> str:
        """Show a sentence for each fact and the distractors, in random order."""
        shown = [self._sentence(fact) for fact in facts]
        for _ in range(num_distractors):
            distractor = self._distractor(self.rng.choice(facts), facts)
            shown.append(self._sentence(distractor))
        self.rng.shuffle(shown)
        return results(shown)

    def _distractor(self, fact: Fact, facts: Sequence[Fact]) -> Fact:
        """Invent another relation of the same name, or the same relation of a similar name.

        It contradicts none of `facts`.
        """
        taken = {(other.entity, other.relation) for other in facts}
        while True:
            relation = BY_NAME[fact.relation]
            entity = fact.entity
            if self.rng.random() < 0.5:
                relation = self.rng.choice(RELATIONS_OF[relation.subject])
            else:
                entity = similar_name(entity, relation.subject, self.rng)
            if (entity, relation.name) not in taken and entity not in self.world.groups:
                return self._invented_fact(relation, entity)

    # Questions about known and about invented things

    def _known_path(self) -> tuple[PlanKind, Facts]:
        """Choose a path through known facts; those that begin at a rare entity are rarely taken."""
        weights = [
            weight if self.paths.get(shape) else 0 for shape, weight in _SHAPE_WEIGHTS.items()
        ]
        while True:
            shape = self.rng.choices(_SHAPES, weights)[0]
            kind, path, _ = self.rng.choice(self.paths[shape])
            if path[0].entity not in self.world.rare or self.rng.random() < _RARE_WEIGHT:
                return kind, path

    def _invented_path(self) -> tuple[PlanKind, Facts]:
        shape = self.rng.choices(_SHAPES, tuple(_SHAPE_WEIGHTS.values()))[0]
        if shape == "comparison":
            return self._invented_comparison()
        if shape == "same":
            return self._invented_same()
        return self._invented_chain(shape)

    def _invented_comparison(self) -> tuple[PlanKind, Facts]:
        """Invent two films of different years."""
        films = [self._name(Category.FILM) for _ in range(2)]
        years = self.rng.sample(VALUES[Category.YEAR], 2)
        path = tuple(Fact(film, "year", year) for film, year in zip(films, years, strict=True))
        return self.rng.choice((PlanKind.OLDER, PlanKind.NEWER)), path

    def _invented_same(self) -> tuple[PlanKind, Facts]:
        """Invent one relation of two entities; half of the time the second shares the value."""
        # No question of the world asks whether years of birth are the same.
        relation = self.rng.choice(list(RELATIONS.values()))
        first = self._invented_fact(relation)
        second = self._invented_fact(relation)
        if self.rng.random() < 0.5:
            second = Fact(second.entity, second.relation, first.value)
        return PlanKind.SAME, (first, second)

    def _invented_chain(self, hops: str) -> tuple[PlanKind, Facts]:
        """Invent a chain of so many hops.

        Every relation before the last has an entity as its value, which the next fact is about.
        """
        entity = ""
        category = self.rng.choice(list(POOLS))
        path: list[Fact] = []
        while len(path) < int(hops):
            is_last = len(path) + 1 == int(hops)
            fitting = [r for r in RELATIONS_OF[category] if is_last or r.is_link]
            relation = self.rng.choice(fitting)
            fact = self._invented_fact(relation, entity)
            path.append(fact)
            entity = fact.value
            category = relation.value
        return PlanKind.CHAIN, tuple(path)

    def _relation(self) -> Relation:
        return self.rng.choice(self.relations)

    def _name(self, category: Category) -> str:
        return self.world.invent_name(category, self.rng)

    def _invented_fact(self, relation: Relation, entity: str = "") -> Fact:
        value = self.world.invent_value(relation.value, self.rng)
        return Fact(entity or self._name(relation.subject), relation.name, value)


def _as_read(facts: Sequence[Fact]) -> list[str]:
    """Say of each fact what the passages state."""
    return [say(PhraseKind.READ, fact.value) for fact in facts]
