"""Look up in the code the names in documents and docstrings: a new name is new everywhere."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from coa.settings.params import Params
from tests.house.sources import PACKAGES, ROOT, parse, source_files

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DEFAULTS: dict[str, Any] = Params.load("pipeline", (), ROOT / "conf/microworld.yaml").values()
OF_LIBRARIES = {"normalize_answer", "dataset_dir", "tokenized_path", "ddp_timeout", "NO_COLOR"}
"""Names of SQuAD's script, LLaMA-Factory, transformers and terminals that no code of ours uses."""
OF_FILES = {"coa.schema_version"}
"""Keys in the metadata of a parquet file, which look like modules."""
HISTORY = {"CHANGELOG.md", "log.md"}
"""They may name what is gone."""


@pytest.fixture(scope="module")
def sources() -> dict[Path, ast.Module]:
    return {path: parse(path) for path in source_files(*PACKAGES, "bench", "tests")}


def docstrings(tree: ast.Module) -> list[ast.Constant]:
    """The texts that stand alone in a module, a class or a function."""
    found = []
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        for statement in body if isinstance(body, list) else []:
            if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
                found.append(statement.value)
    return found


def words_of_code(sources: dict[Path, ast.Module]) -> set[str]:
    """Every name and every word of a text that does something, in Python and in settings."""
    words: set[str] = set()
    for path, tree in sources.items():
        words.update(path.relative_to(ROOT).with_suffix("").parts)
        documentation = {id(node) for node in docstrings(tree)}
        for node in ast.walk(tree):
            if id(node) in documentation:
                continue
            texts = (getattr(node, name, None) for name in ("id", "attr", "arg", "name", "module"))
            value = node.value if isinstance(node, ast.Constant) else None
            for text in (*texts, value):
                words.update(re.findall(r"\w+", text) if isinstance(text, str) else ())
    settings = [*ROOT.glob("conf/**/*.yaml"), *ROOT.glob("*.yaml"), *ROOT.glob("lab/*.yaml")]
    settings += ROOT.glob("metrics/*")
    for path in [*settings, ROOT / "Makefile", ROOT / "pyproject.toml"]:
        words.update(re.findall(r"\w+", path.read_text(encoding="utf-8")))
    return words


def is_identifier(word: str) -> bool:
    return "_" in word or re.search("[a-z][A-Z]", word) is not None


def test_every_name_in_backticks_is_one_of_the_code(sources: dict[Path, ast.Module]) -> None:
    texts = {
        path: path.read_text(encoding="utf-8") for path in DOCUMENTS if path.name not in HISTORY
    }
    for path, tree in sources.items():
        if path.relative_to(ROOT).parts[0] in PACKAGES:
            texts[path] = "\n".join(str(node.value) for node in docstrings(tree))
    known = words_of_code(sources) | OF_LIBRARIES
    stale = []
    for path, text in texts.items():
        for name in re.findall(r"`([A-Za-z_][\w.]*)(?:\(\))?`", text):
            words = [word for word in re.findall(r"\w+", name) if is_identifier(word)]
            if not known.issuperset(words):
                stale.append(f"{path.relative_to(ROOT)}: {name}")
    assert stale == []


def is_module_or_setting(name: str) -> bool:
    """Whether `coa.records.tokens` leads to a module, or `train.rl1.rewards` to a setting."""
    package, *rest = name.split(".")
    folder = ROOT / package
    for part in rest:
        if (folder / f"{part}.py").is_file():
            return True
        folder = folder / part
    in_settings = isinstance(DEFAULTS.get(package), dict) and rest[0] in DEFAULTS[package]
    return folder.is_dir() or in_settings


def test_every_dotted_name_of_a_package_leads_to_a_module_or_a_setting() -> None:
    packages = "|".join(PACKAGES)
    stale = []
    for path in DOCUMENTS:
        if path.name in HISTORY:
            continue
        text = path.read_text(encoding="utf-8")
        for name in re.findall(rf"`((?:{packages})\.[\w.]*\w)`", text):
            if name not in OF_FILES and not is_module_or_setting(name):
                stale.append(f"{path.relative_to(ROOT)}: {name}")
    assert stale == []
