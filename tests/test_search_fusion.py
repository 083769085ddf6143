"""Fuse rankings by reciprocal ranks, and serve what comes of it."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError, InputError
from coa.search import Hit, Passage
from coa.search.app import Serving
from coa.search.embedded import EmbeddedSearch
from coa.search.factory import open_engine, open_finder
from coa.search.hybrid import HybridSearch, fuse
from coa.search.remote import RemoteSearch
from coa.search.serve import ServeParams
from coa.search.settings import Dialect, EngineKind, FusionSettings, RemoteSettings, SearchParams
from tests.dense_support import RIVERS, dense_settings, embed, make_index

RANKINGS = st.lists(st.lists(st.integers(0, 12), unique=True, max_size=9), max_size=4)


def ranking(*ids: object) -> list[Hit]:
    return [Hit(Passage(f"{passage_id}", "", ""), 1.0) for passage_id in ids]


def ids(hits: object) -> list[str]:
    return [hit.passage.id for hit in hits]  # type: ignore[attr-defined]


def test_reciprocal_ranks_add_up_as_computed_by_hand() -> None:
    fused = fuse([ranking("a", "b", "c"), ranking("c", "a", "d")], 10)
    assert [(hit.passage.id, pytest.approx(hit.score)) for hit in fused] == [
        ("a", 1 / 61 + 1 / 62),
        ("c", 1 / 63 + 1 / 61),
        ("b", 1 / 62),
        ("d", 1 / 63),
    ]
    assert [f"{hit.score:.6f}" for hit in fused] == ["0.032522", "0.032266", "0.016129", "0.015873"]


def test_equal_sums_are_ordered_by_id() -> None:
    assert ids(fuse([ranking("b", "a"), ranking("a", "b")], 2)) == ["a", "b"]
    assert ids(fuse([ranking("z"), ranking("y")], 1)) == ["y"]


@given(RANKINGS, st.integers(0, 12))
def test_a_fusion_holds_each_passage_once_and_never_depends_on_the_order_of_rankings(
    numbers: list[list[int]], top_k: int
) -> None:
    rankings = [ranking(*each) for each in numbers]
    fused = fuse(rankings, top_k)
    everything = {str(number) for each in numbers for number in each}
    assert len(set(ids(fused))) == len(fused) == min(top_k, len(everything))
    assert [hit.score for hit in fused] == sorted((hit.score for hit in fused), reverse=True)
    assert sorted(ids(fuse(rankings[::-1], 99))) == sorted(everything)
    whole = fuse(rankings, 99)
    assert fused == whole[:top_k]


@given(RANKINGS)
def test_what_every_ranking_prefers_the_fusion_prefers(numbers: list[list[int]]) -> None:
    fused = ids(fuse([ranking(*each) for each in numbers], 99))
    for first in fused:
        for second in fused:
            ranks = [
                (each.index(int(first)), each.index(int(second)))
                for each in numbers
                if int(first) in each and int(second) in each
            ]
            if len(ranks) == len(numbers) and all(one < two for one, two in ranks):
                assert fused.index(first) < fused.index(second)


@given(st.lists(st.integers(0, 20), unique=True, max_size=9))
def test_one_ranking_alone_keeps_its_order(numbers: list[int]) -> None:
    assert ids(fuse([ranking(*numbers)], 99)) == [str(number) for number in numbers]


def test_a_hybrid_holds_what_either_ranking_finds(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    dense = dense_settings(tmp_path)
    embed(index, dense)
    engine = open_engine(SearchParams(EngineKind.HYBRID, str(index), dense=dense))
    hits = asyncio.run(engine.search("the river Rhine and Jane Doe", 3))
    assert set(ids(hits)) == {"p1", "p2", "p3"}
    assert hits[0].score > 1 / 61


def test_fingerprints_hold_only_what_the_engine_reads(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    vectors = dense_settings(tmp_path)
    others = dense_settings(tmp_path, folder=str(tmp_path / "others"), hashed_dimensions=64)
    for settings in (vectors, others):
        embed(index, settings)
    plain_fusion = FusionSettings()
    deep = FusionSettings(depth=7)

    def fingerprint(kind: EngineKind, dense: object, fusion: FusionSettings) -> str:
        return open_finder(kind, index, dense, fusion).fingerprint  # type: ignore[arg-type]

    hybrids = {
        fingerprint(EngineKind.HYBRID, settings, fusion)
        for settings in (vectors, others)
        for fusion in (plain_fusion, deep)
    }
    alone = {fingerprint(EngineKind.DENSE, vectors, fusion) for fusion in (plain_fusion, deep)}
    plain = {fingerprint(EngineKind.EMBEDDED, others, fusion) for fusion in (plain_fusion, deep)}
    assert (len(hybrids), len(alone), len(plain)) == (4, 1, 1)
    assert len(hybrids | alone | plain) == 6


def test_depth_bounds_what_each_ranking_contributes(tmp_path: Path) -> None:
    engine = EmbeddedSearch.in_memory(RIVERS)
    titles = EmbeddedSearch.in_memory([replace(passage, text="") for passage in RIVERS])
    hybrid = HybridSearch(engine, titles, FusionSettings(depth=1))
    assert ids(hybrid.find("river Danube", 1)) == ["p1"]
    assert len(hybrid.find("river Danube Rhine", 3)) == 2
    deep = HybridSearch(engine, titles, FusionSettings())
    assert len(deep.find("river Danube Rhine mountains", 3)) == 3
    with pytest.raises(ConfigError, match="depth"):
        FusionSettings(depth=0)


@pytest.mark.parametrize("kind", [EngineKind.DENSE, EngineKind.HYBRID])
def test_the_server_speaks_every_dialect_over_every_engine(
    tmp_path: Path, served_search: type, kind: EngineKind
) -> None:
    index = make_index(tmp_path)
    dense = dense_settings(tmp_path)
    embed(index, dense)
    finder = open_finder(kind, index, dense, FusionSettings())
    query = "The Rhine is a river in Europe"
    expected = finder.find(query, 2)
    with served_search(finder, Serving(threads=2)) as server:
        for dialect in Dialect:
            found = asyncio.run(_ask(server.url, dialect, query))
            assert [hit.passage.text for hit in found] == [hit.passage.text for hit in expected]
        _, health, headers = server.send("/health")
    assert health["fingerprint"] == finder.fingerprint == headers["x-search-fingerprint"]
    assert finder.fingerprint.startswith(f"{kind}:")


async def _ask(url: str, dialect: Dialect, query: str) -> list[Hit]:
    async with RemoteSearch(RemoteSettings(url=url, dialect=dialect)) as client:
        return list(await client.search(query, 2))


def test_a_client_that_names_a_hybrid_notices_another_one(
    tmp_path: Path, served_search: type
) -> None:
    index = make_index(tmp_path)
    dense = dense_settings(tmp_path)
    embed(index, dense)
    finder = open_finder(EngineKind.HYBRID, index, dense, FusionSettings())

    async def ask(url: str, name: str) -> int:
        async with RemoteSearch(RemoteSettings(url=url, name=name)) as client:
            return len(await client.search("Rhine", 2))

    with served_search(finder, Serving()) as server:
        assert asyncio.run(ask(server.url, finder.fingerprint)) == 2
        with pytest.raises(ConnectionError, match="another index"):
            asyncio.run(ask(server.url, "hybrid:000000000000"))


def test_a_server_of_servers_is_refused() -> None:
    with pytest.raises(ConfigError, match="embedded, hybrid") as refusal:
        ServeParams(engine=EngineKind.WEB)
    assert "serve.engine" in str(refusal.value)


def test_missing_vectors_stop_a_hybrid_before_the_first_search(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    with pytest.raises(InputError, match="coa search embed"):
        open_finder(EngineKind.HYBRID, index, dense_settings(tmp_path), FusionSettings())
