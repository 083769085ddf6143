"""Show in one bar how a training goes, in place of an entry of the log at every step."""

from typing import Any

from transformers import ProgressCallback

_SHOWN = {
    "loss": "loss",
    "eval_loss": "validation loss",
    "reward": "reward",
    "rewards/exact_match/mean": "correct",
    "searches/mean": "searches each",
    "eval_rollouts/exact_match": "correct when watched",
}
"""Figures of the log that stand behind the bar, each with its name there."""


class TrainingBar(ProgressCallback):
    """A bar with the last value of a few figures; `log.jsonl` and `curves.png` have all of them."""

    def __init__(self) -> None:
        """Begin with no figure."""
        super().__init__()
        self._figures: dict[str, str] = {}

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: object
    ) -> None:
        """Take the figures that are shown; the next step writes them."""
        for name, title in _SHOWN.items():
            if logs and logs.get(name) is not None:
                self._figures[title] = f"{float(logs[name]):.3g}"
        if self.training_bar is not None:
            self.training_bar.set_postfix(self._figures, refresh=False)


def use_training_bar(trainer: Any) -> None:
    """Put the bar in the place of transformers' own; where that is switched off, there is none."""
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(TrainingBar)
