"""Make a trainer's own settings from a profile's, checked by the trainer's own annotations.

The trainers use a value of the wrong type long after they were given it, and fail with a traceback
that names no setting. Optional packages that settings ask for are looked for here, too.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from importlib import import_module
from importlib.util import find_spec
from typing import Any, get_type_hints

import msgspec

from coa.errors import ConfigError, MissingExtraError
from coa.settings.stages import Stage


def arguments_kind(stage: Stage) -> type[Any] | None:
    """Return the dataclass that the `arguments` of a stage go to; None where it is not installed.

    Importing it takes seconds.
    """
    try:
        if stage is Stage.SFT1:
            return import_module("transformers").TrainingArguments  # type: ignore[no-any-return]
        name = "GRPOConfig" if stage in (Stage.RL1, Stage.RL2) else "SFTConfig"
        return getattr(import_module("trl"), name)  # type: ignore[no-any-return]
    except ImportError:
        return None


def make_arguments(kind: type[Any], values: Mapping[str, Any], *, where: str) -> Any:
    """Make an instance of SFTConfig, GRPOConfig or TrainingArguments with `values`.

    `where` is the place of the settings, for messages: `params.yaml, train.rl2.arguments`.

    Raises:
        ConfigError: a setting is unknown, has a value of the wrong type, or is refused by `kind`
            itself.
    """
    check_types(kind, values, where=where)
    asks_deepspeed = values.get("deepspeed") or _is_on("ACCELERATE_USE_DEEPSPEED")
    for package, is_asked in (("deepspeed", asks_deepspeed), ("vllm", values.get("use_vllm"))):
        if is_asked and find_spec(package) is None:
            raise MissingExtraError(package, package)
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{kind.__name__} refuses a setting", where=where, got=error) from error


def check_types(kind: type[Any], values: Mapping[str, Any], *, where: str) -> None:
    """Compare each value with the annotation of its field.

    Raises:
        ConfigError: a setting is unknown or has a value of the wrong type; names it.
    """
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            near = get_close_matches(name, hints)
            raise ConfigError(
                f"{kind.__name__} refuses a setting that it does not know",
                where=where,
                expected=", ".join(near) or f"a field of {kind.__name__}",
                got=name,
                fix=f"write {near[0]} in its place" if near else "take it out",
            )
        if not _fits(value, hints[name]):
            raise ConfigError(
                "a setting has a value of the wrong type",
                where=f"{where}.{name}",
                expected=_title(hints[name]),
                got=repr(value),
            )


def _fits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    except TypeError:
        # A union of a name and an enum, which msgspec cannot tell apart: the trainer checks it.
        return isinstance(value, str)
    return True


def _title(hint: Any) -> str:
    """Write an annotation as a person reads it: `float`, `int or None`, `a name`."""
    if isinstance(hint, type):
        return hint.__name__
    text = str(hint).replace(" | ", " or ").replace("typing.", "")
    is_enum_or_name = text.endswith(" or str") and "." in text
    return "a name" if is_enum_or_name else text


def uses_fsdp() -> bool:
    """Tell whether `accelerate launch` shards the weights with FSDP."""
    return _is_on("ACCELERATE_USE_FSDP")


def fsdp_checkpoints() -> bool:
    """Tell whether FSDP itself drops activations and computes them again.

    The trainer's `activation_checkpointing` does the same with one more gather of the weights, and
    refuses to run beside it.
    """
    return uses_fsdp() and _is_on("FSDP_ACTIVATION_CHECKPOINTING")


def shards_weights() -> bool:
    """Tell whether a process holds only its part of the weights: FSDP, or DeepSpeed's ZeRO-3."""
    uses_deepspeed = _is_on("ACCELERATE_USE_DEEPSPEED")
    is_zero3 = uses_deepspeed and os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"
    return uses_fsdp() or is_zero3


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() == "true"
