"""Make preference pairs: two continuations of one prefix, of which one calls a tool there."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import NamedTuple

from coa.errors import InputError
from coa.records import protocol
from coa.records.trajectory import Author, Step, StepKind, Trajectory
from coa.records.worth import Worth


class Arm(StrEnum):
    """The choice of a continuation at the point where the two sides part."""

    ACT = "act"
    """The tool is used: the action trigger is written."""
    THINK = "think"
    """No tool is used any more: the policy reasons on to its end."""


class ForkPoint(NamedTuple):
    """The place where a fork left its parent."""

    parent_id: str
    point: int
    arm: Arm


def fork_point(trajectory_id: str) -> ForkPoint | None:
    """Read the end of a fork's id, `{parent}/{point}/{arm}/{k}`.

    It is None for a trajectory that is not a fork.
    """
    parts = trajectory_id.rsplit("/", 3)
    if len(parts) < 4 or parts[2] not in frozenset(Arm) or not parts[1].isdecimal():
        return None
    return ForkPoint(parts[0], int(parts[1]), Arm(parts[2]))


class PairKind(StrEnum):
    """The paper's two kinds of contrastive pairs."""

    ACT_IS_BETTER = "act_is_better"
    """Chosen: think, then act. Rejected: reason on to a wrong answer (CoT wrong, CoA right)."""
    THINK_IS_BETTER = "think_is_better"
    """Chosen: reason on to the right answer. Rejected: act (CoA wrong, CoT right)."""


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """Two continuations of one prefix; exactly one of them ends in a right answer."""

    pair_id: str
    """`{trajectory_id}/{point}`."""
    question_id: str
    trajectory_id: str
    """The trajectory that was forked. It is one of the two sides, or both are forks of it (where
    continuations of both arms were made)."""
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
    """Continuations at this point that acted. Where those of one arm alone were made, the forked
    trajectory is the one of its own arm."""
    num_act_correct: int
    num_think: int
    """Those that reasoned on."""
    num_think_correct: int
    model: str
    """The model that wrote the forked trajectory."""
    search_fingerprint: str
    fork_model: str = ""
    """The model that wrote the other side; empty in files from before this column: `model`."""
    tool: str = "search"
    """The tool that one side calls at the point and the other does not."""
    worth: Worth | None = None
    """What calling it is worth there; None where continuations of one arm alone were made."""

    @property
    def value_of_acting(self) -> float:
        """Estimate how much acting here raises the probability of a right answer; from -1 to 1."""
        rate_of_acting = self.num_act_correct / self.num_act
        rate_of_thinking = self.num_think_correct / self.num_think
        return rate_of_acting - rate_of_thinking


def attribute_trigger_to_policy(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Make an inserted action trigger part of the policy's action after it.

    A fork's trigger was written by the scaffold, but in a pair it is what the policy should learn
    to write (paper: "inserting an action trigger"; docs/decisions/0004-inserted-triggers.md).
    """
    owned: list[Step] = []
    for step in steps:
        last = owned[-1] if owned else None
        if last is not None and last.kind is StepKind.MARKER and step.kind is StepKind.ACTION:
            owned.pop()
            tag = last.text.lstrip()
            space = last.text[: -len(tag)]
            if space:
                owned.append(Step(StepKind.THOUGHT, Author.POLICY, space))
            owned.append(replace(step, text=tag + step.text))
        else:
            owned.append(step)
    return tuple(owned)


class ArmCount(NamedTuple):
    """The numbers of continuations of one arm at a point."""

    total: int
    correct: int


def make_pair(
    parent: Trajectory,
    point: int,
    *,
    chosen: Trajectory,
    rejected: Trajectory,
    prompt: str,
    act: ArmCount,
    think: ArmCount,
    by_turn: bool = False,
    tool: str = "search",
    worth: Worth | None = None,
) -> PreferencePair:
    """Make the pair of two continuations of a trajectory's first `point` characters.

    Each side is the parent or a fork of it. The prompt offers the tool, because without it there is
    no choice to teach. `by_turn` says whether a side's arm is that of its whole first turn.

    Raises:
        InputError: The sides do not differ in whether the tool is called at the point.
    """
    prefix, _ = protocol.split_at(parent.steps, point)
    chosen_side = side_of(chosen, point)
    rejected_side = side_of(rejected, point)
    pair_id = f"{parent.trajectory_id}/{point}"
    chosen_arm = arm_of(chosen_side, by_turn=by_turn)
    rejected_arm = arm_of(rejected_side, by_turn=by_turn)
    if {chosen_arm, rejected_arm} != set(Arm):
        raise InputError(
            "the two sides of a pair do not differ in whether a tool is called",
            where=pair_id,
            expected=f"one side for each arm: {', '.join(Arm)}",
            got=f"chosen: {chosen_arm}, rejected: {rejected_arm}",
            fix="pair only continuations that took their own arm (coa.records.pairs.arm_of)",
        )
    act_is_better = chosen_arm is Arm.ACT
    other = rejected if chosen is parent else chosen
    # A trajectory without tools has no fingerprint of a search.
    fingerprints = [it.search_fingerprint for it in (parent, chosen, rejected)]
    return PreferencePair(
        pair_id=pair_id,
        question_id=parent.question_id,
        trajectory_id=parent.trajectory_id,
        kind=PairKind.ACT_IS_BETTER if act_is_better else PairKind.THINK_IS_BETTER,
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
        search_fingerprint=next(filter(None, fingerprints), ""),
        fork_model=other.model,
        tool=tool,
        worth=worth,
    )


def side_of(trajectory: Trajectory, point: int) -> tuple[Step, ...]:
    """Return the steps after the point; a trigger inserted there becomes the policy's."""
    _, after = protocol.split_at(trajectory.steps, point)
    return attribute_trigger_to_policy(after)


def arm_of(side: Sequence[Step], *, by_turn: bool = False) -> Arm | None:
    """Tell which arm a side took: it acts at once, or it thinks without any tool to its end.

    None where the scaffold's text comes first, or where the side thinks first and acts later: such
    a side says nothing of whether to act.
    """
    move = first_move(side, by_turn=by_turn)
    if move is Arm.THINK and any(step.kind is StepKind.ACTION for step in side):
        return None
    return move


def first_move(side: Sequence[Step], *, by_turn: bool = False) -> Arm | None:
    """Tell whether a side acts or thinks first, by its first step that is not blank.

    With `by_turn` a thought may come first, as where a fork stands between two turns: then a side
    acts whose first turn ends in an action. None where the scaffold's text comes first: an inserted
    trigger that the policy never closed is not a call, and what follows it is not reasoning that
    the policy would have begun by itself.
    """
    for step in side:
        is_passed = by_turn or not step.text.strip()
        if step.kind is StepKind.THOUGHT and is_passed:
            continue
        if step.kind is StepKind.MARKER:
            return None
        return Arm.ACT if step.kind is StepKind.ACTION else Arm.THINK
    return Arm.THINK
