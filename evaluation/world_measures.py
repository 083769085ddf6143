"""Compare what a world model says with a real observation: its entities and its contradictions.

Entities are found by their form, so that any text can be measured: runs of capitalised words, and
numbers of three digits or more.
"""

import re
from collections.abc import Iterator, Sequence

from coa.records.grading import grade_prediction
from coa.search.analysis import QUERY_STOP_WORDS

_ENTITY = re.compile(r"[A-Z][\w'-]*(?: [A-Z][\w'-]*)*|\d{3,}")
_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n")
_SAME_CLAIM = 0.5
"""Token F1 from which two sentences are taken to state the same thing of the same subject."""
_NUM_BINS = 10


def entities(text: str) -> set[str]:
    """Find the entities of a text, without function words at their beginning."""
    found = set()
    for match in _ENTITY.finditer(text):
        words = match[0].split(" ")
        while words and words[0].lower() in QUERY_STOP_WORDS:
            words.pop(0)
        if words:
            found.add(" ".join(words))
    return found


def entity_precision(predicted: str, grounds: str) -> float | None:
    """Return the share of a prediction's entities that the grounds hold; None where it has none.

    One minus it is the rate of hallucinated entities.
    """
    named = entities(predicted)
    if not named:
        return None
    return sum(entity in grounds for entity in named) / len(named)


def contradicts(predicted: str, real: str) -> bool:
    """Tell whether a sentence states otherwise what a sentence of the real observation states.

    Such sentences share most words and an entity, and each names an entity that the other does not.
    """
    true_sentences = [(sentence, entities(sentence)) for sentence in _sentences(real)]
    for sentence in _sentences(predicted):
        named = entities(sentence)
        for other, others in true_sentences:
            differs = bool(named & others and named - others and others - named)
            is_claim = differs and _overlap(sentence, other) >= _SAME_CLAIM
            if is_claim and not _is_stated(sentence, named, true_sentences):
                return True
    return False


def _overlap(sentence: str, other: str) -> float:
    """Return the F1 of two sentences' words."""
    return grade_prediction(sentence, (other,)).f1 or 0.0


def _is_stated(
    sentence: str, named: set[str], true_sentences: Sequence[tuple[str, set[str]]]
) -> bool:
    """Tell whether the real observation states this very thing elsewhere."""
    for other, others in true_sentences:
        if named <= others and _overlap(sentence, other) >= _SAME_CLAIM:
            return True
    return False


def _sentences(text: str) -> Iterator[str]:
    for sentence in _SENTENCE.split(text):
        if sentence.strip():
            yield sentence.strip()


def calibration_error(confidences: Sequence[float], outcomes: Sequence[bool]) -> float | None:
    """Return the expected calibration error: how far confidence and frequency lie apart.

    Confidences fall into ten bins of equal width, and each bin counts as much as it holds.
    """
    if not confidences:
        return None
    bins: dict[int, list[tuple[float, bool]]] = {}
    for confidence, outcome in zip(confidences, outcomes, strict=True):
        place = min(int(confidence * _NUM_BINS), _NUM_BINS - 1)
        bins.setdefault(place, []).append((confidence, outcome))
    error = 0.0
    for held in bins.values():
        gap = sum(confidence - outcome for confidence, outcome in held)
        error += abs(gap) / len(confidences)
    return round(error, 4)
