"""Prepare the rows of a run for the page: who wrote each step, and which one is to blame."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coa.records.causes import Analysis, Cause
from coa.records.drops import Dropped
from coa.records.graded import GradedTrajectory
from coa.records.grading import Grade, Verdict
from coa.records.pairs import PreferencePair
from coa.records.trajectory import (
    Author,
    Step,
    StepKind,
    Trajectory,
    describe_sampling,
    is_imported,
)
from coa.records.worth import show_worth

FOLD_CHARS = 1_200
"""A step longer than this is folded: an observation is read when it matters."""
_UNGRADED = Grade(None, Verdict.NO_ANSWER, False, False, 0.0, None)
_AUTHORS = {
    Author.POLICY: "policy",
    Author.ENVIRONMENT: "environment",
    Author.SCAFFOLD: "scaffold",
}
_NAMES = {
    StepKind.THOUGHT: "Thought",
    StepKind.ACTION: "Call",
    StepKind.OBSERVATION: "Result",
    StepKind.ANSWER: "Answer",
    StepKind.MARKER: "Inserted text",
}


@dataclass(frozen=True, slots=True)
class ShownStep:
    """One step on the page."""

    number: int
    """Its number, from 1."""
    title: str
    step: Step
    css: str
    """The classes that colour it: its author and its kind."""
    blame: str
    """The cause that the analysis finds at this step; empty for none."""

    @property
    def is_blank(self) -> bool:
        """Return whether there is nothing to read."""
        return not self.step.text.strip()

    @property
    def is_folded(self) -> bool:
        """Return whether the text is opened by a click."""
        return len(self.step.text) > FOLD_CHARS

    @property
    def beginning(self) -> str:
        """Return the first words of a folded text, on one line."""
        return " ".join(self.step.text[:300].split())[:160]


def shown_steps(
    steps: Sequence[Step], first: int = 1, analysis: Analysis | None = None
) -> list[ShownStep]:
    """Prepare steps; the first has the number `first`."""
    blamed = _blamed_steps(analysis) if analysis else {}
    found = []
    for number, step in enumerate(steps, first):
        title = _NAMES[step.kind]
        if step.tool and step.kind is not StepKind.MARKER:
            title += f" of {step.tool}"
        css = f"{_AUTHORS[step.author]} {step.kind}"
        found.append(ShownStep(number, title, step, css, blamed.get(number, "")))
    return found


def _blamed_steps(analysis: Analysis) -> Mapping[int, str]:
    """Return what went wrong at which step, numbered from 1."""
    causes: dict[int, list[Cause]] = {}
    if analysis.cause is not None and analysis.step is not None:
        causes.setdefault(analysis.step + 1, []).append(analysis.cause)
    for finding in analysis.contributing:
        if finding.step is not None:
            causes.setdefault(finding.step + 1, []).append(finding.cause)
    return {number: ", ".join(dict.fromkeys(names)) for number, names in causes.items()}


def trajectory_of(row: Any) -> Trajectory | None:
    """Return the trajectory of a row; None for pairs and questions."""
    if isinstance(row, Dropped):
        return row.row.trajectory
    if isinstance(row, GradedTrajectory):
        return row.trajectory
    return row if isinstance(row, Trajectory) else None


def graded_of(row: Any) -> GradedTrajectory | None:
    """Return a row with its grade; None where it has none."""
    if isinstance(row, Dropped):
        return row.row
    return row if isinstance(row, GradedTrajectory) else None


def examinable(row: Any) -> GradedTrajectory | PreferencePair | None:
    """Return a row in the form in which masks are made of it; None where nothing is trained."""
    if isinstance(row, PreferencePair):
        return row
    if isinstance(row, Trajectory):
        return GradedTrajectory(row, _UNGRADED, (), "", None)
    return graded_of(row)


def trajectory_facts(row: Any) -> list[tuple[str, str]]:
    """Say in names and values what is known of a trajectory."""
    it = trajectory_of(row)
    assert it is not None
    graded = graded_of(row)
    facts = [("mode", str(it.mode)), ("model", it.model), ("ended", str(it.stop_reason))]
    if it.error:
        facts.append(("error", it.error))
    facts.append(("actions", f"{it.num_actions:,}"))
    facts.append(
        (
            "cost",
            f"{it.num_calls:,} calls of the model, {it.num_policy_tokens:,} tokens written, "
            f"{it.num_environment_tokens:,} of results, {it.num_prompt_tokens:,} of prompt",
        )
    )
    if is_imported(it):
        facts.append(("published by", it.origin or "not stated"))
        facts.append(("licence", it.license or "not stated"))
    else:
        facts.append(("sampled with", describe_sampling(it.sampling)))
    facts.append(("prompt", it.prompt_hash))
    if it.search_fingerprint:
        facts.append(("search", it.search_fingerprint))
    if graded is not None:
        hops = "hops not stated" if graded.num_hops is None else f"{graded.num_hops} hops"
        facts.append(("question", f"{graded.question_type or 'type not stated'}, {hops}"))
        facts.append(("F1", f"{graded.grade.f1:.2f}"))
    return facts


def pair_facts(row: PreferencePair) -> list[tuple[str, str]]:
    """Say in names and values what is known of a pair."""
    facts = [
        ("kind", str(row.kind)),
        ("tool", row.tool),
        ("acting", f"{row.num_act_correct} of {row.num_act} right"),
        ("thinking", f"{row.num_think_correct} of {row.num_think} right"),
        ("model", row.model),
    ]
    if row.fork_model and row.fork_model != row.model:
        facts.append(("forked by", row.fork_model))
    if row.worth is None:
        facts.append(("worth of acting", "not measured: one arm alone was continued"))
    else:
        worth = f"{show_worth(row.worth)} at {row.worth.price:g} a search"
        facts.append(("worth of acting", worth))
    return facts
