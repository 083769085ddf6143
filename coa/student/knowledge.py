"""Tell what a student is to know from pre-training, and what it searched for.

In the microworld both can be told: they are read back from a rollout's own sentences. In any other
world nobody can tell what a model knows. `open_probe` chooses between the two by the questions.
Only this module, and pretrain.py, which reads the microworld's texts, know the microworld; it is
imported for its own questions alone.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple, Protocol

from coa.errors import InputError
from coa.records.protocol import render
from coa.records.question import Question
from coa.records.trajectory import Step
from coa.settings.params import Params

if TYPE_CHECKING:
    from coa.microworld.plans import Plan
    from coa.microworld.world import Fact, World

_MICROWORLD = "microworld"
"""The source of that world's questions (`coa.microworld.questions.SOURCE`)."""
_BETWEEN_RELATION_AND_ENTITY = " of "


class Decision(NamedTuple):
    """The move of a rollout right after it had said which fact it needs."""

    fact: "Fact"
    is_known: bool
    searched: bool


class NeededFact(NamedTuple):
    """A fact that a rollout said it needs."""

    value: str
    is_known: bool


class KnowledgeProbe(Protocol):
    """Answers what is known from pre-training, as far as it can be told."""

    def needs_no_search(self, question: Question) -> bool | None:
        """Tell whether all facts that a question joins are known; None where nobody can tell."""

    def needs_calculation(self, question: Question) -> bool | None:
        """Tell whether the answer has to be calculated from facts; None where nobody can tell."""

    def decisions(self, steps: tuple[Step, ...]) -> Iterator[Decision]:
        """Yield one decision, to search or not, for each fact that the steps say they need."""

    def last_needed(self, steps: tuple[Step, ...]) -> NeededFact | None:
        """Return the last fact that the steps say they need; None where nobody can tell."""


class NobodyCanTell:
    """The probe for questions about the real world: it never has an answer."""

    def needs_no_search(self, question: Question) -> bool | None:
        """Return None."""
        return None

    def needs_calculation(self, question: Question) -> bool | None:
        """Return None."""
        return None

    def decisions(self, steps: tuple[Step, ...]) -> Iterator[Decision]:
        """Yield nothing."""
        return iter(())

    def last_needed(self, steps: tuple[Step, ...]) -> NeededFact | None:
        """Return None."""
        return None


NOBODY_CAN_TELL = NobodyCanTell()


class MicroworldProbe:
    """Answers for the questions of one microworld, whose facts are listed.

    Of other questions, which may stand beside them, it knows as little as `NobodyCanTell`: their
    rollouts name no fact of this world.
    """

    def __init__(self, world: "World") -> None:
        self._world = world

    def needs_no_search(self, question: Question) -> bool | None:
        """Tell whether all facts that a question joins are known.

        Returns:
            None for a question that is not about this world.
        """
        plan = self._find_plan(question)
        return all(self._world.is_known(fact) for fact in plan.facts) if plan else None

    def needs_calculation(self, question: Question) -> bool | None:
        """Tell whether the answer has to be calculated from facts.

        Returns:
            None for a question that is not about this world.
        """
        from coa.microworld.plans import CALCULATIONS

        plan = self._find_plan(question)
        return plan.kind in CALCULATIONS if plan else None

    def decisions(self, steps: tuple[Step, ...]) -> Iterator[Decision]:
        """Yield one decision, to search or not, for each fact of this world that is needed."""
        from coa.microworld.phrases import read_back
        from coa.policy.teacher.sentences import PhraseKind

        fact: Fact | None = None
        for utterance in read_back(render(steps)):
            if fact is not None:
                has_searched = utterance.said is PhraseKind.SEARCH
                yield Decision(fact, self._world.is_known(fact), has_searched)
            is_need = utterance.said is PhraseKind.NEED
            fact = self._find_fact(utterance.text) if is_need else None

    def last_needed(self, steps: tuple[Step, ...]) -> NeededFact | None:
        """Return the last fact that the steps say they need; None where the world has no such."""
        from coa.microworld.phrases import read_back
        from coa.policy.teacher.sentences import PhraseKind

        fact: Fact | None = None
        for utterance in read_back(render(steps)):
            if utterance.said is PhraseKind.NEED:
                fact = self._find_fact(utterance.text)
        if fact is None:
            return None
        return NeededFact(fact.value, self._world.is_known(fact))

    def _find_plan(self, question: Question) -> "Plan | None":
        """Find the facts that a question joins; None where it is not about this world."""
        from coa.microworld.plans import make_plan

        if question.source != _MICROWORLD:
            return None
        try:
            return make_plan(self._world, question.question)
        except InputError:
            return None

    def _find_fact(self, said: str) -> "Fact | None":
        """Find the fact that a sentence speaks of as `relation of entity`."""
        relation, _, entity = said.partition(_BETWEEN_RELATION_AND_ENTITY)
        return self._world.facts.get((entity, relation))


def open_probe(questions: Iterable[Question], sections: Params) -> KnowledgeProbe:
    """Open what can be told about a model that is asked these questions.

    The section `microworld` is read only where one of them is about that world.

    Raises:
        ConfigError: that section is missing or has a bad value.
    """
    if not any(question.source == _MICROWORLD for question in questions):
        return NOBODY_CAN_TELL
    from coa.microworld.factory import MicroworldParams
    from coa.microworld.world import make_world

    return MicroworldProbe(make_world(sections.section(MicroworldParams, "microworld").world))


def needed_answers(
    probe: KnowledgeProbe, steps: tuple[Step, ...], gold_answers: tuple[str, ...]
) -> tuple[str, ...]:
    """Return what a search after these steps is to show.

    That is the value of the fact that the steps say they need, as far as it can be told, else the
    answer to the question.
    """
    needed = probe.last_needed(steps)
    return (needed.value,) if needed else gold_answers
