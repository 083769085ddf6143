"""Watch a training's log for the known ways to fail (train/alarms.py), and warn.

Where `train.monitors.stops` is set, an alarm also ends the training.
"""

import sys
from typing import Any

from transformers import TrainerCallback

from coa.student.settings import MonitorSettings
from train.alarms import Alarm, alarms_of, is_alarmed


class Monitor(TrainerCallback):
    """A callback that warns once when an alarm goes off, and again only after it has passed."""

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
