"""The project's sources, parsed once, and which module imports which."""

import ast
from functools import cache
from pathlib import Path

from coa.code_hashes import imported_modules

ROOT = Path(__file__).parent.parent.parent
CORE = "coa"
STAGES = frozenset({"synth", "curate", "annotate", "data_cards", "train", "evaluation"})
"""The packages of stages, which know nothing of each other."""
LAB = "lab"
"""The experiments, which train and evaluate."""
PACKAGES = (CORE, *sorted(STAGES), LAB)


def source_files(*folders: str) -> list[Path]:
    """Return the Python files of some folders, sorted."""
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@cache
def read(path: Path) -> str:
    """Return the text of a file, which is read once."""
    return path.read_text(encoding="utf-8")


@cache
def parse(path: Path) -> ast.Module:
    """Return the syntax tree of a file, which is parsed once."""
    return ast.parse(read(path))


def module_name(path: Path) -> str:
    """Return the name under which a file is imported."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@cache
def import_graph() -> dict[str, frozenset[str]]:
    """Return for each module of the packages the modules of the packages that it imports."""
    paths = {module_name(path): path for path in source_files(*PACKAGES)}
    return {name: imported_modules(path) & paths.keys() for name, path in paths.items()}


def find_rings(graph: dict[str, frozenset[str]]) -> list[list[str]]:
    """Return the groups of modules that import each other around a ring (Tarjan's algorithm).

    A package's `__init__` counts as any other module does.
    """
    index: dict[str, int] = {}
    lowest: dict[str, int] = {}
    stack: list[str] = []
    rings: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = lowest[name] = len(index)
        stack.append(name)
        for other in sorted(graph[name]):
            if other not in index:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in stack:
                lowest[name] = min(lowest[name], index[other])
        if lowest[name] == index[name]:
            ring = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(ring) > 1 or name in graph[name]:
                rings.append(sorted(ring))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return rings
