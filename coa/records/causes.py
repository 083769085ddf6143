"""Define the causes of failure that `coa analyse` and reviewers share, and the record of them.

To add a cause:

- Give `Cause` a value with its docstring.
- Write a rule in `curate.diagnosis.rules` (for what the form of a row shows), in
  `curate.diagnosis.facts` (for what needs the facts on the way to the answer) or in
  `curate.diagnosis.untitled` (for what holds without gold titles).
- Choose a colour in `curate.reports.charts`.
- Explain it on the page (curate/templates/errors.html) and to reviewers (annotate/guidelines).
- Add its smallest example to tests/test_causes.py.
"""

from dataclasses import dataclass
from enum import StrEnum

from coa.records.grading import Verdict
from coa.records.trajectory import Mode, StopReason


class Cause(StrEnum):
    """A cause of a trajectory's failure, or a mistake beside the primary cause."""

    TOOL_FAILURE = "tool_failure"
    """A tool or the policy's server failed; the policy is not to blame."""
    FORGED_OBSERVATION = "forged_observation"
    """The policy wrote an observation itself instead of waiting for the tool's."""
    TRUNCATED = "truncated"
    """The answer, or a turn before it, ran into its limit."""
    BUDGET = "budget"
    """Actions or context were used up, and the answer that was forced is wrong."""
    FORMAT = "format"
    """Broken tags, a forbidden action, thinking that was never closed, or an answer outside the
    box."""
    GRADED_WRONG = "graded_wrong"
    """The answer says the same as an accepted one, wholly or in part, in other words: the grader
    may be too strict."""
    REASONING_SLIP = "reasoning_slip"
    """Every fact was right, the conclusion is wrong."""
    FALSE_RECALL = "false_recall"
    """A wrong fact was stated from memory with confidence. In CoA beside what led to it."""
    KNOWLEDGE_GAP = "knowledge_gap"
    """A fact was hedged or guessed, and wrong. In CoA beside what led to it."""
    NEVER_SEARCHED = "never_searched"
    """The tool was offered, and the wrong fact was recalled or guessed without a search for it."""
    BAD_QUERY = "bad_query"
    """Every search for the wrong fact left out the entity, named only the entity, or asked for
    something else."""
    RETRIEVAL_MISS = "retrieval_miss"
    """The query was good, the passage that states the fact was not returned."""
    EVIDENCE_IGNORED = "evidence_ignored"
    """The passage that states the fact was shown, and another value was taken."""
    DISTRACTOR_FOLLOWED = "distractor_followed"
    """The wrong value is from a passage that was shown and does not state the fact."""
    REPEATED_SEARCH = "repeated_search"
    """The same query twice. Never a primary cause."""
    NEEDLESS_SEARCH = "needless_search"
    """Another query that returned only passages already shown. Never a primary cause."""
    UNKNOWN = "unknown"
    """No rule decides: the text gives no sign, or gold titles or the corpus are missing."""


CONTRIBUTING_ONLY = frozenset({Cause.REPEATED_SEARCH, Cause.NEEDLESS_SEARCH})
"""The causes that explain no failure by themselves; correct trajectories have them too."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The finding of one rule."""

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
    """The findings of all rules on one graded trajectory."""

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
