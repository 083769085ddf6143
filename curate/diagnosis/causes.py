"""What a rule says when it found why a trajectory failed (`coa.causes`), and the row that `curate.analyse` writes.

To add a cause: a value of `coa.causes.Cause` with its docstring; a rule in `curate.diagnosis.rules` (what the form of a
row shows) or `curate.diagnosis.facts` (what needs the facts); a colour in `curate.charts`, its meaning on the page
(curate/templates/errors.html) and for reviewers (annotate/guidelines), its smallest example in tests/test_causes.py.
"""

from dataclasses import dataclass

from coa.causes import Cause
from coa.grading import Verdict
from coa.trajectory import Mode, StopReason

CONTRIBUTING_ONLY = frozenset({Cause.REPEATED_SEARCH, Cause.NEEDLESS_SEARCH})
"""The causes that explain no failure by themselves; correct trajectories have them too."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one rule found."""

    cause: Cause
    step: int | None = None
    """Index of the step where it went wrong; None where no step is to blame."""
    evidence: str = ""
    """What the rule saw, in a few words; quotes the trajectory, so it is hostile text."""
    passages: tuple[str, ...] = ()
    """Ids of the passages that decide."""
    needs_gold_titles: bool = False
    """Whether gold titles were needed to decide."""


@dataclass(frozen=True, slots=True)
class Analysis:
    """What the rules say of one graded trajectory."""

    trajectory_id: str
    question_id: str
    mode: Mode
    index: int
    question_type: str
    num_hops: int | None
    num_actions: int
    stop_reason: StopReason
    verdict: Verdict
    cause: Cause | None
    """The primary cause; None for a correct trajectory."""
    step: int | None
    """Index of the step where it went wrong; None where no step is to blame."""
    evidence: str
    """What the rule saw."""
    passages: tuple[str, ...]
    """Ids of the passages that decide."""
    needs_gold_titles: bool
    """Whether gold titles were needed to decide."""
    contributing: tuple[Finding, ...]
    """What else went wrong, each cause once; correct trajectories have it too."""
