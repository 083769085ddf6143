"""Choose the trajectories to fork, and the points at which the policy can fork them.

The paper makes contrastive pairs by changing a trajectory at one point: inserting an action trigger
so that the tool may be used, or removing it so that reasoning stays internal. Here the point
is a character offset into the steps' text, at the end of a sentence or before an action; both sides
share the exact text before it. Most chat servers cannot continue a thought: there the point is
the beginning of a turn, and the thought of that turn is not shared (docs/teachers.md).

A policy of raw completions can continue from any character. A chat policy can do what its server
can, from what the record holds; the points that it cannot fork are counted by reason.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from coa.errors import ConfigError
from coa.own_parts import names_own_part
from coa.policy.chat.families import ChatFamily, ForkWay
from coa.policy.chat.record import Unforkable, UnforkableError, acting_turns
from coa.records import protocol
from coa.records.graded import GradedTrajectory, RightBy, is_right_by_own, is_sound
from coa.records.pairs import Arm, PairKind
from coa.records.ranking import seeded_rank
from coa.records.trajectory import Author, Step, StepKind
from coa.rollout.forks import BranchParams, PointChoice, first_turns, way_to
from coa.store import tables
from coa.store.files import ANALYSED
from curate.forks.blamed_points import read_arms
from curate.strata import Stratum, divide_evenly


@dataclass(frozen=True, slots=True)
class Fork:
    """A parent, a point in it, and the arm that it did not take there."""

    parent: GradedTrajectory
    point: int
    arm: Arm
    way: ForkWay = ForkWay.TEXT
    """How the policy is made to take it."""
    tool: str = "search"
    """The tool in question: one arm calls it there, the other does not."""
    chosen_by: PointChoice = PointChoice.CUE
    """Why the point was chosen."""
    score: float = 0.0
    """The score that it was chosen by; 0 for ways without scores."""
    cause: str = ""
    """The cause that the analysis blames there; empty for none."""

    @property
    def by_turn(self) -> bool:
        """Return whether arms are those of whole turns: a chat policy thinks before it acts."""
        return self.way is not ForkWay.TEXT


Refused = Counter[Unforkable]
"""Points that the policy cannot fork, by reason."""

Scores = Callable[[Sequence[Fork]], list[Fork]]
"""Gives the possible forks of one trajectory their scores."""

_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s)")
_LIKE = 0.1
"""Points whose scores differ by no more are alike: the seed chooses among them."""
_NUM_STRETCHES = 3
"""Of like points those come first that lie in another such part of the text than those chosen."""


class _Parent(NamedTuple):
    trajectory_id: str
    acted: bool
    correct: bool
    topic: Stratum
    """Hops and type of the question, where parents are spread over these; else nothing."""


def choose_parents(path: Path, params: BranchParams, analysed: Path = ANALYSED) -> set[str]:
    """Choose the trajectories to fork and return their ids.

    For each kind of pair they are taken evenly from those that acted and those that did not. Where
    points are chosen by blame, those that the analysis blames for a decision come first, evenly
    over hops and types of question.
    Imported ones are not forked: the teacher did not write them, and their licence binds a pair.
    """
    is_by_blame = params.points is PointChoice.BLAME
    blamed = read_arms(analysed, path) if is_by_blame else {}
    groups: dict[PairKind, dict[Stratum, list[_Parent]]] = {kind: {} for kind in PairKind}
    for parent in _own_trajectories(path, params.right_by, has_topics=is_by_blame):
        arm = blamed.get(parent.trajectory_id)
        is_to_think = arm is Arm.THINK if arm else parent.acted
        kind = expected_pair_kind(acted=is_to_think, correct=parent.correct)
        groups[kind].setdefault((parent.acted,), []).append(parent)
    chosen: set[str] = set()
    for kind, parts in groups.items():
        sizes = {group: len(members) for group, members in parts.items()}
        shares = divide_evenly(sizes, params.max_parents.get(kind, 0))
        for group, share in shares.items():
            first: list[_Parent] = []
            others: list[_Parent] = []
            for parent in parts[group]:
                if parent.trajectory_id in blamed:
                    first.append(parent)
                else:
                    others.append(parent)
            chosen |= _spread_over_topics(first, share, params.seed)
            chosen |= _spread_over_topics(others, max(0, share - len(first)), params.seed)
    return chosen


def _own_trajectories(path: Path, right_by: RightBy, *, has_topics: bool) -> Iterator[_Parent]:
    """Read what the choice of parents needs of each trajectory that was not imported.

    Those of which no judge could tell whether they are right are left out.
    """
    trajectory = pl.col("trajectory").struct
    sampling = trajectory.field("sampling").struct
    is_own = (sampling.field("temperature") >= 0) | (sampling.field("seed") >= 0)
    rows = (
        pl.scan_parquet(path)
        .filter(is_own)
        .select(
            id=trajectory.field("trajectory_id"),
            acted=trajectory.field("num_actions") > 0,
            correct=right_column(path, right_by),
            num_hops=pl.col("num_hops"),
            question_type=pl.col("question_type"),
        )
        .drop_nulls("correct")
    )
    for trajectory_id, acted, correct, *topic in rows.collect().iter_rows():
        yield _Parent(trajectory_id, acted, correct, tuple(topic) if has_topics else ())


def right_column(path: Path, by: RightBy = RightBy.EXACT_MATCH) -> pl.Expr:
    """Return `coa.records.graded.is_right` as an expression; null where nobody can tell."""
    judged = pl.lit(None, dtype=pl.Boolean)
    if "judgement" in tables.open_parquet(path).schema_arrow.names:
        judged = pl.col("judgement").struct.field("is_right")
    if by is RightBy.JUDGE:
        return judged
    if names_own_part(by):
        exact_match = pl.col("grade").struct.field("exact_match")
        answered = pl.struct(pl.col("grade").struct.field("prediction"), "gold_answers")
        own = answered.map_elements(
            lambda row: is_right_by_own(by, row["prediction"], row["gold_answers"]),
            return_dtype=pl.Boolean,
        )
        return pl.when(exact_match.is_null()).then(judged).otherwise(own)
    name = "cover_exact_match" if by is RightBy.COVER_MATCH else "exact_match"
    return pl.coalesce(pl.col("grade").struct.field(name), judged)


def _spread_over_topics(parents: Iterable[_Parent], count: int, seed: int) -> set[str]:
    """Choose so many parents by the seed, evenly over topics, and return their ids."""

    def rank(trajectory_id: str) -> str:
        return seeded_rank(trajectory_id, seed, "parent")

    topics: dict[Stratum, list[str]] = {}
    for parent in parents:
        topics.setdefault(parent.topic, []).append(parent.trajectory_id)
    sizes = {topic: len(ids) for topic, ids in topics.items()}
    chosen: set[str] = set()
    for topic, share in divide_evenly(sizes, count).items():
        ranked = sorted(topics[topic], key=rank)
        chosen.update(ranked[:share])
    return chosen


def expected_pair_kind(*, acted: bool, correct: bool) -> PairKind:
    """Tell which kind of pair a parent makes if its other arm ends differently."""
    return PairKind.ACT_IS_BETTER if acted == correct else PairKind.THINK_IS_BETTER


def forks_of(
    row: GradedTrajectory,
    params: BranchParams,
    family: ChatFamily | None = None,
    refused: Refused | None = None,
    scores: Scores | None = None,
) -> list[Fork]:
    """Choose the points of one trajectory to fork, and the arm to try there.

    They are those with the best of `scores`, where these are given, and else chosen by the seed.
    A trajectory without a fitting point gives none. One that ended by accident (cut off, tags
    broken) is not forked either: its outcome says nothing about acting. A chat policy with a server
    of the given `family` cannot continue from every point; those that it cannot are counted in
    `refused`.
    """
    if not is_sound(row):
        return []
    refused = Refused() if refused is None else refused

    def rank(fork: Fork) -> str:
        point_id = f"{row.trajectory.trajectory_id}/{fork.point}"
        return seeded_rank(point_id, params.seed, "point")

    possible = sorted(_possible_forks(row, params, family, refused), key=rank)
    if scores is None:
        chosen = possible[: params.points_per_trajectory]
    else:
        chosen = _best_forks(scores(possible), params.points_per_trajectory)
    return sorted(chosen, key=lambda fork: fork.point)


def _possible_forks(
    row: GradedTrajectory, params: BranchParams, family: ChatFamily | None, refused: Refused
) -> Iterator[Fork]:
    """Find all forks of a trajectory that the policy can make, and count the others.

    By the cue, a trajectory that acted is only to think, and one that did not is only to act.
    """
    steps = row.trajectory.steps
    arms: list[Arm] = [Arm.THINK] if protocol.action_indices(steps) else [Arm.ACT]
    cues: list[re.Pattern[str] | None] = [None]
    if params.points is PointChoice.CUE:
        cues = [re.compile(cue) for cue in (params.cue, *params.tool_cues.values())]
    else:
        arms = list(Arm)
    for arm in arms:
        way = way_to(arm, family)
        found: set[int] = set()
        for cue in cues:
            found.update(fork_points(steps, arm, way or ForkWay.TEXT, cue))
        points = sorted(found)
        if way is None:
            refused[Unforkable.NO_WAY] += len(points)
            continue
        for point in points:
            try:
                if family is not None:
                    first_turns(protocol.split_at(steps, point)[0], arm, way, family)
            except UnforkableError as error:
                refused[error.reason] += 1
                continue
            tool = tool_at(steps, point, params.tool_cues)
            yield Fork(row, point, arm, way, tool, chosen_by=params.points)


def _best_forks(ranked: Sequence[Fork], count: int) -> list[Fork]:
    """Choose so many of a trajectory's scored forks, the best first, spread over its text.

    Of those with like scores, the first in a part of the text with the fewest chosen is taken.
    """
    left = list(ranked)
    chosen: list[Fork] = []
    used: Counter[int] = Counter()
    length = max((fork.point for fork in left), default=0) + 1

    def stretch(fork: Fork) -> int:
        return _NUM_STRETCHES * fork.point // length

    while left and len(chosen) < count:
        best = max(fork.score for fork in left)
        alike = [fork for fork in left if fork.score >= best - _LIKE]
        taken = min(alike, key=lambda fork: used[stretch(fork)])
        chosen.append(taken)
        left.remove(taken)
        used[stretch(taken)] += 1
    return chosen


def find_forks(
    path: Path,
    parents: set[str],
    params: BranchParams,
    family: ChatFamily | None,
    refused: Refused,
    scores: Scores | None = None,
) -> Iterator[Fork]:
    """Find the forks of the chosen trajectories of a graded table, in its order.

    Raises:
        ConfigError: There are none, because the policy cannot fork any of the points.
    """
    num_forks = 0
    for row in tables.read_table(path, GradedTrajectory):
        if row.trajectory.trajectory_id in parents:
            for fork in forks_of(row, params, family, refused, scores):
                num_forks += 1
                yield fork
    if refused and not num_forks:
        raise ConfigError(
            "the chat policy can fork none of the points, so there are no pairs",
            where="branch.policy, or teacher",
            got=shown_refused(refused),
            fix="fork with a model behind raw completions (branch.policy and branch.prompts, "
            "docs/teachers.md), or set assemble.num_cot_a: 0",
        )


def shown_refused(refused: Refused) -> str:
    """Return the numbers of points that the policy cannot fork, for people."""
    counts = [f"{refused[reason]:,} {reason}" for reason in Unforkable if refused[reason]]
    return f"{refused.total():,} points that it cannot fork ({', '.join(counts)})"


def action_points(steps: Sequence[Step]) -> list[int]:
    """Find the point before each action, where the policy decided to act.

    The space before the action's tag lies after the point.
    """
    points = []
    for k in range(len(protocol.action_indices(steps))):
        before = protocol.prefix_before_action(steps, k)
        num_blanks = 0
        if before and before[-1].kind is StepKind.THOUGHT:
            thought = before[-1].text
            num_blanks = len(thought) - len(thought.rstrip())
        points.append(len(protocol.render(before)) - num_blanks)
    return points


def thought_points(steps: Sequence[Step], cue: re.Pattern[str] | None = None) -> list[int]:
    """Find the end of each thought's sentence with `cue`: the policy might have acted there.

    Without a cue every sentence counts.
    """
    points: list[int] = []
    step_start = 0
    for step in steps:
        if step.kind is StepKind.THOUGHT and step.author is Author.POLICY:
            sentence_start = 0
            for match in _SENTENCE_END.finditer(step.text):
                sentence_end = match.end()
                if cue is None or cue.search(step.text, sentence_start, sentence_end):
                    points.append(step_start + sentence_end)
                sentence_start = sentence_end
        step_start += len(step.text)
    return points


def fork_points(
    steps: Sequence[Step], arm: Arm, way: ForkWay, cue: re.Pattern[str] | None = None
) -> list[int]:
    """Find where a trajectory can be forked in one way to take the arm that it did not take there.

    Before an action it is to think. At the end of a sentence (with `cue`, where there is one) after
    the last action it is to act: before it the trajectory, which acts later, did not take the arm
    that thinks. A call can be forced only in the first turn of a trajectory that never acted.
    """
    if way is ForkWay.TOOLS_WITHHELD:
        return [turn.start for turn in acting_turns(steps)]
    if way is ForkWay.FORCED_CALL:
        return [] if protocol.action_indices(steps) else [0]
    if arm is Arm.THINK:
        return action_points(steps)
    last_action = max(action_points(steps), default=-1)
    return [point for point in thought_points(steps, cue) if point > last_action]


def tool_at(steps: Sequence[Step], point: int, tool_cues: Mapping[str, str]) -> str:
    """Return the tool in question at a point.

    It is the one that was called there. In a thought it is the first tool whose cue is in the
    sentence that ends there, else search.
    """
    for turn in acting_turns(steps):
        if turn.start == point:
            return turn.call.tool or ""
    actions = protocol.action_indices(steps)
    for start, index in zip(action_points(steps), actions, strict=True):
        if start == point:
            return steps[index].tool or ""
    for tool, cue in tool_cues.items():
        if point in thought_points(steps, re.compile(cue)):
            return tool
    return "search"
