"""Test what is decided where no gold titles say what had to be found on the way."""

from dataclasses import replace

import pytest

from coa.records.causes import Cause, Finding
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, Step, StepKind
from curate.diagnosis.answers import says_the_same
from curate.diagnosis.gold import Corpus
from tests.causes_support import BRIDGE, TEXTS, end, explain, row, turn

OPEN = replace(BRIDGE, gold_titles=())
BOTH = Question("q", "Were both Ada Novak and Otto born in Oslo?", ("yes",), "train")
FILM = turn("I need the director.", "Night Train director", "film")
BORN = turn("It says Ada Novak.", "Ada Novak birthplace born", "person")
WANTED = turn("It says Ada Novak.", "Ada Novak birthplace born", "other")


def _found(*steps: Step, question: Question = OPEN, mode: Mode = Mode.COA) -> tuple[Finding, ...]:
    given: GradedTrajectory = row(*steps, question=question, mode=mode)
    return explain(given, question, Corpus())


def _causes(*steps: Step, question: Question = OPEN) -> list[Cause]:
    return [finding.cause for finding in _found(*steps, question=question)]


def test_an_answer_that_is_mentioned_after_it_was_shown_and_dropped_was_ignored() -> None:
    (found,) = _found(*FILM, *BORN, *end("She was born in Riga in 1920. So 1920.", "1920"))
    assert (found.cause, found.passages) == (Cause.EVIDENCE_IGNORED, ("person",))
    assert "instead of “Riga”" in found.evidence


def test_an_answer_from_a_passage_is_a_distractor_where_none_states_the_accepted_one() -> None:
    (found,) = _found(*FILM, *WANTED, *end("The passage says Oslo.", "Oslo"))
    assert (found.cause, found.passages) == (Cause.DISTRACTOR_FOLLOWED, ("other",))
    assert not found.needs_gold_titles


@pytest.mark.parametrize("answer", ["in the Oslo region", "Oslos", "Oslo and Bergen"])
def test_half_of_an_answer_in_a_passage_in_any_form_is_taken_from_it(answer: str) -> None:
    assert _causes(*FILM, *WANTED, *end("Hm.", answer))[0] is Cause.DISTRACTOR_FOLLOWED


def test_an_answer_that_no_passage_showed_is_a_miss_of_a_good_query() -> None:
    causes = _causes(*FILM, *WANTED, *end("No mention. Maybe Bergen.", "Bergen"))
    assert causes == [Cause.RETRIEVAL_MISS, Cause.KNOWLEDGE_GAP]


@pytest.mark.parametrize("query", ["Ada Novak", "novak films", "some city"])
def test_a_query_that_asks_nothing_or_of_nobody_is_a_bad_one(query: str) -> None:
    steps = (*FILM, *turn("It says Ada Novak.", query, "other"))
    assert _causes(*steps, *end("No mention. Maybe Bergen.", "Bergen"))[0] is Cause.BAD_QUERY


def test_a_guess_after_the_last_thing_read_was_never_searched() -> None:
    steps = (*FILM, *end("It says Ada Novak. Maybe she is from Bergen.", "Bergen"))
    assert _causes(*steps) == [Cause.NEVER_SEARCHED, Cause.KNOWLEDGE_GAP]


def test_a_guess_that_follows_from_what_was_read_is_no_recall() -> None:
    steps = (*FILM, *end("It says Ada Novak. So she is likely from Bergen.", "Bergen"))
    assert _causes(*steps)[0] is Cause.RETRIEVAL_MISS


def test_a_guess_that_a_query_is_about_is_the_wrong_turn() -> None:
    steps = (*turn("Maybe Otto Berg directed it.", "Otto Berg birthplace", "other"),)
    (first, *_) = _found(*steps, *end("It says Oslo.", "Oslo"))
    assert (first.cause, first.step) == (Cause.NEVER_SEARCHED, 0)


def test_an_answer_that_was_named_before_the_first_search_was_never_searched() -> None:
    steps = turn("It is Oslo, in Norway.", "Oslo director born", "other")
    assert _causes(*steps, *end("Yes.", "Oslo"))[0] is Cause.NEVER_SEARCHED


def test_whatever_was_stated_without_any_search_was_never_searched() -> None:
    mixed = end("It was Ada Novak. Perhaps she is from Oslo.", "Oslo")
    assert _causes(*mixed)[0] is Cause.NEVER_SEARCHED


def test_of_several_statements_from_memory_a_guess_is_the_likelier_mistake() -> None:
    mixed = end("Perhaps Otto directed it. He was born in Oslo.", "Oslo")
    assert _found(*mixed, mode=Mode.COT)[0].cause is Cause.KNOWLEDGE_GAP


def test_a_no_after_both_were_said_to_be_so_is_a_slip() -> None:
    steps = turn("First the birthplaces.", "Ada Novak and Otto birthplace", "person", "other")
    so = "Ada Novak was born in Oslo. Otto was born in Oslo too."
    assert _causes(*steps, *end(so, "no"), question=BOTH) == [Cause.REASONING_SLIP]
    denied = "Ada Novak was born in Oslo. Otto was not born in Oslo."
    assert Cause.REASONING_SLIP not in _causes(*steps, *end(denied, "no"), question=BOTH)


def test_a_closed_answer_after_something_was_not_found_is_blamed_on_the_search() -> None:
    steps = turn("First the birthplaces.", "Ada Novak birthplace born", "other")
    missing = "The results do not mention Ada Novak."
    assert _causes(*steps, *end(missing, "no"), question=BOTH)[0] is Cause.RETRIEVAL_MISS
    steps = turn("First the birthplaces.", "Otto", "other")
    assert _causes(*steps, *end(missing, "no"), question=BOTH)[0] is Cause.BAD_QUERY


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
