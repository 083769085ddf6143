"""Find where two trajectories of one question part, and which pairs of them to keep.

Trajectories are compared step by step: steps are the same where kind, author, tool and text are.
A thought that both begin alike is shared up to the last sentence that ends in both.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

from coa.records import protocol
from coa.records.comparisons import Comparison, Parting, Source
from coa.records.graded import GradedTrajectory, is_right, is_sound
from coa.records.pairs import (
    Arm,
    ArmCount,
    PairKind,
    PreferencePair,
    arm_of,
    first_move,
    make_pair,
    side_of,
)
from coa.records.trajectory import Author, Step, StepKind, Trajectory, is_imported

_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s|$)")


def is_same(one: Step, other: Step) -> bool:
    """Return whether two steps are the same, whatever passages or outcome were recorded."""
    if one.kind is not other.kind or one.author is not other.author:
        return False
    return one.tool == other.tool and one.text == other.text


def parting_point(one: Sequence[Step], other: Sequence[Step]) -> int:
    """Return where two trajectories part, as a character offset into the steps of both.

    Blanks at the end of a shared thought lie after the point, as they do where `curate.branch`
    forks before an action.
    """
    num_shared = _num_shared(one, other)
    point = len(protocol.render(one[:num_shared]))
    if num_shared < min(len(one), len(other)):
        in_thought = _shared_sentences(one[num_shared], other[num_shared])
        if in_thought:
            return point + in_thought
    if num_shared and _is_thought(one[num_shared - 1]):
        thought = one[num_shared - 1].text
        point -= len(thought) - len(thought.rstrip())
    return point


def _num_shared(one: Sequence[Step], other: Sequence[Step]) -> int:
    """Count the steps that are the same from the beginning."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if not is_same(left, right):
            break
        count += 1
    return count


def _is_thought(step: Step) -> bool:
    return step.kind is StepKind.THOUGHT and step.author is Author.POLICY


def _shared_sentences(one: Step, other: Step) -> int:
    """Return the length of the sentences with which both thoughts begin; 0 for other steps."""
    if not (_is_thought(one) and _is_thought(other)):
        return 0
    ends_of_other = {match.end() for match in _SENTENCE_END.finditer(other.text)}
    shared = 0
    for match in _SENTENCE_END.finditer(one.text):
        end = match.end()
        if one.text[shared:end] != other.text[shared:end]:
            break
        if end in ends_of_other:
            shared = end
    return shared


class Parted(NamedTuple):
    """A right and a wrong trajectory of one question, and where they part."""

    right: Trajectory
    wrong: Trajectory
    point: int
    prefix: tuple[Step, ...]
    parting: Parting

    @property
    def is_decision(self) -> bool:
        """Return whether it may be a pair of the CoT+A set.

        Imported trajectories may not: a `PreferencePair` does not name their licences.
        """
        is_own = not is_imported(self.right) and not is_imported(self.wrong)
        return self.parting is Parting.ONE_ACTS and is_own


def part(right: Trajectory, wrong: Trajectory) -> Parted:
    """Find where a right and a wrong trajectory part, and how they go on there."""
    point = parting_point(right.steps, wrong.steps)
    prefix, _ = protocol.split_at(right.steps, point)
    sides = (side_of(right, point), side_of(wrong, point))
    moves = [first_move(side) for side in sides]
    arms = [arm_of(side) for side in sides]
    if not any(step.author is Author.POLICY and step.text.strip() for step in prefix):
        parting = Parting.NOTHING_SHARED
    elif None in moves:
        parting = Parting.SCAFFOLD
    elif len(set(moves)) > 1:
        parting = Parting.ACTS_LATER if None in arms else Parting.ONE_ACTS
    elif Arm.ACT in moves:
        parting = Parting.BOTH_ACT
    else:
        parting = Parting.BOTH_THINK
    return Parted(right, wrong, point, prefix, parting)


def longest_first(rows: Sequence[GradedTrajectory]) -> list[Parted]:
    """Pair each right trajectory of a question with each wrong one, the longest prefix first.

    Trajectories that are not sound (`coa.records.graded.is_sound`) make no pair. Among equally many
    shared steps the longer text comes first, then the ids decide, so the order of the rows does
    not.
    """
    sound = [row for row in rows if is_sound(row)]
    right = [row.trajectory for row in sound if is_right(row) is True]
    wrong = [row.trajectory for row in sound if is_right(row) is False]
    found: list[Parted] = []
    for one in right:
        found += [part(one, other) for other in wrong]
    return sorted(found, key=_rank)


def _rank(pair: Parted) -> tuple[int, int, str, str]:
    ids = (pair.right.trajectory_id, pair.wrong.trajectory_id)
    return (-len(pair.prefix), -pair.point, *ids)


def to_comparison(pair: Parted) -> Comparison:
    """Make the record of two trajectories of any kind and source."""
    right, wrong, point = pair.right, pair.wrong, pair.point
    return Comparison(
        comparison_id=_pair_id(pair),
        question_id=right.question_id,
        parting=pair.parting,
        point=point,
        question=right.question,
        prompt=_acting(pair).prompt,
        prefix=pair.prefix,
        chosen=side_of(right, point),
        rejected=side_of(wrong, point),
        chosen_id=right.trajectory_id,
        rejected_id=wrong.trajectory_id,
        chosen_source=_source(right),
        rejected_source=_source(wrong),
    )


def to_preference_pair(pair: Parted, rows: Sequence[GradedTrajectory]) -> PreferencePair:
    """Make the pair of two of this project's own trajectories, of which one acts.

    Its numbers count every sound one of its own with the same prefix among `rows`, which are those
    of the question. Its id is longer than that of a fork of the same trajectory at the same point.
    """
    same_prefix: list[GradedTrajectory] = []
    for row in rows:
        is_own = is_sound(row) and not is_imported(row.trajectory)
        if is_own and _begins_with(row.trajectory.steps, pair.prefix):
            same_prefix.append(row)
    called = next(step.tool for step in side_of(_acting(pair), pair.point) if step.tool)
    made = make_pair(
        pair.right,
        pair.point,
        chosen=pair.right,
        rejected=pair.wrong,
        prompt=_acting(pair).prompt,
        act=_count(same_prefix, pair.point, Arm.ACT),
        think=_count(same_prefix, pair.point, Arm.THINK),
        tool=called,
    )
    return replace(made, pair_id=_pair_id(pair))


def is_borne_out(pair: PreferencePair) -> bool:
    """Return whether the arm that the pair prefers was right more often among all with its prefix.

    With several samples the right one may have been luck: acting right once in three times is no
    reason to act where thinking is right twice in three.
    """
    if pair.kind is PairKind.ACT_IS_BETTER:
        return pair.value_of_acting > 0
    return pair.value_of_acting < 0


def _begins_with(steps: Sequence[Step], prefix: Sequence[Step]) -> bool:
    """Return whether a trajectory has this prefix, whose last thought may go on in it."""
    num_whole = len(prefix) - 1
    if len(steps) <= num_whole or _num_shared(steps, prefix) < num_whole:
        return False
    own = steps[num_whole]
    last = prefix[num_whole]
    if not (_is_thought(own) and _is_thought(last)):
        return is_same(own, last)
    rest = own.text.removeprefix(last.text)
    return own.text.startswith(last.text) and (not rest or rest[0].isspace())


def _count(rows: Iterable[GradedTrajectory], point: int, arm: Arm) -> ArmCount:
    """Count the trajectories that take an arm at a point, and those of them that are right."""
    outcomes: list[bool] = []
    for row in rows:
        if arm_of(side_of(row.trajectory, point)) is arm:
            outcomes.append(bool(is_right(row)))
    return ArmCount(len(outcomes), sum(outcomes))


def _acting(pair: Parted) -> Trajectory:
    """Return the trajectory that acts where the two part; the right one where both or none do."""
    acts = arm_of(side_of(pair.right, pair.point)) is Arm.ACT
    wrong_acts = arm_of(side_of(pair.wrong, pair.point)) is Arm.ACT
    return pair.wrong if wrong_acts and not acts else pair.right


def _pair_id(pair: Parted) -> str:
    return f"{pair.right.trajectory_id}/{pair.point}/{pair.wrong.trajectory_id}"


def _source(trajectory: Trajectory) -> Source:
    return Source(
        model=trajectory.model,
        origin=trajectory.origin,
        license=trajectory.license,
        is_imported=is_imported(trajectory),
    )
