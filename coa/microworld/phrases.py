"""List the sentences of this world's trajectories.

They are short and regular, with one wording for each purpose, so that a small transformer can learn
them.
"""

import re
from collections.abc import Iterator, Sequence

from coa.policy.teacher.sentences import PhraseKind, Sentences, Utterance

SENTENCES = Sentences(
    {
        PhraseKind.NEED: ("I need the {}.",),
        PhraseKind.RECALL: ("I recall {}.",),
        PhraseKind.GUESS: ("Maybe {}.",),
        PhraseKind.READ: ("It says {}.",),
        PhraseKind.NOT_FOUND: ("Not found.",),
        PhraseKind.COMPARE: ("Here {}.",),
        PhraseKind.ANSWER: ("So the answer is {}.",),
    },
    has_stops=False,
)
BEFORE = "{} is before {}"
AFTER = "{} is after {}"
EQUAL = "{} is the same as {}"
DIFFERENT = "{} differs from {}"
EQUATION = "{} is {}"
_VALUE_AT_END = re.compile(r"((?:[A-Z]\w+ )?\w+)\.(?=\s|$)")


def say(said: PhraseKind, what: str = "") -> str:
    """Write the sentence of a kind, about `what`."""
    return SENTENCES.say(said, what)


def need(relation: str, entity: str) -> str:
    """Say which fact is needed; the decision to search or not follows this sentence."""
    return say(PhraseKind.NEED, f"{relation} of {entity}")


def comparison(values: Sequence[str], is_by_order: bool) -> str:
    """Compare two values: which year is before, or whether they are the same."""
    a, b = values
    if a == b:
        return EQUAL.format(a, b)
    if not is_by_order:
        return DIFFERENT.format(a, b)
    return (BEFORE if a < b else AFTER).format(a, b)


def calculation(expression: str, result: str) -> str:
    """Say what a calculation gives, for the sentence of the kind `COMPARE`."""
    return EQUATION.format(expression, result)


def read_back(text: str) -> Iterator[Utterance]:
    """Yield the pieces of a rollout's text in order; any other text between them is skipped."""
    return SENTENCES.read_back(text)


def values_shown(body: str) -> list[str]:
    """List what the sentences of an observation end with: the values that can be misread."""
    return _VALUE_AT_END.findall(body)
