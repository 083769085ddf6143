"""Name the faults of a chat server that make it unfit to teach, and that a run may accept."""

from enum import StrEnum


class Waiver(StrEnum):
    """A fault of a chat server that a run accepts."""

    NO_REASONING = "no_reasoning"
    """It shows no reasoning: thoughts are what it says beside its calls, or nothing."""
    SUMMARY = "summary"
    """It shows a summary of its reasoning, or encrypted text."""
    OTHER_MODEL = "other_model"
    """It names another model than the one that was asked for."""


SAID = {
    Waiver.NO_REASONING: "the server shows no reasoning",
    Waiver.SUMMARY: "the server shows only a summary of the reasoning",
    Waiver.OTHER_MODEL: "the reply is another model's",
}
"""What is said of a fault."""
ADVICE = {
    Waiver.NO_REASONING: "switch the reasoning on (vLLM: --reasoning-parser; others: a field of "
    "extra_body), check teacher.chat.family",
    Waiver.SUMMARY: "choose a model whose reasoning is shown",
    Waiver.OTHER_MODEL: "name it in teacher.server.model, or in teacher.chat.served_as",
}
"""What to do about it."""
