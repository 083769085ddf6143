"""A folder with a model to what identifies it, for results and for the cards that show them."""

import hashlib
from pathlib import Path

from coa.errors import check_no_folder

_DECISIVE = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model")
"""The files of a model's folder that decide what it writes."""


def fingerprint_files(folder: Path) -> str:
    """SHA-256 of the names and contents of a model's files, first 16 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(path for pattern in _DECISIVE for path in folder.glob(pattern)):
        check_no_folder(path)
        with path.open("rb") as file:
            digest.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def fingerprint_model(model: str) -> str:
    """Return the fingerprint of a model's folder; empty for a name on the Hub or a server's."""
    if not model or not Path(model).is_dir():
        return ""
    return fingerprint_files(Path(model))
