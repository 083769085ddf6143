"""Make the steps of foreign texts, with their authors."""

from coa.foreign.frames import bare_observation
from coa.records.trajectory import Author, Outcome, Step, StepKind

_NOTHING = frozenset({"", "None"})
"""What a tool shows that found nothing."""


def thought_steps(text: str) -> list[Step]:
    """Return the policy's thought as the only step, or no step where the text is empty."""
    return [Step(StepKind.THOUGHT, Author.POLICY, text)] if text else []


def action_step(text: str, tool: str, argument: str) -> Step:
    """Return the step of a call that the policy wrote."""
    return Step(StepKind.ACTION, Author.POLICY, text, tool=tool, argument=argument)


def observation_step(text: str, tool: str | None, passages: tuple[str, ...] = ()) -> Step:
    """Return the step of what the environment showed; its text tells the outcome of the call."""
    return Step(
        StepKind.OBSERVATION,
        Author.ENVIRONMENT,
        text,
        tool=tool,
        outcome=_outcome(bare_observation(text, tool)),
        passages=passages,
    )


def answer_step(text: str) -> Step:
    """Return the step of the policy's answer."""
    return Step(StepKind.ANSWER, Author.POLICY, text)


def _outcome(body: str) -> Outcome:
    """Tell by its body what an observation says of the call."""
    # FireAct shows the errors of its runtime as results.
    if body.startswith("(") and "generated an exception: " in body:
        return Outcome.INVALID if "Unknown tool name" in body else Outcome.ERROR
    if body.lower().startswith("invalid action"):  # Reflexion's runtime and AutoAct's
        return Outcome.INVALID
    return Outcome.EMPTY if body in _NOTHING else Outcome.OK
