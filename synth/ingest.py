"""Read trajectories that other people's models wrote from files, and write them in our tags.

    coa ingest
    coa ingest 'ingest.files=[{path: "data/raw/*.jsonl", split: train}]'

Reads the files of `ingest.files` one after another: JSON lines row by row, so that memory grows
only by a few short texts per distinct question, and whole JSON documents. Each row is read in its
own format (coa/foreign) and written in our tags (coa/foreign/own_tags.py) after the prompt of its
mode; its tokens are counted as words. A row that cannot be read, rewritten or graded is recorded
with reason.

Writes data/ingest/: cot.parquet and coa.parquet, the trajectories of each mode; questions.parquet,
their questions, a file for `questions.files`; recorded.parquet, the place of each row in its file
and how it was graded there; dropped.parquet.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

import msgspec

from coa.errors import InputError
from coa.foreign.files import find_files, read_foreign_file
from coa.foreign.frames import prediction
from coa.foreign.own_tags import count_words, rewrite
from coa.foreign.record import ForeignRow, Format, verdicts_of
from coa.foreign.rows import read_foreign_row
from coa.policy.prompts import Prompt, PromptParams
from coa.records.question import Question
from coa.records.trajectory import Author, Mode, StepKind, StopReason, Trajectory, trajectory_id
from coa.records.unreadable import UnreadableError, UnreadableReason
from coa.rollout.factory import TeacherParams
from coa.settings.outputs import check_inputs
from coa.settings.params import Params
from coa.settings.stages import PipelineParams, TrajectorySource
from coa.store import tables
from coa.store.files import INGESTED, INGESTED_QUESTIONS, RECORDED
from coa.store.metrics import write_metrics
from synth.foreign_questions import ForeignQuestions
from synth.question_file import SPLITS
from synth.sample import SampleParams

OUT = INGESTED
DROPPED = OUT / "dropped.parquet"


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """One file of foreign trajectories, or several of one kind, with what their rows do not say."""

    path: str
    """A file of JSON lines or a JSON document, or a pattern such as `data/raw/*.json*`."""
    format: Format = Format.AUTO
    """The format of all rows; `auto` finds it for each row from its columns."""
    reader: str = ""
    """A function of yours that reads each file, as `module:name`: it is given the path and yields
    rows in one of the formats, each a dict (examples/own_parts.py)."""
    model: str = ""
    """The model that wrote the trajectories. If empty, it is the row's column `model`, or else the
    file's name without its ending."""
    split: str = "test"
    """The split of the questions: `test`, unless you know that they may be trained on."""
    source: str = ""
    """The source of the questions: hotpotqa, ..."""
    origin: str = ""
    """Who published the trajectories: a repository, a paper. It is in every row and on the
    cards."""
    license: str = ""
    """The licence of the trajectories, as an SPDX id such as MIT. It is in every row and on the
    cards; empty: unknown, so that nothing is published."""


@dataclass(frozen=True, slots=True)
class IngestParams:
    """The files of foreign trajectories."""

    files: tuple[ForeignFile, ...] = ()
    """One after another, into one set of tables: a question that two files ask is one question,
    with the gold answers of the first."""
    max_row_bytes: Annotated[int, msgspec.Meta(ge=1)] = 4_000_000
    """Largest size of a line; longer ones are dropped unread."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where a trajectory is in a foreign file, and how it was graded there.

    A grade that the file does not have is None.
    """

    trajectory_id: str
    model: str
    prediction: str | None
    """The answer in the file, perhaps normalised."""
    exact_match: bool | None
    f1: float | None
    judge: bool | None
    """A language model's verdict."""
    question_id: str
    gold_answers: tuple[str, ...]
    """Those of this row. The question has those of the first row that has any."""
    answer: str
    """The answer that we read in the trajectory, without its frame."""
    file: str
    line: int
    """As in `DroppedLine`."""


@dataclass(frozen=True, slots=True)
class DroppedLine:
    """A foreign row that could not be used."""

    file: str
    line: int
    """From 1, as editors count; in a file that is one JSON document the row, from 1."""
    character: int
    """The position in the text that was read, from 0: that of the trajectory without its prompt, of
    the message that `detail` names, or of the line itself."""
    reason: UnreadableReason
    detail: str


class Ingested(NamedTuple):
    """One row that was read."""

    trajectory: Trajectory
    recorded: Recorded
    question: Question | None
    """None for a question that occurred before, or that has no gold answer in the file."""
    format: Format


@dataclass(slots=True)
class Ingestion:
    """A reader that turns rows into records, and remembers the questions and ids of all files."""

    max_row_bytes: int
    first_index: int = 0
    """The index of the first trajectory of a question and mode."""
    _questions: ForeignQuestions = field(default_factory=ForeignQuestions)
    _given: Counter[tuple[str, Mode]] = field(default_factory=Counter)

    def rows(self, entry: ForeignFile) -> Iterator[Ingested | DroppedLine]:
        """Yield every row of an entry's files, in order: read, or dropped with reason and place.

        Raises:
            InputError: no file has this name, or the split is unknown.
        """
        if entry.split not in SPLITS:
            raise InputError(
                f"the split {entry.split!r} is unknown",
                where=f"ingest.files, {entry.path}",
                expected=f"one of {', '.join(SPLITS)}",
            )
        for path in find_files(entry.path):
            for number, values in read_foreign_file(path, self.max_row_bytes, entry.reader):
                try:
                    if isinstance(values, UnreadableError):
                        raise values
                    yield self._read(values, entry, path, number)
                except UnreadableError as error:
                    yield _dropped(str(path), number, error)

    def _read(
        self, values: Mapping[str, Any], entry: ForeignFile, path: Path, line: int
    ) -> Ingested:
        """Read one row of a file as a trajectory with its question."""
        row = read_foreign_row(values, entry.format)
        question_id = self._questions.identify(row, entry.split, str(path))
        index = self.first_index + self._given[question_id, row.mode]
        self._given[question_id, row.mode] += 1
        model = entry.model or row.model or str(values.get("model") or path.stem)
        trajectory = to_trajectory(row, question_id, index, model, entry)
        verdicts = verdicts_of(values)
        recorded = Recorded(
            trajectory_id=trajectory.trajectory_id,
            model=model,
            prediction=verdicts.prediction,
            exact_match=verdicts.exact_match,
            f1=verdicts.f1,
            judge=verdicts.judge,
            question_id=question_id,
            gold_answers=row.gold_answers,
            answer=prediction(row.steps) or "",
            file=str(path),
            line=line,
        )
        question = self._questions.first_graded(row, question_id, entry.split, entry.source)
        return Ingested(trajectory, recorded, question, row.format)

    def in_own_tags(self, row: Ingested, prompts: Mapping[Mode, Prompt]) -> Trajectory:
        """Rewrite a row's trajectory in our tags, after the prompt of its mode.

        Raises:
            UnreadableError: it cannot be rewritten exactly, or its question has no gold answer.
        """
        if not self._questions.is_graded(row.trajectory.question_id):
            raise UnreadableError(UnreadableReason.NO_GOLD_ANSWER, 0, row.trajectory.question[:80])
        return rewrite(row.trajectory, prompts[row.trajectory.mode])


def to_trajectory(
    row: ForeignRow, question_id: str, index: int, model: str, entry: ForeignFile
) -> Trajectory:
    """Make the record of a row; what the file lacks is empty, and tokens are words."""
    num_actions = sum(step.kind is StepKind.ACTION for step in row.steps)
    return Trajectory(
        trajectory_id=trajectory_id(question_id, row.mode, index),
        question_id=question_id,
        mode=row.mode,
        index=index,
        question=row.question,
        prompt=row.prompt,
        steps=row.steps,
        stop_reason=StopReason.ANSWERED,
        model=model,
        sampling=row.sampling,
        prompt_hash="",
        search_fingerprint=row.search_fingerprint if row.mode is Mode.COA else "",
        num_prompt_tokens=len(row.prompt.split()),
        num_policy_tokens=count_words(row.steps, Author.POLICY),
        num_environment_tokens=count_words(row.steps, Author.ENVIRONMENT),
        num_calls=num_actions + 1,
        num_actions=num_actions,
        origin=entry.origin,
        license=entry.license,
    )


def ingest(params: IngestParams) -> Iterator[Ingested | DroppedLine]:
    """Yield every row of all files, in order and in its own tags, or why it cannot be read.

    Raises:
        InputError: a file is missing, or a split is unknown.
    """
    ingestion = Ingestion(params.max_row_bytes)
    for entry in params.files:
        yield from ingestion.rows(entry)


def _dropped(file: str, line: int, error: UnreadableError) -> DroppedLine:
    storable = error.detail.encode("utf-8", "replace").decode()
    detail = storable.replace("\0", "\N{SYMBOL FOR NULL}")
    return DroppedLine(file, line, error.character, error.reason, detail)


class Tables:
    """The five tables of `data/ingest`, which appear together or not at all; a context manager."""

    def __init__(self, prompts: Mapping[Mode, Prompt], *, is_trial: bool = False) -> None:
        self._prompts = prompts
        self._is_trial = is_trial
        self._opened = ExitStack()
        self.trajectories: dict[Mode, tables.TableWriter] = {}
        self.formats: Counter[str] = Counter()
        """Trajectories that were written, by the format of their rows."""
        self.models: Counter[str] = Counter()
        """The same by model."""
        self.reasons: Counter[str] = Counter()
        """Rows that were dropped."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for mode in Mode:
                writer = tables.TableWriter(OUT / f"{mode}.parquet", Trajectory)
                self.trajectories[mode] = stack.enter_context(writer)
            self.questions = stack.enter_context(tables.TableWriter(INGESTED_QUESTIONS, Question))
            recorded = tables.TableWriter(RECORDED, Recorded, is_trial=self._is_trial)
            self._recorded = stack.enter_context(recorded)
            self._dropped = stack.enter_context(tables.TableWriter(DROPPED, DroppedLine))
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._opened.__exit__(*error)

    def write_entry(self, entry: ForeignFile, ingestion: Ingestion) -> None:
        """Read the files of an entry and write what they hold.

        Raises:
            InputError: a file is missing, or not one row can be used.
        """
        num_before = self.formats.total()
        reasons: Counter[str] = Counter()
        first_dropped: DroppedLine | None = None
        for row in ingestion.rows(entry):
            dropped = row if isinstance(row, DroppedLine) else self._write(row, ingestion)
            if dropped:
                self._dropped.write(dropped)
                reasons[dropped.reason] += 1
                first_dropped = first_dropped or dropped
        self.reasons.update(reasons)
        if self.formats.total() == num_before:
            raise _nothing_read(entry, reasons, first_dropped)

    def _write(self, row: Ingested, ingestion: Ingestion) -> DroppedLine | None:
        """Write a row; where our tags cannot say the same, return it as dropped."""
        if row.question:
            # Even where the row is dropped: later rows may ask the same question.
            self.questions.write(row.question)
        recorded = row.recorded
        try:
            trajectory = ingestion.in_own_tags(row, self._prompts)
        except UnreadableError as error:
            return _dropped(recorded.file, recorded.line, error)
        self.trajectories[trajectory.mode].write(trajectory)
        self._recorded.write(recorded)
        self.formats[row.format] += 1
        self.models[recorded.model] += 1
        return None


def load_prompts(params: Params) -> dict[Mode, Prompt]:
    """Read the prompt of each mode, as `coa sample` asks with it.

    Raises:
        ConfigError: a prompt file is missing or has an unknown place.
    """
    files = params.section(PromptParams, "prompts")
    template = params.section(TeacherParams, "teacher").chat_template
    return {
        Mode.COT: Prompt.load(Path(files.cot), template),
        Mode.COA: Prompt.load(Path(files.coa), template),
    }


def first_index(params: Params) -> int:
    """Return the first index that a teacher who answers the same questions does not use."""
    if TrajectorySource.SAMPLE not in params.section(PipelineParams, "pipeline").trajectories:
        return 0
    return params.section(SampleParams, "sample").num_rollouts


def main(arguments: Sequence[str]) -> str:
    """Read the foreign files, write the tables and return the summary line."""
    params = Params.load("ingest", arguments)
    settings = params.section(IngestParams)
    if not settings.files:
        raise InputError(
            "no file of trajectories is named",
            where="ingest.files",
            expected="a list such as [{path: data/raw/rows.jsonl, split: train}]",
        )
    is_trial = check_inputs(params, RECORDED.as_posix(), "files")
    ingestion = Ingestion(settings.max_row_bytes, first_index(params))
    with Tables(load_prompts(params), is_trial=is_trial) as out:
        for entry in settings.files:
            out.write_entry(entry, ingestion)
    num_by_mode = {str(mode): table.num_rows for mode, table in out.trajectories.items()}
    figures = {
        "read": dict(out.formats),
        "dropped": dict(out.reasons),
        "models": dict(out.models),
        "questions": out.questions.num_rows,
        **num_by_mode,
    }
    write_metrics("ingest", figures)
    num_read = out.formats.total()
    num_rows = num_read + out.reasons.total()
    reasons = f" ({_listed(out.reasons)})" if out.reasons else ""
    return (
        f"{OUT}: {num_read:,} of {num_rows:,} rows ({_listed(out.formats)}) as "
        f"{_listed(Counter(num_by_mode))}; {out.questions.num_rows:,} questions; "
        f"dropped {out.reasons.total():,}{reasons}"
    )


def _nothing_read(
    entry: ForeignFile, reasons: Counter[str], first: DroppedLine | None
) -> InputError:
    """Make the error for files without any usable row."""
    if first is None:
        return InputError(
            f"{entry.path} holds no row", fix="check ingest.files in params.yaml, or leave it out"
        )
    known = ", ".join(form.value for form in Format if form is not Format.AUTO)
    return InputError(
        f"no row of {entry.path} can be used: {_listed(reasons)}",
        where=f"the first: {first.file}, line {first.line}, character {first.character}",
        expected=f"rows of {known}, with gold answers",
        got=f"{first.reason}: {first.detail}",
        fix="coa/foreign/__init__.py says how to add a format; without a gold answer in the file "
        "or in one before it no answer can be graded",
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
