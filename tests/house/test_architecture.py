"""Check by the imports who may know whom, who may write a tag, and what is loaded late."""

import re
import subprocess
import sys

import pytest

from coa.code_hashes import imported_modules
from tests.house.sources import (
    LAB,
    PACKAGES,
    ROOT,
    STAGES,
    find_rings,
    import_graph,
    read,
    source_files,
)

SOURCES = source_files(*PACKAGES)
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
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(PACKAGES)


def test_stages_meet_only_in_files() -> None:
    crossing = []
    for source in SOURCES:
        own = source.relative_to(ROOT).parts[0]
        allowed = {own, "train", "evaluation"} if own == LAB else {own}
        packages = {name.partition(".")[0] for name in imported_modules(source)}
        others = packages & ((STAGES | {LAB}) - allowed)
        crossing += [f"{source.relative_to(ROOT)} imports {name}" for name in sorted(others)]
    assert crossing == [], "stages meet only in files under data/"


def test_tests_share_support_modules_and_never_import_each_other() -> None:
    named = re.compile(r"^\s*(?:from|import) tests\.(?:house\.)?test_", re.MULTILINE)
    for path in source_files("tests"):
        assert not named.search(read(path)), path


def test_the_tags_stand_in_one_file() -> None:
    tag = re.compile(r"<think>|</think>|<begin_|</end_|_result>")
    owners = {path.relative_to(ROOT).as_posix() for path in SOURCES if tag.search(read(path))}
    assert owners == {"coa/records/protocol.py"}


def test_prompt_files_name_tags_only_by_their_places() -> None:
    for path in (ROOT / "synth/prompts").glob("*.txt"):
        assert not re.search(r"</?\w*(think|search)", read(path)), path


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
        "coa.rollout.runtime",
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


def test_imports_run_without_a_ring() -> None:
    assert find_rings(import_graph()) == []


def test_no_two_rooms_of_coa_import_each_other() -> None:
    rooms = {path.parent.name for path in (ROOT / "coa").glob("*/__init__.py")}
    graph: dict[str, set[str]] = {}
    for module, needed in import_graph().items():
        for name in needed:
            parts = [it.split(".") for it in (module, name)]
            if all(part[0] == "coa" and len(part) > 1 and part[1] in rooms for part in parts):
                own, other = parts[0][1], parts[1][1]
                graph.setdefault(own, set()).update({other} - {own})
    assert len(graph) > 10
    assert find_rings({room: frozenset(others) for room, others in graph.items()}) == []


def test_a_ring_is_found_also_where_one_module_is_imported_by_its_name() -> None:
    graph = {"a": frozenset("b"), "b": frozenset("c"), "c": frozenset("a"), "d": frozenset("a")}
    assert find_rings(graph) == [["a", "b", "c"]]
    by_name = ROOT / "tests/house/imports_by_name.txt"
    assert "coa.pipeline" in imported_modules(by_name)
