"""The id of any row of a set to everything behind it, down to the teacher's calls.

    python -m data_cards.lineage mw-train-000041/coa/0
    python -m data_cards.lineage mw-train-000022/cot/0/38

Prints where the row stands and where it was published, its question, its grade, why it or its other side failed, what
reviewers said, every call of the teacher and of search with its key in the journal, the prompt's
file and hash, the commit and the files of the run that made it. What is not here (a journal in a
fresh clone, say) is said to be missing, and what cannot be proven to be of that run not to be known.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from coa import protocol
from coa.errors import ConfigError, InputError
from coa.files import ANALYSED, ASSEMBLED, GRADED, QUESTIONS
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.params import Params
from coa.question import Question
from coa.trajectory import Trajectory
from data_cards import rows
from data_cards.cards.reviews import reviews_of
from data_cards.cards.safe_markdown import cut, visible
from data_cards.catalogue import local_path
from data_cards.facts import collect, scan
from data_cards.tracing import provenance, run_files
from data_cards.tracing.origins import call_lines, is_imported, prompt_line

_MAX_CHARS = 160
_ALWAYS = frozenset({"questions", "screen", "assemble"})
"""The stages that every row passes."""
_OF_TRAJECTORIES = frozenset({"index", "grade", "filter"})
_OF_PAIRS = frozenset({"index", "grade", "branch"})


class Line(NamedTuple):
    """One fact."""

    name: str
    value: str


class Section(NamedTuple):
    """Facts of one thing."""

    title: str
    lines: tuple[Line, ...]


def trace_row(row_id: str, params: Params) -> list[Section]:
    """Everything behind a row.

    Raises:
        InputError: no set has such a row, or a file is missing or broken.
    """
    found = rows.find_in_sets(row_id)
    if found is None:
        raise InputError(
            f"no set has a row {row_id!r}",
            expected="a trajectory id, a pair id or a question id of a set",
            fix="the ids stand in the columns of data/assemble/, see docs/data_model.md",
        )
    name, split, row = found
    lock = provenance.read_lock() if provenance.LOCK.exists() else provenance.NO_LOCK
    where = Line("stands in", f"{name}, {split} ({local_path(name, split)})")
    head = Section(row_id, (where, *_publications(lock)))
    if isinstance(row, Question):
        return [head, _question(row.question_id), _code(lock, _ALWAYS, None)]
    if isinstance(row, PreferencePair):
        return [head, *_trace_pair(row, params, lock)]
    it = row.trajectory
    sections = [_question(it.question_id), *_trajectory("trajectory", row, params)]
    code = _code(lock, _ALWAYS | _OF_TRAJECTORIES, it)
    return [head, *sections, _reviews([it.trajectory_id]), code]


def _trace_pair(pair: PreferencePair, params: Params, lock: provenance.Lock) -> list[Section]:
    sections = [_question(pair.question_id), _pair(pair)]
    sides = {
        "chosen": (pair.chosen_id, pair.chosen),
        "rejected": (pair.rejected_id, pair.rejected),
    }
    for part, (trajectory_id, steps) in sides.items():
        row = rows.find_trajectory(trajectory_id)
        if row is None:
            missing = "in neither data/grade.parquet nor data/branch/forks.parquet"
        elif protocol.render(row.trajectory.steps) != protocol.render((*pair.prefix, *steps)):
            missing = "the trajectory of this id here is another run's"
        else:
            sections += _trajectory(part, row, params)
            continue
        sections.append(Section(f"{part} {trajectory_id}", (Line("missing", missing),)))
    parent = rows.find_trajectory(pair.trajectory_id)
    code = _code(lock, _ALWAYS | _OF_PAIRS, parent.trajectory if parent else None)
    return [*sections, _reviews([pair.pair_id, pair.chosen_id, pair.rejected_id]), code]


def _publications(lock: provenance.Lock) -> Iterator[Line]:
    """Where the run of this lock was published; of other runs, that they were."""
    is_ours = run_files.is_of_lock(lock)
    published = []
    if provenance.RECORDS.exists():
        published = provenance.RECORDS.read_text(encoding="utf-8").splitlines()
    for record in rows.json_lines(published):
        if record["kind"] == "dataset":
            text = (
                f"{record['repository']} {record['tag']} (revision {record['hub_revision'][:10]})"
            )
            if not is_ours or record["dvc_lock_sha256"] != lock.sha256:
                text += ", by another dvc.lock: whether it holds this row is not known"
            yield Line("published", text)
    if not published:
        yield Line("published", "nowhere yet")


def _question(question_id: str) -> Section:
    row = rows.find_one(QUESTIONS, Question, pl.col("question_id") == question_id)
    if row is None:
        return Section(f"question {question_id}", (Line("missing", f"not in {QUESTIONS}"),))
    lines = (
        Line("asks", row.question),
        Line("accepted", " | ".join(row.gold_answers)),
        Line(
            "source", f"{row.source}, split {row.split}, {row.question_type}, {row.num_hops} hops"
        ),
    )
    return Section(f"question {question_id}", lines)


def _pair(pair: PreferencePair) -> Section:
    acting = f"acting {pair.num_act_correct} of {pair.num_act} right"
    counts = f"{acting}, thinking {pair.num_think_correct} of {pair.num_think}"
    lines = (
        Line("kind", pair.kind),
        Line("parts at", f"character {pair.point} of {pair.trajectory_id}"),
        Line("point", counts),
    )
    return Section(f"pair {pair.pair_id}", lines)


def _trajectory(part: str, row: GradedTrajectory, params: Params) -> list[Section]:
    it, grade = row.trajectory, row.grade
    lines = [
        Line("teacher", it.model),
        Line(
            "sampling",
            f"temperature {it.sampling.temperature}, top-p {it.sampling.top_p}, seed {it.sampling.seed}",
        ),
        Line(
            "ended",
            f"{it.stop_reason}, {it.num_actions} searches, {it.num_policy_tokens} tokens in {it.num_calls} calls",
        ),
        Line(
            "grade",
            f"{grade.verdict}: {grade.prediction!r}, exact match {grade.exact_match}, F1 {grade.f1:.2f}",
        ),
        Line("cause", _cause(it.trajectory_id, row)),
        Line("prompt", prompt_line(it, params)),
    ]
    return [
        Section(f"{part} {it.trajectory_id}", tuple(lines)),
        Section(f"calls of {it.trajectory_id}", tuple(map(Line._make, call_lines(it, params)))),
    ]


def _cause(trajectory_id: str, row: GradedTrajectory) -> str:
    if not ANALYSED.exists():
        return f"not analysed: {ANALYSED} is missing"
    known = rows.find_trajectory(trajectory_id)
    if known is None or known.trajectory != row.trajectory:
        return f"not known: {GRADED} has another run's trajectory of this id, or none"
    frame = scan(ANALYSED, ["trajectory_id", "cause", "step", "evidence", "contributing"])
    found = collect(frame.filter(pl.col("trajectory_id") == trajectory_id)).to_dicts()
    if not found:
        return "right" if row.grade.exact_match else "not analysed: forks are not"
    cause = found[0]["cause"]
    beside = (
        "; beside it " + ", ".join(it["cause"] for it in found[0]["contributing"])
        if found[0]["contributing"]
        else ""
    )
    return (
        f"{cause} at step {found[0]['step']}: {found[0]['evidence']}{beside}"
        if cause
        else f"none: right{beside}"
    )


def _reviews(ids: Sequence[str]) -> Section:
    lines = [Line(review.item_id, said) for item_id in ids for review, said in reviews_of(item_id)]
    return Section("reviews", tuple(lines or [Line("none", "no person has reviewed it")]))


def _code(lock: provenance.Lock, stages: frozenset[str], sampled: Trajectory | None) -> Section:
    """The commit and the files of the run that made the row; what is not proven to be its own is not shown.

    Args:
        lock: dvc.lock.
        stages: Those that the row passed, without `sample`.
        sampled: The trajectory from which the row was made; None for a question.
    """
    code = provenance.code_state()
    state = f"; not committed: {provenance.shown(code.changed)}" if code.changed else ""
    lines = [Line("code here", f"commit {code.commit or 'none'}{state}")]
    if not run_files.is_of_lock(lock):
        reason = f"{ASSEMBLED} is not the one that it describes" if lock.outs else "missing"
        unknown = Line("commit", "not known: another run made the row, or dvc.lock is missing")
        return Section("code and files", (*lines, unknown, Line(str(provenance.LOCK), reason)))
    commit = provenance.lock_commit() or "not known: dvc.lock is not committed"
    lines += [Line("commit", commit), Line(str(provenance.LOCK), f"SHA-256 {lock.sha256}")]
    if sampled is not None:
        stage = f"sample@{sampled.mode}"
        unknown_sample = _unknown_sample(lock, stage, sampled)
        if unknown_sample:
            lines.append(Line(f"  {stage}", unknown_sample))
        else:
            stages |= {stage}
    for file in run_files.files_behind(lock, stages):
        note = "" if file.is_known else ", as it was read; which run made it is not known"
        if file.path.startswith("data/"):
            lines.append(Line(f"  {file.stage}", f"{file.path} {file.md5}{note}"))
    return Section("code and files", tuple(lines))


def _unknown_sample(lock: provenance.Lock, stage: str, sampled: Trajectory) -> str:
    """Why it is not known which run sampled a trajectory; empty where it is that of dvc.lock."""
    if is_imported(sampled):
        return "imported: no stage of this project sampled it"
    path = rows.sample_path(sampled)
    md5 = lock.outs.get(stage, {}).get(path.as_posix(), "")
    if not md5 or provenance.md5_of(path) != md5:
        return f"not known: {path} is not the one that dvc.lock describes"
    return "" if rows.is_sampled(sampled) else f"not known: {path} does not hold this trajectory"


def show(sections: Sequence[Section]) -> str:
    """The sections as text; what is long is cut, what cannot be seen is spelled out."""
    shown = []
    for section in sections:
        width = max(len(line.name) for line in section.lines)
        shown.append(visible(section.title))
        shown += [
            f"  {visible(line.name):{width}}  {_one_line(line.value)}" for line in section.lines
        ]
    return "\n".join(shown)


def _one_line(text: str) -> str:
    return visible(cut(" ".join(text.split()), _MAX_CHARS))


def main(arguments: Sequence[str]) -> str:
    """Trace one row; what it prints is returned."""
    ids = [argument for argument in arguments if "=" not in argument]
    if len(ids) != 1:
        raise ConfigError(
            "name one row",
            expected="python -m data_cards.lineage ROW_ID",
            got=" ".join(ids) or "none",
        )
    others = [argument for argument in arguments if "=" in argument]
    return show(trace_row(ids[0], Params.load("publish", others)))


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
