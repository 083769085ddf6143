"""Find the known ways to fail in a training's log.

`ALARMS` is the list; to add one, add a row. train/monitors/callbacks.py looks for them while a
stage trains. What RL logs of its rollouts is measured in train/rewards.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, NamedTuple

from coa.errors import unknown_name
from coa.student.settings import MonitorSettings

Entry = Mapping[str, Any]
MANY_ACTIONS = 4
"""Rollouts with this many actions or more are measured together."""


class Condition(StrEnum):
    """When a quantity is alarming."""

    ABOVE = "is above"
    FELL = "fell from its first value by more than"
    DROPPED = "fell from its highest value by more than"
    ROSE = "rose from its lowest value by more than"


@dataclass(frozen=True, slots=True)
class Alarm:
    """One way to fail, and how the log shows it."""

    name: str
    quantities: tuple[str, ...]
    """Names in the log; all of them must meet the condition."""
    condition: Condition
    limit: float
    advice: str
    """What it means and what helps."""
    patience: int = 0
    """Entries that make this alarm, where it needs others than `train.monitors.patience` says."""

    @property
    def what(self) -> str:
        """The quantities and the limit that they pass."""
        return f"{' and '.join(self.quantities)} {self.condition} {self.limit:g}"


ALARMS = (
    Alarm(
        "likelihood_collapse",
        ("logps/chosen", "logps/rejected"),
        Condition.FELL,
        0.3,
        "both sides of the pairs become less likely: raise alpha or lower the learning rate",
    ),
    Alarm(
        "over_triggering",
        ("searches/trigger_rate",),
        Condition.ABOVE,
        0.99,
        "the policy searches on every question, needed or not: more CoT rows in SFT help",
    ),
    Alarm(
        "simulation_gap",
        ("eval_simulated/gap",),
        Condition.ABOVE,
        0.15,
        "it does better with observations that it writes itself than with the search: it "
        "believes what it invents",
        # Measured once in a validation, of which there may be one alone, after the last step.
        patience=1,
    ),
    Alarm(
        "long_horizon",
        (f"accuracy/{MANY_ACTIONS}_or_more_actions",),
        Condition.FELL,
        0.3,
        "rollouts with many actions get worse",
    ),
    # What follows is measured by greedy rollouts a few times in a training
    # (train/monitors/watch.py). Two times in a row make an alarm: one may be a bad moment.
    Alarm(
        "falling_search_rate",
        ("eval_rollouts/searched",),
        Condition.DROPPED,
        # Four standard errors of a difference of shares of 48 questions.
        0.4,
        "the policy searches on ever fewer questions: lower the learning rate, take more "
        "trajectories that act, or pay RL for acting",
        patience=2,
    ),
    Alarm(
        "collapsed_text",
        ("eval_rollouts/broken",),
        Condition.ROSE,
        # A stage that teaches a new form breaks some texts on its way; half of them is too much.
        0.5,
        "generations degenerate: lower the learning rate, raise alpha, or train the likelihood of "
        "trajectories beside the pairs",
        patience=2,
    ),
    Alarm(
        "falling_answer_share",
        ("eval_rollouts/answered",),
        Condition.DROPPED,
        0.4,
        "ever fewer rollouts end in an answer: lower the learning rate, or train the likelihood "
        "of trajectories beside the pairs",
        patience=2,
    ),
    Alarm(
        "searches_for_known_facts",
        ("eval_rollouts/searched_known",),
        Condition.ABOVE,
        # A model that searches always gains nothing from what it knows.
        0.9,
        "the policy searches for what it knows: more CoT rows in SFT, or a price of searches in RL",
        patience=2,
    ),
)


class SeenAlarm(NamedTuple):
    """An alarm that went off while a model was trained."""

    step: int
    alarm: Alarm


def alarms_of(settings: MonitorSettings) -> list[Alarm]:
    """Return all alarms, each with its limit and its patience.

    Raises:
        ConfigError: the settings have a limit for an alarm that does not exist.
    """
    names = [alarm.name for alarm in ALARMS]
    for name in settings.limits:
        if name not in names:
            raise unknown_name("alarm", name, names, where="params.yaml, train.monitors.limits")
    return [
        replace(
            alarm,
            limit=settings.limits.get(alarm.name, alarm.limit),
            patience=alarm.patience or settings.patience,
        )
        for alarm in ALARMS
    ]


def is_alarmed(alarm: Alarm, history: Sequence[Entry]) -> bool:
    """Tell whether the condition holds in the last `patience` entries with the quantities."""
    rows = [_values(alarm, entry) for entry in history]
    rows = [row for row in rows if row]
    if len(rows) < alarm.patience:
        return False
    return all(_meets(alarm, row, rows) for row in rows[-alarm.patience :])


def _values(alarm: Alarm, entry: Entry) -> list[float]:
    """Return the alarm's quantities; none where one of them was not logged or is unknown."""
    values = []
    for name in alarm.quantities:
        value = entry.get(name)
        if value is None:
            return []
        values.append(float(value))
    return values


def _meets(alarm: Alarm, row: Sequence[float], rows: Sequence[Sequence[float]]) -> bool:
    """Tell whether all quantities of one entry are alarming, beside those of all entries."""
    for value, history in zip(row, zip(*rows, strict=True), strict=True):
        amount = {
            Condition.ABOVE: value,
            Condition.FELL: history[0] - value,
            Condition.DROPPED: max(history) - value,
            Condition.ROSE: value - min(history),
        }[alarm.condition]
        if amount <= alarm.limit:
            return False
    return True


def find_alarms(history: Sequence[Entry], settings: MonitorSettings) -> Iterator[SeenAlarm]:
    """Yield each alarm at the step where it went off; again only after it has passed.

    Raises:
        ConfigError: the settings have a limit for an alarm that does not exist.
    """
    for alarm in alarms_of(settings):
        entries = [entry for entry in history if _values(alarm, entry)]
        is_active = False
        for count in range(1, len(entries) + 1):
            was_active = is_active
            is_active = is_alarmed(alarm, entries[:count])
            if is_active and not was_active:
                yield SeenAlarm(int(entries[count - 1].get("step", 0)), alarm)
