"""Search vectors of passages, and keep the vectors that were computed."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coa.errors import InputError, OutputError, ServiceError
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.search.dense.embedders import HashedEmbedder, Vectors
from coa.search.dense.engine import DenseSearch
from coa.search.dense.vectors import writing_alone
from coa.search.embed import embed_passages, main
from coa.search.embedded import EmbeddedSearch
from tests.dense_support import RIVERS, dense_settings, embed, make_index, open_dense, towns

HOSTILE = (
    "\ud800 lone",
    "\0\x1b[31m",
    "<think>x</think>",
    "{{7*7}} ' OR 1=1 --",
    "\u202e\u200b",
    "word " * 100_000,
    "a" * 1_000_000,
)


def ids(hits: object) -> list[str]:
    return [hit.passage.id for hit in hits]  # type: ignore[attr-defined]


def test_a_passage_is_nearest_to_its_own_words(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    settings = dense_settings(tmp_path)
    embed(index, settings)
    engine = open_dense(index, settings)
    hits = engine.find("The Rhine is a river in Europe", 2)
    assert ids(hits) == ["p2", "p1"]
    assert 0 < hits[1].score < hits[0].score <= 1.001
    assert hits[0].passage == RIVERS[1]
    assert engine.passage("p3") == RIVERS[2]


def test_rows_stand_for_the_same_passages_in_an_index_of_several_segments(tmp_path: Path) -> None:
    passages = [
        replace(passage, text=f"{passage.text} {' '.join(str(n * k) for k in range(40))}")
        for n, passage in enumerate(towns(9_000))
    ]
    build_index(passages, tmp_path / "index", IndexSettings(), "hash", heap_bytes=15_000_000)
    settings = dense_settings(tmp_path, batch_size=512, hashed_dimensions=32)
    folder = embed(tmp_path / "index", settings)
    assert len(folder.origin.segments) > 1
    engine = open_dense(tmp_path / "index", settings)
    embedder = HashedEmbedder(32)
    for number in (0, 4_444, 8_999):
        passage = engine._passages[number]
        expected = embedder.embed([settings.passage_text(passage)])[0]
        assert np.allclose(folder.rows[number], expected, atol=1e-3)


def test_the_graph_finds_nearly_what_exact_search_finds(tmp_path: Path) -> None:
    passages = towns(2_000)
    index = make_index(tmp_path, passages)
    settings = dense_settings(tmp_path)
    rows = embed(index, settings).rows.astype(np.float32)
    engine = open_dense(index, settings)
    embedder = HashedEmbedder(128)
    num_found = 0
    for passage in passages[::100]:
        query = " ".join(passage.text.split()[2:6])
        scores = rows @ embedder.embed([query])[0]
        tenth = np.sort(scores)[-10]
        num_found += sum(hit.score >= tenth - 1e-3 for hit in engine.find(query, 10))
    assert num_found >= 0.98 * 200


def test_embedding_again_computes_nothing_and_changes_nothing(tmp_path: Path) -> None:
    index = make_index(tmp_path, towns(300))
    settings = dense_settings(tmp_path)
    embed(index, settings)
    files = {file: file.stat().st_mtime_ns for file in (tmp_path / "vectors").iterdir()}
    embed(index, settings)
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "vectors").iterdir()} == files


def test_two_builds_on_one_thread_have_the_same_bytes_and_fingerprint(tmp_path: Path) -> None:
    index = make_index(tmp_path, towns(500))
    found = []
    for name in ("a", "b"):
        settings = dense_settings(tmp_path, folder=str(tmp_path / name), batch_size=17)
        embed(index, settings)
        content = (tmp_path / name / "graph.usearch").read_bytes()
        found.append((content, open_dense(index, settings).fingerprint))
    assert found[0] == found[1]


def test_the_fingerprint_names_embedder_and_corpus_and_nothing_else(tmp_path: Path) -> None:
    index = make_index(tmp_path)

    def fingerprint(name: str, **changes: object) -> str:
        settings = dense_settings(tmp_path, folder=str(tmp_path / name), **changes)
        embed(index, settings)
        return open_dense(index, settings).fingerprint

    plain = fingerprint("a")
    assert fingerprint("b", batch_size=1, model="unread") == plain
    assert fingerprint("c", hashed_dimensions=64) != plain
    assert fingerprint("d", query_prefix="query: ") != plain


def test_missing_vectors_say_how_to_build_them(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    settings = dense_settings(tmp_path)
    with pytest.raises(InputError, match=r"are not there[\s\S]*coa search embed index="):
        open_dense(index, settings)
    embed(index, settings)
    for name in ("graph.sha256", "vectors.f16"):
        (tmp_path / "vectors" / name).unlink()
        with pytest.raises(InputError, match="not all of them"):
            open_dense(index, settings)
        embed(index, settings)
        assert open_dense(index, settings).find("Rhine", 1)


def test_vectors_of_another_embedder_are_refused_with_advice_that_works(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    embed(index, dense_settings(tmp_path))
    other = dense_settings(tmp_path, hashed_dimensions=64)
    for use in (embed, open_dense):
        with pytest.raises(InputError, match="of another corpus or embedder") as refusal:
            use(index, other)
        assert refusal.value.details["expected"] == "dimensions 64"
        assert refusal.value.details["got"] == "dimensions 128"
        assert "name another folder" in refusal.value.details["what to do"]
    elsewhere = replace(other, folder=str(tmp_path / "other"))
    embed(index, elsewhere)
    assert ids(open_dense(index, elsewhere).find("Rhine river Europe", 1)) == ["p2"]
    assert ids(open_dense(index, dense_settings(tmp_path)).find("Rhine", 1)) == ["p2"]
    with pytest.raises(InputError, match="corpus"):
        embed(make_index(tmp_path, RIVERS[:2], corpus_hash="other"), dense_settings(tmp_path))


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    (tmp_path / "vectors").mkdir()
    (tmp_path / "vectors/vectors.f16").write_text("my notes")
    with pytest.raises(OutputError, match="in the way"):
        embed(index, dense_settings(tmp_path))
    assert (tmp_path / "vectors/vectors.f16").read_text() == "my notes"
    assert [file.name for file in (tmp_path / "vectors").iterdir()] == ["vectors.f16"]


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("vectors.f16", "not all of them"),
        ("graph.usearch", "damaged"),
        ("manifest.json", "damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, name: str, fault: str) -> None:
    index = make_index(tmp_path)
    settings = dense_settings(tmp_path)
    embed(index, settings)
    (tmp_path / "vectors" / name).write_bytes(b"{")
    with pytest.raises(InputError, match=fault):
        open_dense(index, settings)


def test_a_folder_of_the_first_format_is_searched_where_it_is_complete(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    settings = dense_settings(tmp_path)
    embed(index, settings)
    manifest = tmp_path / "vectors/manifest.json"
    manifest.write_text(manifest.read_text().replace('"format_version": 2', '"format_version": 1'))
    (tmp_path / "vectors/done").write_bytes(b"\1" * 3)
    assert open_dense(index, settings).find("Rhine", 1)
    (tmp_path / "vectors/graph.sha256").unlink()
    with pytest.raises(InputError, match="another version"):
        embed(index, settings)


def test_two_processes_do_not_embed_into_one_folder(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    with writing_alone(tmp_path / "vectors"), pytest.raises(OutputError, match="another process"):
        embed(index, dense_settings(tmp_path))


def test_a_killed_run_goes_on_and_computes_only_what_is_missing(tmp_path: Path, root: Path) -> None:
    index = make_index(tmp_path, towns(3000))
    (tmp_path / "params.yaml").write_bytes((root / "params.yaml").read_bytes())
    settings = dense_settings(tmp_path, batch_size=1)
    command = [
        *(sys.executable, "-m", "coa.search.embed", f"index={index}"),
        *(f"search.dense.folder={settings.folder}", "search.dense.hashed_dimensions=128"),
        "search.dense.batch_size=1",
    ]
    rows = tmp_path / "vectors/vectors.f16"
    child = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not (rows.exists() and rows.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.001)
    child.send_signal(signal.SIGKILL)
    child.wait()
    num_kept = rows.stat().st_size // 256
    assert 0 < num_kept < 3000
    with rows.open("ab") as file:
        file.write(b"part")
    counting = Counting(HashedEmbedder(128))
    folder = embed_passages(index, settings, counting)
    assert counting.num_texts == 3000 - num_kept
    whole = embed(index, replace(settings, folder=str(tmp_path / "whole"), batch_size=512))
    assert np.array_equal(folder.rows, whole.rows)
    graphs = [(tmp_path / name / "graph.usearch").read_bytes() for name in ("vectors", "whole")]
    assert graphs[0] == graphs[1]


class Counting:
    """Counts the texts that an embedder is given."""

    def __init__(self, embedder: HashedEmbedder) -> None:
        self._embedder = embedder
        self.num_texts = 0

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.num_texts += len(texts)
        return self._embedder.embed(texts)


def test_an_embedder_that_gives_other_sizes_is_refused_with_advice(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    settings = dense_settings(tmp_path)
    embed(index, settings)
    words = EmbeddedSearch.open(index)
    engine = DenseSearch(words, index, settings, HashedEmbedder(64))
    with pytest.raises(ServiceError, match="another size") as refusal:
        engine.find("Rhine", 1)
    assert refusal.value.details["expected"] == "128 numbers"
    assert "into another folder" in refusal.value.details["what to do"]


def test_hostile_queries_and_passages_are_embedded_as_text(tmp_path: Path) -> None:
    passages = [
        Passage(f"h{number}", text.encode("utf-8", "replace").decode()[:50], f"x {text[1:3000]}")
        for number, text in enumerate(HOSTILE)
    ]
    index = make_index(tmp_path, passages)
    settings = dense_settings(tmp_path)
    embed(index, settings)
    engine = open_dense(index, settings)
    for text in HOSTILE:
        assert len(engine.find(text, 3)) <= 3
    assert engine.find("", 3) == engine.find(" \n", 3) == engine.find("?!", 3) == ()
    assert engine.find("x", 0) == ()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(), min_size=1, max_size=8))
def test_hashed_vectors_have_length_one_or_say_nothing(texts: list[str]) -> None:
    vectors = HashedEmbedder(32).embed(texts)
    lengths = np.linalg.norm(vectors, axis=1)
    assert all(length == pytest.approx(1, abs=1e-5) or length == 0 for length in lengths)
    assert np.array_equal(vectors, HashedEmbedder(32).embed(texts))


def test_the_command_embeds_the_index_of_the_settings(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_index(tmp_path)
    (tmp_path / "params.yaml").write_bytes((root / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    summary = main(["index=index", "search.dense.folder=v", "search.dense.hashed_dimensions=32"])
    assert summary == "v: 3 vectors of 32 numbers for index, by hashed"
    manifest = json.loads((tmp_path / "v/manifest.json").read_text())
    assert manifest["dimensions"] == 32
