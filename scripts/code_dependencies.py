"""Write into dvc.yaml which of the project's files each stage runs.

    python -m scripts.code_dependencies        # or `make deps`

DVC runs a stage again when a file that it lists has changed, so each stage lists exactly the files
that its command may import. The list of a stage stands below the line `# code` in its `deps`.
"""

import ast
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from train.run import MODULES
from train.settings import Stage

ROOT = Path(__file__).parent.parent
PIPELINE = Path("dvc.yaml")
MARKER = "# code, written by `make deps`"
MOST_OF_COA = 0.7
"""A stage that runs more of coa/ than this lists the folder: DVC rewrites dvc.lock after every
stage, which takes longer the more lines there are."""


def imported_modules(path: Path) -> set[str]:
    """Return the modules that a file imports; `from a import b` counts as a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def reachable_files(root: Path, module: str) -> set[str]:
    """Return the files that running `module` may import, with the packages' `__init__.py`."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _find_file(root, name)
        if path is None:
            continue
        relative = path.relative_to(root).as_posix()
        if relative in found:
            continue
        found.add(relative)
        waiting.append(name.rpartition(".")[0])
        waiting.extend(imported_modules(path))
    return found


def _find_file(root: Path, module: str) -> Path | None:
    if not module:
        return None
    folder = root.joinpath(*module.split("."))
    for path in (folder.with_suffix(".py"), folder / "__init__.py"):
        if path.is_file():
            return path
    return None


def modules_of(name: str, stage: dict[str, Any]) -> tuple[str, ...]:
    """Return the module that a stage runs; for training also the stage's own, imported by name."""
    command = stage["cmd"] if isinstance(stage["cmd"], str) else stage["cmd"][0]
    module = re.sub(r"python -m|\$\{train\.launch\}", "", command).split()[0]
    if module == "train.run":
        return module, MODULES[Stage(name)]
    return (module,)


def code_of(root: Path, name: str, stage: dict[str, Any]) -> list[str]:
    """Return the files, or the folder coa and files, that a stage lists as its code, sorted."""
    needed = reachable_files(root, "coa.cli")
    for module in modules_of(name, stage):
        needed |= reachable_files(root, module)
    from_coa = {path for path in needed if path.startswith("coa/")}
    if len(from_coa) > MOST_OF_COA * len(list((root / "coa").rglob("*.py"))):
        needed = (needed - from_coa) | {"coa"}
    return sorted(needed)


def write_code(root: Path, text: str) -> str:
    """Return the text of a dvc.yaml with the list below each marker written anew."""
    stages = YAML(typ="safe").load(text)["stages"]
    lines: list[str] = []
    stage_name = ""
    is_below_marker = False
    for line in text.splitlines():
        if heading := re.fullmatch(r"  (\w+):", line):
            stage_name = heading[1]
        if is_below_marker and line.strip().startswith("- "):
            continue
        is_below_marker = line.strip() == MARKER
        lines.append(line)
        if is_below_marker:
            stage = stages[stage_name]
            indent = line[: line.index("#")]
            for path in code_of(root, stage_name, stage.get("do", stage)):
                lines.append(f"{indent}- {path}")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> str:
    """Write dvc.yaml again; the summary line is returned."""
    path = ROOT / PIPELINE
    before = path.read_text(encoding="utf-8")
    after = write_code(ROOT, before)
    path.write_text(after, encoding="utf-8")
    return f"{PIPELINE}: {'is up to date' if before == after else 'written; look at `git diff`'}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
