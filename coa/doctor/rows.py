"""Read any file of training rows as `MaskedRow`s, in whatever kind each row is.

A file may be one of this project's sets (parquet), a table or JSON of others, or a folder that
`datasets` saved. What kind a row of others is shows in its columns:

- `input_ids` with `labels` or a mask: finished; without either, every token is trained;
- `messages`: rendered by the chat template.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from coa.doctor.chat_rows import ChatReader
from coa.doctor.findings import Fault, MaskedRow, refused_row
from coa.doctor.finished_rows import FinishedReader
from coa.doctor.set_rows import SetReader
from coa.doctor.turns import turn_marks
from coa.errors import InputError, MissingExtraError
from coa.foreign.files import find_files, read_foreign_file
from coa.policy.prompts import Prompt
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.tokens import PieceEncoder
from coa.records.unreadable import UnreadableError
from coa.store import tables
from coa.store.files import ASSEMBLED

_MAX_ROW_BYTES = 100_000_000
_ID_COLUMNS = ("id", "row_id", "trajectory_id", "idx", "uid")
_SAVED = ("dataset_dict.json", "state.json")
"""The files by which a folder that `datasets` saved is known."""


class Readers(NamedTuple):
    """The readers of all kinds of rows, for one tokenizer."""

    of_sets: SetReader
    of_finished: FinishedReader
    of_chats: ChatReader | None
    """None where there is no chat template."""

    @classmethod
    def of(
        cls, tokenizer: Any, *, chat_template: str, prompt_end: str, prompt: Prompt | None = None
    ) -> "Readers":
        """Make the readers.

        An empty `chat_template` is the tokenizer's own, an empty `prompt_end` is looked for, and
        without the student's `prompt` rows of this project's sets keep their own.
        """
        encoder = PieceEncoder(tokenizer)
        template = chat_template or getattr(tokenizer, "chat_template", None) or ""
        marks = turn_marks(tokenizer, template) if template else None
        chats = ChatReader(tokenizer, encoder, marks, template) if template else None
        finished = FinishedReader(tokenizer, encoder, marks, prompt_end)
        return cls(SetReader(tokenizer, encoder, prompt), finished, chats)

    def read(self, row_id: str, values: Mapping[str, Any]) -> MaskedRow:
        """Read a row by its columns."""
        if values.get("input_ids") is not None:
            return self.of_finished.read(row_id, values)
        if values.get("messages") is None:
            columns = ", ".join(sorted(values))[:200]
            detail = f"neither `input_ids` nor `messages`; columns {columns}"
            return refused_row(row_id, Fault.UNREADABLE, detail)
        if self.of_chats is None:
            detail = "messages, and no chat template: set doctor.chat_template"
            return refused_row(row_id, Fault.UNREADABLE, detail)
        return self.of_chats.read(row_id, values)


def masked_rows(name: str, readers: Readers) -> Iterator[MaskedRow]:
    """Yield the rows of an assembled set, of a file or a pattern of files, or of a folder.

    Raises:
        InputError: nothing is there, or a file cannot be read.
    """
    # The name of a set goes first: in the repository, `coa` is also a folder.
    folder = ASSEMBLED / name
    if "/" not in name and folder.is_dir():
        name = str(folder / "*.parquet")
    if any((Path(name) / file).is_file() for file in _SAVED):
        yield from _saved_rows(Path(name), readers)
        return
    for path in find_files(name):
        columns: set[str] = set()
        if path.suffix == ".parquet":
            columns = set(tables.open_parquet(path).schema_arrow.names)
        if columns.issuperset(tables.required_columns(GradedTrajectory)):
            for trajectory in tables.read_table(path, GradedTrajectory):
                yield readers.of_sets.read_trajectory(trajectory)
        elif columns.issuperset(tables.required_columns(PreferencePair)):
            for pair in tables.read_table(path, PreferencePair):
                yield from readers.of_sets.read_pair(pair)
        else:
            yield from _rows_of_others(path, readers)


def _rows_of_others(path: Path, readers: Readers) -> Iterator[MaskedRow]:
    for number, values in read_foreign_file(path, _MAX_ROW_BYTES):
        row_id = f"{path.name}:{number}"
        if isinstance(values, UnreadableError):
            detail = f"{values.reason} at character {values.character}: {values.detail}"
            yield refused_row(row_id, Fault.UNREADABLE, detail)
        else:
            yield readers.read(_row_id(values, row_id), values)


def _saved_rows(folder: Path, readers: Readers) -> Iterator[MaskedRow]:
    """Read a folder that `datasets` saved: one table, or one for each split."""
    try:
        from datasets import DatasetDict, load_from_disk
    except ImportError as error:
        raise MissingExtraError("datasets", "train") from error
    try:
        loaded = load_from_disk(str(folder))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {folder}", got=str(error).splitlines()[0]) from error
    splits = loaded if isinstance(loaded, DatasetDict) else {"": loaded}
    for split, table in splits.items():
        for number, values in enumerate(table, start=1):
            name = f"{split}:{number}" if split else str(number)
            yield readers.read(_row_id(values, name), values)


def _row_id(values: Mapping[str, Any], name: str) -> str:
    """Return the row's own id after its place; the place alone where it has none."""
    for column in _ID_COLUMNS:
        value = values.get(column)
        if isinstance(value, str | int) and str(value):
            return f"{name} ({value})"
    return name
