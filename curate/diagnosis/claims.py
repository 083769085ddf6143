"""A trajectory's thoughts to claims: each sentence that states something, and how the policy came by it.

A claim is a sentence with an explicit cue ("I recall", "maybe", "according to") or one that brings a name or a number
which stands neither in the question nor earlier in the policy's own text. The cues are those of ordinary English
reasoning, and names are told by their capitals: in other languages little is claimed, and much stays unknown.
"""

import re
from collections.abc import Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from coa.grading import normalise
from coa.trajectory import Author, Step, StepKind


class Basis(StrEnum):
    """How the policy came by what it states."""

    RECALLED = "recalled"
    """It states it as something it knows; the default of a sentence without a cue."""
    GUESSED = "guessed"
    """It hedges."""
    READ = "read"
    """It takes it from an observation."""


_GUESSED = re.compile(
    r"\b(maybe|perhaps|possibly|probably|might be|may be|could be|likely|not (?:entirely |quite |really )?sure|"
    r"unsure|i(?: would|'d)? guess|i think|i believe|presumably|i assume|if i remember|seems to be)\b",
    re.IGNORECASE,
)
_RECALLED = re.compile(
    r"\b(i (?:clearly |distinctly )?(?:recall|remember|know)|as is well known|of course|certainly)\b",
    re.IGNORECASE,
)
_READ = re.compile(
    r"\b(it says|according to|based on the (?:search )?results?|"
    r"(?:results?|passages?|documents?|articles?|page|text|search)(?: results?)?(?: \d+)? "
    r"(?:says?|states?|shows?|mentions?|indicates?|confirms?|tells?)(?: that)?|"
    r"i (?:can )?(?:see|found|read)(?: that)?)\b",
    re.IGNORECASE,
)
_CUES = ((Basis.GUESSED, _GUESSED), (Basis.RECALLED, _RECALLED), (Basis.READ, _READ))
_NOT_FOUND = re.compile(
    r"\b(not found|not (?:specified|clear|mentioned|available)|"
    r"no (?:results?|information|mention)|nothing (?:about|on)|"
    r"(?:does not|doesn't|do not|don't|did not|didn't|couldn't|could not|cannot|can't|not) "
    r"(?:say|mention|state|contain|give|help|find|show|include|specify|provide|determine|providing))\b",
    re.IGNORECASE,
)
_GIVES_UP = re.compile(
    r"\b(i need|i cannot|i can't|i could not|i couldn't|unable to|unknown|not enough|insufficient|cannot be|"
    r"not (?:found|possible|specified|available|provided|clear)|no (?:information|answer|results?)|more information)\b",
    re.IGNORECASE,
)
_INTENT = re.compile(
    r"\s*(?:step \d+\b|to (?:solve|answer|find|determine)\b|(?:\W*(?:so|then|now|next|first|finally)\b,?\s*)?"
    r"(?:i(?:'ll| will| need| should| must| have to| am going)\b|let(?:'s| us| me)\b|we need\b)|"
    r"(?:identify|determine|find|search|look)\b)",
    re.IGNORECASE,
)
"""How sentences begin that say what is to be done: the names in them are no claims."""


class Claim(NamedTuple):
    """One statement of the policy."""

    step: int
    """Index of the step it stands in."""
    sentence: str
    values: tuple[str, ...]
    """The names and numbers that it states, normalised as answers are."""
    basis: Basis


class Utterance(NamedTuple):
    """One piece of what happened, in order: a sentence of a thought, an action or an observation."""

    step: int
    kind: StepKind
    text: str
    """A sentence; an action's query; an observation's text."""
    norm: str
    """The text normalised, with a blank at either end, so that whole words can be searched in it."""
    claim: Claim | None = None


SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\b[JSDM]r\.)\s+|\n+")
"""Not after an initial or a title: Samuel L. Jackson is one name."""
_NAME_WORD = r"[A-Z][\w'’&-]*"  # noqa: RUF001
_VALUE = re.compile(
    rf"{_NAME_WORD}(?:\s+(?:(?:of|the|de|la|van|von|del|di|and)\s+){{0,2}}{_NAME_WORD})*|\d[\d,.]*\d|\d"
)
_PLAIN_VALUE = re.compile(r"\s*(?:that |it is |it's |it was |is |was |:)*\s*([^,.;:!?()]+)")
_MAX_CHARS = 100_000
"""Of a trajectory's thoughts, and of one observation, that are read: a rollout that long has gone wrong before, and the
time that reading takes grows with the square of its sentences."""
_MAX_PLAIN_WORDS = 6
"""Longer remainders after a cue are clauses, not values."""
_NOT_NAMES_TEXT = """
i i'm i'll i've i'd it he she they we you this that these those there here the a an so but and or if then now
next first second also since because however therefore thus hence wait okay ok alright let hmm well yes no not
maybe what who which when where why how after before while for from in on at to by with as according both
another result results search question answer looking based given
"""
_NOT_NAMES = frozenset(_NOT_NAMES_TEXT.split())
"""Words that begin sentences: their capital says nothing."""


def says_not_found(text: str) -> bool:
    """Whether a sentence says that an observation does not help."""
    return _NOT_FOUND.search(text) is not None


def gives_up(answer: str) -> bool:
    """Whether an answer says that there is none."""
    return _GIVES_UP.search(answer) is not None


def basis_of(sentence: str) -> Basis | None:
    """The basis that a sentence's cue names; None without a cue."""
    return _cued(sentence)[0]


def read(steps: Sequence[Step], question: str) -> tuple[Utterance, ...]:
    """What was said and done, in order; claims stand at their sentences."""
    return tuple(_Reading(question).follow(steps))


def _cued(sentence: str) -> tuple[Basis | None, str]:
    """The basis that a cue names, and the text in which the claimed values stand."""
    for basis, cue in _CUES:
        if found := cue.search(sentence):
            return basis, sentence[found.end() :]
    return None, sentence


class _Reading:
    """The state of reading one trajectory: what is no longer new, and what has been shown."""

    def __init__(self, question: str) -> None:
        self._left = _MAX_CHARS
        """Characters of thoughts that are still read."""
        self._said = padded(question[:_MAX_CHARS])
        """What the question and the policy have said so far."""
        self._shown = ""
        """Observations since the last claim or the last word that they do not help."""
        self._all_shown = ""

    def follow(self, steps: Sequence[Step]) -> Iterator[Utterance]:
        for i, step in enumerate(steps):
            if step.kind is StepKind.OBSERVATION:
                shown = step.text[:_MAX_CHARS]
                norm = padded(shown)
                self._shown += norm
                self._all_shown += norm
                yield Utterance(i, step.kind, shown, norm)
            elif step.kind is StepKind.ACTION:
                query = (step.argument or "")[:_MAX_CHARS]
                self._said += padded(query)
                yield Utterance(i, step.kind, query, padded(query))
            elif step.kind is StepKind.THOUGHT and step.author is Author.POLICY:
                thought = step.text[: self._left]
                self._left -= len(thought)
                yield from (
                    self._sentence(i, text) for text in SENTENCE_END.split(thought) if text.strip()
                )

    def _sentence(self, step: int, text: str) -> Utterance:
        norm = padded(text)
        claim = self._claim(step, text)
        self._said += norm
        if claim or says_not_found(text):
            self._shown = ""
        return Utterance(step, StepKind.THOUGHT, text, norm, claim)

    def _claim(self, step: int, text: str) -> Claim | None:
        basis, rest = _cued(text)
        values = names_and_numbers(rest)
        if basis is None:
            values = tuple(value for value in values if not is_in(value, self._said))
            if not values or says_not_found(text) or _INTENT.match(text):
                return None
            basis = (
                Basis.READ
                if any(is_in(value, self._all_shown) for value in values)
                else Basis.RECALLED
            )
        else:
            values = values or _plain_value(rest)
            # A hedge about what has just been shown ("I think the passage means Paris") is a reading.
            if basis is Basis.GUESSED and any(is_in(value, self._shown) for value in values):
                basis = Basis.READ
        return Claim(step, text.strip(), values, basis) if values else None


def names_and_numbers(text: str) -> tuple[str, ...]:
    """The names and numbers in a text, normalised; words that merely begin a sentence are no names."""
    found = (_without_openers(match[0]) for match in _VALUE.finditer(text))
    return tuple(dict.fromkeys(value for value in map(cached_normalise, found) if value))


def _without_openers(name: str) -> str:
    words = name.split()
    while words and words[0].lower().rstrip("'’") in _NOT_NAMES:  # noqa: RUF001
        words = words[1:]
    return " ".join(words)


def _plain_value(rest: str) -> tuple[str, ...]:
    """What follows a cue where it is neither a name nor a number: a genre, a profession."""
    found = _PLAIN_VALUE.match(rest)
    value = normalise(found[1]) if found else ""
    return (value,) if value and len(value.split()) <= _MAX_PLAIN_WORDS else ()


@lru_cache(maxsize=65_536)  # names and passages return again and again within a run
def cached_normalise(text: str) -> str:
    """`coa.grading.normalise`, remembered."""
    return normalise(text)


def padded(text: str) -> str:
    """A normalised text with a blank at either end, in which `is_in` finds whole words only."""
    return f" {normalise(text)} "


def is_in(value: str, padded_text: str) -> bool:
    """Whether a normalised value stands in a padded text as whole words."""
    return f" {value} " in padded_text
