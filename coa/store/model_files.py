"""Identify a model by its files, for results and for the cards that show them."""

import hashlib
from pathlib import Path

from coa.errors import check_no_folder

_DECISIVE = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model")
"""The files of a model's folder that decide what it writes."""


def fingerprint_files(folder: Path) -> str:
    """Return the first 16 hex digits of the SHA-256 of a model's files, names and contents."""
    paths: list[Path] = []
    for pattern in _DECISIVE:
        paths += folder.glob(pattern)
    digest = hashlib.sha256()
    for path in sorted(paths):
        check_no_folder(path)
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(path.name.encode() + b"\0" + content)
    return digest.hexdigest()[:16]


def fingerprint_model(model: str) -> str:
    """Return the fingerprint of a model's folder; empty for a name on the Hub or a server's."""
    if not model or not Path(model).is_dir():
        return ""
    return fingerprint_files(Path(model))


def evaluation_journal(name: str, model: str) -> str:
    """Name an evaluation's journal; a model that is trained again has another one."""
    parts = ("evaluate", name, fingerprint_model(model))
    return "-".join(part for part in parts if part)
