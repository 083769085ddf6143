"""Keep the graded trajectories that are worth imitating; every dropped row keeps its reason.

    coa filter
    coa filter shard=2/4        # a part of it (docs/scaling.md)

Reads data/grade.parquet; writes data/filter/kept.parquet and data/filter/dropped.parquet (`graded=`
and `out=` name others). Only the CoA and CoT sets are filtered; pairs are mined from right and
wrong rows alike (curate.branch). `filter.rules` names rules of the user's own. To add one here, add
a value of `DropReason` with its docstring, a function in `RULES`, and its smallest example in
tests/test_filter.py.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from coa.errors import ConfigError
from coa.own_parts import load_function
from coa.progress import Progress
from coa.records import protocol
from coa.records.drops import Dropped, DropReason
from coa.records.graded import GradedTrajectory, RightBy, is_right
from coa.records.grading import Verdict
from coa.records.plain_words import WORD
from coa.records.trajectory import FAILED_STOPS, FORCED_STOPS, Author, Mode, StepKind, StopReason
from coa.settings.outputs import check_folder, check_inputs, journal_name, metrics_name
from coa.shards.stage import ShardRun, open_stage
from coa.store import tables
from coa.store.files import FILTERED, GRADED
from coa.store.metrics import write_metrics


@dataclass(frozen=True, slots=True)
class FilterParams:
    """The limits of the rules."""

    right_by: RightBy = RightBy.EXACT_MATCH
    """What decides that an answer is right: `exact_match`, `cover_match`, `judge`, or a function of
    yours as `module:name` (examples/own_parts.py)."""
    rules: tuple[str, ...] = ()
    """Rules of yours, each as `module:name`: a function that is given a graded row and returns what
    it saw where the row is to be dropped, else None."""
    keeps_forced_answers: bool = False
    """Whether a trajectory whose answer was forced may be kept."""
    max_policy_tokens: int = 4096
    """Longer trajectories are dropped."""
    max_copied_words: int = 24
    """The longest run of words that a thought may share with an observation before it."""
    max_repeats: int = 3
    """How often the same run of `loop_words` words may occur in the policy's text."""
    loop_words: int = 8
    """Words of such a run."""
    graded: str = GRADED.as_posix()
    """What is filtered."""
    out: str = FILTERED.as_posix()
    """The folder under data/ that gets both tables; it names the metrics too."""


Rule = Callable[[GradedTrajectory, FilterParams], str | None]
"""Returns what it saw where it applies, and None where it does not."""

Counts = dict[Mode, Counter[str]]
"""The rows of each mode that were kept, and those that were dropped by reason."""
_KEPT = "kept"
_BROKEN = frozenset({StopReason.MALFORMED, StopReason.FORBIDDEN_ACTION})
_UNANSWERED = frozenset({StopReason.NO_ANSWER, StopReason.TRUNCATED, StopReason.TURN_BUDGET})
_ASCII_GAPS = {code: " " for code in range(128) if not WORD.match(chr(code))}


def _failed(row: GradedTrajectory, _: FilterParams) -> str | None:
    stop = row.trajectory.stop_reason
    if stop in FAILED_STOPS:
        return f"{stop}: {row.trajectory.error}"
    return None


def _broken_format(row: GradedTrajectory, _: FilterParams) -> str | None:
    trajectory = row.trajectory
    if trajectory.stop_reason in _BROKEN:
        return trajectory.stop_reason
    stray_tags = protocol.stray_tags(trajectory.steps)
    if stray_tags:
        return f"stray tag {stray_tags[0]}"
    stop = trajectory.stop_reason
    has_answered = stop is StopReason.ANSWERED or stop in FORCED_STOPS
    if has_answered and row.grade.verdict is Verdict.NO_ANSWER:
        return "no answer in the box"
    return None


def _no_answer(row: GradedTrajectory, _: FilterParams) -> str | None:
    stop = row.trajectory.stop_reason
    return stop if stop in _UNANSWERED else None


def _forced(row: GradedTrajectory, params: FilterParams) -> str | None:
    stop = row.trajectory.stop_reason
    if stop not in FORCED_STOPS or params.keeps_forced_answers:
        return None
    return stop


def _unjudged(row: GradedTrajectory, params: FilterParams) -> str | None:
    if is_right(row, params.right_by) is not None:
        return None
    if row.judgement is None:
        return "no judge was asked"
    return f"{row.judgement.verdict}: {row.judgement.detail!r}"


def _wrong(row: GradedTrajectory, params: FilterParams) -> str | None:
    return None if is_right(row, params.right_by) else f"answered {row.grade.prediction!r}"


def _repeated_search(row: GradedTrajectory, _: FilterParams) -> str | None:
    calls: Counter[tuple[str | None, tuple[str, ...]]] = Counter()
    for step in row.trajectory.steps:
        if step.kind is StepKind.ACTION:
            words = _words(step.argument or "")
            calls[step.tool, words] += 1
    # The repeated call that was first made first is named.
    for (_tool, words), count in calls.items():
        if count > 1:
            return f"twice: {' '.join(words)!r}"
    return None


def _copied_observation(row: GradedTrajectory, params: FilterParams) -> str | None:
    size = params.max_copied_words + 1
    shown: list[tuple[str, ...]] = []
    vocabulary: set[str] = set()
    for step in row.trajectory.steps:
        if step.kind is StepKind.OBSERVATION:
            shown.append(_words(step.text))
            vocabulary.update(shown[-1])
        elif step.kind is StepKind.THOUGHT and step.author is Author.POLICY:
            words = _words(step.text)
            if not _stays_within(vocabulary, words, size):
                continue
            seen: set[tuple[str, ...]] = set()
            for observed in shown:
                seen.update(_runs(observed, size))
            for run in _runs(words, size):
                if run in seen:
                    return f"copies {' '.join(run)!r}"
    return None


def _too_long(row: GradedTrajectory, params: FilterParams) -> str | None:
    count = row.trajectory.num_policy_tokens
    return f"{count} tokens" if count > params.max_policy_tokens else None


def _loops(row: GradedTrajectory, params: FilterParams) -> str | None:
    texts: list[tuple[str, ...]] = []
    occurrences: Counter[str] = Counter()
    for step in row.trajectory.steps:
        if step.author is Author.POLICY:
            words = _words(step.text)
            texts.append(words)
            occurrences.update(words)
    frequent = {word for word, count in occurrences.items() if count > params.max_repeats}
    counts: Counter[tuple[str, ...]] = Counter()
    for words in texts:
        if _stays_within(frequent, words, params.loop_words):
            counts.update(_runs(words, params.loop_words))
    if not counts:
        return None
    [(run, count)] = counts.most_common(1)
    return f"{count} times {' '.join(run)!r}" if count > params.max_repeats else None


def _own_rule(row: GradedTrajectory, params: FilterParams) -> str | None:
    for path in params.rules:
        saw = load_function(path, "filter rule")(row)
        if saw is not None and not isinstance(saw, str):
            raise ConfigError(
                f"the filter rule {path!r} returns no text",
                where="filter.rules",
                expected="what it saw, or None for a row that stays",
                got=repr(saw)[:200],
            )
        if saw is not None:
            return f"{path}: {saw}"
    return None


def _stays_within(vocabulary: set[str], words: Iterable[str], size: int) -> bool:
    """Tell whether `size` words in a row are of the vocabulary.

    This spares most rows the comparison of whole runs.
    """
    length = 0
    for word in words:
        length = length + 1 if word in vocabulary else 0
        if length == size:
            return True
    return False


def _words(text: str) -> tuple[str, ...]:
    """Split a text into the words of `coa.records.plain_words.WORD`, in lower case."""
    text = text.lower()
    if text.isascii():
        # Gives the same words ten times as fast.
        return tuple(text.translate(_ASCII_GAPS).split())
    return tuple(WORD.findall(text))


def _runs(words: tuple[str, ...], size: int) -> Iterable[tuple[str, ...]]:
    """List every run of `size` words."""
    shifted = [words[i:] for i in range(size)]
    return zip(*shifted, strict=False)


RULES: dict[DropReason, Rule] = {
    DropReason.FAILED: _failed,
    DropReason.NO_ANSWER: _no_answer,
    DropReason.FORMAT: _broken_format,
    DropReason.FORCED: _forced,
    DropReason.UNJUDGED: _unjudged,
    DropReason.WRONG: _wrong,
    DropReason.REPEATED_SEARCH: _repeated_search,
    DropReason.COPIED_OBSERVATION: _copied_observation,
    DropReason.LENGTH: _too_long,
    DropReason.LOOP: _loops,
    DropReason.OWN_RULE: _own_rule,
}


def judge(row: GradedTrajectory, params: FilterParams) -> Dropped | None:
    """Apply the rules in order; None when the row is kept, else the first reason to drop it."""
    for reason, rule in RULES.items():
        detail = rule(row, params)
        if detail is not None:
            return Dropped(reason, detail, row)
    return None


def filter_rows(work: ShardRun, params: FilterParams, kept: Path, dropped: Path) -> Counts:
    """Divide the graded rows, or a shard of them, and count them."""
    graded = Path(params.graded)
    rows = work.rows(tables.count_rows(graded))
    counts = {mode: Counter[str]() for mode in Mode}
    with (
        tables.TableWriter(kept, GradedTrajectory) as kept_rows,
        tables.TableWriter(dropped, Dropped) as dropped_rows,
        Progress("filter", len(rows), "trajectories") as bar,
    ):
        for row in tables.read_table(graded, GradedTrajectory, rows):
            verdict = judge(row, params)
            if verdict is None:
                kept_rows.write(row)
            else:
                dropped_rows.write(verdict)
            counts[row.trajectory.mode][verdict.reason if verdict else _KEPT] += 1
            bar.add()
            work.tell_row(bar.done, len(rows))
    return counts


def join(work: ShardRun, kept: Path, dropped: Path) -> Counts:
    """Join what shards divided, and return the counts."""
    kept_parts = work.parts("trajectory.trajectory_id", kept.name)
    dropped_parts = work.parts("row.trajectory.trajectory_id", dropped.name)
    tables.join(kept, GradedTrajectory, kept_parts)
    tables.join(dropped, Dropped, dropped_parts)
    counts = {mode: Counter[str]() for mode in Mode}
    for counted in work.counts(Counts):
        for mode in Mode:
            counts[mode].update(counted[mode])
    return counts


def main(arguments: Sequence[str]) -> str:
    """Filter all graded rows, or a shard of them, and return the summary line."""
    work = open_stage("curate.filter", arguments)
    params = work.params.section(FilterParams)
    check_folder(params.out, "curate.filter")
    check_inputs(work.params, f"{params.out}/kept.parquet", "graded")
    name = metrics_name(params.out)  # refuses a bad `out` before anything is written
    work.launch(journal_name(params.out))
    work.begin_rows(Path(params.graded))
    kept = work.out(Path(params.out) / "kept.parquet")
    dropped = work.out(Path(params.out) / "dropped.parquet")
    if work.shard.is_merge:
        counts = join(work, kept, dropped)
    else:
        counts = filter_rows(work, params, kept, dropped)
    totals = ", ".join(f"{counts[mode][_KEPT]:,} {mode} kept" for mode in Mode)
    if work.is_part:
        return work.finish(f"{kept}: {totals}", counts)
    metrics: dict[str, dict[str, int]] = {}
    for mode in Mode:
        metrics[str(mode)] = {key: counts[mode][key] for key in (_KEPT, *map(str, DropReason))}
    write_metrics(name, metrics)
    return work.finish(f"{kept}: {totals}")


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
