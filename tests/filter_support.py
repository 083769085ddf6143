"""A rule of a user's own, for the tests of the filter."""

from coa.records.graded import GradedTrajectory


def is_hesitant(row: GradedTrajectory) -> str | None:
    """Drop a trajectory that says `perhaps`."""
    said = "".join(step.text for step in row.trajectory.steps)
    return "says perhaps" if "perhaps" in said else None
