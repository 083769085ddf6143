"""How far a rollout has come with its plan, read back from the rollout's own text."""

from coa.microworld.phrases import PhraseKind, Utterance, read_back
from coa.microworld.plans import Plan, PlanKind

_VALUES = frozenset({PhraseKind.RECALL, PhraseKind.GUESS, PhraseKind.READ})


class PlanProgress:
    """The facts found so far, and the one that is being looked for."""

    def __init__(self, plan: Plan, text: str = "") -> None:
        self.plan = plan
        self.hop = -1
        """Which of the plan's facts the text has come to; -1 before the first."""
        self.values: list[str] = []
        """What the text believes of the facts up to this hop; this hop's own is missing while it is open."""
        self.num_searches = 0
        """For this hop."""
        self.last_query = ""
        """Of this hop."""
        self.unread: str | None = None
        """The body of an observation that nothing has been said about."""
        self.answer = ""
        self.has_compared = False
        self._was_read = False
        for utterance in read_back(text):
            self.follow(utterance)

    @property
    def is_open(self) -> bool:
        """Whether this hop's value is still missing."""
        return self.hop >= 0 and len(self.values) == self.hop

    @property
    def has_next(self) -> bool:
        """Whether a hop comes after this one."""
        return self.hop + 1 < len(self.plan.facts)

    @property
    def entity(self) -> str:
        """What this hop asks about: as the question says, or as the hop before has found, be it right or wrong."""
        if self.hop > 0 and self.plan.kind is PlanKind.CHAIN:
            return self.values[self.hop - 1]
        return self.plan.facts[self.hop].entity

    @property
    def relation(self) -> str:
        """What this hop asks for."""
        return self.plan.facts[self.hop].relation

    def follow(self, utterance: Utterance) -> None:
        """Take in the next piece of the text."""
        said, text = utterance
        if said is PhraseKind.NEED and not self.is_open and self.has_next:
            self.next_hop()
        elif said in _VALUES:
            if self.hop < 0:
                self.next_hop()
            self.values[self.hop :] = [text]
            self.unread, self._was_read = None, said is PhraseKind.READ
            self.has_compared, self.answer = (
                False,
                "",
            )  # a value found after the conclusion opens it again
        elif said is PhraseKind.NOT_FOUND:
            self.unread = None
        elif said is PhraseKind.SEARCH:
            self.aim_search()
            self.num_searches, self.last_query = self.num_searches + 1, text
        elif said is PhraseKind.OBSERVATION:
            if self.hop < 0:
                self.next_hop()
            self.unread = text
        elif said is PhraseKind.COMPARE:
            self.has_compared = True
        elif said is PhraseKind.ANSWER:
            self.answer = text

    def next_hop(self) -> None:
        """Come to the next fact."""
        self.hop, self.num_searches, self.last_query = self.hop + 1, 0, ""

    def aim_search(self) -> None:
        """Settle which hop a search serves now: the open one, else one whose value was not read, else the next."""
        if self.is_open:
            return
        if self.hop < 0 or (self._was_read and self.has_next):
            self.next_hop()
        else:
            self.values.pop()
