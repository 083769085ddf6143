"""Settings from a profile to a trainer's own, checked by its own annotations before it sees them.

The trainers use a value of the wrong type long after they were given it, and fail with a traceback that names no
setting. Optional packages that settings ask for are looked for here, too.
"""

import os
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from typing import Any, get_type_hints

import msgspec

from coa.errors import ConfigError, MissingExtraError


def make_arguments(kind: type[Any], values: Mapping[str, Any], *, where: str) -> Any:
    """An instance of SFTConfig, GRPOConfig or TrainingArguments with `values`.

    Args:
        kind: the trainer's dataclass of settings.
        values: what differs from its defaults.
        where: the place of the settings, for messages: `params.yaml, train.rl2.arguments`.

    Raises:
        ConfigError: a setting is unknown, has a value of the wrong type, or is refused by `kind` itself.
        MissingExtraError: DeepSpeed or vLLM is asked for and not installed.
    """
    check_types(kind, values, where=where)
    _check_packages(values)
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
            what = f"{kind.__name__} refuses a setting that it does not know"
            raise ConfigError(
                what, where=where, expected=", ".join(get_close_matches(name, hints)), got=name
            )
        if not _fits(value, hints[name]):
            place, expected = f"{where}.{name}", _title(hints[name])
            raise ConfigError(
                "a setting has a value of the wrong type",
                where=place,
                expected=expected,
                got=repr(value),
            )


def _fits(value: Any, hint: Any) -> bool:
    try:
        msgspec.convert(value, hint)
    except msgspec.ValidationError:
        return False
    except TypeError:  # a union of a name and an enum, which msgspec cannot tell apart: the trainer checks the name
        return isinstance(value, str)
    return True


def _title(hint: Any) -> str:
    """An annotation as a person reads it: `float`, `int or None`, `a name`."""
    text = (
        hint.__name__
        if isinstance(hint, type)
        else str(hint).replace(" | ", " or ").replace("typing.", "")
    )
    return "a name" if text.endswith(" or str") and "." in text else text


def _check_packages(values: Mapping[str, Any]) -> None:
    asks_deepspeed = values.get("deepspeed") or _is_on("ACCELERATE_USE_DEEPSPEED")
    for package, is_asked in (("deepspeed", asks_deepspeed), ("vllm", values.get("use_vllm"))):
        if is_asked and find_spec(package) is None:
            raise MissingExtraError(package, package)


def uses_fsdp() -> bool:
    """Whether `accelerate launch` shards the weights with FSDP."""
    return _is_on("ACCELERATE_USE_FSDP")


def fsdp_checkpoints() -> bool:
    """Whether FSDP itself drops activations and computes them again.

    The trainer's `activation_checkpointing` does the same with one more gather of the weights, and refuses to run
    beside it.
    """
    return uses_fsdp() and _is_on("FSDP_ACTIVATION_CHECKPOINTING")


def shards_weights() -> bool:
    """Whether a process holds only its part of the weights: FSDP, or DeepSpeed's ZeRO stage 3."""
    is_zero3 = (
        _is_on("ACCELERATE_USE_DEEPSPEED")
        and os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"
    )
    return uses_fsdp() or is_zero3


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").lower() == "true"
