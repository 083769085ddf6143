"""Check by the imports who may know whom, who may write a tag, and what is loaded late."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.code_dependencies import imported_modules

ROOT = Path(__file__).parent.parent
CORE = "coa"
STAGES = {"synth", "curate", "annotate", "data_cards", "train", "evaluation"}
LAB = "lab"
"""The experiments, which train and evaluate."""
SOURCES = sorted(
    path for package in (CORE, *STAGES, LAB) for path in (ROOT / package).rglob("*.py")
)
HEAVY = {
    "torch",
    "transformers",
    "sentence_transformers",
    "trl",
    "datasets",
    "vllm",
    "argilla",
    "openai",
    "peft",
    "accelerate",
}


def test_every_package_has_sources() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == {CORE, *STAGES, LAB}


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_stages_meet_only_in_files(source: Path) -> None:
    own = source.relative_to(ROOT).parts[0]
    allowed = {own, "train", "evaluation"} if own == LAB else {own}
    crossing = {name.partition(".")[0] for name in imported_modules(source)} & (
        (STAGES | {LAB}) - allowed
    )
    assert not crossing, (
        f"{source} imports {sorted(crossing)}; stages meet only in files under data/"
    )


def test_tests_share_support_modules_and_never_import_each_other() -> None:
    named = re.compile(r"^\s*(?:from|import) tests\.test_", re.MULTILINE)
    for path in sorted((ROOT / "tests").glob("*.py")):
        assert not named.search(path.read_text(encoding="utf-8")), path


def test_the_tags_stand_in_one_file() -> None:
    tag = re.compile(r"<think>|</think>|<begin_|</end_|_result>")
    owners = {
        path.relative_to(ROOT).as_posix()
        for path in SOURCES
        if tag.search(path.read_text(encoding="utf-8"))
    }
    assert owners == {"coa/protocol.py"}


def test_prompt_files_name_tags_only_by_their_places() -> None:
    for path in (ROOT / "synth/prompts").glob("*.txt"):
        assert not re.search(r"</?\w*(think|search)", path.read_text(encoding="utf-8")), path


def test_no_module_bears_the_name_of_a_dependency() -> None:
    taken = (
        sys.stdlib_module_names
        | HEAVY
        | {"polars", "tantivy", "dvc", "tqdm", "tokenizers", "numpy"}
    )
    # Modules inside packages, such as `train.run`, are never top-level names, so only their own
    # names matter.
    assert not {path.stem for path in SOURCES if path.stem != "__init__"} & taken


@pytest.mark.parametrize(
    "module",
    [
        "coa.runtime",
        "synth.sample",
        "synth.questions",
        "curate.branch",
        "curate.assemble",
        "train.run",
        "train.sft",
        "evaluation.evaluate",
        "evaluation.fidelity",
    ],
)
def test_heavy_libraries_load_late(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({HEAVY!r} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_run_without_a_ring(source: Path) -> None:
    module = ".".join(source.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    seen: set[str] = set()
    todo = [name for name in imported_modules(source) if name != module]
    while todo:
        name = todo.pop()
        path = ROOT.joinpath(*name.split("."))
        file = next(
            (p for p in (path.with_suffix(".py"), path / "__init__.py") if p.is_file()), None
        )
        if name in seen or file is None:
            continue
        seen.add(name)
        todo += imported_modules(file)
    # A package's face may be reached from its own rooms; a room must not be reached from itself.
    assert module not in seen or source.name == "__init__.py"
