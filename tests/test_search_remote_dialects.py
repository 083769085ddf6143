"""Read the replies of retrieval servers in every dialect, and refuse the malformed ones."""

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ServiceError
from coa.search import Passage, SearchError
from coa.search.app import Serving
from coa.search.remote import RemoteSearch
from coa.search.settings import Dialect, RemoteSettings
from coa.search.wire import of_dialect
from tests.search_remote_support import (
    ENGINE,
    search,
)


@pytest.fixture(scope="module")
def ours(served_search: Any) -> Iterator[Any]:
    """This project's server, which speaks them all."""
    with served_search(ENGINE, Serving()) as running:
        yield running


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize(
    "query", ["blue danube", "another river", "zymurgy", "a lone \ud800 surrogate", "😀\0"]
)
def test_every_dialect_brings_the_same_passages_in_the_same_order(
    ours: Any, dialect: Dialect, query: str
) -> None:
    (hits,) = search(ours.url, query, top_k=3, dialect=dialect)
    found = ENGINE.find(query, 3)
    assert [(hit.passage.title, hit.passage.text) for hit in hits] == [
        (hit.passage.title, hit.passage.text) for hit in found
    ]
    if dialect is not Dialect.R1_SEARCHER:  # which sends texts alone
        assert [hit.passage.id for hit in hits] == [hit.passage.id for hit in found]
    if dialect not in (Dialect.R1_SEARCHER, Dialect.OPENRESEARCHER):
        assert [hit.score for hit in hits] == [hit.score for hit in found]


@pytest.mark.parametrize("dialect", sorted(set(Dialect) - {Dialect.RECALL, Dialect.OPENRESEARCHER}))
def test_a_blank_query_finds_nothing(ours: Any, dialect: Dialect) -> None:
    assert search(ours.url, " ", dialect=dialect) == [[]]


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (Dialect.FLASHRAG, '{"documents": [{"contents": "t"}], "scores": []}'),
        (Dialect.FLASHRAG, '{"documents": 1}'),
        (Dialect.FLASHRAG, "[]"),
        (Dialect.RECALL, '[[{"contents": "t"}], []]'),
        (Dialect.RECALL, '{"result": []}'),
        (Dialect.R1_SEARCHER, '{"answers": ["t"]}'),
        (Dialect.R1_SEARCHER, '{"answers": [[]], "answers": 1}'),
        (Dialect.OPENRESEARCHER, '{"results": [{"title": "t"}]}'),
        (Dialect.OPENRESEARCHER, "null"),
    ],
)
def test_a_malformed_reply_is_a_failed_search_in_every_dialect(dialect: Dialect, text: str) -> None:
    with pytest.raises(SearchError, match="malformed"):
        of_dialect(dialect).hits(json.loads(text))


@given(
    st.sampled_from(Dialect),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "result",
                        "documents",
                        "scores",
                        "answers",
                        "results",
                        "document",
                        "score",
                        "contents",
                        "id",
                        "url",
                        "title",
                        "text",
                        "summary",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
    ),
)
def test_any_json_is_read_or_refused(dialect: Dialect, reply: Any) -> None:
    with contextlib.suppress(SearchError):
        assert all(hit.passage.text for hit in of_dialect(dialect).hits(reply))


@pytest.mark.parametrize(
    ("document", "passage"),
    [
        ({"contents": '"T"\nx'}, Passage("sha256:842515f9ccff04ee", "T", "x")),
        ({"id": 7, "title": "T", "text": "x\ny"}, Passage("7", "T", "x\ny")),
    ],
)
def test_documents_may_lack_an_id_or_hold_title_and_text_apart(
    document: dict[str, object], passage: Passage
) -> None:
    (hit,) = of_dialect(Dialect.SEARCH_R1).hits({"result": [[document]]})
    assert hit.passage == passage


def test_a_server_of_ours_tells_its_index_which_becomes_the_fingerprint(
    ours: Any, free_url: str
) -> None:
    client = RemoteSearch.connect(RemoteSettings(url=ours.url))
    assert client.fingerprint == f"search_r1:{ENGINE.fingerprint}@{ours.url}"
    assert (
        RemoteSearch.connect(RemoteSettings(url=ours.url, name="mine")).fingerprint
        == f"search_r1:mine@{ours.url}"
    )
    assert (
        RemoteSearch.connect(RemoteSettings(url=free_url)).fingerprint == f"search_r1:@{free_url}"
    )


def test_a_server_that_gets_another_index_ends_the_run(ours: Any) -> None:
    with pytest.raises(
        ServiceError, match=rf"another index[\s\S]*tantivy:000[\s\S]*{ENGINE.fingerprint}"
    ):
        search(ours.url, "rhine", name="tantivy:000")
