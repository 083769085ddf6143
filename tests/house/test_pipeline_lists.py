"""Check that dvc.yaml and dvc.lock list exactly the code that each stage runs."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from coa.pipeline import read_code
from scripts.code_dependencies import code_of, find_code, modules_of
from tests.house.sources import PACKAGES, ROOT


def yaml(name: str) -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((ROOT / name).read_text(encoding="utf-8"))
    return found


PIPELINE = yaml("dvc.yaml")["stages"]


def stage(name: str) -> dict[str, Any]:
    found: dict[str, Any] = PIPELINE[name].get("do", PIPELINE[name])
    return found


def command(name: str) -> str:
    """What a stage runs, or the first of several."""
    found: str | list[str] = stage(name)["cmd"]
    return found if isinstance(found, str) else found[0]


def modules(name: str) -> tuple[str, ...]:
    return modules_of(name, stage(name))


def test_a_stage_lists_exactly_the_code_it_runs() -> None:
    is_code = re.compile(rf"coa|({'|'.join(PACKAGES)})/.*\.py")
    for name in PIPELINE:
        listed = [path for path in stage(name)["deps"] if is_code.fullmatch(path)]
        assert listed == code_of(ROOT, name, stage(name)), f"{name}: run `make deps`"


def test_the_lists_of_code_are_those_that_one_command_writes() -> None:
    assert read_code() == find_code(ROOT), "run `make deps`"


def test_one_word_stands_in_four_places() -> None:
    for name in PIPELINE:
        check_names_of(name)


def check_names_of(name: str) -> None:
    """Check that a stage's module, outputs and settings bear its name."""
    module, word = (
        modules(name)[0],
        name.rpartition("_")[2],
    )  # student_grade: the stage grade once more
    section = f"train.{name}" if module == "train.run" else name
    folders = [
        f"data/{name}",
        f"data/{name.replace('_', '/')}",
        f"data/train/{name}",
        f"{name}s/",
        f"results/{name}",
        f"reports/{name}",
    ]
    assert module.rpartition(".")[2] == word or f"stage={name}" in command(name)
    assert all(
        path.startswith(tuple(folders)) for path in map(path_of, stage(name).get("outs", []))
    )
    params = {param.partition(".")[0] for param in stage(name).get("params", [word])}
    params |= set(stage(name).get("params", []))
    assert {section, word, "train"} & params or name.startswith("student_") or name == "report"


def path_of(out: str | dict[str, Any]) -> str:
    return out if isinstance(out, str) else next(iter(out))


def hash_file(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def hash_folder(folder: Path) -> str:
    """As DVC hashes a folder: the MD5 of its files' names and MD5s as JSON."""
    files = sorted(
        path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    listed = [
        {"md5": hash_file(path), "relpath": path.relative_to(folder).as_posix()} for path in files
    ]
    listed.sort(key=lambda entry: entry["relpath"])
    return hashlib.md5(json.dumps(listed, sort_keys=True).encode()).hexdigest() + ".dir"


def test_the_committed_lock_belongs_to_this_code() -> None:
    stale = set()
    for stage_of_lock in yaml("dvc.lock")["stages"].values():
        for dep in stage_of_lock["deps"]:
            path = dep["path"]
            if path == "coa":
                found = hash_folder(ROOT / path)
            elif path.endswith(".py"):
                found = hash_file(ROOT / path)
            else:
                continue
            if found != dep["md5"]:
                stale.add(path)
    assert not stale, "run `dvc repro` on the default profile and commit dvc.lock and metrics/"
