"""Fetch the model of another maker that a chain starts from, to data/train/pretrain.

The stage `pretrain` does this where `train.pretrain.base` names a model, so that every later stage
starts from a folder and DVC records exactly which weights it was.
"""

import shutil
from pathlib import Path

from coa.errors import InputError, ServiceError, writing_error
from train.base_files import WEIGHTS, check_files

_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")


def fetch_base(base: str, revision: str, out: Path, *, has_weights: bool) -> str:
    """Bring the model's files to `out`. A download that broke off goes on.

    Args:
        base: a folder, or a name on the Hub.
        revision: on the Hub, a commit or branch; empty for the newest.
        out: where to; other files there stay.
        has_weights: False for a dry run, which makes random ones.

    Returns:
        Where the files came from.

    Raises:
        InputError: the Hub has no such model or revision.
        ServiceError: the Hub cannot be reached.
        ConfigError: the model has no weights as safetensors, or no tokenizer.
        OutputError: the files cannot be written.
    """
    patterns = [*_FILES, WEIGHTS] if has_weights else [*_FILES]
    origin = _bring(base, revision, patterns, out)
    check_files(out, base, has_weights=has_weights)
    return origin


def _bring(base: str, revision: str, patterns: list[str], out: Path) -> str:
    if Path(base).is_dir():
        check_files(Path(base), base, has_weights=WEIGHTS in patterns)
        return _copy(Path(base), patterns, out)
    return _download(base, revision, patterns, out)


def _copy(folder: Path, patterns: list[str], out: Path) -> str:
    try:
        out.mkdir(parents=True, exist_ok=True)
        files: set[Path] = set()
        for pattern in patterns:
            files.update(folder.glob(pattern))
        for file in sorted(files):
            shutil.copyfile(file, out / file.name)
    except OSError as error:
        raise writing_error(out, error) from error
    return str(folder)


def _download(name: str, revision: str, patterns: list[str], out: Path) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    where = f"{name} {revision}".strip()
    try:
        snapshot_download(name, revision=revision or None, local_dir=out, allow_patterns=patterns)
    except (LocalEntryNotFoundError, ConnectionError) as error:
        fix = "check the network and HF_ENDPOINT, or give a folder: train.pretrain.base=/models/..."
        raise ServiceError(
            "the Hub cannot be reached", where=where, got=_line(error), fix=fix
        ) from error
    except (HfHubHTTPError, HFValidationError) as error:
        fix = "check train.pretrain.base and its revision; a gated model needs HF_TOKEN"
        raise InputError(
            "there is no such model", where=where, got=_line(error), fix=fix
        ) from error
    return where


def _line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
