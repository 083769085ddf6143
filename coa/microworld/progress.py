"""Read from a rollout's own text how far it has come with its plan."""

from coa.microworld.phrases import PhraseKind, Utterance, read_back
from coa.microworld.plans import Plan, PlanKind

_VALUE_KINDS = frozenset({PhraseKind.RECALL, PhraseKind.GUESS, PhraseKind.READ})


class PlanProgress:
    """The facts that a rollout has found so far, and the one that it is looking for."""

    def __init__(self, plan: Plan, text: str = "") -> None:
        self.plan = plan
        self.hop = -1
        """Index of the plan's fact that the text has reached; -1 before the first."""
        self.values: list[str] = []
        """The values that the text states, up to this hop; this hop's own is missing while it is
        open."""
        self.num_searches = 0
        """The number of searches for this hop."""
        self.last_query = ""
        """The last query of this hop."""
        self.unread: str | None = None
        """The body of the last observation, until the text says something about it."""
        self.answer = ""
        self.has_compared = False
        self.calculated = ""
        """What the calculator showed for the values; empty before it was called."""
        self.result = ""
        """The result that the text states of a calculation."""
        self._was_read = False
        for utterance in read_back(text):
            self.follow(utterance)

    @property
    def is_open(self) -> bool:
        """Tell whether this hop's value is still missing."""
        return self.hop >= 0 and len(self.values) == self.hop

    @property
    def has_next(self) -> bool:
        """Tell whether a hop comes after this one."""
        return self.hop + 1 < len(self.plan.facts)

    @property
    def entity(self) -> str:
        """Return the entity that this hop asks about.

        The question names it, or it is the value, right or wrong, that the hop before has found.
        """
        if self.hop > 0 and self.plan.kind is PlanKind.CHAIN:
            return self.values[self.hop - 1]
        return self.plan.facts[self.hop].entity

    @property
    def relation(self) -> str:
        """Return the relation that this hop asks for."""
        return self.plan.facts[self.hop].relation

    def follow(self, utterance: Utterance) -> None:
        """Take in the next piece of the text."""
        said, text = utterance
        if said is PhraseKind.NEED and not self.is_open and self.has_next:
            self.next_hop()
        elif said in _VALUE_KINDS:
            self._take_value(said, text)
        elif said is PhraseKind.NOT_FOUND:
            self.unread = None
        elif said is PhraseKind.SEARCH:
            self.aim_search()
            self.num_searches += 1
            self.last_query = text
        elif said is PhraseKind.OBSERVATION:
            if self.hop < 0:
                self.next_hop()
            self.unread = text
        elif said is PhraseKind.CALCULATED:
            self.calculated = text
        elif said is PhraseKind.COMPARE:
            self.has_compared = True
            self.result = text.split()[-1]
        elif said is PhraseKind.ANSWER:
            self.answer = text

    def _take_value(self, said: PhraseKind, value: str) -> None:
        if self.hop < 0:
            self.next_hop()
        self.values[self.hop :] = [value]
        self.unread = None
        self._was_read = said is PhraseKind.READ
        # A value found after the conclusion opens it again.
        self.has_compared = False
        self.calculated = ""
        self.answer = ""

    def next_hop(self) -> None:
        """Go on to the next fact."""
        self.hop += 1
        self.num_searches = 0
        self.last_query = ""

    def aim_search(self) -> None:
        """Decide which hop a search serves now.

        That is the open one. Where none is open, it is the current one if its value was not read
        from a result, else the next.
        """
        if self.is_open:
            return
        if self.hop < 0 or (self._was_read and self.has_next):
            self.next_hop()
        else:
            self.values.pop()
