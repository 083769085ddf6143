"""Compare what the gate predicted of rl1 with what came of it.

    python -m train.gate_agreement

Reads results/evaluate/*.json. A result of a model that rl1 trained, beside which gate.json lies, is
compared with the result of the model that it started from, question by question. Writes
results/gate_agreement.md, and results/gate_agreement.png: the gain over P(answer in observation |
search).
"""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coa.errors import InputError
from train.gate import FILE, GateReport, Prediction
from train.intervals import Interval, paired_difference
from train.outcomes import Result
from train.result_files import FOLDER, read_result
from train.results import read_json, write_text
from train.table_cells import escape, join_cells, show_points
from train.table_picture import BLUE, Dot, draw_dots

OUT = Path("results/gate_agreement.md")
PICTURE = Path("results/gate_agreement.png")
_NUM_RESAMPLES = 2000
_FEWEST = {Prediction.HARM: 3, Prediction.GAIN: 2}
"""As many measured harms and gains there should be, or an agreement proves nothing."""
_FEWEST_ROWS = 8


@dataclass(frozen=True, slots=True)
class Trial:
    """One run of rl1: what the gate said, and what exact match did."""

    name: str
    report: GateReport
    gain: Interval
    searches_before: float
    """Actions a question."""
    searches_after: float

    @property
    def measured(self) -> Prediction | None:
        """Return what came of it; None where it is within noise."""
        if not self.gain.excludes_zero:
            return None
        return Prediction.GAIN if self.gain.value > 0 else Prediction.HARM

    @property
    def agrees(self) -> bool:
        """Tell whether the sign of the change is the predicted one."""
        return (self.gain.value > 0) == (self.report.prediction is Prediction.GAIN)


def find_trials(results: Sequence[Result]) -> list[Trial]:
    """Find the runs of rl1 that were evaluated before and after on the same questions."""
    trials = []
    for after in results:
        kept = Path(after.setting.model or "-") / FILE
        if not kept.is_file():
            continue
        report = read_json(kept, GateReport, command="python -m train.run stage=rl1")
        before = _before(report, after, results)
        if before is not None:
            trials.append(_compare(report, before, after))
    return trials


def _before(report: GateReport, after: Result, results: Iterable[Result]) -> Result | None:
    """Find the result of the very weights that rl1 started from, on the same questions."""
    wanted = (report.model_fingerprint, after.setting.questions, after.setting.mode)
    for result in results:
        setting = result.setting
        if (setting.model_fingerprint, setting.questions, setting.mode) == wanted:
            return result
    return None


def _compare(report: GateReport, before: Result, after: Result) -> Trial:
    earlier = {row.question_id: row for row in before.rows()}
    ours: list[float] = []
    theirs: list[float] = []
    num_before = num_after = 0
    for row in after.rows():
        old = earlier[row.question_id]
        ours.append(float(bool(row.exact_match)))
        theirs.append(float(bool(old.exact_match)))
        num_after += row.num_actions
        num_before += old.num_actions
    gain = paired_difference(ours, theirs, num_resamples=_NUM_RESAMPLES, seed=0)
    assert gain is not None
    number = len(ours)
    return Trial(after.setting.name, report, gain, num_before / number, num_after / number)


def to_markdown(trials: Sequence[Trial]) -> str:
    """Write the table, and what it proves."""
    head = (
        "run",
        "simulator",
        "P(answer in observation given search)",
        "closed book",
        "a search brings",
        "predicted",
        "measured gain, points",
        "searches",
        "agrees",
    )
    lines = ["# What the gate predicted and what rl1 brought", ""]
    lines += [join_cells(head), join_cells(["---"] * len(head))]
    for trial in sorted(trials, key=lambda trial: trial.gain.value):
        report = trial.report
        lines.append(
            join_cells(
                [
                    escape(trial.name),
                    escape(report.simulator),
                    _shown(report.answer_bearing),
                    _shown(report.closed_book),
                    _shown(report.pays),
                    str(report.prediction),
                    show_points(trial.gain),
                    f"{trial.searches_before:.2f} to {trial.searches_after:.2f}",
                    "yes" if trial.agrees else "**no**",
                ]
            )
        )
    return "\n".join([*lines, "", summary(trials), ""])


def _shown(interval: Interval | None) -> str:
    return "none" if interval is None else str(interval)


def summary(trials: Sequence[Trial]) -> str:
    """Say how often the gate was right, and whether that proves anything."""
    right = sum(trial.agrees for trial in trials)
    counts = {kind: sum(trial.measured is kind for trial in trials) for kind in Prediction}
    text = (
        f"The gate is right in {right} of {len(trials)} runs; beyond noise, "
        f"{counts[Prediction.HARM]} harm and {counts[Prediction.GAIN]} gain."
    )
    is_enough = len(trials) >= _FEWEST_ROWS and all(
        counts[kind] >= least for kind, least in _FEWEST.items()
    )
    if not is_enough:
        text += f" That proves nothing yet: it takes {_FEWEST_ROWS} runs, 3 that harm, 2 that gain."
    return text


def draw(trials: Sequence[Trial], path: Path) -> None:
    """Draw the gain of each run over how often its simulator shows the answer.

    Raises:
        OutputError: the file cannot be written.
    """
    dots = []
    for trial in trials:
        bearing = trial.report.answer_bearing
        place = bearing.value if bearing else 0.0
        colour = BLUE if trial.report.prediction is Prediction.GAIN else "#b5412f"
        dots.append(Dot(trial.name, place, trial.gain, colour))
    across = "P(answer in observation | search) before rl1"
    title = "blue: the gate predicted a gain; red: a harm"
    draw_dots(dots, path, across, "exact match gained by rl1, points", title)


def main(arguments: Sequence[str]) -> str:
    """Write the table and the picture, and return the summary line."""
    if arguments:
        raise InputError("the command takes no settings", got=" ".join(arguments))
    trials = find_trials([read_result(path) for path in sorted(FOLDER.glob("*.json"))])
    if not trials:
        raise InputError(
            "no run of rl1 was evaluated before and after",
            where=FOLDER,
            fix="make gate SEED=0, or evaluate both models on the same questions",
        )
    write_text(OUT, to_markdown(trials))
    draw(trials, PICTURE)
    return f"{OUT}: {summary(trials)}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
