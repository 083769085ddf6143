"""Show texts to reviewers: every character stays, nothing acts, and sides change places."""

import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from annotate import layouts
from coa.pages import markup
from coa.records import protocol
from coa.records.causes import Cause
from coa.records.trajectory import Author, Step, StepKind
from coa.store.reviews import Preference, ReviewKind

HOSTILE = [
    "<script>document.title='ran'</script>",
    "</script><img src=x onerror=alert(1)>",
    "$& $1 $$ `code` **bold** ~~x~~ {{ 7*7 }} ${7*7}",
    "# heading\n\n- list\n\n```\nfence\n```\n\n    code\n\n\n\nafter blank lines",
    "[link](javascript:alert(1)) <https://x.example> x@example.com www.example.com",
    f"{protocol.THINK_OPEN} a {protocol.open_tag('search')} q {protocol.close_tag('search')}",
    "a < b > c & d &amp; &#60;",
    "\u202eabc\u202c \u200bzero\ufeffwidth\u2066",
    "line\r\nnext\ttab\x0bvt\x00nul\x1b[31m",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
]


class Reader(HTMLParser):
    """Collects what a page shows, and every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.text = ""
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_data(self, data: str) -> None:
        self.text += data

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


def pictured(text: str) -> str:
    """`text` with the characters that HTML cannot hold as the pictures that stand for them."""
    return "".join(
        chr(0x2400 + ord(c))
        if ord(c) < 32 and c not in "\n\t"
        else "\u2421"
        if c == "\x7f"
        else "\ufffd"
        if 0x7F < ord(c) < 0xA0 or 0xD800 <= ord(c) < 0xE000
        else c
        for c in text
    )


@given(st.one_of(st.text(), st.sampled_from(HOSTILE)))
def test_a_text_is_shown_character_by_character_and_makes_no_element(text: str) -> None:
    shown = read(markup.text_field(text))
    assert shown.text == pictured(text)
    assert {tag for tag, _ in shown.tags} <= {"div", "span"}
    assert all(attributes.keys() <= {"class", "style", "title"} for _, attributes in shown.tags)


@given(st.one_of(st.text(), st.sampled_from(HOSTILE)))
def test_a_field_is_one_line_that_markdown_leaves_alone(text: str) -> None:
    field = markup.steps_field([Step(StepKind.THOUGHT, Author.POLICY, text)])
    assert field.startswith(markup.OPENING)
    assert not re.search(r"[\r\n\t]", field)
    _, _, inner = field.partition(markup._TEXT)
    assert not re.search(r"[`*_\\$\[\]{}|~]", inner)


def test_characters_that_cannot_be_seen_are_named() -> None:
    titles = [
        attributes.get("title") for _, attributes in read(markup.text_field("a\u202eb\u200bc")).tags
    ]
    assert [title for title in titles if title] == ["RIGHT-TO-LEFT OVERRIDE", "ZERO WIDTH SPACE"]


def test_the_sides_of_a_pair_change_places_for_half_of_them_and_come_back_as_roles() -> None:
    ids = [f"q{i}/coa/0/3" for i in range(400)]
    assert 150 < sum(map(layouts.is_chosen_left, ids)) < 250
    for pair_id in ids:
        left = Preference.CHOSEN if layouts.is_chosen_left(pair_id) else Preference.REJECTED
        assert layouts.unshuffled(pair_id, "A") == left
        assert {layouts.unshuffled(pair_id, side) for side in "AB"} == {
            Preference.CHOSEN,
            Preference.REJECTED,
        }
        assert layouts.unshuffled(pair_id, "tie") == Preference.TIE


def test_a_reviewers_guidelines_explain_every_cause_and_every_verdict() -> None:
    text = layouts.LAYOUTS[ReviewKind.TRAJECTORY].guidelines
    assert [cause for cause in Cause if f"| {cause.replace('_', ' ')} |" not in text] == []
    for layout in layouts.LAYOUTS.values():
        assert len(layout.guidelines) < 10_000
        for question in layout.questions:
            if question.form is layouts.Form.LABEL:
                assert all(
                    label.split()[0].lower() in layout.guidelines.lower()
                    for _, label in question.labels
                )


def test_the_question_that_decides_must_be_answered_and_no_other() -> None:
    for layout in layouts.LAYOUTS.values():
        assert [it.is_required for it in layout.questions] == [True] + [False] * (
            len(layout.questions) - 1
        )


def test_the_point_of_divergence_is_marked_on_each_side_at_its_first_words() -> None:
    blank, words = (Step(StepKind.THOUGHT, Author.POLICY, text) for text in (" ", "I recall it."))
    act = Step(StepKind.ACTION, Author.POLICY, "call")
    left, right = markup.sides_field([words], [blank, act], first=4).split("</td>")[:2]
    assert "4. thought — the sides part here" in left
    assert "5. action — the sides part here" in right
    assert right.count("part here") == 1
