"""Test review without a server: what reviewers see, which items they get, and what comes back."""

import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from annotate import (
    agreement,
    deployment,
    environment,
    items,
    layouts,
    markup,
    measures,
    pull,
    serve,
)
from annotate.embedded import query
from annotate.settings import AnnotateParams, PushParams, ServeParams
from annotate.state import State
from coa import protocol
from coa.causes import Cause
from coa.errors import ConfigError, InputError
from coa.reviews import Answer, Between, Preference, Review, ReviewKind, ReviewQuestion
from coa.trajectory import Author, Outcome, Step, StepKind

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
    inner = field.split(markup._TEXT, 1)[1]
    assert not re.search(r"[`*_\\$\[\]{}|~]", inner)


def test_a_long_step_is_folded_and_still_whole() -> None:
    text = "word " * 1000
    shown = read(markup.steps_field([Step(StepKind.OBSERVATION, Author.ENVIRONMENT, text)]))
    assert "details" in {tag for tag, _ in shown.tags}
    assert text in shown.text


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


CANDIDATES = pl.DataFrame(
    {
        "row_id": [f"r{i:03}" for i in range(100)],
        "group": ["rare"] * 5 + ["common"] * 95,
        "worth": [float(i % 10) for i in range(100)],
    }
)


def test_groups_get_their_turn_and_the_best_of_each_come_first() -> None:
    chosen = items.choose(CANDIDATES, PushParams(num_items=10, audit_share=0.0))
    assert list(chosen.values()).count("rare") == 5
    common = [int(row_id[1:]) % 10 for row_id, group in chosen.items() if group == "common"]
    assert common == [0] * 5


def test_the_random_share_is_drawn_from_all_and_stays_when_more_is_asked_for() -> None:
    few = items.choose(CANDIDATES, PushParams(num_items=20, audit_share=0.5))
    more = items.choose(CANDIDATES, PushParams(num_items=40, audit_share=0.5))
    audits = [
        {row_id for row_id, why in chosen.items() if why == items.AUDIT} for chosen in (few, more)
    ]
    assert (len(few), len(audits[0]), len(audits[1])) == (20, 10, 20)
    assert audits[0] < audits[1]
    assert items.choose(CANDIDATES.reverse(), PushParams(num_items=20, audit_share=0.5)) == few


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "new york",
            (
                "All(of=(Phrase(words=('new',), is_prefix=False), "
                "Phrase(words=('york',), is_prefix=False)))"
            ),
        ),
        ('"New York"', "Phrase(words=('new', 'york'), is_prefix=False)"),
        ("wor*", "Phrase(words=('wor',), is_prefix=True)"),
        (
            "a | b",
            (
                "Either(of=(Phrase(words=('a',), is_prefix=False), "
                "Phrase(words=('b',), is_prefix=False)))"
            ),
        ),
        ("-(x)", "Not(of=Phrase(words=('x',), is_prefix=False))"),
        ("!!! ( ) | -", "None"),
        (")) a ((", "Phrase(words=('a',), is_prefix=False)"),
    ],
)
def test_a_search_is_read_as_elasticsearch_reads_it(text: str, expected: str) -> None:
    assert str(query.parse(text)) == expected


@given(st.text(alphabet='ab"|()-* ', max_size=30))
def test_any_search_is_read_without_an_error(text: str) -> None:
    node = query.parse(text)
    assert node is None or all(phrase.words for phrase in query.phrases(node))


def said(reviewer: str, item: str, verdict: str, *causes: str, right: str = "") -> Review:
    answers = [Answer(ReviewQuestion.VERDICT, (verdict,))]
    answers += [Answer(ReviewQuestion.ANSWER_RIGHT, (right,))] if right else []
    answers += [Answer(ReviewQuestion.CAUSES, causes)] if causes else []
    return Review(
        item, ReviewKind.TRAJECTORY, "v", 1, 1, reviewer, "2026-01-02T03:04:05Z", tuple(answers)
    )


# The example of Krippendorff's "Computing Krippendorff's alpha-reliability" (2011), part C.
PUBLISHED = {
    "a": "1 2 3 3 2 1 4 1 2 . . .",
    "b": "1 2 3 3 2 2 4 1 2 5 . 3",
    "c": ". 3 3 3 2 3 4 2 2 5 1 .",
    "d": "1 2 3 3 2 4 4 1 2 5 1 .",
}


def test_alpha_is_the_one_that_was_published() -> None:
    reviews = [
        said(who, f"i{i}", value)
        for who, row in PUBLISHED.items()
        for i, value in enumerate(row.split())
        if value != "."
    ]
    (verdict, *_) = measures.agreement_of_reviewers(reviews)
    assert verdict.question is ReviewQuestion.VERDICT
    assert verdict.alpha == pytest.approx(0.743, abs=5e-4)
    assert (verdict.num_items, verdict.num_answers) == (11, 40)


def test_kappa_of_two_people_is_cohens() -> None:
    # 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: observed 0.7, by chance 0.5.
    counts = {("keep", "keep"): 20, ("keep", "drop"): 5, ("drop", "keep"): 10, ("drop", "drop"): 15}
    pairs = [pair for pair, count in counts.items() for _ in range(count)]
    reviews = [
        said(who, f"i{i}", value)
        for i, pair in enumerate(pairs)
        for who, value in zip("ab", pair, strict=True)
    ]
    (verdict, *_) = measures.agreement_of_reviewers(reviews)
    assert verdict.kappa == pytest.approx(0.4)
    assert verdict.equal_share == pytest.approx(0.7)


def test_where_all_say_the_same_there_is_no_figure_of_chance() -> None:
    (verdict, causes) = measures.agreement_of_reviewers(
        [said(who, f"i{i}", "keep") for who in "ab" for i in range(5)]
    )
    assert (verdict.equal_share, verdict.alpha, verdict.kappa) == (1.0, None, None)
    assert causes.alpha is None


def test_people_are_held_against_the_automatic_causes_and_the_grader() -> None:
    reviews = [
        said("a", "i0", "drop", "bad_query", right="no"),
        said("b", "i0", "drop", right="yes"),
        said("a", "i1", "keep", right="yes"),
    ]
    automatic = {"i0": frozenset({"bad_query"}), "i1": frozenset[str]()}
    (cause,) = measures.agreement_with_causes(reviews, automatic)
    assert (cause.value, cause.between, cause.num_items, cause.num_answers) == (
        "bad_query",
        Between.CAUSES,
        2,
        3,
    )
    assert cause.equal_share == pytest.approx(2 / 3, abs=1e-3)
    (grader,) = measures.agreement_with_grader(reviews, {"i0": False, "i1": True})
    assert grader.equal_share == pytest.approx(2 / 3, abs=1e-3)


def test_the_page_of_agreement_escapes_what_reviewers_are_called() -> None:
    reviews = [said("<script>", "i<b>", "keep"), said("ben", "i<b>", "drop")]
    decisions = list(agreement.decide_all(reviews, AnnotateParams().adjudication))
    page = agreement.page(list(measures.agreement_of_reviewers(reviews)), decisions, reviews)
    assert "<script>" not in page
    assert "i&lt;b&gt;" in page
    assert "verdict" in page


def record(
    values: dict[str, object], status: str = "submitted", item: str = "q1/coa/0"
) -> dict[str, object]:
    response = {
        "status": status,
        "user_id": "u1",
        "updated_at": "2026-01-02T03:04:05.678901",
        "values": {},
    }
    response["values"] = {name: {"value": value} for name, value in values.items()}
    return {"external_id": f"{item}@v", "responses": [response]}


KEY = (ReviewKind.TRAJECTORY, "q1/coa/0", "v", 1, 1)


def test_a_submitted_response_becomes_a_review_in_the_order_of_the_questions() -> None:
    asked = record(
        {"search_quality": 4, "verdict": "fix", "causes": ["budget", "format"], "comment": ""}
    )
    (review,) = pull.reviews_of(asked, KEY, {"u1": "anna"})
    assert (review.reviewer, review.submitted) == ("anna", "2026-01-02T03:04:05Z")
    assert [(it.question, it.values) for it in review.answers] == [
        (ReviewQuestion.VERDICT, ("fix",)),
        (ReviewQuestion.CAUSES, ("budget", "format")),
        (ReviewQuestion.SEARCH_QUALITY, ("4",)),
    ]


@pytest.mark.parametrize("status", ["draft", "discarded"])
def test_what_was_not_submitted_is_no_review(status: str) -> None:
    assert list(pull.reviews_of(record({"verdict": "keep"}, status), KEY, {})) == []


def test_pulling_takes_back_what_was_withdrawn_and_leaves_what_another_deployment_said() -> None:
    here, elsewhere = said("anna", "here", "keep"), said("zoe", "elsewhere", "drop")
    key = (ReviewKind.TRAJECTORY, "here", "v", 1, 1)
    assert pull.merged([here, elsewhere], {key: []}) == [elsewhere]
    changed = replace(here, submitted="2026-02-02T03:04:05Z")
    assert pull.merged([here, elsewhere], {key: [changed]}) == [elsewhere, changed]


def test_access_comes_from_the_environment_or_from_the_server_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    annotate = AnnotateParams(serve=ServeParams(state=str(tmp_path / "state")))
    for name in (deployment.URL, deployment.KEY, deployment.HEADERS):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ConfigError, match="no Argilla to talk to"):
        deployment.access(annotate)
    state = State(tmp_path / "state")
    key = state.owner_key()
    state.note_address("http://127.0.0.1:1")
    assert deployment.access(annotate) == ("http://127.0.0.1:1", key, {})
    monkeypatch.setenv(deployment.URL, "https://team.example")
    with pytest.raises(ConfigError, match="no key"):
        deployment.access(annotate)
    monkeypatch.setenv(deployment.KEY, "k")
    monkeypatch.setenv(deployment.HEADERS, json.dumps({"Authorization": "Bearer t"}))
    assert deployment.access(annotate) == (
        "https://team.example",
        "k",
        {"Authorization": "Bearer t"},
    )


def test_headers_that_cannot_be_read_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        (deployment.URL, "u"),
        (deployment.KEY, "k"),
        (deployment.HEADERS, "Bearer sesame"),
    ):
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as raised:
        deployment.access(AnnotateParams())
    assert "sesame" not in str(raised.value)


def test_secrets_are_made_once_and_for_this_user_alone(tmp_path: Path) -> None:
    state = State(tmp_path / "state")
    assert state.secret() == state.secret() != state.owner_key()
    assert (tmp_path / "state").stat().st_mode & 0o77 == 0
    assert all(path.stat().st_mode & 0o77 == 0 for path in (tmp_path / "state").iterdir())


def test_one_server_at_a_time_uses_a_state_folder(tmp_path: Path) -> None:
    with (
        State(tmp_path).lock(),
        pytest.raises(InputError, match="a server is using"),
        State(tmp_path).lock(),
    ):
        pass
    with State(tmp_path).lock():
        pass


def test_a_state_of_another_version_is_refused_until_it_is_accepted(tmp_path: Path) -> None:
    import sqlite3

    state = State(tmp_path)
    sqlite3.connect(tmp_path / "argilla.db").close()
    (tmp_path / "argilla.db").touch()
    (tmp_path / "version").write_text("2.7.0")
    with pytest.raises(ConfigError, match="belongs to another version") as raised:
        state.check_version("2.8.0", accepts_upgrade=False)
    assert "got: 2.7.0" in str(raised.value)
    state.check_version("2.8.0", accepts_upgrade=True)
    assert (tmp_path / "version").read_text() == "2.8.0"
    assert [path.read_text() for path in tmp_path.glob("backups/*/version")] == ["2.7.0"]
    state.check_version("2.8.0", accepts_upgrade=False)


def test_reset_keeps_a_backup_and_what_is_not_the_servers(tmp_path: Path) -> None:
    import sqlite3

    state = State(tmp_path)
    key = state.owner_key()
    database = sqlite3.connect(tmp_path / "argilla.db")
    database.execute("CREATE TABLE t(x)")
    database.commit()
    database.close()
    (tmp_path / "server.log").write_text("started")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("years of work")
    copy = state.reset()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backups", "lock", "mine"]
    assert (tmp_path / "mine/thesis.txt").read_text() == "years of work"
    assert (copy / "owner.key").read_text() == key
    assert state.owner_key() != key


def test_addresses_that_others_can_reach_are_warned_about() -> None:
    assert "unencrypted" not in serve.welcome("u", ServeParams(), {})
    assert "unencrypted" in serve.welcome("u", ServeParams(host="0.0.0.0"), {})
    assert [
        serve.is_open_to_others(host)
        for host in ("127.0.0.1", "::1", "localhost", "10.0.0.1", "box")
    ] == [
        False,
        False,
        False,
        True,
        True,
    ]


def test_the_lock_pins_every_package_exactly() -> None:
    lines = [
        line
        for line in environment.LOCK.read_text().splitlines()
        if line and not line.startswith("#")
    ]
    assert all(re.match(r"[\w.-]+==[\w.]+( ; .+)?$", line) for line in lines), lines
    assert environment.pinned_version() == "2.8.0"


def test_words_of_our_html_are_those_that_a_reader_sees() -> None:
    text = f"Zoë {protocol.open_tag('search')} it's"
    shown = html.unescape(re.sub(r"<[^>]*>", " ", markup.text_field(text)))
    assert query.words(shown) == ["zoë", "begin", "search", "it", "s"]


def test_an_observation_says_who_wrote_it() -> None:
    step = protocol.observation("search", "found", Outcome.OK)
    assert "search engine" in read(markup.steps_field([step])).text


def test_the_point_of_divergence_is_marked_on_each_side_at_its_first_words() -> None:
    blank, words = (Step(StepKind.THOUGHT, Author.POLICY, text) for text in (" ", "I recall it."))
    act = Step(StepKind.ACTION, Author.POLICY, "call")
    left, right = markup.sides_field([words], [blank, act], first=4).split("</td>")[:2]
    assert "4. thought — the sides part here" in left
    assert "5. action — the sides part here" in right
    assert right.count("part here") == 1
