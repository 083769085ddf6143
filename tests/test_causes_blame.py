"""Blame lies after what it is about, and searches are judged by what came of all of them."""

import pytest

from coa.records.causes import Cause
from coa.records.question import Question
from coa.records.trajectory import Step, StepKind
from curate.diagnosis.answers import says_the_same
from curate.diagnosis.gold import Corpus
from tests.causes_support import TEXTS, end, explain, row, turn

UNTITLED = Question("q", "Where was the director of the film Night Train born?", ("Riga",), "train")
NOWHERE = Corpus()
TEXTS["person again"] = "Ada Novak: Ada Novak, the director of Night Train, was born in Riga."
TEXTS["not found"] = "Could not find [Riga]. Similar: ['Riga', 'Riga Bay']"


def test_evidence_is_ignored_only_by_what_was_said_after_it() -> None:
    steps = (
        *turn("The director of Night Train was born in Oslo.", "director of Night Train", "dust"),
        *turn("I look again.", "where was the director of Night Train born", "person again"),
        *end("So it is Oslo.", "Oslo"),
    )
    (finding, *_) = explain(row(*steps, question=UNTITLED), UNTITLED, NOWHERE)
    assert finding.cause is Cause.EVIDENCE_IGNORED
    shown = [i for i, step in enumerate(steps) if step.passages == ("person again",)]
    assert finding.step is not None and finding.step > shown[0]


def test_a_distractor_is_followed_only_by_what_was_said_after_it() -> None:
    steps = (
        *turn("Perhaps. I search first.", "director of Night Train born", "dust"),
        *turn("Oslo may be it. I look.", "Night Train director birthplace", "other"),
        *end("So it is Oslo.", "Oslo"),
    )
    (finding, *_) = explain(row(*steps, question=UNTITLED), UNTITLED, NOWHERE)
    assert finding.cause is Cause.DISTRACTOR_FOLLOWED
    shown = [i for i, step in enumerate(steps) if step.passages == ("other",)]
    assert finding.step is not None and finding.step > shown[0]


@pytest.mark.parametrize("times", [3, 6])
def test_a_query_that_is_only_repeated_is_a_bad_one(times: int) -> None:
    query = "Night Train director born"
    steps: list[Step] = []
    for _ in range(times):
        steps += turn("It does not say. I search again.", query, "dust")
    steps += end("I could not find it, so Lima.", "Lima")
    (finding, *_) = explain(row(*steps, question=UNTITLED), UNTITLED, NOWHERE)
    second = [i for i, step in enumerate(steps) if step.kind is StepKind.ACTION][1]
    assert (finding.cause, finding.step) == (Cause.BAD_QUERY, second)


def test_other_queries_between_repetitions_leave_the_first_good_one_to_blame() -> None:
    steps = [
        *turn("I search.", "Night Train director born", "dust"),
        *turn("I search.", "who directed the film Night Train", "dust"),
        *turn("I search.", "Night Train film crew", "dust"),
        *end("It is Lima.", "Lima"),
    ]
    (finding, *_) = explain(row(*steps, question=UNTITLED), UNTITLED, NOWHERE)
    assert (finding.cause, finding.step) == (Cause.RETRIEVAL_MISS, 1)


def test_searches_after_a_recollection_are_judged_and_not_called_missing() -> None:
    asked = (
        *turn("I know that it is Lima.", "director of the film Night Train born", "dust"),
        *turn("I check.", "Night Train director birthplace", "dust"),
        *turn("I check.", "Night Train film director", "dust"),
        *end("It is Lima.", "Lima"),
    )
    (finding, *_) = explain(row(*asked, question=UNTITLED), UNTITLED, NOWHERE)
    assert finding.cause is Cause.RETRIEVAL_MISS
    about_the_guess = (
        *turn("I know that it is Lima.", "Lima", "dust"),
        *turn("I check.", "Lima city", "dust"),
        *turn("I check.", "history of Lima", "dust"),
        *end("It is Lima.", "Lima"),
    )
    (finding, *_) = explain(row(*about_the_guess, question=UNTITLED), UNTITLED, NOWHERE)
    assert (finding.cause, finding.step) == (Cause.BAD_QUERY, 1)


def test_a_page_that_was_not_found_is_no_evidence() -> None:
    steps = (
        *turn("I search.", "director of the film Night Train born", "dust"),
        *turn("Riga?", "Riga", "not found"),
        *end("It is Lima.", "Lima"),
    )
    (finding, *_) = explain(row(*steps, question=UNTITLED), UNTITLED, NOWHERE)
    assert finding.cause is not Cause.EVIDENCE_IGNORED


def test_an_answer_other_than_the_last_thoughts_is_a_slip() -> None:
    steps = (
        *turn("I search.", "director of the film Night Train born", "person again"),
        *end("So the director was born in Riga.", "yes"),
    )
    (finding, *_) = explain(row(*steps, question=UNTITLED), UNTITLED, NOWHERE)
    assert (finding.cause, finding.step) == (Cause.REASONING_SLIP, len(steps) - 1)


ASKED = "What artist recorded the song Blue Harbor?"


@pytest.mark.parametrize(
    ("answer", "accepted", "text"),
    [
        ("Nora Lind", "The Harbor Lights", "Nora Lind is the lead singer of the Harbor Lights."),
        ("The Harbor Lights", "Nora Lind", "The Harbor Lights are a band fronted by Nora Lind."),
        ("Nora Lind", "Pale Birds", "Nora Lind (born 1970) is a founding member of Pale Birds."),
        ("Agri Union", "Cobble Cheese", "Cobble Cheese is a brand of the Agri Union cooperative."),
        ("Cobble Cheese", "Agri Union", "Agri Union, whose brands are Cobble Cheese and Tin."),
    ],
)
def test_a_member_for_the_band_and_a_brand_for_its_firm_say_the_same(
    answer: str, accepted: str, text: str
) -> None:
    assert says_the_same(answer, accepted, ASKED, [text])
    assert not says_the_same(answer, accepted, ASKED, ["They met Nora Lind in the Harbor once."])
    named = f"{ASKED} It is not {accepted}."
    assert not says_the_same(answer, accepted, named, [text])


@pytest.mark.parametrize("asked", ["Who is the singer of the band?", "Which member left?"])
def test_where_the_role_is_asked_for_the_band_is_no_answer(asked: str) -> None:
    text = "Nora Lind is the lead singer of the Harbor Lights, and a member of Pale Birds."
    assert not says_the_same("The Harbor Lights", "Nora Lind", asked.lower(), [text])


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        ("Sputnik 1", "Sputnik I"),
        ("George Mifflin Dallas", "vice president george"),
        ("Makoto Koshinaka", "Makoto, born July 15, 1980"),
    ],
)
def test_other_forms_of_a_name_say_the_same(answer: str, accepted: str) -> None:
    assert says_the_same(answer, accepted)
