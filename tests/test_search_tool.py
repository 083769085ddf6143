"""Test what the embedded engine finds for any query, and how the search tool shows it."""

import asyncio
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError
from coa.records.trajectory import Outcome
from coa.search import Hit, Passage, SearchError
from coa.search.analysis import MAX_QUERY_TERMS, QUERY_STOP_WORDS, IndexSettings
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import Numbering, ObservationSettings, SearchTool, show
from coa.tools import Tool, ToolReply
from coa.tools.shorten import shorten, shorten_to_chars

RIVERS = [
    Passage("p1", "Danube", "The Danube is a river that flows through ten countries."),
    Passage("p2", "Rhine", "The Rhine is a river in Europe. It does flow north."),
    Passage("p3", "Jane Doe", "Jane Doe wrote about rivers and the United States."),
    Passage("p4", "The Who", "The Who are an English rock band."),
    Passage("p5", "Café Zürich", "A coffee house in Barcelona."),
]
ENGINE = EmbeddedSearch.in_memory(RIVERS)


def found(engine: EmbeddedSearch, query: str, top_k: int = 3) -> list[str]:
    return [hit.passage.id for hit in engine.find(query, top_k)]


def test_the_title_and_the_text_are_searched() -> None:
    assert found(ENGINE, "Who wrote about the Danube river?")[0] == "p1"
    assert found(ENGINE, "coffee in Barcelona") == ["p5"]


def test_case_accents_and_endings_do_not_matter() -> None:
    assert found(ENGINE, "CAFE zurich")[0] == "p5"
    assert set(found(ENGINE, "flowing")) == {"p1", "p2"}


def test_without_stemming_words_must_match_as_they_are() -> None:
    engine = EmbeddedSearch.in_memory(RIVERS, IndexSettings(is_stemmed=False))
    assert found(engine, "flow") == ["p2"]
    assert engine.fingerprint != ENGINE.fingerprint


def test_question_words_are_dropped_unless_nothing_else_is_left() -> None:
    assert ENGINE.query_terms("What is the Danube?") == ["danub"]
    assert found(ENGINE, "the who")[0] == "p4"


def test_a_name_whose_spelling_is_the_stem_of_a_stop_word_is_searched() -> None:
    assert ENGINE.query_terms("does Jane Doe") == ["jane", "doe"]


@pytest.mark.parametrize("query", ["", "   ", "?!", "\0", "😀", "zzzz", "x" * 1_000_000])
def test_nothing_is_found_without_an_error(query: str) -> None:
    assert ENGINE.find(query, 3) == ()


def test_a_query_is_never_parsed() -> None:
    expected = found(ENGINE, "danube rock")
    for query in (
        "+danube -rock",
        'title:danube AND NOT "rock',
        "danube^9 rock~2",
        "(danube) [rock TO *]",
        "danube\0 rock*",
    ):
        assert set(found(ENGINE, query)) >= set(expected) == {"p1", "p4"}


@given(
    st.text(alphabet=st.characters()) | st.text('+-&|!(){}[]^"~*?:\\/ dante\u202e\ud800\0'),
    st.integers(-1, 9),
)
def test_any_text_is_a_query(query: str, top_k: int) -> None:
    hits = ENGINE.find(query, top_k)
    assert len(hits) <= max(top_k, 0)
    assert list(hits) == sorted(hits, key=lambda hit: (-hit.score, hit.passage.id))


def test_an_endless_query_is_bounded() -> None:
    query = " ".join(f"word{number}" for number in range(150_000))
    assert len(query) > 1_000_000
    assert len(ENGINE.query_terms(query)) == MAX_QUERY_TERMS
    assert ENGINE.query_terms("river " * 1000) == ["river"]


def test_ties_break_by_id_also_at_the_cut() -> None:
    twins = [Passage(f"{number:03d}", "Twin", "one two three four five") for number in range(200)]
    engine = EmbeddedSearch.in_memory(twins[::-1])
    for top_k in (1, 7, 150):
        assert found(engine, "one three five twin", top_k) == [
            passage.id for passage in twins[:top_k]
        ]


def test_hits_carry_the_passage_as_it_was() -> None:
    odd = Passage("odd/1", "", "Line one.\n  Zymurgy\0 \u202eתשרי 😀")
    assert EmbeddedSearch.in_memory([odd, *RIVERS]).find("zymurgy", 1)[0].passage == odd


def test_the_fingerprint_in_memory_follows_the_passages_and_not_their_order() -> None:
    assert EmbeddedSearch.in_memory(RIVERS[::-1]).fingerprint == ENGINE.fingerprint
    assert EmbeddedSearch.in_memory(RIVERS[:4]).fingerprint != ENGINE.fingerprint


def test_stop_words_are_single_folded_words() -> None:
    plain = EmbeddedSearch.in_memory([], IndexSettings(is_stemmed=False))
    assert all(plain.query_terms(word) == [word] for word in QUERY_STOP_WORDS)


# --- the tool

LONG = (
    "The Danube is a river. It flows through ten countries. "
    "Its delta lies in Romania near the Black Sea coast."
)
DANUBE = EmbeddedSearch.in_memory(
    [
        Passage("p1", "Danube", LONG),
        Passage("p2", "Danube  Delta\n", "A delta\n\tof the Danube river."),
        Passage("p3", "", "A river without a title."),
        Passage("p4", "Rhine", "A river."),
    ]
)


class FailingEngine:
    fingerprint = "failing"

    async def search(self, query: str, top_k: int) -> Sequence[Hit]:
        raise SearchError(f"no reply to {query!r}")


def call(argument: str, settings: ObservationSettings | None = None) -> ToolReply:
    tool: Tool = SearchTool(DANUBE, settings)
    return asyncio.run(tool.call(argument))


def test_hits_are_shown_one_a_line_with_the_ids_beside_them() -> None:
    reply = call("Danube delta", ObservationSettings(top_k=2))
    lines = ["result 1: Danube Delta: A delta of the Danube river.", f"result 2: Danube: {LONG}"]
    assert reply == ToolReply(Outcome.OK, "\n".join(lines), ("p2", "p1"))


def test_without_titles_only_the_text_is_shown() -> None:
    reply = call("Rhine", ObservationSettings(top_k=1, shows_titles=False))
    assert reply.text == "result 1: A river."
    assert call("title", ObservationSettings(top_k=1)).text == "result 1: A river without a title."


def test_a_query_that_cannot_be_searched_or_finds_nothing_says_so() -> None:
    assert call(" \n\t") == ToolReply(Outcome.INVALID, "The query is empty.")
    reply = call("x" * 11, ObservationSettings(max_query_chars=10))
    assert reply == ToolReply(Outcome.INVALID, "The query is too long: at most 10 characters.")
    assert call("zymurgy") == ToolReply(Outcome.EMPTY, "No results.")
    with pytest.raises(ConfigError, match=r"search\.observation\.top_k"):
        ObservationSettings(top_k=0)


def test_a_failed_search_is_an_error_with_its_reason() -> None:
    reply = asyncio.run(SearchTool(FailingEngine()).call("q"))
    assert reply == ToolReply(Outcome.ERROR, "no reply to 'q'")


def test_a_long_passage_ends_with_a_sentence() -> None:
    assert shorten(LONG, 12) == "The Danube is a river. It flows through ten countries."
    assert shorten(LONG, 9) == "The Danube is a river."
    assert shorten(LONG, 0) == LONG
    # An ending that would lose most of the text is not taken.
    text = "Mr. Smith went to town and stayed there for long"
    assert shorten(text, 8) == "Mr. Smith went to town and stayed there ..."


@given(st.lists(st.text("ab.!? \"'A1", min_size=1).map(str.strip).filter(bool)), st.integers(1, 9))
def test_a_shortened_text_is_a_beginning_of_at_most_so_many_words(
    parts: list[str], max_words: int
) -> None:
    text = " ".join(" ".join(parts).split())
    short = shorten(text, max_words)
    assert text.startswith(short.removesuffix(" ..."))
    assert len(short.removesuffix(" ...").split()) <= max_words
    short = shorten_to_chars(text, max_words).removesuffix(" ...")
    assert text.startswith(short)
    assert len(short) <= max_words


@pytest.mark.parametrize(
    ("numbering", "start"),
    [
        (Numbering.RESULT, "result 2: "),
        (Numbering.BRACKET, "[2] "),
        (Numbering.DOC, "Doc 2: "),
        (Numbering.NONE, ""),
    ],
)
def test_results_are_numbered_as_asked(numbering: Numbering, start: str) -> None:
    hits = [Hit(RIVERS[0], 2.0), Hit(RIVERS[3], 1.0)]
    line = show(hits, ObservationSettings(numbering=numbering))[1]
    assert line == f"{start}The Who: The Who are an English rock band."


def test_a_text_is_cut_at_characters_where_a_sentence_ends() -> None:
    assert shorten_to_chars(LONG, 60) == "The Danube is a river. It flows through ten countries."
    assert shorten_to_chars(LONG, 20) == "The Danube is a ..."
    assert shorten_to_chars(LONG, 0) == LONG
    settings = ObservationSettings(max_words=0, max_chars=60)
    (line,) = show([Hit(Passage("p1", "Danube", LONG), 2.0)], settings)
    assert line.endswith("ten countries.")


def test_every_setting_is_part_of_the_fingerprint() -> None:
    variants = [
        ObservationSettings(),
        ObservationSettings(top_k=2),
        ObservationSettings(shows_titles=False),
        ObservationSettings(max_words=50),
        ObservationSettings(max_query_chars=500),
        ObservationSettings(max_chars=9, numbering=Numbering.DOC),
    ]
    fingerprints = [SearchTool(DANUBE, settings).fingerprint for settings in variants]
    assert fingerprints[0] == f"{DANUBE.fingerprint}/top3-titles-100words-1000chars"
    assert fingerprints[-1] == f"{fingerprints[0]}-max_chars=9-numbering=doc"
    assert len(set(fingerprints)) == len(variants)
