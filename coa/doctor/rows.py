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
from coa.doctor.findings import Fault, Finding, MaskedRow
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

        Args:
            tokenizer: The tokenizer.
            chat_template: The text of a chat template; empty: the tokenizer's own.
            prompt_end: What prompts of finished rows end with; empty: it is looked for.
            prompt: The student's, for rows of this project's sets; None: they keep their own.
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
            return unreadable(row_id, f"neither `input_ids` nor `messages`; columns {columns}")
        if self.of_chats is None:
            return unreadable(row_id, "messages, and no chat template: set doctor.chat_template")
        return self.of_chats.read(row_id, values)


def unreadable(row_id: str, detail: str) -> MaskedRow:
    """Return a row about which nothing is known but the reason."""
    noticed = (Finding(Fault.UNREADABLE, detail=detail),)
    return MaskedRow(row_id, (), (), (), noticed, has_mask=False)


def masked_rows(name: str, readers: Readers) -> Iterator[MaskedRow]:
    """Yield the rows of an assembled set, of a file or a pattern of files, or of a folder.

    Raises:
        InputError: nothing is there, or a file cannot be read.
    """
    # The name of a set goes first: in the repository, `coa` is also a folder.
    folder = ASSEMBLED / name
    if "/" not in name and folder.is_dir():
        name = str(folder / "*.parquet")
    if _is_saved(Path(name)):
        yield from _saved_rows(Path(name), readers)
        return
    for path in find_files(name):
        if path.suffix == ".parquet":
            yield from _parquet_rows(path, readers)
            continue
        for found in read_foreign_file(path, _MAX_ROW_BYTES):
            row_id = f"{path.name}:{found.number}"
            if isinstance(found.values, UnreadableError):
                error = found.values
                detail = f"{error.reason} at character {error.character}: {error.detail}"
                yield unreadable(row_id, detail)
            else:
                yield readers.read(_row_id(found.values, row_id), found.values)


def _parquet_rows(path: Path, readers: Readers) -> Iterator[MaskedRow]:
    file = tables.open_parquet(path)
    columns = file.schema_arrow.names
    if not set(tables.required_columns(GradedTrajectory)) - set(columns):
        for trajectory in tables.read_table(path, GradedTrajectory):
            yield readers.of_sets.read_trajectory(trajectory)
        return
    if not set(tables.required_columns(PreferencePair)) - set(columns):
        for pair in tables.read_table(path, PreferencePair):
            yield from readers.of_sets.read_pair(pair)
        return
    number = 0
    for batch in tables.parquet_batches(path, file, columns):
        for values in batch.to_pylist():
            number += 1
            yield readers.read(_row_id(values, f"{path.name}:{number}"), values)


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED)


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
