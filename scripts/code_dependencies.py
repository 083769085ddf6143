"""Write into pipeline/code.yaml which of the project's files each stage runs, and dvc.yaml.

    python -m scripts.code_dependencies        # or `make deps`

DVC runs a stage again when a file that it lists has changed, so each stage lists exactly the files
that its command may import. coa/pipeline.py copies the lists into dvc.yaml.
"""

import ast
import re
import sys
from collections.abc import Sequence
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from coa.files import SHARED_PREFIX_PAIRS
from coa.params import DEFAULT_PROFILE, Params
from coa.pipeline import CODE_FILE, render_pipeline, summary, write_pipeline
from coa.plan import Plan
from coa.stages import Stage
from coa.whole_files import write_file
from train.run import MODULES

ROOT = Path(__file__).parent.parent
MOST_OF_COA = 0.5
"""A stage that runs more of coa/ than this lists the folder: DVC rewrites dvc.lock after every
stage, which takes longer the more lines there are."""


@cache
def imported_modules(path: Path) -> frozenset[str]:
    """Return the modules that a file imports, also by `import_module` of a constant.

    `from a import b` counts as a and a.b, since b may be a module.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and _calls_import_module(node):
            argument = node.args[0]
            if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                names.add(argument.value)
    return frozenset(names)


def _calls_import_module(node: ast.Call) -> bool:
    name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
    return name == "import_module" and bool(node.args)


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


def all_stages() -> dict[str, dict[str, Any]]:
    """Return every stage that a profile can have, by name, as dvc.yaml describes it."""
    everything = [
        "pipeline.trajectories=[sample,ingest]",
        f"pipeline.training=[{','.join(Stage)}]",
        f"pipeline.student={Stage.RL2}",
        "pipeline.student_pairs=1",
        "ingest.files=[{path: data/raw}]",
        f"branch.more_pairs={SHARED_PREFIX_PAIRS}",
    ]
    params = Params.load("pipeline", everything, ROOT / DEFAULT_PROFILE)
    text = render_pipeline(Plan(params), code={})
    found: dict[str, dict[str, Any]] = YAML(typ="safe").load(text)["stages"]
    return found


def find_code(root: Path) -> dict[str, list[str]]:
    """Return the files that each stage runs."""
    found: dict[str, list[str]] = {}
    for name, stage in all_stages().items():
        found[name] = code_of(root, name, stage.get("do", stage))
    return found


def main(arguments: Sequence[str]) -> str:
    """Write the lists and dvc.yaml again; the summary line is returned."""
    found = find_code(ROOT)
    stream = StringIO()
    YAML().dump(found, stream)
    head = "# Written by `make deps`: the project's files that each stage runs.\n"
    write_file(ROOT / CODE_FILE, head + stream.getvalue())
    plan = write_pipeline(Params.load("pipeline"))
    return f"{CODE_FILE} is written; {summary(plan)}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
