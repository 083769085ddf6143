"""Watch a training's log for the known ways to fail (train/alarms.py), and warn.

Where `train.monitors.stops` is set, an alarm also ends the training.
"""

import sys
from dataclasses import replace
from typing import Any

from transformers import TrainerCallback

from coa.errors import unknown_name
from train.alarms import ALARMS, Alarm, is_alarmed
from train.settings import MonitorSettings


class Monitor(TrainerCallback):
    """A callback that warns once when an alarm goes off, and again only after it has passed."""

    def __init__(self, settings: MonitorSettings) -> None:
        names = [alarm.name for alarm in ALARMS]
        unknown = [name for name in settings.limits if name not in names]
        if unknown:
            raise unknown_name(
                "alarm", unknown[0], names, where="params.yaml, train.monitors.limits"
            )
        self._alarms = [
            replace(alarm, limit=settings.limits.get(alarm.name, alarm.limit)) for alarm in ALARMS
        ]
        self._settings = settings
        self._active: set[str] = set()

    def on_log(self, args: Any, state: Any, control: Any, **_: object) -> None:
        """Read the log so far, so that a resumed run sees what one that never stopped sees."""
        for alarm in self._alarms:
            patience = alarm.patience or self._settings.patience
            if not is_alarmed(alarm, state.log_history, patience):
                self._active.discard(alarm.name)
            elif alarm.name not in self._active:
                self._active.add(alarm.name)
                self._warn(alarm, state)
                control.should_training_stop |= self._settings.stops

    def _warn(self, alarm: Alarm, state: Any) -> None:
        quantities = " and ".join(alarm.quantities)
        verdict = "stopping" if self._settings.stops else "warning"
        what = f"{quantities} {alarm.condition} {alarm.limit:g}"
        print(
            f"\n{verdict} at step {state.global_step}: {alarm.name}: {what}; {alarm.advice}",
            file=sys.stderr,
        )
