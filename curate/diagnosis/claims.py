"""Read a trajectory's thoughts as claims: what they state, and how the policy came by it.

A claim is a sentence with an explicit cue ("I recall", "maybe", "according to"), or one that brings
a name or a number which is neither in the question nor earlier in the policy's own text. The cues
are those of ordinary English reasoning, and names are recognised by their capitals: in other
languages few claims are found, and much stays unknown.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from coa.records.grading import normalise
from coa.records.trajectory import Author, Step, StepKind


class Basis(StrEnum):
    """The way in which the policy came by what it states."""

    RECALLED = "recalled"
    """It states it as something it knows; the default of a sentence without a cue."""
    GUESSED = "guessed"
    """It hedges."""
    READ = "read"
    """It takes it from an observation."""


_GUESSED = re.compile(
    r"\b(maybe|perhaps|possibly|probably|might be|may be|could be|likely|"
    r"not (?:entirely |quite |really )?sure|unsure|i(?: would|'d)? guess|i think|i believe|"
    r"presumably|i assume|if i remember|seems to be)\b",
    re.IGNORECASE,
)
_RECALLED = re.compile(
    r"\b(i (?:clearly |distinctly )?(?:recall|remember|know)|as is well known|of course|"
    r"certainly)\b",
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
    r"\b(not found|not (?:explicitly |directly )?(?:specified|stated|clear|mentioned|available)|"
    r"not related to|none of these|only provides? information|"
    r"no (?:results?|information|mention)|nothing (?:about|on)|"
    r"(?:does not|doesn't|do not|don't|did not|didn't|couldn't|could not|cannot|can't|not) "
    r"(?:say|mention|state|contain|give|help|find|show|include|specify|provide|determine|"
    r"providing))\b",
    re.IGNORECASE,
)
_GIVES_UP = re.compile(
    r"\b(i need|i cannot|i can't|i could not|i couldn't|unable to|unknown|not enough|insufficient|"
    r"cannot be|not (?:found|possible|specified|available|provided|clear)|"
    r"no (?:information|answer|results?)|more information)\b",
    re.IGNORECASE,
)
_INTENT = re.compile(
    r"\s*(?:step \d+\b|to (?:solve|answer|find|determine)\b|"
    r"(?:\W*(?:so|then|now|next|first|finally)\b,?\s*)?"
    r"(?:i(?:'ll| will| need| should| must| have to| am going)\b|let(?:'s| us| me)\b|we need\b)|"
    r"(?:identify|determine|find|search|look)\b)",
    re.IGNORECASE,
)
"""The beginning of a sentence that says what is to be done: the names in it are not claims."""


class Claim(NamedTuple):
    """One statement of the policy."""

    step: int
    """Index of the step that it is in."""
    sentence: str
    values: tuple[str, ...]
    """The names and numbers that it states, normalised as answers are."""
    basis: Basis


class Utterance(NamedTuple):
    """One piece of what happened: a sentence of a thought, an action or an observation."""

    step: int
    kind: StepKind
    text: str
    """A sentence; an action's query; an observation's text."""
    norm: str
    """The text normalised, with a space at either end, so that whole words can be searched."""
    claim: Claim | None = None


SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\b[A-Z]\.)(?<!\b[JSDM]r\.)\s+|\n+")
"""Not after an initial or a title: Samuel L. Jackson is one name."""
_NAME_WORD = r"[A-Z][\w'’&-]*"  # noqa: RUF001
_VALUE = re.compile(
    rf"{_NAME_WORD}(?:\s+(?:(?:of|the|de|la|van|von|del|di|and)\s+){{0,2}}{_NAME_WORD})*"
    r"|\d[\d,.]*\d|\d"
)
_PLAIN_VALUE = re.compile(r"\s*(?:that |it is |it's |it was |is |was |:)*\s*([^,.;:!?()]+)")
_MAX_CHARS = 100_000
"""So many characters are read of a trajectory's thoughts, and of one observation: a longer rollout
has gone wrong before, and the time of reading grows with the square of its sentences."""
_EMPTY_HANDED = re.compile(
    r"\s*(?:<[^<>]{1,40}>\s*)?(?:could not find\b|no results?\b|nothing (?:was )?found\b|"
    r"invalid action\b|the last page \w+ was not found\b)",
    re.IGNORECASE,
)
"""The beginning of an observation that shows no passage; what else it names was not found."""
_NO_SEARCHES = frozenset({"calculate", "finish", "reflect"})
"""Tools that find nothing: what they are given is no query."""
_MAX_PLAIN_WORDS = 6
"""Longer remainders after a cue are clauses, not values."""
_NOT_NAMES_TEXT = """
i i'm i'll i've i'd it he she they we you this that these those there here the a an so but and or
if then now next first second also since because however therefore thus hence wait okay ok alright
let hmm well yes no not maybe what who which when where why how after before while for from in on at
to by with as according both another result results search question answer looking based given
"""
_NOT_NAMES = frozenset(_NOT_NAMES_TEXT.split())
"""Words that begin sentences: their capital says nothing."""


def says_not_found(text: str) -> bool:
    """Tell whether a sentence says that an observation does not help."""
    return _NOT_FOUND.search(text) is not None


def gives_up(answer: str) -> bool:
    """Tell whether an answer says that there is none."""
    return _GIVES_UP.search(answer) is not None


def basis_of(sentence: str) -> Basis | None:
    """Tell the basis that a sentence's cue names; None without a cue."""
    basis, _ = _find_cue(sentence)
    return basis


def read(steps: Sequence[Step], question: str) -> tuple[Utterance, ...]:
    """List what was said and done, in order, each sentence with its claim."""
    return tuple(_Reading(question).follow(steps))


def _find_cue(sentence: str) -> tuple[Basis | None, str]:
    """Find the basis that a cue names, and the text in which the claimed values are."""
    for basis, cue in _CUES:
        found = cue.search(sentence)
        if found:
            return basis, sentence[found.end() :]
    return None, sentence


class _Reading:
    """The state of reading one trajectory: what is no longer new, and what has been shown."""

    def __init__(self, question: str) -> None:
        self._num_chars_left = _MAX_CHARS
        """Number of characters of thoughts that are still read."""
        self._said = padded(question[:_MAX_CHARS])
        """What the question and the policy have said so far, padded."""
        self._shown = ""
        """Observations since the last claim, or since the policy said that they do not help."""
        self._all_shown = ""

    def follow(self, steps: Sequence[Step]) -> Iterator[Utterance]:
        for i, step in enumerate(steps):
            if step.kind is StepKind.OBSERVATION:
                shown = step.text[:_MAX_CHARS]
                if _EMPTY_HANDED.match(shown):
                    shown = ""
                norm = padded(shown)
                self._shown += norm
                self._all_shown += norm
                yield Utterance(i, step.kind, shown, norm)
            elif step.kind is StepKind.ACTION and step.tool not in _NO_SEARCHES:
                query = (step.argument or "")[:_MAX_CHARS]
                self._said += padded(query)
                yield Utterance(i, step.kind, query, padded(query))
            elif step.kind is StepKind.THOUGHT and step.author is Author.POLICY:
                thought = step.text[: self._num_chars_left]
                self._num_chars_left -= len(thought)
                for sentence in SENTENCE_END.split(thought):
                    if sentence.strip():
                        yield self._sentence(i, sentence)

    def _sentence(self, step: int, text: str) -> Utterance:
        norm = padded(text)
        claim = self._claim(step, text)
        self._said += norm
        if claim or says_not_found(text):
            self._shown = ""
        return Utterance(step, StepKind.THOUGHT, text, norm, claim)

    def _claim(self, step: int, text: str) -> Claim | None:
        basis, rest = _find_cue(text)
        values = names_and_numbers(rest)
        if basis is None:
            return self._claim_without_cue(step, text, values)
        values = values or _plain_value(rest)
        if not values:
            return None
        # A hedge about what has just been shown ("I think the passage means Paris") is a reading.
        if basis is Basis.GUESSED and holds_any(self._shown, values):
            basis = Basis.READ
        return Claim(step, text.strip(), values, basis)

    def _claim_without_cue(self, step: int, text: str, values: tuple[str, ...]) -> Claim | None:
        new_values = tuple(value for value in values if not is_in(value, self._said))
        if not new_values or says_not_found(text) or _INTENT.match(text):
            return None
        was_shown = holds_any(self._all_shown, new_values)
        basis = Basis.READ if was_shown else Basis.RECALLED
        return Claim(step, text.strip(), new_values, basis)


def names_and_numbers(text: str) -> tuple[str, ...]:
    """List the names and numbers in a text, normalised, each once.

    Words that merely begin a sentence are not names.
    """
    values: dict[str, None] = {}  # a set that keeps the order
    for match in _VALUE.finditer(text):
        words = match[0].split()
        while words and words[0].lower().rstrip("'’") in _NOT_NAMES:  # noqa: RUF001
            words = words[1:]
        value = cached_normalise(" ".join(words))
        if value:
            values[value] = None
    return tuple(values)


def _plain_value(rest: str) -> tuple[str, ...]:
    """Read what follows a cue where it is neither a name nor a number: a genre, a profession."""
    found = _PLAIN_VALUE.match(rest)
    if found is None:
        return ()
    value = normalise(found[1])
    if not value or len(value.split()) > _MAX_PLAIN_WORDS:
        return ()
    return (value,)


@lru_cache(maxsize=65_536)  # names and passages return again and again within a run
def cached_normalise(text: str) -> str:
    """Normalise as `coa.records.grading.normalise` does, and remember the result."""
    return normalise(text)


def padded(text: str) -> str:
    """Normalise a text and add a space at either end, so that `is_in` finds whole words only."""
    return f" {normalise(text)} "


def is_in(value: str, padded_text: str) -> bool:
    """Tell whether a padded text holds a normalised value as whole words."""
    return f" {value} " in padded_text


def holds_any(padded_text: str, values: Iterable[str]) -> bool:
    """Tell whether a padded text holds any of some normalised values as whole words."""
    return any(is_in(value, padded_text) for value in values)


def texts_of(said: Iterable[Utterance], kind: StepKind) -> list[str]:
    """List the texts of the utterances of one kind."""
    return [each.text for each in said if each.kind is kind]
