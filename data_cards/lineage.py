"""Trace any row of a set back to everything behind it, down to the teacher's calls.

    coa lineage mw-train-000008/coa/0
    coa lineage mw-train-000028/cot/0/42

Prints where the row is and where it was published, its question, its grade, why it or its other
side failed, what reviewers said, every call of the teacher and of search with its key in the
journal, the prompt's file and hash, the commit and the files of the run that made it. An imported
row is traced to the line of the foreign file in which it stands. What is not here (for example a
journal in a fresh clone) is said to be missing. What cannot be proven to belong to that run is said
to be unknown.
"""

import json
import sys
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import polars as pl

from coa.errors import CoaError, ConfigError, InputError
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair, fork_point
from coa.records.question import Question
from coa.records.sets import AssembleParams
from coa.records.trajectory import (
    Mode,
    Step,
    StepKind,
    Trajectory,
    describe_sampling,
    is_imported,
)
from coa.records.worth import Worth, show_worth
from coa.rollout.calls import Replay, find_calls, journal_of, policy_of, prompts_of
from coa.rollout.factory import PolicyKind, TeacherParams, template_of
from coa.settings.params import Params
from coa.store import tables
from coa.store.dvc_lock import LOCK
from coa.store.files import (
    ANALYSED,
    ASSEMBLED,
    GRADED,
    INGESTED,
    QUESTIONS,
    RECORDED,
    STUDENT_ASSEMBLED,
    STUDENT_BRANCHED,
    STUDENT_GRADED,
)
from coa.store.journal import CallKind
from data_cards import provenance, rows
from data_cards.cards.reviews import reviews_of
from data_cards.cards.safe_markdown import cut, visible
from data_cards.catalogue import SPLITS, SetName, built_sets, local_path, sets_in
from data_cards.facts import collect

_MAX_CHARS = 160
_ANOTHER_RUNS = "the trajectory of this id here is another run's"
_ALWAYS = frozenset({"questions", "screen", "assemble"})
"""The stages that every row passes."""
_OF_TRAJECTORIES = frozenset({"index", "grade", "filter"})
_OF_PAIRS = frozenset({"index", "grade", "branch"})
_LAST = "assemble"


class Line(NamedTuple):
    """One fact."""

    name: str
    value: str


class Section(NamedTuple):
    """Facts of one thing."""

    title: str
    lines: tuple[Line, ...]


def trace_row(row_id: str, params: Params) -> list[Section]:
    """Collect everything behind a row, and behind a row of the student's sets with the same id.

    Raises:
        InputError: no set has such a row, or a file is missing or broken.
    """
    names = built_sets(params.section(AssembleParams, "assemble"))
    found = rows.find_in_sets(row_id, names)
    students = _trace_student(row_id)
    if found is None and students:
        return students
    if found is None:
        raise InputError(
            f"no set has a row {row_id!r}",
            where=f"the sets of this run: {', '.join(names) or 'none'}",
            expected="a trajectory id, a pair id or a question id of a set",
            fix="the ids are in the columns of data/assemble/, see docs/data_model.md",
        )
    name, split, row = found
    lock = provenance.read_lock()
    where = Line("is in", f"{name}, {split} ({local_path(name, split)})")
    head = Section(row_id, (where, *_publications(lock)))
    if isinstance(row, Question):
        return [head, _question(row.question_id), _code(lock, _ALWAYS, None)]
    if isinstance(row, PreferencePair):
        return [head, *_trace_pair(row, params, lock), *students]
    trajectory = row.trajectory
    return [
        head,
        _question(trajectory.question_id),
        *_trajectory("trajectory", row, params),
        _reviews([trajectory.trajectory_id]),
        _code(lock, _ALWAYS | _OF_TRAJECTORIES, trajectory),
        *students,
    ]


def _trace_student(row_id: str) -> list[Section]:
    """Trace the row of this id that a trained student wrote, where there is one.

    Ids of the student's rows are made as those of the teacher's, of the question and the mode, so
    one id may be in a set of each.
    """
    with sets_in(STUDENT_ASSEMBLED):
        names = []
        for name in (SetName.COT_A, SetName.COA):
            if all(local_path(name, split).exists() for split in SPLITS):
                names.append(name)
        found = rows.find_in_sets(row_id, names)
        if found is None:
            return []
        name, split, row = found
        path = local_path(name, split)
    title = f"student's {row_id}"
    if isinstance(row, PreferencePair):
        lines = (
            Line("is in", f"{path}, by the stage student_pairs"),
            Line("mined", f"by the stage student_branch, forked by {row.fork_model}"),
            Line("kind", row.kind),
            Line("parts at", f"character {row.point} of {row.trajectory_id}"),
            Line("worth", _worth(row.worth)),
            Line("chosen", _student_of(row.chosen_id)),
            Line("rejected", _student_of(row.rejected_id)),
        )
        return [Section(title, lines), _question(row.question_id)]
    assert isinstance(row, GradedTrajectory)
    where = Line("is in", f"{path}, by the stage student_assemble")
    trajectory = Line("trajectory", _student_of(row.trajectory.trajectory_id))
    return [Section(title, (where, trajectory)), _question(row.trajectory.question_id)]


def _student_of(trajectory_id: str) -> str:
    """Say which stage and model wrote a trajectory of the student's, and its grade."""
    stage, path = "student_sample", STUDENT_GRADED
    if fork_point(trajectory_id):
        stage, path = "student_branch", STUDENT_BRANCHED / "forks.parquet"
    row = rows.find_graded(path, trajectory_id)
    if row is None:
        return f"{trajectory_id}: missing, not in {path}"
    grade = f"{row.grade.verdict}: {row.grade.prediction!r}"
    return f"{trajectory_id}, by the stage {stage} with {row.trajectory.model}, {grade}"


def _trace_pair(pair: PreferencePair, params: Params, lock: provenance.Lock) -> list[Section]:
    parent = rows.find_trajectory(pair.trajectory_id)
    acting = f"acting {pair.num_act_correct} of {pair.num_act} right"
    thinking = f"thinking {pair.num_think_correct} of {pair.num_think}"
    lines = (
        Line("kind", pair.kind),
        Line("parts at", f"character {pair.point} of {pair.trajectory_id}"),
        Line("point", f"{acting}, {thinking}"),
        Line("tool", pair.tool),
        Line("worth", _worth(pair.worth)),
    )
    reviewed = dict.fromkeys([pair.pair_id, pair.trajectory_id, pair.chosen_id, pair.rejected_id])
    return [
        _question(pair.question_id),
        Section(f"pair {pair.pair_id}", lines),
        *_forked(pair, parent, params),
        *_side("chosen", pair.chosen_id, (*pair.prefix, *pair.chosen), params),
        *_side("rejected", pair.rejected_id, (*pair.prefix, *pair.rejected), params),
        _reviews(list(reviewed)),
        _code(lock, _ALWAYS | _OF_PAIRS, parent.trajectory if parent else None),
    ]


def _forked(pair: PreferencePair, parent: GradedTrajectory | None, params: Params) -> list[Section]:
    """Trace the trajectory that was forked, where both sides of a pair are forks of it."""
    if pair.trajectory_id in (pair.chosen_id, pair.rejected_id):
        return []
    if parent is None:
        missing = f"not in {GRADED}"
    elif not protocol.render(parent.trajectory.steps).startswith(protocol.render(pair.prefix)):
        missing = _ANOTHER_RUNS
    else:
        return _trajectory("forked", parent, params)
    return [Section(f"forked {pair.trajectory_id}", (Line("missing", missing),))]


def _side(part: str, trajectory_id: str, steps: Sequence[Step], params: Params) -> list[Section]:
    """Trace a side of a pair to its trajectory, if that has the same text."""
    row = rows.find_trajectory(trajectory_id)
    if row is None:
        missing = "in neither data/grade.parquet nor data/branch/forks.parquet"
    elif protocol.render(row.trajectory.steps) != protocol.render(steps):
        missing = _ANOTHER_RUNS
    else:
        return _trajectory(part, row, params)
    return [Section(f"{part} {trajectory_id}", (Line("missing", missing),))]


def _publications(lock: provenance.Lock) -> Iterator[Line]:
    """Say where the run of this lock was published; of other runs, that they were published."""
    is_ours = _is_of_lock(lock)
    published = []
    if provenance.RECORDS.exists():
        published = provenance.RECORDS.read_text(encoding="utf-8").splitlines()
    for line in published:
        record = json.loads(line)
        if record["kind"] == "dataset":
            revision = record["hub_revision"][:10]
            text = f"{record['repository']} {record['tag']} (revision {revision})"
            if not is_ours or record["dvc_lock_sha256"] != lock.sha256:
                text += ", by another dvc.lock: whether it holds this row is not known"
            yield Line("published", text)
    if not published:
        yield Line("published", "nowhere yet")


def _question(question_id: str) -> Section:
    row = rows.find_one(QUESTIONS, Question, pl.col("question_id") == question_id)
    if row is None:
        return Section(f"question {question_id}", (Line("missing", f"not in {QUESTIONS}"),))
    source = f"{row.source or 'not stated'}, split {row.split}"
    if row.question_type:
        source += f", {row.question_type}"
    if row.num_hops is not None:
        source += f", {row.num_hops} hops"
    lines = (
        Line("asks", row.question),
        Line("accepted", " | ".join(row.gold_answers)),
        Line("source", source),
    )
    return Section(f"question {question_id}", lines)


def _worth(worth: Worth | None) -> str:
    """Say what calling the tool was worth, and by which continuations that was measured."""
    if worth is None:
        return "not measured: one arm alone was continued"
    shown = f"{show_worth(worth)}, confidence {worth.confidence:g}, {worth.price:g} a call"
    acting = f"acting {worth.act.num_correct} of {worth.act.num} right"
    thinking = f"thinking {worth.think.num_correct} of {worth.think.num}"
    return f"{shown}; {acting}, {thinking}"


def _trajectory(part: str, row: GradedTrajectory, params: Params) -> list[Section]:
    trajectory = row.trajectory
    trajectory_id = trajectory.trajectory_id
    if is_imported(trajectory):
        made: tuple[Line, ...] = (
            Line("model", trajectory.model),
            Line("published by", trajectory.origin or "not stated"),
            Line("licence", trajectory.license or "not stated"),
        )
    else:
        made = (
            Line(_writer_of(trajectory), trajectory.model),
            Line("sampling", describe_sampling(trajectory.sampling)),
        )
    grade = row.grade
    compared = "no accepted answer"
    if grade.f1 is not None:
        compared = f"exact match {grade.exact_match}, F1 {grade.f1:.2f}"
    graded = [Line("grade", f"{grade.verdict}: {grade.prediction!r}, {compared}")]
    if row.judgement is not None:
        judged = row.judgement
        score = "" if judged.score is None else f", score {judged.score:.2f}"
        graded.append(Line("judged", f"{judged.verdict}{score}, by {judged.judge}"))
    lines = (
        *made,
        Line(
            "ended",
            f"{trajectory.stop_reason}, {trajectory.num_actions} searches,"
            f" {trajectory.num_policy_tokens} tokens in {trajectory.num_calls} calls",
        ),
        *graded,
        Line("cause", _cause(trajectory_id, row)),
        Line("prompt", _prompt(trajectory, params)),
    )
    return [
        Section(f"{part} {trajectory_id}", lines),
        Section(f"calls of {trajectory_id}", tuple(call_lines(trajectory, params))),
    ]


def _writer_of(trajectory: Trajectory) -> str:
    """Say who wrote a trajectory of this project's own runs: another policy may write the forks."""
    return "forked by" if fork_point(trajectory.trajectory_id) else "teacher"


def _prompt(trajectory: Trajectory, params: Params) -> str:
    """Name the prompt's file, if its hash is the trajectory's, and the hash."""
    files = prompts_of(trajectory, params)
    writer = policy_of(trajectory, params)
    path = Path(files.cot if trajectory.mode is Mode.COT else files.coa)
    try:
        is_same = Prompt.load(path, template_of(writer)).prompt_hash == trajectory.prompt_hash
    except CoaError:
        is_same = False
    name = f"{path}" if is_same else f"another version of {path}"
    line = f"{name}, hash {trajectory.prompt_hash}"
    if is_imported(trajectory):
        return f"{line}, put before it here; what its model was asked with is not recorded"
    return line


def call_lines(trajectory: Trajectory, params: Params) -> Iterator[Line]:
    """Yield every call of the policy and of search, then whether they give the same trajectory."""
    results = [step for step in trajectory.steps if step.kind is StepKind.OBSERVATION]
    if is_imported(trajectory):
        no_call = "from a file of other people's: no call of this project made it"
        yield Line("imported", no_call)
        path = rows.run_file(trajectory)
        place = f"not known: {path} is missing or does not hold this trajectory"
        if rows.is_in_run(trajectory):
            is_it = pl.col("trajectory_id") == trajectory.trajectory_id
            frame = tables.scan(RECORDED, ["trajectory_id", "file", "line"]).filter(is_it)
            place = f"not known: {RECORDED} does not name it"
            for recorded in collect(frame).to_dicts():
                place = f"{recorded['file']}, line {recorded['line']}"
        yield Line("stands in", place)
        for number, step in enumerate(results, 1):
            titles = f"; the file names {', '.join(step.passages)}" if step.passages else ""
            unknown = f"imported: what answered is not recorded and cannot be checked{titles}"
            yield Line(f"result {number}", unknown)
        return
    found = find_calls(trajectory, params)
    for call in found.calls:
        when = call.finished_at or "not in this journal"
        cost = f"{call.cost.text}, " if call.cost.text else ""
        facts = f"{when}, {call.seconds:.2f} s, {cost}key {call.key}"
        if call.kind is CallKind.POLICY:
            yield Line(_writer_of(trajectory), f"{facts}: {call.text[-80:]}")
        else:
            yield Line("search", f"{facts}: {call.text}")
    for number, step in enumerate(results, 1):
        passages = ", ".join(step.passages) or "nothing"
        by = trajectory.search_fingerprint
        yield Line(f"result {number}", f"{step.outcome}: {passages}, by {by}")
    if found.cost.text:
        yield Line("cost", found.cost.text)
    journal = journal_of(trajectory, params)
    verdict = _verdict(found, journal, policy_of(trajectory, params))
    yield Line("journal", f"{journal}: {verdict}")


def _verdict(found: Replay, journal: Path, writer: TeacherParams) -> str:
    """Say whether the calls are proven to be those of the trajectory."""
    if found.is_same:
        return "its replies give this trajectory again, character by character"
    if not journal.exists():
        return "not here; calls stay where they were made"
    if writer.policy is not PolicyKind.LOCAL:
        others = "other settings, another journal, or a call that was not kept"
        return f"does not give this trajectory: {others}"
    # The key of a call holds the weights.
    model = writer.local.model
    doubt = f"other weights than those now in {model!r}, other settings, or another journal"
    if not Path(model).is_dir():
        doubt = f"the model's folder {model!r} is not here"
    return f"the calls cannot be proven: {doubt}"


def _cause(trajectory_id: str, row: GradedTrajectory) -> str:
    if not ANALYSED.exists():
        return f"not analysed: {ANALYSED} is missing"
    known = rows.find_trajectory(trajectory_id)
    if known is None or known.trajectory != row.trajectory:
        return f"not known: {GRADED} has another run's trajectory of this id, or none"
    frame = tables.scan(ANALYSED, ["trajectory_id", "cause", "step", "evidence", "contributing"])
    found = collect(frame.filter(pl.col("trajectory_id") == trajectory_id)).to_dicts()
    if not found:
        return "right" if row.grade.exact_match else "not analysed: forks are not"
    analysis = found[0]
    beside = ""
    if analysis["contributing"]:
        causes = [contributing["cause"] for contributing in analysis["contributing"]]
        beside = f"; beside it {', '.join(causes)}"
    if not analysis["cause"]:
        return f"none: right{beside}"
    place = "" if analysis["step"] is None else f" at step {analysis['step'] + 1}"
    return f"{analysis['cause']}{place}: {analysis['evidence']}{beside}"


def _reviews(ids: Sequence[str]) -> Section:
    lines = []
    for item_id in ids:
        for review, summary in reviews_of(item_id):
            lines.append(Line(review.item_id, summary))
    if not lines:
        lines.append(Line("none", "no person has reviewed it"))
    return Section("reviews", tuple(lines))


def _code(lock: provenance.Lock, stages: frozenset[str], sampled: Trajectory | None) -> Section:
    """Show the commit and the files of the run that made the row, as far as that is proven."""
    code = provenance.code_state()
    state = f"; not committed: {provenance.shown(code.changed)}" if code.changed else ""
    tool = f", toolkit {code.tool}" if code.tool else ""
    lines = [Line("code here", f"commit {code.commit or 'none'}{tool}{state}")]
    if not _is_of_lock(lock):
        reason = f"{ASSEMBLED} is not the one that it describes" if lock.outs else "missing"
        no_commit = Line("commit", "not known: another run made the row, or dvc.lock is missing")
        return Section("code and files", (*lines, no_commit, Line(str(LOCK), reason)))
    commit = provenance.lock_commit() or "not known: dvc.lock is not committed"
    lines += [Line("commit", commit), Line(str(LOCK), f"SHA-256 {lock.sha256}")]
    if sampled is not None:
        stage = "ingest" if is_imported(sampled) else f"sample@{sampled.mode}"
        path = rows.run_file(sampled)
        out = INGESTED if is_imported(sampled) else path
        md5 = lock.outs.get(stage, {}).get(out.as_posix(), "")
        if not md5 or provenance.md5_of(out) != md5:
            unknown = f"not known: {out} is not the one that dvc.lock describes"
            lines.append(Line(f"  {stage}", unknown))
        elif not rows.is_in_run(sampled):
            unknown = f"not known: {path} does not hold this trajectory"
            lines.append(Line(f"  {stage}", unknown))
        else:
            stages |= {stage}
    lines += _files_behind(lock, stages)
    return Section("code and files", tuple(lines))


def _is_of_lock(lock: provenance.Lock) -> bool:
    """Return whether data/assemble is the one that dvc.lock describes."""
    md5 = lock.outs.get(_LAST, {}).get(ASSEMBLED.as_posix(), "")
    return bool(md5) and provenance.md5_of(ASSEMBLED) == md5


def _files_behind(lock: provenance.Lock, stages: Collection[str]) -> Iterator[Line]:
    """Yield the data files that led to data/assemble, with their hashes, the last stage first.

    The lock says which files `assemble` read, by their hashes, and which of its stages made them,
    and so on back to the questions. A file that another run made breaks the chain: nothing before
    it is known.
    """
    makers = {}
    for stage, made in lock.outs.items():
        for path in made:
            makers[path] = stage
    todo = [_LAST]
    seen = {_LAST}
    while todo:
        reader = todo.pop(0)
        for path, md5 in lock.outs[reader].items():
            if path.startswith("data/"):
                yield Line(f"  {reader}", f"{path} {md5}")
        for path, md5 in lock.deps[reader].items():
            stage = makers.get(path, "")
            if stage not in stages or stage in seen:
                continue
            seen.add(stage)
            if lock.outs[stage][path] == md5:
                todo.append(stage)
            elif path.startswith("data/"):
                unknown = "as it was read; which run made it is not known"
                yield Line(f"  {stage}", f"{path} {md5}, {unknown}")


def show(sections: Sequence[Section]) -> str:
    """Write sections as text: long values cut, characters that cannot be seen spelled out."""
    shown = []
    for section in sections:
        width = max(len(line.name) for line in section.lines)
        shown.append(visible(section.title))
        for line in section.lines:
            value = visible(cut(" ".join(line.value.split()), _MAX_CHARS))
            shown.append(f"  {visible(line.name):{width}}  {value}")
    return "\n".join(shown)


def main(arguments: Sequence[str]) -> str:
    """Trace one row and return the text to print."""
    ids = [argument for argument in arguments if "=" not in argument]
    if len(ids) != 1:
        raise ConfigError(
            "name one row",
            expected="coa lineage ROW_ID",
            got=" ".join(ids) or "none",
        )
    others = [argument for argument in arguments if "=" in argument]
    return show(trace_row(ids[0], Params.load("publish", others)))


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
