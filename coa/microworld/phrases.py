"""Write the sentences of this world's trajectories, and read them back.

They are short and regular, so that a small transformer can learn them. The teacher reads all that
it knows of a rollout from the rollout's own text, so it can continue wherever that text was cut.
"""

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from coa.protocol import THINK_CLOSE, close_tag, observation_text, open_tag

TOOL = "search"
SEARCH_OPEN = open_tag(TOOL)
SEARCH_CLOSE = close_tag(TOOL)
CALCULATOR = "calculate"
CALCULATE_OPEN = open_tag(CALCULATOR)
CALCULATE_CLOSE = close_tag(CALCULATOR)
BOX_OPEN = "\\boxed{"


class PhraseKind(StrEnum):
    """The kind of a sentence, an action or an observation."""

    NEED = "need"
    RECALL = "recall"
    """A value that the writer is sure of."""
    GUESS = "guess"
    """A value that the writer is not sure of."""
    READ = "read"
    """A value from an observation."""
    NOT_FOUND = "not_found"
    COMPARE = "compare"
    ANSWER = "answer"
    SEARCH = "search"
    """An action; its text is the query."""
    OBSERVATION = "observation"
    """What a search showed; its text is the body."""
    CALCULATE = "calculate"
    """An action; its text is the expression."""
    CALCULATED = "calculated"
    """What the calculator showed."""


class Utterance(NamedTuple):
    """One piece of a rollout's text, as it was read back."""

    said: PhraseKind
    text: str
    """What fills the sentence, without the words around it."""


SENTENCES = {
    PhraseKind.NEED: "I need the {}.",
    PhraseKind.RECALL: "I recall {}.",
    PhraseKind.GUESS: "Maybe {}.",
    PhraseKind.READ: "It says {}.",
    PhraseKind.COMPARE: "Here {}.",
    PhraseKind.ANSWER: "So the answer is {}.",
}
"""The sentences with a gap, `{}`."""
NOT_FOUND = "Not found."
BEFORE = "{} is before {}"
AFTER = "{} is after {}"
EQUAL = "{} is the same as {}"
DIFFERENT = "{} differs from {}"
EQUATION = "{} is {}"
RESULT = "result {}: {}"
WORDING = (
    *SENTENCES.values(),
    NOT_FOUND,
    BEFORE,
    AFTER,
    EQUAL,
    DIFFERENT,
    RESULT,
    "{} of {}",
    BOX_OPEN,
    "}",
)
"""All words that trajectories add to names and relations."""


def say(said: PhraseKind, what: str = "") -> str:
    """Write the sentence of a kind, about `what`."""
    if said is PhraseKind.NOT_FOUND:
        return NOT_FOUND
    return SENTENCES[said].format(what)


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


def search(query: str) -> str:
    """Write a complete search action."""
    return f"{SEARCH_OPEN} {query} {SEARCH_CLOSE}"


def calculate(expression: str) -> str:
    """Write a complete call of the calculator."""
    return f"{CALCULATE_OPEN} {expression} {CALCULATE_CLOSE}"


def calculation(expression: str, result: str) -> str:
    """Say what a calculation gives, for the sentence of the kind `COMPARE`."""
    return EQUATION.format(expression, result)


def boxed(answer: str) -> str:
    """End the thinking and box the answer."""
    return f"\n{THINK_CLOSE}\n\n{BOX_OPEN}{answer}}}"


def results(texts: Sequence[str]) -> str:
    """Show passages as the body of an observation."""
    return "\n".join(RESULT.format(i, text) for i, text in enumerate(texts, 1))


def _observation_pattern(tool: str, kind: PhraseKind) -> str:
    opening, closing = observation_text(tool, "|").split("|")
    return f"{opening.strip()}(?P<{kind}>.*?){closing.strip()}"


def _utterance_pattern() -> re.Pattern[str]:
    """Build a pattern with one named group for each kind of utterance."""
    alternatives = [
        f"{SEARCH_OPEN}(?P<{PhraseKind.SEARCH}>.*?){SEARCH_CLOSE}",
        _observation_pattern(TOOL, PhraseKind.OBSERVATION),
        f"{CALCULATE_OPEN}(?P<{PhraseKind.CALCULATE}>.*?){CALCULATE_CLOSE}",
        _observation_pattern(CALCULATOR, PhraseKind.CALCULATED),
        f"(?P<{PhraseKind.NOT_FOUND}>{re.escape(NOT_FOUND)})",
    ]
    for said, phrase in SENTENCES.items():
        before, after = phrase.split("{}")
        alternatives.append(f"{before}(?P<{said}>[^.]+){re.escape(after)}")
    return re.compile("|".join(alternatives), re.DOTALL)


_UTTERANCE = _utterance_pattern()
_VALUE_AT_END = re.compile(r"((?:[A-Z]\w+ )?\w+)\.(?=\s|$)")


def read_back(text: str) -> Iterator[Utterance]:
    """Yield the pieces of a rollout's text in order; any other text between them is skipped."""
    for found in _UTTERANCE.finditer(text):
        said = found.lastgroup or ""
        yield Utterance(PhraseKind(said), found[said].strip())


def values_shown(body: str) -> list[str]:
    """List what the sentences of an observation end with: the values that can be misread."""
    return _VALUE_AT_END.findall(body)
