"""Write the hashes of the code that each stage runs into .code/STAGE, on which the stage depends.

    python -m coa.code_hashes        # the stage `code`, which `dvc repro` always runs first

A stage runs again when its file in .code/ has changed, so a line changed in one module reruns the
stages that reach it by import, and no other. Each line is a hash and a path below the tool's
folder, as `sha256sum` writes them. Then come modules of the user's own that the stage's settings
name as `module:name`, and prompts that come with the tool and are no files of the project. Comments
below hold the hashes of the settings that the stage reads, those of the code's defaults included,
which params.yaml does not name and DVC cannot follow.
"""

import ast
import hashlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from coa.errors import ConfigError, InputError
from coa.settings.params import Params
from coa.settings.stages import TRAINING_MODULES, Stage
from coa.store.shipped import ROOT, find_shipped, is_only_shipped
from coa.store.whole_files import write_file

PIPELINE_FILE = Path("dvc.yaml")
FOLDER = Path(".code")
STAGE = "code"
"""The stage that runs this module."""
TEMPLATES = "templates"
"""A module that names this folder reads the files in it, where it lies beside the module."""
_MODULE = re.compile(r"[a-z]\w*(\.\w+)+")
_OWN_PART = re.compile(r"(?P<module>[^\W\d]\w*(?:\.\w+)*):[^\W\d]\w*")


class Entry(NamedTuple):
    """What dvc.yaml says of a stage that depends on its code."""

    command: str
    settings: tuple[str, ...]
    """The sections and settings that it reads, by their dotted names."""


def write_code(pipeline: Path = PIPELINE_FILE, folder: Path = FOLDER) -> list[str]:
    """Write a file for each stage of `pipeline` that depends on one; return the stages' names.

    Raises:
        InputError: the pipeline cannot be read.
        ConfigError: a stage's command names no module, or the settings are missing or broken.
        OutputError: a file cannot be written.
    """
    entries = read_entries(pipeline, folder)
    read = {name.partition(".")[0] for entry in entries.values() for name in entry.settings}
    values = Params.load("pipeline").values(sorted(read)) if read else {}
    for name, entry in entries.items():
        text = describe_code(name, entry.command)
        text += describe_named(entry.settings, values)
        text += describe_settings(entry.settings, values)
        write_file(folder / name, text)
    for path in folder.glob("*"):
        if path.name not in entries:
            path.unlink()
    return list(entries)


def read_entries(pipeline: Path = PIPELINE_FILE, folder: Path = FOLDER) -> dict[str, Entry]:
    """Return the stages that depend on a file of `folder`, by that file's name.

    Raises:
        InputError: the pipeline cannot be read.
    """
    try:
        text = pipeline.read_text(encoding="utf-8")
        stages: Mapping[str, Any] = YAML(typ="safe").load(text)["stages"]
    except (OSError, UnicodeDecodeError, YAMLError, KeyError, TypeError) as error:
        raise InputError(
            f"cannot read the stages of {pipeline}",
            got=str(error).replace("\n", " "),
            fix="write it again: coa params",
        ) from error
    found: dict[str, Entry] = {}
    for entry in stages.values():
        stage = entry.get("do", entry)
        settings = [*stage.get("params", ()), *stage.get("meta", {}).get("by_default", ())]
        for path in map(Path, stage.get("deps", ())):
            if path.parent == folder:
                command = stage["cmd"]
                command = command if isinstance(command, str) else command[0]
                found[path.name] = Entry(command, tuple(sorted(settings)))
    return found


def describe_settings(names: Sequence[str], values: Mapping[str, Any]) -> str:
    """Return a comment for each setting or section of settings: its name and its hash."""
    lines = []
    for name in names:
        content = json.dumps(_value_of(name, values), sort_keys=True, default=str)
        lines.append(f"# {name}: {hashlib.sha256(content.encode()).hexdigest()}\n")
    return "".join(lines)


def describe_named(names: Sequence[str], values: Mapping[str, Any]) -> str:
    """Return a line for each file that settings name and DVC does not follow.

    They are modules of the user's own, in the current folder or in PYTHONPATH, with those that they
    import from there, and prompts that come with the tool.
    """
    roots = [Path.cwd()]
    for folder in filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)):
        roots.append(Path(folder).absolute())
    found: dict[str, str] = {}
    for name in names:
        for text in _texts_in(_value_of(name, values)):
            if is_only_shipped(text):
                found[text] = _hash_of(find_shipped(text))
            own_part = _OWN_PART.fullmatch(text)
            own = [root for root in roots if own_part and _find_file(root, own_part["module"])]
            if own_part and own:
                for path in reachable_files(own[0], own_part["module"]):
                    found[path] = _hash_of(own[0] / path)
    return "".join(f"{found[path]}  {path}\n" for path in sorted(found))


def _value_of(name: str, values: Mapping[str, Any]) -> Any:
    value: Any = values
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def _texts_in(value: Any) -> Iterator[str]:
    """Yield every text of a setting, those of lists and the names within mappings included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield str(name)
            yield from _texts_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts_in(inner)


def describe_code(name: str, command: str) -> str:
    """Return a line for each file that a stage's command may run: its hash and its path.

    Raises:
        ConfigError: the command names no module of the project.
    """
    files: set[str] = set()
    for module in modules_of(name, command):
        files |= reachable_files(ROOT, module)
    return "".join(f"{_hash_of(ROOT / path)}  {path}\n" for path in sorted(files))


def modules_of(name: str, command: str) -> tuple[str, ...]:
    """Return the module that a command runs; for training also the stage's own, imported by name.

    Raises:
        ConfigError: the command names no module of the project.
    """
    words = command.split()
    for word in words:
        if not _MODULE.fullmatch(word) or _find_file(ROOT, word) is None:
            continue
        for stage in Stage:
            if f"stage={stage}" in words:
                return word, TRAINING_MODULES[stage]
        return (word,)
    raise ConfigError(
        f"the command of the stage {name!r} names no module of the project",
        where=PIPELINE_FILE,
        expected="such as python -m synth.sample",
        got=command,
        fix=f"take {FOLDER / name} out of the stage's deps",
    )


def reachable_files(root: Path, module: str) -> set[str]:
    """Return the files that running `module` may read as code, as paths below `root`.

    They are the modules that it imports, directly or indirectly, with the `__init__.py` of their
    packages, and the templates beside them.
    """
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [f"{module}.__main__", module]
    while waiting:
        name = waiting.pop()
        path = _find_file(root, name)
        if name in seen or path is None:
            continue
        seen.add(name)
        found.add(path.relative_to(root).as_posix())
        found.update(template.relative_to(root).as_posix() for template in _templates_of(path))
        waiting.append(name.rpartition(".")[0])
        waiting.extend(imported_modules(path))
    return found


@cache
def imported_modules(path: Path) -> frozenset[str]:
    """Return the modules that a file imports, also by `import_module` of a constant.

    `from a import b` counts as a and a.b, since b may be a module.
    """
    names: set[str] = set()
    for node in ast.walk(_parse(path)):
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


@cache
def _templates_of(path: Path) -> tuple[Path, ...]:
    """Return the templates that a module reads: all in the folder beside it, if it names that."""
    folder = path.parent / TEMPLATES
    if not folder.is_dir() or f'"{TEMPLATES}"' not in path.read_text(encoding="utf-8"):
        return ()
    return tuple(sorted(file for file in folder.iterdir() if file.is_file()))


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def _find_file(root: Path, module: str) -> Path | None:
    """Return the file of a module or of a package; None where the project has none."""
    if not module:
        return None
    folder = root.joinpath(*module.split("."))
    for path in (folder.with_suffix(".py"), folder / "__init__.py"):
        if path.is_file():
            return path
    return None


@cache
def _hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(arguments: Sequence[str]) -> str:
    """Write the files; return the summary line."""
    if arguments:
        raise ConfigError("this command takes no arguments", got=" ".join(arguments))
    return f"{FOLDER}/: the code of {len(write_code())} stages"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
