"""Find out what a student is to know from pre-training, and what it searched for.

In the microworld both are read back from a rollout's own sentences; in any other world nobody can
tell what a model knows. The microworld is imported for its own questions alone.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

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


class KnowledgeProbe:
    """Answers what is known from pre-training, about questions and rollouts of one microworld.

    Of anything else, and of all questions where there is no such world, it knows nothing.
    """

    def __init__(self, world: "World | None" = None) -> None:
        self._world = world

    def needs_no_search(self, question: Question) -> bool | None:
        """Return whether all facts that a question joins are known; None where nobody can tell."""
        plan = self._find_plan(question)
        if plan is None or self._world is None:
            return None
        return all(self._world.is_known(fact) for fact in plan.facts)

    def needs_calculation(self, question: Question) -> bool | None:
        """Return whether the answer has to be calculated; None where nobody can tell."""
        plan = self._find_plan(question)
        if plan is None:
            return None
        from coa.microworld.plans import CALCULATIONS

        return plan.kind in CALCULATIONS

    def decisions(self, steps: tuple[Step, ...]) -> Iterator[Decision]:
        """Yield one decision, to search or not, for each fact that the steps say they need."""
        if self._world is None:
            return
        from coa.microworld.phrases import read_back
        from coa.policy.teacher.sentences import PhraseKind

        fact: Fact | None = None
        for utterance in read_back(render(steps)):
            if fact is not None:
                has_searched = utterance.said is PhraseKind.SEARCH
                yield Decision(fact, self._world.is_known(fact), has_searched)
            is_need = utterance.said is PhraseKind.NEED
            fact = _find_fact(self._world, utterance.text) if is_need else None

    def last_needed(self, steps: tuple[Step, ...]) -> NeededFact | None:
        """Return the last fact that the steps say they need; None where nobody can tell."""
        if self._world is None:
            return None
        from coa.microworld.phrases import read_back
        from coa.policy.teacher.sentences import PhraseKind

        fact: Fact | None = None
        for utterance in read_back(render(steps)):
            if utterance.said is PhraseKind.NEED:
                fact = _find_fact(self._world, utterance.text)
        return NeededFact(fact.value, self._world.is_known(fact)) if fact else None

    def _find_plan(self, question: Question) -> "Plan | None":
        """Find the facts that a question joins; None where it is not about this world."""
        if self._world is None or question.source != _MICROWORLD:
            return None
        from coa.microworld.plans import make_plan

        try:
            return make_plan(self._world, question.question)
        except InputError:
            return None


NOBODY_CAN_TELL = KnowledgeProbe()
"""The probe for questions about the real world: it never has an answer."""


def _find_fact(world: "World", said: str) -> "Fact | None":
    """Find the fact that a sentence speaks of as `relation of entity`."""
    relation, _, entity = said.partition(_BETWEEN_RELATION_AND_ENTITY)
    return world.facts.get((entity, relation))


def open_probe(questions: Iterable[Question], sections: Params) -> KnowledgeProbe:
    """Open what is known about a model that is asked these questions.

    The section `microworld` is read only where one of them is about that world.

    Raises:
        ConfigError: that section is missing or has a bad value.
    """
    if not any(question.source == _MICROWORLD for question in questions):
        return NOBODY_CAN_TELL
    from coa.microworld.factory import MicroworldParams
    from coa.microworld.world import make_world

    return KnowledgeProbe(make_world(sections.section(MicroworldParams, "microworld").world))


def needed_answers(
    probe: KnowledgeProbe, steps: tuple[Step, ...], gold_answers: tuple[str, ...]
) -> tuple[str, ...]:
    """Return what a search after these steps is to show.

    That is the value of the fact that the steps say they need, as far as it is known, else the
    answer to the question.
    """
    needed = probe.last_needed(steps)
    return (needed.value,) if needed else gold_answers
