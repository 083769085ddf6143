"""Test what is decided where no gold titles say what had to be found on the way."""

from dataclasses import replace

import pytest

from coa.records.causes import Cause, Finding
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, Step
from curate.diagnosis.answers import says_the_same
from curate.diagnosis.gold import Corpus
from tests.causes_support import BRIDGE, end, explain, row, turn

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


@pytest.mark.parametrize(
    ("answer", "accepted", "question", "is_same"),
    [
        ("Washington, D.C.", "District of Columbia", "", True),
        ("Bob Anderson", "Robert Anderson", "", True),
        ("2x Platinum", "double platinum", "", True),
        ("New York, NY", "New York City", "", True),
        ("Macon, GA", "Macon, Georgia", "", True),
        ("79 CE", "79 AD", "", True),
        ("5", "five times", "How many times?", True),
        ("Matias Almeyda", "Matías Jesús Almeyda", "", True),
        ("Ozzy Osbourne", "John Michael Ozzy Osbourne", "Ozzy Osbourne or Curt Smith?", True),
        ("Curt Smith", "John Michael Ozzy Osbourne", "Ozzy Osbourne or Curt Smith?", False),
        ("Seattle, Washington", "District of Columbia", "", False),
        ("Bob Anderson", "William Anderson", "", False),
        ("6", "five times", "How many times?", False),
        ("in", "Indiana", "", False),
    ],
)
def test_short_names_and_numbers_in_words_say_the_same(
    answer: str, accepted: str, question: str, is_same: bool
) -> None:
    assert says_the_same(answer, accepted, question) is is_same
