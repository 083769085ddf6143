"""List the sentences of the scripted teacher for gold titles.

They are plain English, and contain the words at which rollouts are forked.
"""

from enum import StrEnum


class GoldPhraseKind(StrEnum):
    """The purpose of a sentence."""

    NEED = "need"
    """Says what has to be known; the decision to search or not follows it."""
    FOUND = "found"
    NOT_FOUND = "not_found"
    NO_SEARCH = "no_search"
    """Says that the answer comes from memory."""
    READ = "read"
    """States an answer from the results."""
    DISTRUST = "distrust"
    """States an answer from memory against the results."""
    RECALL = "recall"
    """States a right answer from memory."""
    CONFIDENT = "confident"
    """States a wrong answer from memory as if it were known."""
    GUESS = "guess"
    """States a wrong answer from memory, hedged."""
    VAGUE = "vague"
    """States something wrong from memory before a search, hedged."""
    ANSWER = "answer"


PHRASES: dict[GoldPhraseKind, tuple[str, ...]] = {
    GoldPhraseKind.NEED: (
        "I need to look up {}.",
        "I am not sure about {}, so I need to find out more.",
        "Let me check what is known about {}.",
        "What matters now is {}, and I have to find more on it.",
    ),
    GoldPhraseKind.FOUND: (
        "The results tell me about {}.",
        "There is a passage on {} here.",
    ),
    GoldPhraseKind.NOT_FOUND: (
        "The results do not mention {}.",
        "I cannot find {} in these results.",
    ),
    GoldPhraseKind.NO_SEARCH: (
        "I will go by what I remember.",
        "I have to rely on memory here.",
    ),
    GoldPhraseKind.READ: (
        "According to the results, it is {}.",
        "The results say that it is {}.",
    ),
    GoldPhraseKind.DISTRUST: ("I do not trust these results: I remember that it is {}.",),
    GoldPhraseKind.RECALL: (
        "I recall that it is {}.",
        "I remember that it is {}.",
    ),
    GoldPhraseKind.CONFIDENT: (
        "I recall that it is {}.",
        "It is well known that it is {}.",
    ),
    GoldPhraseKind.GUESS: (
        "Perhaps it is {}, but I am not sure.",
        "Maybe it is {}.",
    ),
    GoldPhraseKind.VAGUE: (
        "It might be {}, but I am not sure.",
        "Perhaps it has to do with {}.",
    ),
    GoldPhraseKind.ANSWER: ("So the answer is {}.",),
}
"""The sentences for each purpose, with `{}` for what they are about."""
COPIED = "I note what it says: {}."
