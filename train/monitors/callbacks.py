"""Call back while a stage trains: roll out what watches it, look for alarms, draw the bar."""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from transformers import ProgressCallback, TrainerCallback

from coa.student.settings import MonitorSettings
from train.monitors.alarms import Alarm, alarms_of, is_alarmed

PREFIX = "eval_rollouts/"
"""Begins the names of what rollouts log."""


class RolloutWatch(TrainerCallback):
    """A callback that measures the model before its first step and a few times on its way.

    Nothing is trained on what it measures.
    """

    def __init__(
        self,
        every: float,
        measure: Callable[[Any], Mapping[str, float]],
        log: Callable[[Mapping[str, float]], None],
    ) -> None:
        """Take the share of the steps between two measurements, and what measures and logs."""
        self._every = every
        self._measure = measure
        self._log = log

    def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Measure the model that the stage starts from; a resumed run has done so."""
        if state.global_step == 0:
            self._add(state, control, more["model"])

    def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
        """Measure at the steps that the settings name, and after the last one."""
        stride = max(1, round(state.max_steps * self._every))
        if state.global_step % stride == 0 or state.global_step == state.max_steps:
            self._add(state, control, more["model"])

    def _add(self, state: Any, control: Any, model: Any) -> None:
        if not state.is_world_process_zero:
            return
        figures = self._measure(model)
        should_log = control.should_log
        self._log({PREFIX + name: value for name, value in figures.items()})
        # Every log resets it, and the entry of this step is still to be written.
        control.should_log = should_log


class Monitor(TrainerCallback):
    """A callback that warns once when an alarm goes off, and again only after it has passed.

    Where `train.monitors.stops` is set, an alarm also ends the training.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self._alarms = alarms_of(settings)
        self._settings = settings
        self._active: set[str] = set()

    def on_log(self, args: Any, state: Any, control: Any, **_: object) -> None:
        """Read the log so far, so that a resumed run sees what one that never stopped sees."""
        for alarm in self._alarms:
            if not is_alarmed(alarm, state.log_history):
                self._active.discard(alarm.name)
            elif alarm.name not in self._active:
                self._active.add(alarm.name)
                self._warn(alarm, state)
                control.should_training_stop |= self._settings.stops

    def _warn(self, alarm: Alarm, state: Any) -> None:
        verdict = "stopping" if self._settings.stops else "warning"
        print(
            f"\n{verdict} at step {state.global_step}: {alarm.name}: {alarm.what}; {alarm.advice}",
            file=sys.stderr,
        )


class TrainingBar(ProgressCallback):
    """A bar with the last loss or reward behind it; `log.jsonl` has all figures."""

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: object
    ) -> None:
        """Take the figures that are shown; the next step writes them."""
        for name in ("reward", "loss"):
            if self.training_bar is not None and logs and logs.get(name) is not None:
                self.training_bar.set_postfix({name: f"{float(logs[name]):.3g}"}, refresh=False)
