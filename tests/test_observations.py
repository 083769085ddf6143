"""Test how results are shown: limits in characters, and numbering."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.search import Hit, Passage
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import (
    Numbering,
    ObservationSettings,
    SearchTool,
    shorten_to_chars,
    show,
)

LONG = "The Danube is a river. It flows through ten countries. Its delta lies in Romania."
DANUBE, DELTA = (
    Passage("p1", "Danube", LONG),
    Passage("p2", "Danube Delta", "A delta of the Danube."),
)
ENGINE = EmbeddedSearch.in_memory([DANUBE, DELTA])
HITS = [Hit(DANUBE, 2.0), Hit(DELTA, 1.0)]


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
    assert (
        show(HITS, ObservationSettings(numbering=numbering))[1]
        == f"{start}Danube Delta: A delta of the Danube."
    )


def test_a_text_is_cut_at_characters_where_a_sentence_ends() -> None:
    assert shorten_to_chars(LONG, 60) == "The Danube is a river. It flows through ten countries."
    assert shorten_to_chars(LONG, 20) == "The Danube is a ..."
    assert shorten_to_chars(LONG, 0) == LONG
    (line, _) = show(HITS, ObservationSettings(max_words=0, max_chars=60))
    assert line.endswith("ten countries.")


@given(st.lists(st.text("ab.!? \"'A1", min_size=1).map(str.strip).filter(bool)), st.integers(1, 60))
def test_a_shortened_text_is_a_beginning_of_at_most_so_many_characters(
    parts: list[str], max_chars: int
) -> None:
    text = " ".join(" ".join(parts).split())
    short = shorten_to_chars(text, max_chars).removesuffix(" ...")
    assert text.startswith(short)
    assert len(short) <= max(max_chars, 0)


def test_settings_beyond_the_first_are_part_of_the_fingerprint_where_they_are_used() -> None:
    plain, changed = (
        SearchTool(ENGINE),
        SearchTool(ENGINE, ObservationSettings(max_chars=9, numbering=Numbering.DOC)),
    )
    assert changed.fingerprint == f"{plain.fingerprint}-max_chars=9-numbering=doc"
