"""Tell which settings a trainer knows, without importing it: that takes seconds and needs torch.

The names are read from the sources of TRL and transformers, where these are installed.
"""

import ast
from collections.abc import Iterator
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path

from coa.errors import ConfigError
from coa.stages import Stage
from coa.student.settings import Arguments

_SFT = "SFTConfig"
_KINDS = {
    Stage.PRETRAIN: _SFT,
    Stage.SFT1: "TrainingArguments",
    Stage.SFT2: _SFT,
    Stage.SFT3: _SFT,
    Stage.RFT: _SFT,
    Stage.RL1: "GRPOConfig",
    Stage.RL2: "GRPOConfig",
}
"""The trainer's settings that each stage's `arguments` go to."""
_SOURCES = {
    _SFT: "trl/trainer/sft_config.py",
    "GRPOConfig": "trl/trainer/grpo_config.py",
    "_BaseConfig": "trl/trainer/base_config.py",
    "TrainingArguments": "transformers/training_args.py",
}


def check_names(stage: Stage, arguments: Arguments) -> bool:
    """Refuse an argument that the stage's trainer does not know.

    Returns:
        False where the trainers are not installed, so that nothing is known of them.

    Raises:
        ConfigError: a name is unknown; names the nearest.
    """
    kind = _KINDS[stage]
    known = set(_fields(kind))
    if not known:
        return False
    for name in arguments:
        if name not in known:
            near = get_close_matches(name, known)
            raise ConfigError(
                f"{kind} refuses a setting that it does not know",
                where=f"params.yaml, train.{stage}.arguments",
                expected=", ".join(near) or f"a field of {kind}",
                got=name,
                fix=f"set train.{stage}.arguments.{near[0]}" if near else "take it out",
            )
    return True


def _fields(kind: str) -> Iterator[str]:
    """Yield the fields of a dataclass and of those that it is derived from."""
    path = _source_path(_SOURCES[kind])
    if path is None:
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if not isinstance(node, ast.ClassDef) or node.name != kind:
            continue
        for statement in node.body:
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                yield statement.target.id
        for base in node.bases:
            if isinstance(base, ast.Name) and base.id in _SOURCES:
                yield from _fields(base.id)


def _source_path(name: str) -> Path | None:
    """Find a source file in an installed package, which is not imported."""
    package, _, rest = name.partition("/")
    found = find_spec(package)
    if found is None or found.origin is None:
        return None
    path = Path(found.origin).parent / rest
    return path if path.is_file() else None
