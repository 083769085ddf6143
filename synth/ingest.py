"""Read trajectories that other people's models wrote from files into our record.

    python -m synth.ingest path=FILE [format=auto] [model=NAME] [split=test]

Reads JSON lines row by row, so that memory grows only by one short text per distinct question, and
whole JSON documents (synth/foreign_files.py). The steps keep the foreign tags (coa/dialects.py);
`coa.own_tags.to_own_tags` writes them in our tags for training. Tokens are counted as words. Rows
that cannot be read are recorded with the reason. Writes data/ingest/trajectories.parquet,
questions.parquet, recorded.parquet and dropped.parquet.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from glob import glob
from pathlib import Path
from typing import Any, NamedTuple

from coa import tables
from coa.dialects import UnreadableError, UnreadableReason
from coa.errors import InputError
from coa.metrics import write_metrics
from coa.own_tags import count_words
from coa.params import Params
from coa.question import Question
from coa.trajectory import Author, Mode, StepKind, StopReason, Trajectory, trajectory_id
from synth.foreign_files import read_foreign_file
from synth.foreign_rows import ForeignRow, Format, question_hash, read_foreign_row
from synth.question_file import SPLITS

OUT = Path("data/ingest")


@dataclass(frozen=True, slots=True)
class ForeignFile:
    """One file of foreign trajectories, or several of one kind, with what their rows do not say."""

    path: str
    """A file of JSON lines or a JSON document, or a pattern such as `raw/*.json*`. Its files share
    one run, so that ids stay unique."""
    format: Format = Format.AUTO
    """The format of all rows; `auto` finds it for each row from its columns."""
    model: str = ""
    """The model that wrote the trajectories. If empty, it is the row's column `model`, or else the
    file's name without its ending."""
    split: str = "test"
    """The split of the questions: `test`, unless you know that they may be trained on."""
    source: str = ""
    """The source of the questions: hotpotqa, ..."""
    origin: str = ""
    """Who published the trajectories: a repository, a paper. It stands in every row and on the
    cards."""
    license: str = ""
    """The licence of the trajectories. It stands in every row and on the cards."""


@dataclass(frozen=True, slots=True)
class IngestParams:
    """The files of foreign trajectories."""

    files: tuple[ForeignFile, ...] = ()
    """One after another."""
    max_row_bytes: int = 4_000_000
    """Largest size of a line; longer ones are dropped unread."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The grades of a trajectory's answer in a foreign file; None where it has none."""

    trajectory_id: str
    model: str
    prediction: str | None
    """The answer in the file, perhaps normalised."""
    exact_match: bool | None
    f1: float | None
    judge: bool | None
    """A language model's verdict."""


@dataclass(frozen=True, slots=True)
class DroppedLine:
    """A foreign row that could not be used."""

    file: str
    line: int
    """From 1, as editors count; in a file that is one JSON document the row, from 1."""
    character: int
    """The position in the text that was read, from 0: that of the trajectory without its prompt, or
    the line itself."""
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
    """A reader that turns rows into records, and remembers only which ids it has given."""

    params: ForeignFile
    _asked: dict[str, str] = field(default_factory=dict)
    """The hash of the question behind each question id."""
    _given: Counter[tuple[str, Mode]] = field(default_factory=Counter)
    _written: set[str] = field(default_factory=set)

    def read(self, values: Mapping[str, Any], model: str) -> Ingested:
        """Read one row of a file as a trajectory with its question.

        Raises:
            UnreadableError: the row cannot be used.
        """
        row = read_foreign_row(values, self.params.format)
        question_id = self._identify(row)
        index = self._given[question_id, row.mode]
        self._given[question_id, row.mode] += 1
        model = self.params.model or str(values.get("model") or model)
        trajectory = to_trajectory(row, question_id, index, model)
        recorded = Recorded(
            trajectory_id=trajectory.trajectory_id,
            model=model,
            prediction=row.prediction,
            exact_match=row.exact_match,
            f1=row.f1,
            judge=row.judge,
        )
        return Ingested(trajectory, recorded, self._new_question(row, question_id), row.format)

    def _identify(self, row: ForeignRow) -> str:
        digest = question_hash(row.question)
        question_id = row.question_id or digest
        if self._asked.setdefault(question_id, digest) != digest:
            raise UnreadableError(UnreadableReason.ID_CLASH, 0, question_id)
        return question_id

    def _new_question(self, row: ForeignRow, question_id: str) -> Question | None:
        if not row.gold_answers or question_id in self._written:
            return None
        self._written.add(question_id)
        return Question(
            question_id=question_id,
            question=row.question,
            gold_answers=row.gold_answers,
            split=self.params.split,
            source=self.params.source,
        )


def to_trajectory(row: ForeignRow, question_id: str, index: int, model: str) -> Trajectory:
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
    )


def ingest(params: IngestParams) -> Iterator[Ingested | DroppedLine]:
    """Yield every row of the files, in order: read, or dropped with its reason and place.

    Raises:
        InputError: no file has this name, or the split or the size of a row is not valid.
    """
    if params.max_row_bytes < 1:
        raise InputError(
            "no row fits into max_row_bytes", expected="at least 1", got=params.max_row_bytes
        )
    for file in params.files:
        if file.split not in SPLITS:
            raise InputError(
                f"the split {file.split!r} is unknown", expected=f"one of {', '.join(SPLITS)}"
            )
        ingestion = Ingestion(file)
        for path in _files(file.path):
            for number, values in read_foreign_file(path, params.max_row_bytes):
                try:
                    if isinstance(values, UnreadableError):
                        raise values
                    yield ingestion.read(values, path.stem)
                except UnreadableError as error:
                    yield _dropped(path, number, error)


def _files(pattern: str) -> list[Path]:
    """List the files of a name or pattern, in order.

    Raises:
        InputError: there is none, or a folder is among them.
    """
    names = sorted(glob(pattern)) or [pattern]  # noqa: PTH207 (may be absolute)
    paths = [Path(name) for name in names]
    for path in paths:
        if path.is_dir():
            raise InputError(
                f"{path} is a folder",
                expected="a file or a pattern of files",
                fix=f'name its files: python -m synth.ingest path="{path}/*.json*"',
            )
        if not path.is_file():
            raise InputError(
                f"{path} is missing", fix="check the path: python -m synth.ingest path=FILE"
            )
    return paths


def _dropped(path: Path, number: int, error: UnreadableError) -> DroppedLine:
    storable = error.detail.encode("utf-8", "replace").decode()
    detail = storable.replace("\0", "\N{SYMBOL FOR NULL}")
    return DroppedLine(str(path), number, error.character, error.reason, detail)


def main(arguments: Sequence[str]) -> str:
    """Read the foreign files, write the four tables and return the summary line."""
    params = Params.load("ingest", arguments).section(IngestParams)
    kinds: dict[str, type[Any]] = {
        "trajectories": Trajectory,
        "questions": Question,
        "recorded": Recorded,
        "dropped": DroppedLine,
    }
    formats: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    first_dropped: DroppedLine | None = None
    with ExitStack() as stack:
        out = {}
        for name, kind in kinds.items():
            writer = tables.TableWriter(OUT / f"{name}.parquet", kind)
            out[name] = stack.enter_context(writer)
        for row in ingest(params):
            if isinstance(row, DroppedLine):
                out["dropped"].write(row)
                reasons[row.reason] += 1
                first_dropped = first_dropped or row
                continue
            out["trajectories"].write(row.trajectory)
            out["recorded"].write(row.recorded)
            if row.question:
                out["questions"].write(row.question)
            formats[row.format] += 1
        if not formats:
            raise _nothing_read(params, reasons, first_dropped)
    num_questions = out["questions"].num_rows
    write_metrics(
        "ingest", {"read": dict(formats), "dropped": dict(reasons), "questions": num_questions}
    )
    num_rows = formats.total() + reasons.total()
    shown_reasons = f" ({_listed(reasons)})" if reasons else ""
    return (
        f"{OUT}: {formats.total():,} of {num_rows:,} rows of {len(params.files)} files "
        f"({_listed(formats)}), {num_questions:,} questions with gold answers; "
        f"dropped {reasons.total():,}{shown_reasons}"
    )


def _nothing_read(
    params: IngestParams, reasons: Counter[str], first: DroppedLine | None
) -> InputError:
    """Make the error for files without any readable row."""
    if first is None:
        return InputError("the files hold no row", fix="check ingest.files in params.yaml")
    known = [form.value for form in Format if form is not Format.AUTO]
    return InputError(
        f"no row can be read: {_listed(reasons)}",
        where=f"the first: {first.file}, line {first.line}, character {first.character}",
        expected=f"rows of {', '.join(known)}",
        got=first.detail,
        fix="synth/foreign_rows.py says what each format's columns are, and how to add a format",
    )


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.most_common())


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
