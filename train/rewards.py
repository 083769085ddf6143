"""Reward rollouts in RL: named rewards of the graded record, with weights (`train.rl2.rewards`).

To add one, write a function of a `GradedTrajectory` and name it as `module:name`, or here in
`REWARDS`. A rollout in which a tool or server failed has no reward: it is left out of its group's
mean and gets no advantage. `measure` says what else is logged of every rollout.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from coa.errors import ConfigError, unknown_name
from coa.own_parts import load_part, names_own_part
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.grading import Verdict, grade_prediction
from coa.records.trajectory import (
    BUDGET_STOPS,
    FAILED_STOPS,
    Mode,
    StepKind,
    StopReason,
    count_actions,
)
from coa.search.tool import SearchTool
from coa.student.knowledge import NOBODY_CAN_TELL, KnowledgeProbe
from coa.student.settings import RlParams
from train.monitors.alarms import MANY_ACTIONS

if TYPE_CHECKING:
    from coa.judging.judge import Judge

WeightsAt = Callable[[int, int], list[float]]
"""The weights of the rewards at a step, from 0 on, of a run of so many."""
Reward = Callable[[GradedTrajectory], float | None]
"""A number for a graded rollout; None where it does not apply, as exact match to an open-ended
question."""
_IKEA_BONUS = (0.6, 0.4, 0.2, 0.0)
"""For a right answer after 0, 1, 2, and 3 or more searches."""
_IKEA_TRIED = 0.05
"""For a wrong answer after a search."""


def exact_match(row: GradedTrajectory) -> float | None:
    """Return 1 where the boxed answer equals an accepted one after normalisation, else 0."""
    return _number(row.grade.exact_match)


def cover_match(row: GradedTrajectory) -> float | None:
    """Return 1 where the boxed answer holds an accepted one, else 0."""
    return _number(row.grade.cover_exact_match)


def _number(matches: bool | None) -> float | None:
    return None if matches is None else float(matches)


def f1(row: GradedTrajectory) -> float | None:
    """Return the token F1 of the boxed answer, 0 to 1."""
    return row.grade.f1


def recalled(row: GradedTrajectory) -> float | None:
    """Return 1 where the answer is right and no tool was called, else 0; with `acted` for rl1.

    Nothing follows from an answer that was reached from an invented observation.
    """
    if row.grade.exact_match is None:
        return None
    return float(row.grade.exact_match and not row.trajectory.num_actions)


def acted(row: GradedTrajectory) -> float:
    """Return 1 where a tool was called, whatever came of it, else 0.

    It is the retrieval reward of R1-Searcher (arXiv 2503.05592). Its weight beside that of
    `recalled` is what a search is worth: how likely a recalled answer has to be right for the
    policy to rather not search.
    """
    return float(row.trajectory.num_actions > 0)


def searches(row: GradedTrajectory) -> float:
    """Return the number of searches; a negative weight is the price of one."""
    return float(count_actions(row.trajectory, SearchTool.name))


def format_penalty(row: GradedTrajectory) -> float:
    """Return -1 where the format is broken, else 0."""
    return -float(breaks_format(row))


def breaks_format(row: GradedTrajectory) -> bool:
    """Tell whether a rollout breaks the format.

    It does where there is no boxed answer, where it ended other than in an answer, or where a tag
    stands where none belongs. A tag of an observation that the policy wrote itself is such a tag.
    An answer that a budget forced breaks nothing.
    """
    ends_well = row.trajectory.stop_reason in {StopReason.ANSWERED, *BUDGET_STOPS}
    is_boxed = row.grade.verdict is not Verdict.NO_ANSWER
    return not (ends_well and is_boxed) or bool(protocol.stray_tags(row.trajectory.steps))


def retrieved(row: GradedTrajectory) -> float:
    """Return 1 where an observation holds an accepted answer, else 0.

    With `well_formed` it is the first stage of R1-Searcher, which teaches to search before it
    teaches to answer: `{retrieved: 0.5, well_formed: 0.1}`.
    """
    from coa.rollout.simulated import observation_body

    for step in row.trajectory.steps:
        if step.kind is StepKind.OBSERVATION:
            found = grade_prediction(observation_body(step.text, step.tool or ""), row.gold_answers)
            if found.cover_exact_match:
                return 1.0
    return 0.0


def well_formed(row: GradedTrajectory) -> float:
    """Return 1 where the format is whole, else 0."""
    return float(not breaks_format(row))


def ikea(row: GradedTrajectory) -> float:
    """Return IKEA's reward (arXiv 2505.07596), which pays knowing when not to search.

    A right answer is 1 and up to .6 more, the less the fewer searches it took. A wrong one is .05
    with a search and 0 without; a broken format is -1.
    """
    if breaks_format(row):
        return -1.0
    num_searches = count_actions(row.trajectory, SearchTool.name)
    if row.grade.exact_match:
        return 1.0 + _IKEA_BONUS[min(num_searches, len(_IKEA_BONUS) - 1)]
    return _IKEA_TRIED if num_searches else 0.0


REWARDS: Mapping[str, Reward] = {
    "exact_match": exact_match,
    "cover_match": cover_match,
    "f1": f1,
    "recalled": recalled,
    "acted": acted,
    "searches": searches,
    "format_penalty": format_penalty,
    "retrieved": retrieved,
    "well_formed": well_formed,
    "ikea": ikea,
}
"""The rewards that follow from the record alone."""
JUDGE = "judge"
"""The reward of the judge that the section `judge` describes: 1 where it calls the answer right,
else 0; for an open-ended question the score by its rubric."""

_TRUNCATED = frozenset({StopReason.TRUNCATED, StopReason.TURN_BUDGET, StopReason.CONTEXT_BUDGET})


def measure(
    row: GradedTrajectory, probe: KnowledgeProbe = NOBODY_CAN_TELL
) -> Iterator[tuple[str, float]]:
    """Yield what one rollout adds to the log's means, by name.

    What is about searching is measured only where the tool was offered. As far as the probe can
    tell, also whether the rollout searched for facts that it knows, and for those that it does not.
    """
    trajectory = row.trajectory
    yield "failures", trajectory.stop_reason in FAILED_STOPS
    if trajectory.stop_reason in FAILED_STOPS:
        return
    if row.grade.exact_match is not None:
        yield f"accuracy/{trajectory.mode}", row.grade.exact_match
    yield "format/broken", breaks_format(row)
    yield "format/stray_tags", bool(protocol.stray_tags(trajectory.steps))
    yield "format/forged", protocol.forges_observation(trajectory.steps)
    yield "format/truncated", trajectory.stop_reason in _TRUNCATED
    if trajectory.mode is Mode.COA:
        yield from _measure_searches(row, probe)


def _measure_searches(row: GradedTrajectory, probe: KnowledgeProbe) -> Iterator[tuple[str, float]]:
    trajectory = row.trajectory
    num_searches = count_actions(trajectory, SearchTool.name)
    yield "searches/mean", num_searches
    yield "searches/trigger_rate", num_searches > 0
    yield "searches/at_cap", trajectory.stop_reason is StopReason.ACTION_BUDGET
    number = trajectory.num_actions
    bucket = str(number) if number < MANY_ACTIONS else f"{MANY_ACTIONS}_or_more"
    if row.grade.exact_match is not None:
        yield f"accuracy/{bucket}_actions", row.grade.exact_match
    for decision in probe.decisions(trajectory.steps):
        group = "known" if decision.is_known else "unknown"
        yield f"searches/{group}", decision.searched


def reward_functions(
    weights: Mapping[str, float],
    probe: KnowledgeProbe = NOBODY_CAN_TELL,
    open_judge: "Callable[[], Judge] | None" = None,
) -> dict[Any, float]:
    """Return the rewards as TRL calls them, with their weights.

    Exact match is always among them, to be seen in the log. `probe` knows which searches were for
    known facts, for the log; `open_judge` opens the judge of the reward `judge`.

    Raises:
        ConfigError: a name is unknown, no reward is weighted, or the judge cannot be opened.
    """
    check_weights(weights, where="params.yaml, the stage's rewards")
    functions: dict[Any, float] = {}
    for name, weight in {exact_match.__name__: 0.0, **weights}.items():
        if name == JUDGE:
            from train.judging import verdict_reward

            assert open_judge is not None
            function = verdict_reward(open_judge())
        else:
            function = _computed_reward(name, probe)
        functions[function] = weight
    return functions


def check_weights(weights: Mapping[str, float], where: str) -> None:
    """Refuse weights that train nothing, or name a reward that there is not.

    Raises:
        ConfigError: a name is unknown, or no reward is weighted.
    """
    if not any(weights.values()):
        raise ConfigError(
            "no reward is weighted",
            where=where,
            expected="rewards: {exact_match: 1.0, format_penalty: 0.1}",
        )
    for name in weights:
        if names_own_part(name):
            load_part(name, "reward", ("__call__",))
        elif name not in (*REWARDS, JUDGE):
            raise unknown_name("reward", name, [*REWARDS, JUDGE], where=where)


def _computed_reward(name: str, probe: KnowledgeProbe) -> Any:
    """Return TRL's function of a reward that follows from the record alone."""
    of_row: Reward = load_part(name, "reward") if names_own_part(name) else REWARDS[name]

    def reward(
        graded: Sequence[GradedTrajectory],
        logged: Sequence[Mapping[str, float]],
        log_metric: Callable[[str, float], None],
        **_: object,
    ) -> list[float | None]:
        if name == exact_match.__name__:
            for row in graded:
                for quantity, value in measure(row, probe):
                    log_metric(quantity, value)
            for quantity, value in logged[0].items():
                log_metric(quantity, value)
        rewards: list[float | None] = []
        for row in graded:
            has_failed = row.trajectory.stop_reason in FAILED_STOPS
            rewards.append(None if has_failed else of_row(row))
        return rewards

    reward.__name__ = name  # under which TRL logs it
    return reward


def switch_step(settings: RlParams, num_steps: int) -> int:
    """Return the first step of the second part: below 1 the setting is a share of the run."""
    at = settings.rewards_switch
    return round(at * num_steps) if at < 1 else int(at)


def all_weights(settings: RlParams) -> dict[str, float]:
    """Return the weights of the first part, and 0 for what only the second one pays."""
    return {**dict.fromkeys(settings.later_rewards, 0.0), **settings.rewards}


def weights_at(settings: RlParams, names: Sequence[str]) -> WeightsAt | None:
    """Return what gives the weights of a step, in the order of `names`; None where they stay."""
    if not settings.later_rewards:
        return None

    def weights(step: int, num_steps: int) -> list[float]:
        is_later = step >= switch_step(settings, num_steps)
        chosen = settings.later_rewards if is_later else settings.rewards
        return [float(chosen.get(name, 0.0)) for name in names]

    return weights


def check_stages(settings: RlParams, where: str) -> None:
    """Refuse rewards that train nothing or are unknown, and a switch that is no step.

    Raises:
        ConfigError: a name is unknown, a part pays nothing, or the switch is below 0.
    """
    check_weights(settings.rewards, where=f"{where}.rewards")
    if settings.later_rewards:
        check_weights(settings.later_rewards, where=f"{where}.later_rewards")
    if settings.rewards_switch < 0:
        raise ConfigError(
            "rewards cannot change before the run",
            where=f"{where}.rewards_switch",
            expected="a share of the run below 1, or a step",
            got=settings.rewards_switch,
        )
