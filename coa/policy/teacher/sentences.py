"""Write the sentences of the scripted teacher, and read them back.

The teacher reads all that it knows of a rollout from the rollout's own text. So it can continue
wherever that text was cut.
"""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple

from coa.records.protocol import THINK_CLOSE, close_tag, observation_text, open_tag

TOOL = "search"
SEARCH_OPEN = open_tag(TOOL)
SEARCH_CLOSE = close_tag(TOOL)
CALCULATOR = "calculate"
CALCULATE_OPEN = open_tag(CALCULATOR)
CALCULATE_CLOSE = close_tag(CALCULATOR)
BOX_OPEN = "\\boxed{"
RESULT = "result {}: {}"


class PhraseKind(StrEnum):
    """The kind of a sentence, an action or an observation."""

    NEED = "need"
    """Says which fact is missing; the decision to search or not follows it."""
    RECALL = "recall"
    """A value that the writer is sure of."""
    GUESS = "guess"
    """A value that the writer is not sure of."""
    QUOTE = "quote"
    """The words of an observation that a value is read from; the value follows."""
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


class Sentences:
    """The wordings of each kind of sentence, with `{}` for what it is about.

    Where `has_stops`, names and values may hold full stops, as in the real world.
    """

    def __init__(
        self, wordings: Mapping[PhraseKind, tuple[str, ...]], *, has_stops: bool = True
    ) -> None:
        self.wordings = wordings
        self._pattern = _utterance_pattern(wordings, has_stops=has_stops)

    def say(self, said: PhraseKind, what: str = "", rng: random.Random | None = None) -> str:
        """Write a sentence about `what`, in the first wording or one that `rng` chooses."""
        wordings = self.wordings[said]
        wording = rng.choice(wordings) if rng and len(wordings) > 1 else wordings[0]
        return wording.format(what.removesuffix(".") if wording.endswith("{}.") else what)

    def read_back(self, text: str) -> Iterator[Utterance]:
        """Yield the pieces of a rollout's text in order; any other text is skipped."""
        for found in self._pattern.finditer(text):
            group = found.lastgroup or ""
            yield Utterance(PhraseKind(group.rstrip("_0123456789")), found[group].strip())


def _utterance_pattern(
    wordings: Mapping[PhraseKind, tuple[str, ...]], *, has_stops: bool
) -> re.Pattern[str]:
    """Build a pattern with a named group for each wording and each kind of call or result."""
    alternatives = [
        f"{SEARCH_OPEN}(?P<{PhraseKind.SEARCH}>.*?){SEARCH_CLOSE}",
        _observation_pattern(TOOL, PhraseKind.OBSERVATION),
        f"{CALCULATE_OPEN}(?P<{PhraseKind.CALCULATE}>.*?){CALCULATE_CLOSE}",
        _observation_pattern(CALCULATOR, PhraseKind.CALCULATED),
    ]
    value, end = "[^.]+", ""
    if has_stops:
        # Then a sentence ends only before the end, a tag or another sentence.
        openings = sorted({wording.split()[0] for each in wordings.values() for wording in each})
        follows = "|".join(re.escape(opening) for opening in openings)
        value, end = "[^<\n]+?", rf"(?=\s*(?:\Z|<|(?:{follows})\b))"
    for said, each in wordings.items():
        for number, wording in enumerate(each):
            group = f"{said}_{number}"
            before, gap, after = wording.partition("{}")
            if gap:
                stated = f"(?P<{group}>{value})"
                alternatives.append(f"{re.escape(before)}{stated}{re.escape(after)}{end}")
            else:
                alternatives.append(rf"(?P<{group}>{re.escape(before)})")
    return re.compile("|".join(alternatives), re.DOTALL)


def _observation_pattern(tool: str, kind: PhraseKind) -> str:
    opening, closing = observation_text(tool, "|").split("|")
    return f"{opening.strip()}(?P<{kind}>.*?){closing.strip()}"


def search(query: str) -> str:
    """Write a complete search action."""
    return f"{SEARCH_OPEN} {query} {SEARCH_CLOSE}"


def calculate(expression: str) -> str:
    """Write a complete call of the calculator."""
    return f"{CALCULATE_OPEN} {expression} {CALCULATE_CLOSE}"


def boxed(answer: str) -> str:
    """End the thinking and box the answer."""
    return f"\n{THINK_CLOSE}\n\n{box(answer)}"


def box(answer: str) -> str:
    """Box the answer alone."""
    escaped = answer.replace("{", "\\{").replace("}", "\\}")
    return f"{BOX_OPEN}{escaped}}}"


def results(texts: Sequence[str]) -> str:
    """Show passages as the body of an observation."""
    return "\n".join(RESULT.format(i, text) for i, text in enumerate(texts, 1))
