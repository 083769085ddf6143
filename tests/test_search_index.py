"""Corpus files to passages, passages to the index folder, and the command that does both."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError, InputError, OutputError, ServiceError
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import HEAP_BYTES, Manifest, build_index
from coa.search.corpus import corpus_files, corpus_hash, read_passages, split_contents
from coa.search.corpus_files import expected_rows, files_of
from coa.search.embedded import EmbeddedSearch
from coa.search.index import main

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


# --- corpus files


def write_jsonl(path: Path, *lines: object) -> Path:
    path.write_text(
        "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    )
    return path


def row(number: int, **changes: object) -> dict[str, object]:
    return {"id": f"p{number}", "title": f"Title {number}", "text": f"Text {number}."} | changes


def test_parquet_and_json_lines_give_the_same_passages(tmp_path: Path) -> None:
    rows = [row(number) for number in range(2500)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet", row_group_size=700)
    lines = write_jsonl(tmp_path / "c.jsonl", *rows)
    assert list(read_passages([tmp_path / "c.parquet"])) == list(read_passages([lines]))


def test_columns_are_mapped_and_number_ids_become_text(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", {"key": 7, "head": "T", "body": "B"})
    columns = {"id": "key", "title": "head", "text": "body"}
    assert list(read_passages([path], columns)) == [Passage("7", "T", "B")]


def test_the_wiki_18_form_is_read(tmp_path: Path) -> None:
    path = write_jsonl(
        tmp_path / "c.jsonl", {"id": "0", "contents": '"The "Who""\nA band.\nEnglish.'}
    )
    assert list(read_passages([path], {"contents": "contents"})) == [
        Passage("0", 'The "Who"', "A band.\nEnglish.")
    ]


def test_contents_without_a_title_are_all_text() -> None:
    assert split_contents("just text") == ("", "just text")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([row(1), {"id": "p2", "title": "T"}], ["line 2", "text", "columns id, title"]),
        ([row(1), row(1)], ["line 1 and", "line 2", "'p1' occurs twice", "what to do"]),
        ([row(1), row(2, text="  \n")], ["line 2", "text is empty", "'p2'", "what to do"]),
        ([row(1, id="")], ["line 1", "id is empty"]),
        ([row(1, text=["a"])], ["line 1", "text is not text", "list"]),
        ([row(1), '{"id": "p2", "ti'], ["line 2", "not JSON"]),
        (['{"id": "p1", "title": "", "text": "a\\ud800"}'], ["line 1", "not valid Unicode"]),
        ([], ["holds no passages", "what to do"]),
    ],
)
def test_a_bad_json_line_is_named(tmp_path: Path, lines: list[object], expected: list[str]) -> None:
    path = write_jsonl(tmp_path / "c.jsonl", *lines)
    with pytest.raises(InputError) as error:
        list(read_passages([path]))
    assert all(part in str(error.value) for part in [*expected, "c.jsonl"])


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    texts = pa.array([b"fine", b"\xff\xfe"], pa.binary())
    column = pa.StringArray.from_buffers(2, texts.buffers()[1], texts.buffers()[2])
    pq.write_table(
        pa.table({"id": ["1", "2"], "title": ["a", "b"], "text": column}), tmp_path / "c.parquet"
    )
    (tmp_path / "c.jsonl").write_bytes(b'{"id": "1", "title": "", "text": "\xff"}\n')
    for name in ("c.parquet", "c.jsonl"):
        with pytest.raises(InputError, match="UTF-8"):
            list(read_passages([tmp_path / name]))


def test_a_missing_parquet_column_is_named_with_those_that_are_there(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["1"], "title": ["a"], "body": ["b"]}), tmp_path / "c.parquet")
    with pytest.raises(InputError, match=r"lacks the column 'text'[\s\S]*'body'"):
        list(read_passages([tmp_path / "c.parquet"]))


def test_a_truncated_parquet_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.parquet"
    pq.write_table(pa.Table.from_pylist([row(number) for number in range(100)]), path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(InputError, match=r"c\.parquet"):
        list(read_passages([path]))


def test_the_corpus_hash_follows_the_bytes_of_all_files_and_not_their_names(tmp_path: Path) -> None:
    first, same = (
        write_jsonl(tmp_path / "a.jsonl", row(1)),
        write_jsonl(tmp_path / "b.jsonl", row(1)),
    )
    other = write_jsonl(tmp_path / "c.jsonl", row(2))
    assert corpus_hash([first]) == corpus_hash([same]) != corpus_hash([other])
    assert corpus_hash([first, other]) == corpus_hash([other, same])
    assert len({corpus_hash(files) for files in ([first], [first, same], [first, other])}) == 3
    with pytest.raises(InputError, match="missing"):
        corpus_hash([first, tmp_path / "missing.jsonl"])


@pytest.mark.parametrize(("name", "compression"), [("c.jsonl.gz", "gzip"), ("c.jsonl.zst", "zstd")])
def test_compressed_json_lines_are_read(tmp_path: Path, name: str, compression: str) -> None:
    plain = write_jsonl(tmp_path / "c.jsonl", *(row(number) for number in range(3000)))
    with pa.CompressedOutputStream(str(tmp_path / name), compression) as out:
        out.write(plain.read_bytes())
    assert list(read_passages(corpus_files(str(tmp_path / name)))) == list(read_passages([plain]))
    os.truncate(tmp_path / name, (tmp_path / name).stat().st_size // 2)
    with pytest.raises(InputError, match=r"c\.jsonl\.\w+ (cannot be decompressed|is)|not JSON"):
        list(read_passages([tmp_path / name]))


def test_the_number_of_rows_is_known_before_they_are_read(tmp_path: Path) -> None:
    rows = [row(number, text="x" * 50) for number in range(2000)]
    lines = write_jsonl(tmp_path / "c.jsonl", *rows)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet")
    assert expected_rows([tmp_path / "c.parquet"]) == 2000
    assert expected_rows([lines, tmp_path / "c.parquet"]) == pytest.approx(4000, rel=0.02)
    (tmp_path / "c.jsonl.gz").write_bytes(b"")
    assert expected_rows([lines, tmp_path / "c.jsonl.gz"]) is None


def test_a_data_set_of_the_hub_is_taken_from_an_earlier_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = "a" * 40
    folder = tmp_path / "datasets--me--wiki"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text(commit)
    (folder / f"snapshots/{commit}/data").mkdir(parents=True)
    write_jsonl(folder / f"snapshots/{commit}/data/a.jsonl", row(1))
    write_jsonl(folder / f"snapshots/{commit}/b.jsonl", row(2))
    (folder / f"snapshots/{commit}/README.md").write_text("A corpus.")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert [file.name for file in files_of("hub:me/wiki")] == ["b.jsonl", "a.jsonl"]
    assert [file.name for file in files_of(f"hub:me/wiki@{commit}:data/*.jsonl")] == ["a.jsonl"]
    with pytest.raises(InputError, match="no corpus files"):
        files_of("hub:me/wiki:*.csv")
    with pytest.raises(ServiceError, match=r"download failed[\s\S]*HF_HUB_OFFLINE"):
        files_of("hub:me/other")
    with pytest.raises(ConfigError, match="hub:OWNER/NAME"):
        files_of("hub:wiki")


# --- several corpus files


@pytest.fixture
def corpora(tmp_path: Path) -> Path:
    """A folder of three small files, one of each kind, with what DVC leaves in such a folder."""
    folder = tmp_path / "corpora"
    folder.mkdir()
    write_jsonl(folder / "b.jsonl", row(3), row(4))
    pq.write_table(pa.Table.from_pylist([row(1), row(2)]), folder / "a.parquet")
    (folder / "c.csv").write_text("id,title,text\np5,Title 5,Text 5.\n")
    (folder / ".gitignore").write_text("/a.parquet\n")
    return folder


def test_a_folder_is_read_file_by_file_in_the_order_of_names(corpora: Path) -> None:
    files = corpus_files(str(corpora))
    assert [file.name for file in files] == ["a.parquet", "b.jsonl", "c.csv"]
    assert [passage.id for passage in read_passages(files)] == ["p1", "p2", "p3", "p4", "p5"]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [("*.jsonl", ["b.jsonl"]), ("[ab].*", ["a.parquet", "b.jsonl"]), ("a.parquet", ["a.parquet"])],
)
def test_a_pattern_or_a_name_chooses_files(
    corpora: Path, monkeypatch: pytest.MonkeyPatch, pattern: str, names: list[str]
) -> None:
    assert [file.name for file in corpus_files(f"{corpora}/{pattern}")] == names
    monkeypatch.chdir(corpora.parent)
    assert corpus_files(f"corpora/{pattern}") == tuple(Path("corpora", name) for name in names)


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "part[1].jsonl", row(1))
    assert corpus_files(str(path)) == (path,)


def test_a_file_that_is_no_corpus_is_named_with_a_pattern_that_leaves_it_out(corpora: Path) -> None:
    (corpora / "README.md").write_text("Three corpora.")
    with pytest.raises(ConfigError, match=r"README\.md[\s\S]*corpora/\*\.parquet"):
        corpus_files(str(corpora))


def test_a_folder_in_the_folder_is_not_passed_over_in_silence(corpora: Path) -> None:
    (corpora / "more.parquet").mkdir()
    with pytest.raises(ConfigError, match=r"more\.parquet"):
        corpus_files(str(corpora))


@pytest.mark.parametrize("name", ["", "*.parquet"])
def test_nothing_to_read_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / ".gitignore").write_text("")
    with pytest.raises(InputError, match=r"no corpus files[\s\S]*index\.corpus"):
        corpus_files(f"{tmp_path}/{name}")


def test_one_empty_file_among_others_is_named(corpora: Path) -> None:
    (corpora / "b.jsonl").write_text("")
    with pytest.raises(InputError, match=r"b\.jsonl holds no passages"):
        list(read_passages(corpus_files(str(corpora))))


def test_an_id_in_two_files_names_both_places(corpora: Path) -> None:
    (corpora / "c.csv").write_text("id,title,text\np5,T,x\np2,T,x\n")
    with pytest.raises(
        InputError, match=r"'p2' occurs twice[\s\S]*a\.parquet, row 2 and .*c\.csv, line 3"
    ):
        list(read_passages(corpus_files(str(corpora))))


def test_a_corpus_that_is_there_twice_is_noticed_before_all_is_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_jsonl(tmp_path / f"{name}.jsonl", *(row(number) for number in range(5000)))
    seen = 0
    with pytest.raises(
        InputError, match=r"occurs twice[\s\S]*a\.jsonl, line (\d+) and .*b\.jsonl, line \1\b"
    ):
        for _ in read_passages(corpus_files(f"{tmp_path}/*.jsonl")):
            seen += 1
    assert seen < 10_000


@given(
    st.lists(st.text("ab\u00e9", min_size=1, max_size=3), min_size=1, max_size=12),
    st.integers(1, 5),
)
def test_ids_are_refused_exactly_when_two_are_equal(ids: list[str], num_first: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        parts = [part for part in (ids[:num_first], ids[num_first:]) if part]
        files = [
            write_jsonl(
                Path(folder, f"{n}.jsonl"),
                *({"id": name, "title": "", "text": "x"} for name in part),
            )
            for n, part in enumerate(parts)
        ]
        if len(set(ids)) == len(ids):
            assert [passage.id for passage in read_passages(files)] == ids
        else:
            with pytest.raises(InputError, match="occurs twice"):
                list(read_passages(files))


# --- the folder


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


def test_a_missing_index_says_how_to_build_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is not there[\s\S]*python -m coa\.search\.index"):
        EmbeddedSearch.open(tmp_path / "none")


def damage(folder: Path, pattern: str, content: bytes | None) -> None:
    file = next(folder.glob(pattern))
    if content is None:
        os.truncate(file, file.stat().st_size // 2)
    else:
        file.write_bytes(content)


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
    damage(tmp_path / "index", pattern, content)
    with pytest.raises(InputError, match=r"is damaged[\s\S]*python -m coa\.search\.index"):
        EmbeddedSearch.open(tmp_path / "index")


def test_an_index_of_another_format_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "index")
    manifest = tmp_path / "index" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 1', '"format_version": 0'))
    with pytest.raises(InputError, match=r"another version[\s\S]*format 0"):
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


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        build(tmp_path / "file" / "index")


ENDLESS_BUILD = """
import itertools, sys
from pathlib import Path
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
passages = (Passage(str(n), "T", f"text {n}") for n in itertools.count())
build_index(passages, Path(sys.argv[1]), IndexSettings(), "hash", heap_bytes=15_000_000)
"""


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
    assert contents(tmp_path / "index") == before
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


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


# --- the command


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


def test_the_command_reads_a_folder_and_its_fingerprint_covers_every_file(workplace: Path) -> None:
    Path("corpora").mkdir()
    shutil.copy("corpus.jsonl", "corpora/a.jsonl")
    fingerprints = []
    for number in (30, 31):
        write_jsonl(Path("corpora/b.jsonl"), row(number))
        assert main(["corpus=corpora"]).startswith("data/index: 21 passages from corpora, ")
        engine = EmbeddedSearch.open(Path("data/index"))
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
