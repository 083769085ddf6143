"""Fetch the model of another maker that a chain starts from, and check what is in its folder.

The stage `pretrain` fetches to data/train/pretrain where `train.pretrain.base` names a model, so
that every later stage starts from a folder and DVC records exactly which weights it was. What
training needs to know of a model is read from its files, without loading it.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coa.errors import ConfigError, InputError, ServiceError, writing_error

_FILES = ("*.json", "*.jinja", "*.txt", "*.model", "LICENSE*")
WEIGHTS = "*.safetensors"
"""Only this format: the older ones may run code when they are loaded."""
_CONFIG = "config.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_WINDOWS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""Names that architectures have for how many tokens their positions reach."""


def check_files(folder: Path, name: str, *, has_weights: bool = True) -> None:
    """Refuse a folder without config.json, the weights as safetensors, or the tokenizer.

    A dry run makes random weights, so it needs none. The message calls the model `name`.
    """
    missing = []
    if not (folder / _CONFIG).is_file():
        missing.append(_CONFIG)
    if has_weights and not any(folder.glob(WEIGHTS)):
        missing.append(WEIGHTS)
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        missing.append(f"a tokenizer ({_TOKENIZERS[0]})")
    if missing:
        raise ConfigError(
            "the base is not a model that can be trained",
            where=name,
            expected=f"{_CONFIG}, {WEIGHTS}, {_TOKENIZERS[0]}",
            got=f"no {', no '.join(missing)}",
            fix="name the folder that holds these files: `save_pretrained` of model and tokenizer "
            "writes them",
        )


def read_window(folder: Path) -> int | None:
    """Read how many tokens a model's positions reach; None where its config.json does not say."""
    return window_of(_read_json(folder / _CONFIG))


def window_of(config: Mapping[str, Any]) -> int | None:
    """Find how many tokens a model's positions reach, of models with pictures in `text_config`."""
    for settings in (config.get("text_config"), config):
        if not isinstance(settings, Mapping):
            continue
        for name in _WINDOWS:
            if isinstance(settings.get(name), int):
                return int(settings[name])
    return None


def check_window(model: str, window: int | None, max_context_tokens: int) -> None:
    """Refuse a model whose positions do not reach as far as rows may be long.

    Raises:
        ConfigError: `train.max_context_tokens` is larger than the window.
    """
    if window is not None and max_context_tokens > window:
        raise ConfigError(
            "the model's context is too short",
            where=model,
            expected=f"train.max_context_tokens of at most {window}",
            got=max_context_tokens,
            fix=f"set train.max_context_tokens={window} or less, or start from a model that reads "
            "more (of a model from scratch: raise train.pretrain.student.max_context_tokens)",
        )


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a model; empty where there is none."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read {path}", got=error, fix="fetch the model's files again"
        ) from error
    return found if isinstance(found, dict) else {}


def fetch_base(base: str, revision: str, out: Path, *, has_weights: bool) -> str:
    """Bring the files of a model in a folder or on the Hub to `out`, and return where it is from.

    A download that broke off is resumed. A dry run, which makes random weights, brings none.

    Raises:
        InputError: the Hub has no such model or revision.
        ServiceError: the Hub cannot be reached.
        ConfigError: the model has no weights as safetensors, or no tokenizer.
    """
    patterns = [*_FILES, WEIGHTS] if has_weights else [*_FILES]
    if Path(base).is_dir():
        check_files(Path(base), base, has_weights=has_weights)
        origin = _copy(Path(base), patterns, out)
    else:
        origin = _download(base, revision, patterns, out)
    check_files(out, base, has_weights=has_weights)
    return origin


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
