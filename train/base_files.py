"""Read from a model's folder what training needs to know of it, without loading the model.

torch and transformers are not imported: `train.check` looks before anything is paid for.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from coa.chat_templates import without_thinking
from coa.errors import ConfigError

WEIGHTS = "*.safetensors"
"""Only this format: the older ones may run code when they are loaded."""
_CONFIG = "config.json"
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "tekken.json")
_WINDOWS = ("max_position_embeddings", "n_positions", "max_seq_len")
"""Names that architectures have for how many tokens their positions reach."""


class Counter(NamedTuple):
    """Counts the tokens of a text."""

    count: Callable[[str], int]
    unit: str
    """`tokens`, or `words` where the tokenizer cannot be read: there are at least as many tokens as
    words."""


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


def load_counter(folder: Path) -> Counter:
    """Load the folder's tokenizer to count with; count words where that cannot be done."""
    path = folder / _TOKENIZERS[0]
    try:
        from tokenizers import Tokenizer
    except ImportError:
        return Counter(count_words, "words")
    if not path.is_file():
        return Counter(count_words, "words")
    tokenizer = Tokenizer.from_file(str(path))

    def count(text: str) -> int:
        return len(tokenizer.encode(text, add_special_tokens=False).ids)

    return Counter(count, "tokens")


def count_words(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


def read_chat_template(folder: Path) -> str | None:
    """Write a model's own chat template around `{prompt}`; None where it cannot be written here.

    Raises:
        ConfigError: the model has none.
    """
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    config = _read_json(folder / "tokenizer_config.json")
    source = _template_source(folder, config)
    if not source:
        raise ConfigError(
            "the tokenizer has no chat template",
            where=folder,
            fix="set train.chat_template, such as '{prompt}\\n\\n'",
        )
    # As transformers reads such templates; they are programs of strangers, hence the sandbox.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    named = {name: _token(config.get(name)) for name in ("bos_token", "eos_token")}
    message = {"role": "user", "content": "{prompt}"}
    try:
        text = environment.from_string(source).render(
            messages=[message], add_generation_prompt=True, **named
        )
    except (TemplateError, TypeError, ValueError):
        return None
    return without_thinking(text)


def _template_source(folder: Path, config: Mapping[str, Any]) -> str:
    """Read the template's program: a file of its own, or a setting of the tokenizer."""
    path = folder / "chat_template.jinja"
    if path.is_file():
        return path.read_text(encoding="utf-8")
    found = config.get("chat_template") or ""
    if isinstance(found, str):
        return found
    by_name = {entry["name"]: entry["template"] for entry in found}
    return str(by_name.get("default", ""))


def _token(value: Any) -> str:
    """Return the text of a special token, which may be described by its settings."""
    if isinstance(value, Mapping):
        return str(value.get("content", ""))
    return str(value or "")


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
