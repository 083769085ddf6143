"""Build the index folder from passages, and run the command that does it."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from coa.errors import ConfigError, InputError, OutputError
from coa.records.question import Question
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import HEAP_BYTES, Manifest, build_index
from coa.search.embedded import EmbeddedSearch
from coa.search.index import main
from coa.store.tables import write_table
from tests.corpus_support import (
    row,
    write_jsonl,
)

RIVERS = [
    Passage("p1", "Danube", "The Danube is a river that flows through ten countries."),
    Passage("p2", "Rhine", "The Rhine is a river in Europe. It does flow north."),
    Passage("p3", "Jane Doe", "Jane Doe wrote about rivers and the United States."),
]
ENGINE = EmbeddedSearch.in_memory(RIVERS)


def build(
    out: Path, passages: Iterable[Passage] = RIVERS, heap_bytes: int = HEAP_BYTES
) -> Manifest:
    return build_index(passages, out, IndexSettings(), "hash", heap_bytes=heap_bytes)


def contents(folder: Path) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}


def many(count: int) -> list[Passage]:
    return [
        Passage(
            f"{n:05d}", f"Town {n % 97}", f"Town number {n} lies near {' '.join('abc')} {n * 7}."
        )
        for n in range(count)
    ]


def found(engine: EmbeddedSearch, query: str, top_k: int = 3) -> list[str]:
    return [hit.passage.id for hit in engine.find(query, top_k)]


def test_a_built_index_answers_as_one_in_memory(tmp_path: Path) -> None:
    manifest = build(tmp_path / "index")
    engine = EmbeddedSearch.open(tmp_path / "index")
    assert engine.find("river Danube", 5) == ENGINE.find("river Danube", 5)
    assert (engine.num_passages, engine.fingerprint) == (3, manifest.fingerprint)


def test_two_builds_are_byte_equal_whatever_the_order(tmp_path: Path) -> None:
    build(tmp_path / "a", many(3000))
    build(tmp_path / "b", many(3000)[::-1])
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_builds_of_several_segments_are_byte_equal_and_break_ties_by_id(tmp_path: Path) -> None:
    passages = [
        *many(14_000),
        *(Passage(f"{chr(97 + n % 7)}{n}", "Twin", "same same words") for n in range(20)),
    ]
    passages[:20], passages[-20:] = passages[-20:], passages[:20]
    for name in ("a", "b"):
        build(tmp_path / name, passages, heap_bytes=15_000_000)
    engine = EmbeddedSearch.open(tmp_path / "a")
    twins = sorted(passage.id for passage in passages if passage.title == "Twin")
    assert len(list((tmp_path / "a").glob("*.store"))) > 1
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert found(engine, "twin same words", 5) == twins[:5]


def test_searching_leaves_the_folder_as_it_was(tmp_path: Path) -> None:
    build(tmp_path / "index")
    before = contents(tmp_path / "index")
    assert found(EmbeddedSearch.open(tmp_path / "index"), "Danube") == ["p1"]
    assert contents(tmp_path / "index") == before


def test_an_open_index_survives_a_rebuild(tmp_path: Path) -> None:
    build(tmp_path / "index")
    engine = EmbeddedSearch.open(tmp_path / "index")
    build(tmp_path / "index", RIVERS[1:])
    assert found(engine, "Danube") == ["p1"]
    assert found(EmbeddedSearch.open(tmp_path / "index"), "Danube") == []
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_missing_index_or_one_of_another_format_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not there[\s\S]*coa search index"):
        EmbeddedSearch.open(tmp_path / "none")
    build(tmp_path / "index")
    manifest = tmp_path / "index" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 0'))
    with pytest.raises(InputError, match=r"another version[\s\S]*format 0"):
        EmbeddedSearch.open(tmp_path / "index")


@pytest.mark.parametrize(
    ("pattern", "content"),
    [
        ("*.store", None),
        ("*.term", b""),
        ("meta.json", b"{}"),
        ("manifest.json", b""),
        ("manifest.json", b"[1]"),
        ("manifest.json", b"\xff"),
    ],
)
def test_a_damaged_index_says_how_to_build_it(
    tmp_path: Path, pattern: str, content: bytes | None
) -> None:
    build(tmp_path / "index")
    file = next((tmp_path / "index").glob(pattern))
    if content is None:
        os.truncate(file, file.stat().st_size // 2)
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"is damaged[\s\S]*coa search index"):
        EmbeddedSearch.open(tmp_path / "index")


def failing(passages: list[Passage]) -> Iterator[Passage]:
    yield from passages
    raise InputError("row 4 is bad")


def test_a_failed_build_leaves_the_older_index_and_nothing_else(tmp_path: Path) -> None:
    build(tmp_path / "index")
    before = contents(tmp_path / "index")
    with pytest.raises(InputError, match="row 4 is bad"):
        build(tmp_path / "index", failing(RIVERS[:3]))
    with pytest.raises(InputError, match="no passages"):
        build(tmp_path / "index", [])
    assert contents(tmp_path / "index") == before
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_folder_that_is_no_index_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="in the way"):
        build(tmp_path)
    with pytest.raises(OutputError, match="in the way"):
        build(tmp_path / "thesis.txt")
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


FULL_DISK = """
import resource, sys
from pathlib import Path
from coa.errors import OutputError
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
# No file may grow beyond this: as on a full disk.
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
passages = (
    Passage(str(n), f"Title {n}", f"text {n * 7919} and {n * 104729}") for n in range(50_000)
)
try:
    build_index(passages, Path(sys.argv[1]), IndexSettings(), "hash")
except OutputError as error:
    print(error)
"""


def test_a_full_disk_leaves_the_older_index_and_says_what_to_do(root: Path, tmp_path: Path) -> None:
    build(tmp_path / "index")
    before = contents(tmp_path / "index")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "index")]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert "cannot write" in done.stdout, done.stderr
    assert "the disk is probably full" in done.stdout
    assert "free some space" in done.stdout
    assert contents(tmp_path / "index") == before
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


SLOW_BUILD = """
import sys, time
from pathlib import Path
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index

def slowly():
    for number in range(9000):
        if number >= 7000:
            time.sleep(0.1)
        text = f"Town number {number} lies near a b c {number * 7}."
        yield Passage(f"{number:05d}", f"Town {number % 97}", text)

build_index(slowly(), Path(sys.argv[1]), IndexSettings(), "hash", passages_per_commit=2000)
"""


def kill_after_commits(root: Path, out: Path, least: int) -> Path:
    """Kill a build after its commits; return the folder that it leaves."""
    child = subprocess.Popen([sys.executable, "-c", SLOW_BUILD, str(out)], cwd=root)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        left = list(out.parent.glob(f".{out.name}.*.partial"))
        if any(len(list(folder.glob("*.store"))) >= least for folder in left):
            break
        time.sleep(0.05)
    time.sleep(0.5)
    child.send_signal(signal.SIGKILL)
    child.wait()
    (unfinished,) = (path for path in left if (path / "meta.json").exists())
    return unfinished


def test_a_killed_build_goes_on_after_its_last_commit(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    unfinished = kill_after_commits(root, out, 3)
    committed = {file.stat().st_ino for file in unfinished.glob("*.store")}
    assert len(committed) >= 3
    with pytest.raises(InputError, match="is not there"):
        EmbeddedSearch.open(out)
    build_index(many(9000), out, IndexSettings(), "hash", passages_per_commit=2000)
    kept = {file.stat().st_ino for file in out.glob("*.store")}
    assert committed & kept, "the segments of the killed build were made again"
    build_index(many(9000), tmp_path / "at_once", IndexSettings(), "hash", passages_per_commit=2000)
    assert contents(out) == contents(tmp_path / "at_once")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["at_once", "index"]


def test_a_build_does_not_go_on_with_another_order_or_other_passages(
    root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "index"
    unfinished = kill_after_commits(root, out, 3)
    with pytest.raises(InputError, match="another order") as error:
        build_index(many(9000)[::-1], out, IndexSettings(), "hash", passages_per_commit=2000)
    (unfinished,) = tmp_path.iterdir()
    assert f"delete {unfinished}" in str(error.value)
    build_index(many(100), out, IndexSettings(), "another corpus")
    assert EmbeddedSearch.open(out).num_passages == 100
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "corpus.jsonl", *(row(number) for number in range(20)))
    params = (
        "index:\n  corpus: corpus.jsonl\n  out: data/index\n  columns: {}\n  is_stemmed: true\n"
    )
    (tmp_path / "params.yaml").write_text(params)
    return tmp_path


def test_the_command_builds_an_index_that_opens(workplace: Path) -> None:
    summary = main([])
    engine = EmbeddedSearch.open(Path("data/index"))
    assert summary == f"data/index: 20 passages from corpus.jsonl, {engine.fingerprint}"
    assert found(engine, "title 7", 1) == ["p7"]


def test_gold_titles_that_the_corpus_lacks_are_reported_by_data_set(workplace: Path) -> None:
    questions = [
        Question("a", "?", ("x",), "train", gold_titles=("Title 7", "title 8"), source="one"),
        Question("b", "?", ("x",), "train", gold_titles=("title 7", "Elsewhere"), source="one"),
        Question("c", "?", ("x",), "test", gold_titles=("title 9",), source="two"),
        Question("d", "?", ("x",), "test", source="three"),
    ]
    write_table(Path("data/questions.parquet"), Question, questions)
    summary = main([]).splitlines()
    assert summary[1:] == [
        "one: 1 of 2 questions lack a gold passage; 1 of 3 gold titles are of no passage"
    ]
    metrics = json.loads(Path("metrics/index.json").read_text())["gold_titles"]
    assert metrics["one"] == {"questions": 2, "incomplete": 1, "titles": 3, "missing": 1}
    assert metrics["two"]["incomplete"] == 0
    assert "three" not in metrics


def test_the_command_reads_a_folder_and_its_fingerprint_covers_every_file(workplace: Path) -> None:
    Path("corpora").mkdir()
    shutil.copy("corpus.jsonl", "corpora/a.jsonl")
    fingerprints = []
    for number in (30, 31):
        write_jsonl(Path("corpora/b.jsonl"), row(number))
        summary = main(["corpus=corpora", "out=data/other"])
        assert summary.startswith("data/other: 21 passages from corpora, ")
        engine = EmbeddedSearch.open(Path("data/other"))
        assert found(engine, f"title {number}", 1) == [f"p{number}"]
        fingerprints.append(engine.fingerprint)
    assert len(set(fingerprints)) == 2


def test_the_command_says_what_is_wrong(workplace: Path) -> None:
    with pytest.raises(InputError, match="cannot read other"):
        main(["corpus=other.jsonl"])
    shutil.copy("corpus.jsonl", "corpus.txt")
    with pytest.raises(ConfigError, match="format"):
        main(["corpus=corpus.txt"])
    assert not Path("data/index").exists()


def test_another_corpus_never_takes_the_place_of_the_pipelines_index(workplace: Path) -> None:
    main([])
    metrics = Path("metrics/index.json").read_text()
    before = contents(Path("data/index"))
    write_jsonl(Path("mine.jsonl"), row(99))
    with pytest.raises(ConfigError, match="the index of the pipeline") as caught:
        main(["corpus=mine.jsonl"])
    assert "out=data/my_index" in str(caught.value)
    main(["corpus=mine.jsonl", "out=data/my_index"])
    assert found(EmbeddedSearch.open(Path("data/my_index")), "title 99", 1) == ["p99"]
    assert contents(Path("data/index")) == before
    assert Path("metrics/index.json").read_text() == metrics


ENDLESS_BUILD = """
import itertools, sys
from pathlib import Path
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
passages = (Passage(str(n), "T", f"text {n}") for n in itertools.count())
build_index(passages, Path(sys.argv[1]), IndexSettings(), "hash", heap_bytes=15_000_000)
"""


def test_a_killed_build_leaves_no_index_and_the_next_one_cleans_up(
    root: Path, tmp_path: Path
) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", ENDLESS_BUILD, str(tmp_path / "index")], cwd=root
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.glob(".index.*.partial/*.store")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert any(tmp_path.iterdir())
    with pytest.raises(InputError, match="is not there"):
        EmbeddedSearch.open(tmp_path / "index")
    build(tmp_path / "index")
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
