"""Copy the files that will be published; the copy is checked, and the copy is uploaded.

The copy lies in a folder that this user alone can read, and its hashes are taken before anything is
checked. A file that changes in the project while the checks run ends the command. One that is
swapped afterwards changes nothing.
"""

import hashlib
import io
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from coa.errors import InputError, writing_error
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.provenance import shown

FOLDER = Path(".cache/publication")
"""The copies are beside this path; each folder's name has the number of its process."""
_MODEL_FILES = re.compile(
    r"(config|generation_config|adapter_config|preprocessor_config|processor_config)\.json"
    r"|(model|adapter_model)(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?"
    r"|(tokenizer|tokenizer_config|special_tokens_map|added_tokens|chat_template)\.json"
    r"|chat_template\.jinja|vocab\.(json|txt|bpe)|merges\.txt"
    r"|(tokenizer|spiece|sentencepiece\.bpe)\.model"
    r"|(LICENSE|NOTICE)(\.txt|\.md)?|log\.jsonl|curves\.png"
)
"""The files that make a folder loadable, its licence, its log and the picture of its training.

params.yaml is not among them, because it may hold addresses of servers.
"""
_TEXT_ENDINGS = ("", ".json", ".jsonl", ".jinja", ".txt", ".md", ".bpe")

Content = Path | bytes
"""A file's contents: the path of a file here, or the bytes that are to be written."""


class Hashes(NamedTuple):
    """The size and the hashes that identify contents."""

    size: int
    """Number of bytes."""
    sha256: str
    git_oid: str
    """The SHA-1 that git gives them."""


class Copy(NamedTuple):
    """A file of the project and its copy."""

    original: Path
    copy: Path
    hashes: Hashes
    """The hashes of the copy, taken before it was checked."""


class ModelCopy(NamedTuple):
    """The copy of a model's folder."""

    copies: tuple[Copy, ...]
    left_out: tuple[str, ...]
    """Names that are not published: other files, and folders."""

    def texts(self) -> dict[str, Path]:
        """Return the copies that hold text, by name."""
        found = {}
        for copied in self.copies:
            if copied.copy.suffix in _TEXT_ENDINGS:
                found[copied.copy.name] = copied.copy
        return found


def hashes_of(content: Content) -> Hashes:
    """Compute the hashes of contents; a file is read piece by piece."""
    size = len(content) if isinstance(content, bytes) else content.stat().st_size
    sha256 = hashlib.sha256()
    git = hashlib.sha1(b"blob %d\0" % size)
    with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
        while chunk := file.read(1 << 20):
            sha256.update(chunk)
            git.update(chunk)
    return Hashes(size, sha256.hexdigest(), git.hexdigest())


def copy_sets(names: Iterable[SetName], to: Path) -> tuple[Copy, ...]:
    """Copy the files of these sets; skip a missing one, which the checks will name.

    Raises:
        OutputError: a copy cannot be written.
    """
    copies = []
    for name in names:
        for split in SPLITS:
            path = local_path(name, split)
            if path.is_file():
                copies.append(_copy(path, to / path))
    return tuple(copies)


def copy_model(folder: Path, to: Path) -> ModelCopy:
    """Copy the files of a model's folder that are published; leave out the others by name.

    Raises:
        InputError: a file that would be published is a link, or no file.
        OutputError: a copy cannot be written.
    """
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    chosen = [name for name in names if _MODEL_FILES.fullmatch(name)]
    links = [name for name in chosen if (folder / name).is_symlink()]
    if links:
        raise _refused(folder, links, "a link may lead to any file of this machine")
    others = [name for name in chosen if not (folder / name).is_file()]
    if others:
        raise _refused(folder, others, "only plain files can be published")
    copies = tuple(_copy(folder / name, to / name) for name in chosen)
    late_links = [copied.copy.name for copied in copies if copied.copy.is_symlink()]
    if late_links:
        raise _refused(folder, late_links, "a link may lead to any file of this machine")
    left_out = tuple(name for name in names if name not in chosen)
    return ModelCopy(copies, left_out)


def _refused(folder: Path, names: list[str], reason: str) -> InputError:
    return InputError(
        "the model holds something else than plain files",
        where=folder,
        expected=f"plain files: {reason}",
        got=", ".join(names),
        fix=f"put the files themselves there; where DVC made the links: dvc unprotect {folder}",
    )


def _copy(original: Path, copy: Path) -> Copy:
    """Copy one file; a link that took its place a moment ago is copied as a link."""
    is_model = copy.suffix != ".parquet"
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(original, copy, follow_symlinks=not is_model)
    except OSError as error:
        raise writing_error(copy, error) from error
    return Copy(original, copy, hashes_of(b"" if copy.is_symlink() else copy))


def require_unchanged(copies: Iterable[Copy]) -> None:
    """Refuse files that have changed since they were copied.

    Raises:
        InputError: a file has changed or is gone.
    """
    changed = [str(copied.original) for copied in copies if _has_changed(copied)]
    if changed:
        raise InputError(
            "files changed while they were checked",
            where=shown(changed),
            expected="a project in which nothing runs meanwhile",
            fix="wait for what writes them (dvc repro, a training), then publish again",
        )


def _has_changed(copied: Copy) -> bool:
    if not copied.original.is_file():
        return True
    return hashes_of(copied.original) != copied.hashes
