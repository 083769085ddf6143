"""Whatever a text holds, Markdown reads it as text: one block, one cell, one name."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from data_cards.cards.safe_markdown import (
    cut,
    fence,
    inline,
    share,
    table,
    visible,
    words,
    wrapped,
)

HOSTILE = [
    "```\n# broken out\n```",
    "`" * 50,
    "~~~",
    "---\nlicense: mit\n---",
    "<script>alert(1)</script>",
    "<details>\n\n# x",
    "{{ secrets }}{% raw %}",
    "a | b \\| c",
    "\\|\\\\|",
    "null \x00 byte",
    "\u202egnissim\u2066",
    "line\u2028line\x85\x0b",
    "\r# heading\r",
    "![x](http://evil)",
    "[a](javascript:alert(1))",
    "http://www.evil.com",
    "&lt;b&gt; &amp;",
    "&#96;&#124;",
    "<!-- ",
    "-->",
    "    indented",
    "> quote",
    "1. list",
    "=====",
    "| --- |",
    "*a* _b_ ~~c~~ $d$",
    "\ud7ff\ue000\U000e0041",
    "",
]
TEXTS = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(),
    st.text(alphabet="`~|\\<>&#-=*_[](){}!\n\r\t\x00 a"),
    st.tuples(st.sampled_from(HOSTILE), st.sampled_from(HOSTILE)).map("".join),
)
PARSER = MarkdownIt("commonmark", {"html": True}).enable("table")


def kinds(source: str) -> list[str]:
    """The kinds of all tokens, those inside of lines too."""
    tokens = PARSER.parse(source)
    return [
        kind
        for token in tokens
        for kind in (token.type, *(child.type for child in token.children or ()))
    ]


@given(TEXTS)
def test_a_fence_holds_any_text_and_nothing_gets_out(text: str) -> None:
    source = f"before\n\n{fence(text)}\n\nafter"
    blocks = PARSER.parse(source)
    assert [block.type for block in blocks if block.level == 0 and block.nesting >= 0] == [
        "paragraph_open",
        "fence",
        "paragraph_open",
    ]
    fenced = next(block.content for block in blocks if block.type == "fence")
    assert fenced.rstrip("\n") == visible(text).rstrip("\n")


@given(TEXTS)
def test_a_name_is_one_cell_and_one_piece_of_text(text: str) -> None:
    source = table(("name", "rows"), [(inline(text), 1), (words(text), 2)])
    assert kinds(source).count("tr_open") == 3
    assert kinds(source).count("td_open") == 4
    assert set(kinds(inline(text))) <= {
        "paragraph_open",
        "inline",
        "text",
        "text_special",
        "code_inline",
        "paragraph_close",
    }


@given(TEXTS)
def test_nothing_unseen_is_left(text: str) -> None:
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]", visible(text)
    )


@given(TEXTS)
def test_text_under_a_margin_never_reaches_the_margin(text: str) -> None:
    assert all(
        not line or line.startswith("    ") for line in wrapped(text, "    ", 40).split("\n")
    )


@pytest.mark.parametrize(
    "name", ["Qwen/Qwen2.5-7B-Instruct", "scripted/microworld-0f0f0f0f", "hotpotqa"]
)
def test_an_ordinary_name_is_a_code_span(name: str) -> None:
    assert inline(name) == f"`{name}`"


def test_a_megabyte_is_cut_with_a_note() -> None:
    assert cut("x" * 1_000_000, 10) == "xxxxxxxxxx [... 999,990 more characters]"
    assert len(inline("`" * 1_000_000)) < 1_000


def test_a_share_of_nothing_is_a_dash_and_a_small_one_is_not_zero() -> None:
    assert (share(1, 8), share(0, 0), share(0, 9), share(1, 10_000)) == (
        "12.5%",
        "–",
        "0.0%",
        "<0.1%",
    )
