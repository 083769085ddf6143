"""Report what a stage trained on and what came of it: to its user, metrics/ and the folder.

The folder gets the log as JSON lines and a picture of its curves.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from coa.errors import InputError, writing_error
from coa.settings.stages import Stage
from coa.store.metrics import write_metrics
from coa.store.whole_files import replacing, write_file
from coa.student.checkpoint import Workspace
from coa.student.sets import how_to_make
from coa.student.settings import TrainParams
from train.encode import RowTally

if TYPE_CHECKING:
    from coa.spending.ledger import Ledger

_SHOWN = 5
"""Rows named in a summary; metrics/ names all."""
_NOT_CURVES = ("step", "epoch", "total_flos", "num_tokens")
_NOT_DRAWN = ("runtime", "per_second", "/std", "_time", "terminated_length", "clipped_ratio")
_MAX_PANELS = 12
_ORDER = (
    "reward",
    "rewards",
    "accuracy",
    "searches",
    "calls",
    "format",
    "simulated",
    "loss",
    "logps",
    "pair_accuracy",
    "mean_token_accuracy",
    "completions",
    "entropy",
    "kl",
    "reward_std",
    "frac_reward_zero_std",
    "grad_norm",
)
"""Panels of the picture, the most telling first."""
_ROUNDING = 1e-6
"""Values that differ by less than this share of their size are drawn as one."""

Entry = dict[str, Any]
Point = tuple[float, float]
"""A step, and what was measured there."""


class StageReport:
    """The report of one run of one stage to its user."""

    def __init__(
        self, stage: Stage, params: TrainParams, workspace: Workspace, resolved: str
    ) -> None:
        self.summary = ""
        """The line that a person wants to read last; set when the stage is done."""
        self.window: int | None = None
        """Tokens that the student can read; None where its positions have no end."""
        self.judge_ledger: Ledger | None = None
        """What the judge of an RL stage costs, where it has one."""
        self._stage = stage
        self._params = params
        self._workspace = workspace
        self._resolved = resolved
        self._rows = RowTally()
        self._is_in_pipeline = workspace.name == stage
        """Another chain's figures stay beside its model; metrics/ is for the stages of
        `dvc repro`."""

    def note_rows(self, rows: RowTally, num_train: int) -> None:
        """Say how many rows of both splits were left out, and whose text was lost.

        Raises:
            InputError: all were left out; says what would let them in.
            TextLostError: the tokenizer gives the text of none back.
        """
        self._rows = rows
        self._print_left_out(rows)
        if num_train:
            return
        if rows.lost and rows.counts["text_lost"] == rows.counts.total():
            first, *_ = rows.lost.values()
            raise first
        raise InputError(
            "no row can be trained",
            where=_with(", ".join(self._params.sets_of(self._stage)), rows.shown_lengths()),
            expected=f"rows of at most {self._params.max_context_tokens} tokens",
            got=dict(rows.counts),
            fix=self._advice(rows),
        )

    def _print_left_out(self, rows: RowTally) -> None:
        left_out = []
        for reason, count in rows.counts.items():
            if reason != "kept" and count:
                left_out.append(f"{count:,} {reason.replace('_', ' ')}")
        if left_out:
            total = rows.counts.total()
            share = 1 - rows.counts["kept"] / total
            limit = f"train.max_context_tokens = {self._params.max_context_tokens}"
            detail = _with(limit, rows.shown_lengths())
            print(
                f"WARNING: {share:.1%} of {total:,} rows are left out: {', '.join(left_out)} "
                f"({detail})",
                file=sys.stderr,
            )
        for row_id, error in islice(rows.lost.items(), _SHOWN):
            lost = error.details
            detail = f"{lost['where']} is {lost['expected']}, back comes {lost['got']}"
            print(f"  {row_id}: {detail}", file=sys.stderr)

    def _advice(self, rows: RowTally) -> str:
        """Say what would let rows in, where all were left out."""
        if not rows.counts.total():
            return "; ".join(how_to_make(folder) for folder in self._params.sets_of(self._stage))
        needed = rows.shortest_too_long
        if not needed:
            return f"nothing in the rows is the policy's: check the files of train.{self._stage}"
        shortest = f"the shortest row has {needed} tokens"
        if self._stage is Stage.PRETRAIN:
            sizes = "train.max_context_tokens and train.pretrain.student.max_context_tokens"
            return f"{shortest}: set {sizes} to as many or more"
        if self.window is None:
            return f"set train.max_context_tokens to {needed} or more"
        if needed <= self.window:
            return (
                f"set train.max_context_tokens to {needed} or more; the student reads {self.window}"
            )
        return (
            f"{shortest}, the student reads {self.window}: start from a model that reads more, or "
            f"whose tokenizer needs fewer tokens for the text (train.{self._stage}.init), or leave "
            f"long rows out of the sets"
        )

    def write_trained(
        self, history: Sequence[Entry], final: Mapping[str, float | None], steps: int
    ) -> None:
        """Write log, curves, metrics and settings, and set the summary.

        `final` has the last measures on the validation split, if there is one; a measure of
        rollouts is None where none of them allows it.
        """
        out = self._workspace.out
        name = self._workspace.name
        write_log(out / "log.jsonl", history)
        write_curves(out / "curves.png", history, name)
        if self._is_in_pipeline:
            write_metrics(f"train_{name}", self._figures(final))
        self._write_params()
        final_loss = final.get("eval_loss")
        loss = "" if final_loss is None else f", validation loss {final_loss:.3f}"
        kept = self._rows.counts["kept"]
        self.summary = f"{out}: {steps:,} steps on {kept:,} rows{self._without()}{loss}"

    def _figures(self, final: Mapping[str, float | None]) -> dict[str, object]:
        figures: dict[str, object] = {"rows": dict(self._rows.counts)}
        if self._rows.lost:
            figures["text_lost"] = {
                row_id: error.details["where"] for row_id, error in self._rows.lost.items()
            }
        for name, value in final.items():
            if not name.endswith(("runtime", "per_second")):
                figures[name] = None if value is None else round(value, 4)
        if self.judge_ledger is not None:
            figures["costs"] = self.judge_ledger.used.metrics()
        return figures

    def _without(self) -> str:
        """Name the rows whose text was lost, as far as they fit on a line."""
        names = list(self._rows.lost)
        if not names:
            return ""
        more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
        return f", without {', '.join(names[:_SHOWN])}{more}, whose text the tokenizer loses"

    def write_fetched(self, origin: str) -> None:
        """Write what a stage leaves beside a model, for one that was fetched and not trained."""
        if self._is_in_pipeline:
            write_metrics(f"train_{self._stage}", {"base": origin})
        self._write_params()
        self.summary = f"{self._workspace.out}: {origin} as it is; nothing was trained"

    def _write_params(self) -> None:
        """Write the resolved settings, last of all: a folder that has them is whole."""
        write_file(self._workspace.out / "params.yaml", self._resolved)


def _with(text: str, more: str) -> str:
    """Join two parts of a message, of which the second may be empty."""
    return f"{text}; {more}" if more else text


class Curve(NamedTuple):
    """One quantity over the steps, on the rows of training and on those of the validation split."""

    training: list[Point]
    validation: list[Point]


def write_log(path: Path, history: Sequence[Entry]) -> None:
    """Write one JSON object a line, in the order of the steps."""
    write_file(path, "".join(json.dumps(entry) + "\n" for entry in history))


def write_curves(picture: Path, history: Sequence[Entry], title: str) -> None:
    """Draw what was logged over the steps as PNG."""
    try:
        _draw(picture, history, title)
    except OSError as error:
        raise writing_error(picture, error) from error


def panels(history: Sequence[Entry]) -> dict[str, dict[str, Curve]]:
    """Choose what the picture shows: for each panel's title its curves by name.

    Quantities of one kind, `searches/known` and `searches/unknown`, share a panel. Left out are
    quantities that never change, times and spreads, and the panels for which there is no place, the
    less telling ones; the log has them.
    """
    names: set[str] = set()
    for entry in history:
        names.update(name.removeprefix("eval_") for name in entry)
    found: dict[str, dict[str, Curve]] = {}
    for name in sorted(names):
        curve = Curve(_points(history, name), _points(history, f"eval_{name}"))
        is_left_out = name in _NOT_CURVES or name.startswith("train_") or name.endswith(_NOT_DRAWN)
        values = {value for _, value in [*curve.training, *curve.validation]}
        if not is_left_out and len(values) > 1:
            title, _, line = name.partition("/")
            found.setdefault(title, {})[line.removesuffix("/mean") or name] = curve

    places = {title: place for place, title in enumerate(_ORDER)}

    def rank(title: str) -> tuple[int, str]:
        return places.get(title, len(places)), title

    chosen = sorted(found, key=rank)[:_MAX_PANELS]
    return {title: found[title] for title in chosen}


def _points(history: Sequence[Entry], name: str) -> list[Point]:
    points: list[Point] = []
    for entry in history:
        value = entry.get(name)
        if "step" in entry and isinstance(value, int | float):
            points.append((entry["step"], value))
    return points


def _draw(path: Path, history: Sequence[Entry], title: str) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    shown = panels(history)
    rows = max(1, -(-len(shown) // 3))
    figure, axes = pyplot.subplots(
        rows, 3, figsize=(12, 2.6 * rows), squeeze=False, layout="constrained"
    )
    for axis, (name, curves) in zip(axes.flat, shown.items(), strict=False):
        _draw_panel(axis, name, curves)
    for axis in list(axes.flat)[len(shown) :]:
        axis.set_axis_off()
    figure.suptitle(f"{title}: training log over steps (dots: validation)", fontsize=10)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def _draw_panel(axis: Any, title: str, curves: Mapping[str, Curve]) -> None:
    for number, (label, curve) in enumerate(curves.items()):
        color = f"C{number}"
        axis.plot([], [], color=color, label=label)
        if curve.training:
            axis.plot(*zip(*curve.training, strict=True), color=color, linewidth=1.2)
        if curve.validation:
            axis.plot(*zip(*curve.validation, strict=True), "o", color=color, markersize=4)
    values = [value for curve in curves.values() for _, value in curve.training + curve.validation]
    size = max(map(abs, values), default=0)
    if values and max(values) - min(values) <= _ROUNDING * size:
        axis.set_ylim(values[0] - (size or 1), values[0] + (size or 1))
    axis.ticklabel_format(axis="y", useOffset=False)
    axis.set_title(title, fontsize=9)
    axis.tick_params(labelsize=8)
    if list(curves) != [title]:
        axis.legend(fontsize=6)
