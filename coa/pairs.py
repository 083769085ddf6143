"""The preference pair: two continuations of one prefix that part at one point on whether the tool is used."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from coa import protocol
from coa.errors import InputError
from coa.trajectory import Author, Step, StepKind, Trajectory


class Arm(StrEnum):
    """What a continuation may do at the point of divergence."""

    ACT = "act"
    """The tool is used: the action trigger is written."""
    THINK = "think"
    """The tool is not used: reasoning goes on internally."""


class PairKind(StrEnum):
    """Which of the paper's two kinds of contrastive pair this is."""

    ACT_IS_BETTER = "act_is_better"
    """Chosen: think, then act; rejected: reasoning on to a wrong answer (CoT wrong, CoA right)."""
    THINK_IS_BETTER = "think_is_better"
    """Chosen: reasoning on to the right answer; rejected: the act (CoA wrong, CoT right)."""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two continuations of one prefix; exactly one of them ends in a right answer."""

    pair_id: str
    """`{trajectory_id}/{point}`."""
    question_id: str
    trajectory_id: str
    """The trajectory that was forked; it is one of the two sides."""
    kind: PairKind
    point: int
    """Where the sides part: a character offset into the steps of the forked trajectory."""
    question: str
    prompt: str
    """The prompt that offers the tool, for both sides."""
    prefix: tuple[Step, ...]
    """The steps that both sides share after the prompt."""
    chosen: tuple[Step, ...]
    """From the point to the right answer."""
    rejected: tuple[Step, ...]
    """From the point to the wrong answer."""
    chosen_id: str
    """Trajectory id of the chosen side."""
    rejected_id: str
    num_act: int
    """Continuations at this point that acted, the forked trajectory counted in where it did."""
    num_act_correct: int
    num_think: int
    """Continuations at this point that reasoned on."""
    num_think_correct: int
    model: str
    search_fingerprint: str

    @property
    def value_of_acting(self) -> float:
        """Estimated gain in the probability of a right answer from acting here; between -1 and 1."""
        return self.num_act_correct / self.num_act - self.num_think_correct / self.num_think


def attribute_trigger_to_policy(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Make an inserted action trigger part of the policy's action after it.

    A fork's trigger was written by the scaffold, but in a pair it is the very thing to be learned (paper: "inserting an
    action trigger"): the pair says what the policy should have written (docs/decisions/0004-inserted-triggers.md).
    """
    owned: list[Step] = []
    for step in steps:
        last = owned[-1] if owned else None
        if last is not None and last.kind is StepKind.MARKER and step.kind is StepKind.ACTION:
            owned.pop()
            tag = last.text.lstrip()
            if space := last.text[: -len(tag)]:
                owned.append(Step(StepKind.THOUGHT, Author.POLICY, space))
            owned.append(replace(step, text=tag + step.text))
        else:
            owned.append(step)
    return tuple(owned)


class ArmCount(NamedTuple):
    """Continuations of one arm at a point."""

    total: int
    correct: int


def make_pair(
    parent: Trajectory,
    other: Trajectory,
    point: int,
    *,
    chosen: Trajectory,
    prompt: str,
    act: ArmCount,
    think: ArmCount,
) -> PreferencePair:
    """Make the pair of a trajectory and its fork at `point`; `chosen` is the one of the two that is right.

    `prompt` offers the tool, whatever the parent's did: a pair teaches when to act, which is no question where acting
    is forbidden.

    Raises:
        InputError: the sides do not differ in whether the tool is called at the point.
    """
    rejected = other if chosen is parent else parent
    prefix, _ = protocol.split_at(parent.steps, point)
    chosen_side, rejected_side = side_of(chosen, point), side_of(rejected, point)
    pair_id = f"{parent.trajectory_id}/{point}"
    _require_both_arms(pair_id, arm_of(chosen_side), arm_of(rejected_side))
    acts = arm_of(chosen_side) is Arm.ACT
    return PreferencePair(
        pair_id=pair_id,
        question_id=parent.question_id,
        trajectory_id=parent.trajectory_id,
        kind=PairKind.ACT_IS_BETTER if acts else PairKind.THINK_IS_BETTER,
        point=point,
        question=parent.question,
        prompt=prompt,
        prefix=prefix,
        chosen=chosen_side,
        rejected=rejected_side,
        chosen_id=chosen.trajectory_id,
        rejected_id=rejected.trajectory_id,
        num_act=act.total,
        num_act_correct=act.correct,
        num_think=think.total,
        num_think_correct=think.correct,
        model=parent.model,
        search_fingerprint=parent.search_fingerprint or other.search_fingerprint,
    )


def side_of(trajectory: Trajectory, point: int) -> tuple[Step, ...]:
    """Return what follows the point, a trigger that was inserted there made the policy's."""
    return attribute_trigger_to_policy(protocol.split_at(trajectory.steps, point)[1])


def arm_of(side: Sequence[Step]) -> Arm | None:
    """Tell by its first step, white space aside, which arm a side took.

    None where the scaffold's text comes first: an inserted trigger that the policy never closed is no call, and what
    follows it is not reasoning that the policy would have begun by itself.
    """
    written = (step for step in side if step.kind is not StepKind.THOUGHT or step.text.strip())
    first = next(written, None)
    if first is not None and first.kind is StepKind.MARKER:
        return None
    is_call = first is not None and first.kind is StepKind.ACTION
    return Arm.ACT if is_call else Arm.THINK


def _require_both_arms(pair_id: str, chosen: Arm | None, rejected: Arm | None) -> None:
    if {chosen, rejected} != set(Arm):
        raise InputError(
            "the two sides of a pair do not differ in whether the tool is called",
            where=pair_id,
            expected=f"one side for each arm: {', '.join(Arm)}",
            got=f"chosen: {chosen}, rejected: {rejected}",
            fix="pair only continuations that took their own arm (coa.pairs.arm_of)",
        )
