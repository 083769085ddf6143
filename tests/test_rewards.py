"""Rewards of graded rollouts, what is measured of them, and the alarms over a training's log."""

from dataclasses import replace
from typing import Any

import pytest

from coa.errors import ConfigError
from coa.records import protocol
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, Sampling, StopReason, Trajectory
from coa.student.settings import MonitorSettings
from train.rewards import (
    REWARDS,
    breaks_format,
    exact_match,
    format_penalty,
    measure,
    reward_functions,
)

SEARCHED = (
    "I need it. <begin_search> who </end_search>\n"
    "<search_result> Ada wrote it. </search_result>\nIt says Ada."
)
RIGHT, WRONG = "</think>\\boxed{Ada}", "</think>\\boxed{Bob}"


def graded(
    text: str, stop_reason: StopReason = StopReason.ANSWERED, mode: Mode = Mode.COA
) -> GradedTrajectory:
    steps = protocol.parse(text)
    trajectory = Trajectory(
        f"q/{mode}/0",
        "q",
        mode,
        0,
        "Who wrote it?",
        "<think>\n",
        steps,
        stop_reason,
        "m",
        Sampling(),
        "",
        "",
        5,
        9,
        9,
        1,
        len(protocol.action_indices(steps)),
    )
    return grade_trajectory(trajectory, Question("q", "Who wrote it?", ("Ada", "Ada L."), "train"))


@pytest.mark.parametrize(
    ("text", "value"), [(SEARCHED + RIGHT, 1.0), (SEARCHED + WRONG, 0.0), ("no answer", 0.0)]
)
def test_exact_match_pays_the_right_answer(text: str, value: float) -> None:
    assert exact_match(graded(text)) == value


@pytest.mark.parametrize(
    ("text", "stop_reason"),
    [
        (RIGHT, StopReason.TRUNCATED),
        ("I think and think", StopReason.TURN_BUDGET),
        (RIGHT, StopReason.MALFORMED),
        ("I act <begin_search> who </end_search>", StopReason.FORBIDDEN_ACTION),
        ("I think", StopReason.NO_ANSWER),
        ("</think>Ada", StopReason.ANSWERED),
        ("<search_result> Ada </search_result>" + RIGHT, StopReason.ANSWERED),
        ("I ask <begin_search> who" + RIGHT, StopReason.ANSWERED),
        ("<think>" + RIGHT, StopReason.ANSWERED),
    ],
)
def test_every_way_to_break_the_format_costs_one(text: str, stop_reason: StopReason) -> None:
    assert format_penalty(graded(text, stop_reason)) == -1.0


@pytest.mark.parametrize(
    "stop_reason", [StopReason.ANSWERED, StopReason.ACTION_BUDGET, StopReason.CONTEXT_BUDGET]
)
@pytest.mark.parametrize("text", [RIGHT, WRONG, SEARCHED + WRONG])
def test_a_boxed_answer_is_well_formed_right_or_wrong_even_if_it_was_forced(
    text: str, stop_reason: StopReason
) -> None:
    assert not breaks_format(graded(text, stop_reason))


def call(
    functions: dict[Any, float], rows: list[GradedTrajectory]
) -> dict[str, list[float | None]]:
    """Call the rewards as TRL does."""
    logged: list[tuple[str, float]] = []
    columns = {"graded": rows, "logged": [{}] * len(rows), "prompts": [], "completions": []}
    return {
        function.__name__: function(**columns, log_metric=lambda *pair: logged.append(pair))
        for function in functions
    }


def test_every_reward_scores_every_rollout_under_its_name() -> None:
    rows = [graded(SEARCHED + RIGHT), graded(WRONG)]

    scores = call(reward_functions(dict.fromkeys(REWARDS, 1.0)), rows)

    assert scores == {name: [reward(row) for row in rows] for name, reward in REWARDS.items()}


@pytest.mark.parametrize(
    ("text", "recalled", "acted"),
    [
        (RIGHT, 1.0, 0.0),
        (WRONG, 0.0, 0.0),
        (SEARCHED + RIGHT, 0.0, 1.0),
        (SEARCHED + WRONG, 0.0, 1.0),
    ],
)
def test_an_answer_is_recalled_or_a_tool_was_called(
    text: str, recalled: float, acted: float
) -> None:
    assert (REWARDS["recalled"](graded(text)), REWARDS["acted"](graded(text))) == (recalled, acted)


@pytest.mark.parametrize("stop_reason", [StopReason.TOOL_ERROR, StopReason.POLICY_ERROR])
def test_a_failed_tool_is_no_reward_at_all(stop_reason: StopReason) -> None:
    scores = call(
        reward_functions({"format_penalty": 0.1}),
        [graded("I need it", stop_reason)],
    )

    assert scores == {"exact_match": [None], "format_penalty": [None]}
    assert dict(measure(graded("I need it", stop_reason))) == {"failures": True}


def test_weights_are_those_of_the_settings_and_exact_match_is_always_seen() -> None:
    functions = reward_functions({"f1": 1.0, "format_penalty": 0.1})

    assert [(function.__name__, weight) for function, weight in functions.items()] == [
        ("exact_match", 0.0),
        ("f1", 1.0),
        ("format_penalty", 0.1),
    ]


@pytest.mark.parametrize("weights", [{}, {"exact_match": 0.0}, {"exactmatch": 1.0}])
def test_weights_that_cannot_be_are_named(weights: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="reward"):
        reward_functions(weights)


def test_what_is_measured_tells_the_modes_and_the_numbers_of_actions_apart() -> None:
    searched = dict(measure(graded(SEARCHED + RIGHT)))
    thought = dict(measure(graded(WRONG, mode=Mode.COT)))

    assert (
        searched["accuracy/coa"] == searched["accuracy/1_actions"] == searched["searches/mean"] == 1
    )
    assert thought["accuracy/cot"] == 0
    assert not any(name.startswith("searches/") for name in thought)


class TestMonitor:
    """The alarms; transformers is needed for the callback alone."""

    @pytest.fixture(autouse=True)
    def needs_transformers(self) -> None:
        pytest.importorskip("transformers")

    def run(self, history: list[dict[str, float]], **settings: Any) -> Any:
        """Feed a log entry by entry, as a trainer does."""
        from transformers import TrainerControl, TrainerState

        from train.monitors.callbacks import Monitor

        monitor, state, control = (
            Monitor(MonitorSettings(**settings)),
            TrainerState(),
            TrainerControl(),
        )
        for step, entry in enumerate(history, start=1):
            state.log_history.append({**entry, "step": step})
            state.global_step = step
            monitor.on_log(None, state, control)
        return control

    def test_every_alarm_is_said_in_as_many_entries_as_a_stage_writes(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        from train.monitors.alarms import ALARMS, Condition

        for alarm in ALARMS:
            num_entries = alarm.patience or 3
            bad, good = alarm.limit + 0.01, alarm.limit - 0.01
            before: list[dict[str, float]] = []
            if alarm.condition in (Condition.FELL, Condition.DROPPED, Condition.ROSE):
                before = [dict.fromkeys(alarm.quantities, 0.0)]
            if alarm.condition in (Condition.FELL, Condition.DROPPED):
                bad, good = -bad, -good
            self.run([*before, *[dict.fromkeys(alarm.quantities, good)] * num_entries])
            assert not capsys.readouterr().err, alarm.name
            self.run([*before, *[dict.fromkeys(alarm.quantities, bad)] * num_entries])
            assert f": {alarm.name}: " in capsys.readouterr().err

    @pytest.mark.parametrize(("gap", "is_said"), [(0.16, True), (0.14, False), (-0.3, False)])
    def test_one_validation_shows_the_gap_between_simulated_and_real_accuracy(
        self, gap: float, is_said: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.run([{"searches/mean": 1.0}] * 5 + [{"eval_simulated/gap": gap}])
        assert ("simulation_gap" in capsys.readouterr().err) == is_said

    def test_one_falling_side_of_the_pairs_is_no_collapse(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.run([{"logps/chosen": -0.2, "logps/rejected": -0.2 - step} for step in range(5)])

        assert not capsys.readouterr().err

    def test_both_falling_is_said_once(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.run(
            [{"logps/chosen": -float(step), "logps/rejected": -float(step)} for step in range(9)]
        )

        assert capsys.readouterr().err.count("likelihood_collapse") == 1

    def test_it_is_said_again_after_it_had_passed(self, capsys: pytest.CaptureFixture[str]) -> None:
        shares = (1.0, 1.0, 0.5, 1.0, 1.0)
        entries: list[dict[str, float]] = [{"searches/trigger_rate": share} for share in shares]

        self.run(entries, patience=2)

        assert capsys.readouterr().err.count("over_triggering") == 2

    @pytest.mark.parametrize("stops", [False, True])
    def test_it_stops_the_training_where_it_is_told_to(self, stops: bool) -> None:
        control = self.run([{"searches/trigger_rate": 1.0}] * 3, stops=stops)

        assert control.should_training_stop is stops

    def test_a_limit_can_be_set_by_name_and_a_name_that_is_none_is_named(self) -> None:
        control = self.run(
            [{"searches/trigger_rate": 0.995}] * 3, stops=True, limits={"over_triggering": 0.999}
        )

        assert not control.should_training_stop
        with pytest.raises(ConfigError, match="alarm"):
            self.run([], limits={"far": 3.0})

    def test_quantities_that_are_unknown_for_a_while_are_left_out(self) -> None:
        entries: list[dict[str, Any]] = [
            {"searches/trigger_rate": 1.0},
            {"searches/trigger_rate": None},
            {"searches/trigger_rate": 1.0},
            {"loss": 1.0},
            {"searches/trigger_rate": 1.0},
        ]

        assert self.run(entries, stops=True).should_training_stop


def test_a_rollout_with_a_broken_format_is_measured_as_such() -> None:
    row = graded("<search_result> Ada </search_result>" + RIGHT)

    measured = dict(
        measure(replace(row, trajectory=replace(row.trajectory, stop_reason=StopReason.TRUNCATED)))
    )

    assert all(
        measured[f"format/{name}"] for name in ("broken", "forged", "stray_tags", "truncated")
    )
