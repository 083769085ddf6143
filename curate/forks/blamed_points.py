"""Find the points of a trajectory that its error analysis blames, and the arm to try there.

The analysis names a step (docs/mining.md). A wrong fact was stated in it: then the policy
should have searched, and the point is the end of the sentence before. Or a search went wrong or was
needless: then the point is before this search. Evidence quotes the trajectory, so it is hostile
text; it is compared with the step's sentences and not used otherwise.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

import polars as pl

from coa.errors import InputError
from coa.records.causes import CONTRIBUTING_ONLY, Analysis, Cause, Finding
from coa.records.pairs import Arm
from coa.records.trajectory import Step, StepKind
from coa.search.tool import SearchTool
from coa.store import tables
from curate.diagnosis.case import quote
from curate.diagnosis.claims import SENTENCE_END

ARM_TO_TRY: Mapping[Cause, Arm | None] = {
    # The step is the claim. A search before it would have found the fact.
    Cause.NEVER_SEARCHED: Arm.ACT,
    Cause.FALSE_RECALL: Arm.ACT,
    Cause.KNOWLEDGE_GAP: Arm.ACT,
    # The step is the claim, and the search before it misled.
    Cause.EVIDENCE_IGNORED: Arm.THINK,
    Cause.DISTRACTOR_FOLLOWED: Arm.THINK,
    # The step is the search.
    Cause.BAD_QUERY: Arm.THINK,
    Cause.REPEATED_SEARCH: Arm.THINK,
    Cause.NEEDLESS_SEARCH: Arm.THINK,
    # Whether it searched is not what went wrong.
    Cause.RETRIEVAL_MISS: None,
    Cause.REASONING_SLIP: None,
    Cause.GRADED_WRONG: None,
    Cause.UNKNOWN: None,
    # It did not end by itself, and such trajectories are not forked.
    Cause.TOOL_FAILURE: None,
    Cause.FORGED_OBSERVATION: None,
    Cause.TRUNCATED: None,
    Cause.BUDGET: None,
    Cause.FORMAT: None,
}
"""The arm that might have gone better at the step that a cause blames; None where no decision to
search or not is blamed. A needless search is blamed in a correct trajectory only: one that failed
for another reason wins nothing without it."""


class Blamed(NamedTuple):
    """A finding that may blame a decision."""

    finding: Finding
    is_primary: bool


@dataclass(frozen=True, slots=True)
class BlamedPlace:
    """The place of one decision that is blamed, as offsets into a trajectory's text."""

    cause: Cause
    is_primary: bool
    """Whether the cause decided the outcome."""
    arm: Arm
    """The arm to try."""
    after: int
    """The decision lies after this offset, where the action before it began."""
    end: int
    """It lies at or before this one, as near to it as possible."""
    limit: int
    """The next action begins here."""

    def nearest(self, points: Iterable[int]) -> list[int]:
        """Return the points that are blamed, the first above all, of those with this arm.

        They are the nearest one before the end of the place, and the first one after it.
        """
        inside = [point for point in points if self.after < point <= self.limit]
        before = [point for point in inside if point <= self.end]
        behind = [point for point in inside if point > self.end]
        return sorted(before)[-1:] + sorted(behind)[:1]


def read_arms(analysed: Path, graded: Path) -> dict[str, Arm]:
    """Read which trajectories the analysis blames for a decision, and the arm to try in each."""
    _require_fresh(analysed, graded)
    found = pl.scan_parquet(analysed).select(
        "trajectory_id",
        "cause",
        contributing=pl.col("contributing").list.eval(pl.element().struct.field("cause")),
    )
    arms: dict[str, Arm] = {}
    for trajectory_id, primary, contributing in found.collect().iter_rows():
        for name in [primary, *contributing] if primary else contributing:
            cause = Cause(name)
            arm = ARM_TO_TRY[cause]
            if arm and not (primary and cause in CONTRIBUTING_ONLY):
                arms[trajectory_id] = arm
                break
    return arms


def _require_fresh(analysed: Path, graded: Path) -> None:
    """Refuse an analysis that lacks a graded trajectory, or saw one that ended otherwise."""
    if not analysed.exists():
        raise InputError(
            f"{analysed} is missing, and branch.points=blame reads it",
            fix="coa analyse, or choose points by branch.points=cue",
        )
    trajectory = pl.col("trajectory").struct
    wanted = pl.scan_parquet(graded).select(
        trajectory_id=trajectory.field("trajectory_id"),
        num_actions=trajectory.field("num_actions"),
        verdict=pl.col("grade").struct.field("verdict"),
    )
    keys = ["trajectory_id", "num_actions", "verdict"]
    seen = tables.scan(analysed, [*keys, "contributing"]).select(keys)
    missing = wanted.join(seen, on=keys, how="anti").collect()["trajectory_id"]
    if len(missing):
        raise InputError(
            f"{analysed} is of other trajectories than {graded}",
            where=missing.min(),
            got=f"{len(missing):,} trajectories without a row that fits",
            fix="coa analyse",
        )


def read_blamed(analysed: Path, ids: Collection[str]) -> dict[str, tuple[Blamed, ...]]:
    """Read what the analysis blames in these trajectories, the primary cause first."""
    table: dict[str, tuple[Blamed, ...]] = {}
    for row in tables.read_table(analysed, Analysis):
        if row.trajectory_id not in ids:
            continue
        blamed: list[Blamed] = []
        if row.cause:
            primary = Finding(row.cause, row.step, row.evidence)
            blamed.append(Blamed(primary, is_primary=True))
        for finding in row.contributing:
            if not (row.cause and finding.cause in CONTRIBUTING_ONLY):
                blamed.append(Blamed(finding, is_primary=False))
        table[row.trajectory_id] = tuple(blamed)
    return table


def blamed_places(steps: Sequence[Step], found: Iterable[Blamed]) -> Iterator[BlamedPlace]:
    """Find the decisions in a trajectory that its analysis blames, in its order."""
    starts = list(accumulate((len(step.text) for step in steps), initial=0))
    actions: list[int] = []
    searches: list[int] = []
    for start, step in zip(starts, steps, strict=False):  # `starts` has the end of the last one too
        if step.kind is StepKind.ACTION:
            actions.append(start)
            if step.tool == SearchTool.name:
                searches.append(start)
    for finding, is_primary in found:
        arm = ARM_TO_TRY[finding.cause]
        index = finding.step
        if arm is None or index is None or not 0 <= index < len(steps):
            continue
        end = starts[index]
        if arm is Arm.ACT:
            end += _claim_start(steps[index], finding.evidence)
            limit = min((start for start in actions if start > end), default=starts[-1])
        else:
            end = max((start for start in searches if start <= end), default=-1)
            limit = end
        after = max((start for start in actions if start < end), default=-1)
        yield BlamedPlace(finding.cause, is_primary, arm, after, end, limit)


def _claim_start(step: Step, evidence: str) -> int:
    """Return where the sentence that the evidence quotes begins in a step; 0 if it is not there."""
    if step.kind is not StepKind.THOUGHT:
        return 0
    start = 0
    for separator in SENTENCE_END.finditer(step.text):
        if evidence.startswith(quote(step.text[start : separator.start()])):
            return start
        start = separator.end()
    return start if evidence.startswith(quote(step.text[start:])) else 0
