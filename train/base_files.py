"""Read from a model's folder what training needs to know of it, without loading the model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from coa.errors import ConfigError

WEIGHTS = "*.safetensors"
"""Only this format: the older ones may run code when they are loaded."""
_CONFIG = "config.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_WINDOWS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""Names that architectures have for how many tokens their positions reach."""


def check_files(folder: Path, name: str, *, has_weights: bool = True) -> None:
    """Refuse a folder that is not a model which can be trained.

    Args:
        folder: the folder.
        name: the model's, for the message: a folder or a name on the Hub.
        has_weights: False for a dry run, which makes random ones.

    Raises:
        ConfigError: config.json, the weights as safetensors, or the tokenizer are missing.
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
            "more (of a model from nothing: raise train.pretrain.student.max_context)",
        )


def _read_json(path: Path) -> dict[str, Any]:
    """Read a JSON file of a model; empty where there is none.

    Raises:
        ConfigError: it is broken.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"cannot read {path}", got=error, fix="fetch the model's files again"
        ) from error
    return found if isinstance(found, dict) else {}
