"""Fuse rankings by reciprocal ranks, and serve what comes of it."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError
from coa.search import Hit, Passage
from coa.search.app import Serving
from coa.search.factory import open_finder
from coa.search.hybrid import fuse
from coa.search.remote import RemoteSearch
from coa.search.serve import ServeParams
from coa.search.settings import Dialect, EngineKind, RemoteSettings
from tests.dense_support import dense_settings, embed, make_index

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


def test_fingerprints_hold_only_what_the_engine_reads(tmp_path: Path) -> None:
    index = make_index(tmp_path)
    vectors = dense_settings(tmp_path)
    others = dense_settings(tmp_path, folder=str(tmp_path / "others"), hashed_dimensions=64)
    found: dict[EngineKind, set[str]] = {}
    for settings in (vectors, others):
        embed(index, settings)
        for kind in (EngineKind.EMBEDDED, EngineKind.DENSE, EngineKind.HYBRID):
            found.setdefault(kind, set()).add(open_finder(kind, index, settings).fingerprint)
    assert [len(fingerprints) for fingerprints in found.values()] == [1, 2, 2]
    assert len(set().union(*found.values())) == 5


@pytest.mark.parametrize("kind", [EngineKind.DENSE, EngineKind.HYBRID])
def test_the_server_speaks_every_dialect_over_every_engine(
    tmp_path: Path, served_search: type, kind: EngineKind
) -> None:
    index = make_index(tmp_path)
    dense = dense_settings(tmp_path)
    embed(index, dense)
    finder = open_finder(kind, index, dense)
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


def test_a_server_of_servers_is_refused() -> None:
    with pytest.raises(ConfigError, match="embedded, hybrid") as refusal:
        ServeParams(engine=EngineKind.WEB)
    assert "serve.engine" in str(refusal.value)
