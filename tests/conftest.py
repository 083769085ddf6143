"""Fixtures that several test modules share.

Not covered, and why: training on a GPU and a real vLLM server (no such machine in CI; opt-in by the marker `gpu`); web
search (needs the internet; opt-in by the marker `network`).
"""

import ast
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# One thread each: tests share two cores, and a run must not depend on how many there are.
for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "TOKENIZERS_PARALLELISM"):
    os.environ.setdefault(name, "false" if name.startswith("TOKENIZERS") else "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# Same examples in every run: a red build must be reproducible, and no time limit: CI machines are noisy.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root."""
    return Path(__file__).parent.parent


def reachable_files(root: Path, module: str) -> set[str]:
    """The project's files that running `module` may import, packages' own `__init__.py` files included."""
    found: set[str] = set()
    todo = [module]
    while todo:
        name = todo.pop()
        path = _file_of(root, name)
        if path is None or path.relative_to(root).as_posix() in found:
            continue
        found.add(path.relative_to(root).as_posix())
        todo.append(name.rpartition(".")[0])
        todo += imported_modules(path)
    return found


def imported_modules(path: Path) -> set[str]:
    """Names of all modules that a file imports anywhere in it; `from a import b` counts as a and as a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def _file_of(root: Path, module: str) -> Path | None:
    parts = root.joinpath(*module.split(".")) if module else root
    candidates = (parts.with_suffix(".py"), parts / "__init__.py") if module else ()
    return next((path for path in candidates if path.is_file()), None)


@pytest.fixture(scope="session")
def reachable(root: Path) -> Callable[[str], set[str]]:
    """The function from a module's name to the project's files that it may import."""
    return lambda module: reachable_files(root, module)


@pytest.fixture(scope="session")
def imports() -> Callable[[Path], set[str]]:
    """The function from a file to the names of the modules that it imports."""
    return imported_modules
