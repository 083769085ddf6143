"""The id of any row of a set to everything behind it, down to the teacher's calls.

    python -m data_cards.lineage mw-train-000041/coa/0
    python -m data_cards.lineage mw-train-000022/cot/0/38

Prints where the row stands and where it was published, its question, its grade, why it or its other side failed, what
reviewers said, every call of the teacher and of search with its key in the journal, the prompt's file and hash, code
commit and dvc.lock. What is not here (a journal in a fresh clone, say) is said to be missing, never left out.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl

from coa.errors import ConfigError, InputError
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.params import Params
from coa.question import Question
from data_cards import provenance, rows
from data_cards.catalogue import local_path
from data_cards.facts import QUESTIONS, collect, scan
from data_cards.origins import call_lines, prompt_line
from data_cards.review_state import reviews_of
from data_cards.safe_markdown import cut, visible
from data_cards.yields import ANALYSED

_MAX_CHARS = 160
_STAGES = (
    "questions",
    "index",
    "sample",
    "grade",
    "analyse",
    "filter",
    "branch",
    "screen",
    "assemble",
)
"""Those that a row passes on its way into a set."""


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
            f"no set has a row {row_id!r}", expected="a trajectory id, a pair id or a question id of a set",
            fix="the ids stand in the columns of data/assemble/, see docs/data_model.md",
        )  # fmt: skip
    name, split, row = found
    where = Line("stands in", f"{name}, {split} ({local_path(name, split)})")
    sections = [Section(row_id, (where, *_publications()))]
    if isinstance(row, Question):
        return [*sections, _question(row.question_id), _code()]
    if isinstance(row, PreferencePair):
        sections += [_question(row.question_id), _pair(row)]
        ids = [("chosen", row.chosen_id), ("rejected", row.rejected_id)]
    else:
        sections.append(_question(row.trajectory.question_id))
        ids = [("trajectory", row.trajectory.trajectory_id)]
    for part, trajectory_id in ids:
        sections += _trajectory(part, trajectory_id, params)
    reviewed = [row_id, *(it for _, it in ids if it != row_id)]
    return [*sections, _reviews(reviewed), _code()]


def _publications() -> Iterator[Line]:
    published = (
        provenance.RECORDS.read_text(encoding="utf-8").splitlines()
        if provenance.RECORDS.exists()
        else []
    )
    for record in rows.json_lines(published):
        if record["kind"] == "dataset":
            yield Line(
                "published",
                f"{record['repository']} {record['tag']} (revision {record['hub_revision'][:10]})",
            )
    if not published:
        yield Line("published", "nowhere yet")


def _question(question_id: str) -> Section:
    row = rows.find_one(QUESTIONS, Question, pl.col("question_id") == question_id)
    if row is None:
        return Section(f"question {question_id}", (Line("missing", f"not in {QUESTIONS}"),))
    lines = (
        Line("asks", row.question), Line("accepted", " | ".join(row.gold_answers)),
        Line("source", f"{row.source}, split {row.split}, {row.question_type}, {row.num_hops} hops"),
    )  # fmt: skip
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


def _trajectory(part: str, trajectory_id: str, params: Params) -> list[Section]:
    title = f"{part} {trajectory_id}"
    row = rows.find_trajectory(trajectory_id)
    if row is None:
        return [
            Section(
                title,
                (Line("missing", "in neither data/grade.parquet nor data/branch/forks.parquet"),),
            )
        ]
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
        Line("cause", _cause(trajectory_id, row)),
        Line("prompt", prompt_line(it, params)),
    ]
    return [
        Section(title, tuple(lines)),
        Section(f"calls of {trajectory_id}", tuple(map(Line._make, call_lines(it, params)))),
    ]


def _cause(trajectory_id: str, row: GradedTrajectory) -> str:
    if not ANALYSED.exists():
        return f"not analysed: {ANALYSED} is missing"
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


def _code() -> Section:
    code = provenance.code_state()
    state = f"; not committed: {provenance.shown(code.changed)}" if code.changed else ""
    lines = [Line("commit", f"{code.commit or 'none'}{state}")]
    if provenance.LOCK.exists():
        lock = provenance.read_lock()
        lines.append(Line(str(provenance.LOCK), f"SHA-256 {lock.sha256}"))
        lines += [
            Line(f"  {stage}", f"{path} {md5}")
            for stage, made in lock.outs.items()
            for path, md5 in made.items()
            if stage.partition("@")[0] in _STAGES and path.startswith("data/")
        ]
    else:
        lines.append(Line(str(provenance.LOCK), "missing"))
    return Section("code and files", tuple(lines))


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
