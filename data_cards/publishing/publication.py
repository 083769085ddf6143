"""Gather the files of one published version, by their path in the repository.

`lineage.json` is the version's own record: the code commit, the hash of dvc.lock, the hash of every
file of the run, and what was waived. It holds no date and no address, so the same version always
gives the same bytes.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from coa.trajectory import SCHEMA_VERSION
from data_cards.cards.safe_markdown import Markdown, table
from data_cards.catalogue import (
    HAS_TRAJECTORIES,
    SetName,
    published_path,
    published_splits,
)
from data_cards.formats.published_rows import published_file
from data_cards.formats.traces import trace_files
from data_cards.publishing.gate import MUST_HOLD, Reason
from data_cards.tracing import provenance

LINEAGE = "lineage.json"

Content = Path | bytes
"""A file's contents: the path of a file here, or the bytes that are to be written."""


class Hashes(NamedTuple):
    """The size and the hashes that identify contents."""

    size: int
    """Number of bytes."""
    sha256: str
    git_oid: str
    """The SHA-1 that git gives them."""


class Publication(NamedTuple):
    """The files of one version."""

    kind: str
    """`dataset` or `model`."""
    files: dict[str, Content]
    hashes: dict[str, Hashes]
    """The hashes of the files, taken before they were checked."""
    summary: str
    """One line for the commit."""


def set_files(names: Sequence[SetName], num_traces: int, published: Path) -> dict[str, Content]:
    """Return the published files of the sets and some of their trajectories as session traces.

    Raises:
        InputError: a file is missing or broken.
    """
    files: dict[str, Content] = {}
    for name in names:
        for split in published_splits(name):
            files[published_path(name, split)] = published_file(name, split, published)
    for name in names:
        if name in HAS_TRAJECTORIES:
            files |= trace_files(name, num_traces)
    return files


def lineage_record(checked: Sequence[Reason], waived: Sequence[Reason]) -> bytes:
    """Write the version's own record as JSON; without a dvc.lock its fields stay empty.

    Args:
        checked: The gate's reasons that were looked at.
        waived: Those that apply all the same.

    Raises:
        InputError: dvc.lock is broken.
    """
    lock = provenance.read_lock() if provenance.LOCK.exists() else provenance.NO_LOCK
    record = {
        "schema_version": SCHEMA_VERSION,
        "code_commit": provenance.code_state().commit,
        "dvc_lock_sha256": lock.sha256,
        "outs_md5": lock.outs,
        "checked": list(checked),
        "waived": list(waived),
    }
    return (json.dumps(record, indent=2) + "\n").encode()


def version_section(record: bytes) -> str:
    """Write the section at a published card's end, on the version that the card belongs to."""
    found = json.loads(record)
    waived = frozenset(found["waived"])
    rows = []
    for reason in found["checked"]:
        holds = "**waived**" if reason in waived else "yes"
        must_hold = MUST_HOLD[Reason(reason)]
        rows.append((Markdown(f"`{reason}`"), Markdown(must_hold), Markdown(holds)))
    checks = table(("check", "what must hold", "holds"), rows)
    verdict = "Nothing was waived."
    if waived:
        names = ", ".join(f"`{reason}`" for reason in found["waived"])
        verdict = f"**Published although these apply, waived by name: {names}.**"
    commit = found["code_commit"] or "none"
    lock = found["dvc_lock_sha256"] or "none"
    return (
        "\n## This version\n\n"
        f"Code: commit `{commit}`. The SHA-256 of its `dvc.lock` is `{lock}`; "
        f"[{LINEAGE}]({LINEAGE}) has the hash of every file of the run.\n\n"
        f"Checked before publishing. {verdict}\n\n{checks}\n"
    )


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


class Change(NamedTuple):
    """A file that differs from what is published."""

    path: str
    mark: str
    """`+` new, `~` other contents, `-` gone."""
    before: int
    """Bytes on the Hub; 0 where the file is new."""
    after: int
    """Bytes here; 0 where the file is gone."""

    def __str__(self) -> str:
        size = f"{self.after:,}" if self.mark == "+" else f"{self.before:,} -> {self.after:,}"
        return f"{self.mark} {self.path} ({size} bytes)"


class Published(NamedTuple):
    """A file as the Hub describes it."""

    size: int
    oid: str
    """SHA-256 where the Hub keeps it as a large file, git's SHA-1 otherwise."""
    is_large: bool


_HUBS_OWN = frozenset({".gitattributes"})
"""Files that the Hub puts into every repository."""


def changes(files: Mapping[str, Hashes], published: Mapping[str, Published]) -> list[Change]:
    """Return what a commit of files with these hashes would change, sorted by path."""
    found = []
    for path, hashes in files.items():
        there = published.get(path)
        if there is None:
            found.append(Change(path, "+", 0, hashes.size))
            continue
        oid = hashes.sha256 if there.is_large else hashes.git_oid
        if there.oid != oid:
            found.append(Change(path, "~", there.size, hashes.size))
    for path in published.keys() - files.keys() - _HUBS_OWN:
        found.append(Change(path, "-", published[path].size, 0))
    return sorted(found)
