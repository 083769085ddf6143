"""Describe the section `evaluate` of params.yaml: who is asked what, how, and as which baseline."""

from dataclasses import dataclass, field
from enum import StrEnum

from coa.errors import ConfigError
from coa.rollout.factory import TeacherParams
from coa.rollout.loop import Limits
from coa.student.asking import Asking, AskingPrompts


class Baseline(StrEnum):
    """A way to answer a question that others are compared with."""

    NONE = ""
    """Every question is asked once, as `mode` says."""
    NO_ACTION = "no_action"
    """Without the tools; the same as mode=cot."""
    REACT = "react"
    """In ReAct's lines (Yao et al., arXiv 2210.03629); the same as mode=react."""
    RETRIEVE_THEN_READ = "retrieve_then_read"
    """One search for the question itself, whose passages the prompt shows; then without tools."""
    REFLEXION = "reflexion"
    """Up to `num_tries`, each after a reflection on the last one (Shinn et al., arXiv 2303.11366).
    Gold answers decide whether there is a next one."""
    RETRY = "retry"
    """The same without reflections: what Reflexion owes to the gold answers alone."""
    SELF_CONSISTENCY = "self_consistency"
    """The most frequent answer of `num_samples` (Wang et al., arXiv 2203.11171)."""


TOLD_BY_GOLD = frozenset({Baseline.REFLEXION, Baseline.RETRY})
"""Baselines that gold answers tell when to stop; no real user could."""
_MODES = {
    Baseline.NO_ACTION: Asking.COT,
    Baseline.REACT: Asking.REACT,
    Baseline.RETRIEVE_THEN_READ: Asking.COT,
}


@dataclass(frozen=True, slots=True)
class BaselineParams:
    """Settings of the baselines that ask a question more than once."""

    num_tries: int = 3
    """Of Reflexion and retry: a question is asked at most so often."""
    num_samples: int = 5
    """Of self-consistency: a question is asked so often."""
    reflect_prompt: str = "train/prompts/reflect.txt"
    """Asks for a reflection on a try that was wrong."""

    def __post_init__(self) -> None:
        for name in ("num_tries", "num_samples"):
            if getattr(self, name) < 1:
                raise ConfigError(
                    f"evaluate.baselines.{name} is too small",
                    expected="at least 1",
                    got=getattr(self, name),
                )


@dataclass(frozen=True, slots=True)
class EvaluateParams:
    """Who is asked what, and how."""

    model: str = ""
    """A folder or a name on the Hub, loaded in this process; empty: what `policy` describes."""
    name: str = ""
    """Of the result; empty: the last part of `model`."""
    split: str = "validation"
    """Settings are chosen on validation; test is for the final table."""
    mode: Asking = Asking.COA
    """coa offers the tool, cot forbids it, react asks in the form of ReAct."""
    baseline: Baseline = Baseline.NONE
    """A baseline that answers the questions instead; empty: each is asked once."""
    baselines: BaselineParams = field(default_factory=BaselineParams)
    sets: tuple[str, ...] = ()
    """The evaluation sets that are asked, as the questions' sources name them; empty: all sets of
    the split."""
    pins: str = ""
    """A file with the size and checksum of each set (`coa pin`): sets that differ are
    refused; empty asks them as they are."""
    num_questions: int = 0
    """Of each set, chosen by `seed`; 0 asks all. Of several sets a smaller one is asked whole."""
    seed: int = 0
    """Chooses questions and resamples."""
    prompts: AskingPrompts = field(default_factory=AskingPrompts)
    policy: TeacherParams = field(default_factory=TeacherParams)
    """As in the section `teacher`; with a `model`, `policy.local` says how it is loaded."""
    limits: Limits = field(default_factory=lambda: Limits(forces_box=True))
    """As in the section `rollout`."""
    search_price: float = 0.0
    """What one search costs, in exact match; above 0 the utility is reported, too: exact match
    minus the price of the searches."""


def mode_of(baseline: Baseline, mode: Asking, temperature: float) -> Asking:
    """Return the way in which a baseline asks.

    Raises:
        ConfigError: the settings contradict each other, or would draw one sample again and again.
    """
    implied = _MODES.get(baseline, mode)
    if mode not in (Asking.COA, implied):
        raise ConfigError(
            f"the baseline {baseline} is not asked in the mode {mode}",
            where="evaluate.mode",
            expected=f"mode={implied}, or no mode",
            got=mode,
        )
    if baseline is Baseline.SELF_CONSISTENCY and temperature == 0:
        raise ConfigError(
            "self-consistency needs samples that differ",
            where="evaluate.policy.sampling.temperature",
            expected="above 0, such as 0.7",
            got=temperature,
        )
    return implied
