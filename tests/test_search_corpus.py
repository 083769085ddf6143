"""Read corpus files to passages: every form, and each bad line, file or id by name."""

import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError, InputError
from coa.search import Passage
from coa.search.corpus import corpus_files, corpus_hash, read_passages
from tests.corpus_support import (
    row,
    write_jsonl,
)


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
    contents = ['"The "Who""\nA band.\nEnglish.', "just text"]
    rows = [{"id": str(number), "contents": text} for number, text in enumerate(contents)]
    path = write_jsonl(tmp_path / "c.jsonl", *rows)
    assert list(read_passages([path], {"contents": "contents"})) == [
        Passage("0", 'The "Who"', "A band.\nEnglish."),
        Passage("1", "", "just text"),
    ]


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
    (corpora / "README.md").unlink()
    (corpora / "more.parquet").mkdir()
    with pytest.raises(ConfigError, match=r"more\.parquet"):
        corpus_files(str(corpora))


@pytest.mark.parametrize("name", ["", "*.parquet"])
def test_nothing_to_read_is_an_error(tmp_path: Path, name: str) -> None:
    (tmp_path / ".gitignore").write_text("")
    with pytest.raises(InputError, match=r"no corpus files[\s\S]*index\.corpus"):
        corpus_files(f"{tmp_path}/{name}")


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
    with pytest.raises(InputError, match="occurs twice"):
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
