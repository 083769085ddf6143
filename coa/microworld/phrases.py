"""The sentences that a trajectory of this world is written in, and how they are read back.

Short and regular, so that a small transformer can learn them. What the teacher knows of a rollout it reads back from
the rollout's own text, so it can go on from wherever that text was cut.
"""

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import NamedTuple

from coa.protocol import THINK_CLOSE, close_tag, observation_text, open_tag

TOOL = "search"
SEARCH_OPEN = open_tag(TOOL)
SEARCH_CLOSE = close_tag(TOOL)
BOX_OPEN = "\\boxed{"


class PhraseKind(StrEnum):
    """What a sentence, an action or an observation is."""

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
    """Its text is the query."""
    OBSERVATION = "observation"
    """Its text is the body."""


class Utterance(NamedTuple):
    """One piece of a rollout's text, read back."""

    said: PhraseKind
    text: str
    """What it speaks of, without the words around it."""


SENTENCES = {
    PhraseKind.NEED: "I need the {}.",
    PhraseKind.RECALL: "I recall {}.",
    PhraseKind.GUESS: "Maybe {}.",
    PhraseKind.READ: "It says {}.",
    PhraseKind.COMPARE: "Here {}.",
    PhraseKind.ANSWER: "So the answer is {}.",
}
"""The sentences that speak of something, with `{}` for it."""
NOT_FOUND = "Not found."
BEFORE, AFTER, EQUAL, DIFFERENT = (
    "{} is before {}",
    "{} is after {}",
    "{} is the same as {}",
    "{} differs from {}",
)
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
    """The sentence of a kind, about `what`."""
    return NOT_FOUND if said is PhraseKind.NOT_FOUND else SENTENCES[said].format(what)


def need(relation: str, entity: str) -> str:
    """Say which fact is needed; after it stands the decision to search or not."""
    return say(PhraseKind.NEED, f"{relation} of {entity}")


def comparison(values: Sequence[str], is_by_order: bool) -> str:
    """How two values stand to each other: which year is before, or whether they are the same."""
    a, b = values
    if a == b:
        return EQUAL.format(a, b)
    if not is_by_order:
        return DIFFERENT.format(a, b)
    return (BEFORE if a < b else AFTER).format(a, b)


def search(query: str) -> str:
    """A complete search action."""
    return f"{SEARCH_OPEN} {query} {SEARCH_CLOSE}"


def boxed(answer: str) -> str:
    """The end of the thinking and the answer."""
    return f"\n{THINK_CLOSE}\n\n{BOX_OPEN}{answer}}}"


def results(texts: Sequence[str]) -> str:
    """Passages as an observation's body shows them."""
    return "\n".join(RESULT.format(i, text) for i, text in enumerate(texts, 1))


def _frames() -> Iterator[tuple[PhraseKind, str, str, str]]:
    """What stands before, in and after each kind of utterance, as regular expressions."""
    opening, closing = (part.strip() for part in observation_text(TOOL, "|").split("|"))
    yield PhraseKind.SEARCH, SEARCH_OPEN, ".*?", SEARCH_CLOSE
    yield PhraseKind.OBSERVATION, opening, ".*?", closing
    yield PhraseKind.NOT_FOUND, "", re.escape(NOT_FOUND), ""
    for said, phrase in SENTENCES.items():
        before, after = phrase.split("{}")
        yield said, before, "[^.]+", re.escape(after)


_UTTERANCE = re.compile(
    "|".join(f"{before}(?P<{s}>{inner}){after}" for s, before, inner, after in _frames()), re.DOTALL
)
_VALUE_AT_END = re.compile(r"((?:[A-Z]\w+ )?\w+)\.(?=\s|$)")


def read_back(text: str) -> Iterator[Utterance]:
    """The pieces of a rollout's text, in order; whatever else stands between them is skipped."""
    for found in _UTTERANCE.finditer(text):
        said = found.lastgroup or ""
        yield Utterance(PhraseKind(said), found[said].strip())


def values_shown(body: str) -> list[str]:
    """What the sentences of an observation end with: every value that a careless reader might take."""
    return _VALUE_AT_END.findall(body)
