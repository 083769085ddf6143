"""Compare answers with accepted ones: other words for the same, names, and chance words."""

import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.records import protocol
from coa.records.causes import Cause
from coa.records.trajectory import Outcome
from curate.diagnosis.answers import says_the_same
from curate.diagnosis.queries import holds_most
from tests.causes_support import (
    BRIDGE,
    end,
    explain,
    row,
    turn,
)


@pytest.mark.parametrize(
    ("answer", "gold", "is_near"),
    [
        ("New York", "New York City", True),
        ("May 1990", "12 May 1990", True),
        ("Albany", "New York City Hall", False),
        ("yes, they are", "yes", True),
        ("no", "no doubt", False),
    ],
)
def test_an_answer_that_is_nearly_an_accepted_one_is_blamed_on_the_grader(
    answer: str, gold: str, is_near: bool
) -> None:
    question = replace(BRIDGE, gold_answers=(gold,))
    found = explain(row(*end("I think so.", answer), question=question), question)
    assert (found[0].cause is Cause.GRADED_WRONG) is is_near


@pytest.mark.parametrize(
    ("answer", "accepted", "question", "is_same"),
    [
        ("Karakoram", "Karakoram mountain range", "Which mountain range is it?", True),
        ("film", "erotic thriller film", "Was it on stage or on film?", False),
        ("acid house", "acid-house", "", True),
        ("Ed Roland", "Edgar Eugene Roland Jr.", "", True),
        ("Christopher Guest", "Christopher Haden-Guest", "", True),
        ("1861–1865", "1861–65", "", True),
        ("United States military", "US", "Which military used it?", True),
        ("Columbus Crew SC", "Columbus Crew Soccer Club", "", True),
        ("Annonay, France", "Annonay in Ardèche", "", True),
        ("Australia", "Australian actor", "", True),
        ("Noel Paul Stookey", "Yarrow and Stookey", "", True),
        (
            "Opry Mills is a large shopping mall.",
            "superregional shopping mall",
            "What is Opry Mills?",
            True,
        ),
        ("False", "no", "", True),
        ("True", "no", "", False),
        ("Red Dead Revolver", "Red Dead Redemption", "", False),
        ("North Chicago, Illinois", "Lake County, Illinois", "", False),
        ("September 1914", "26–30 August 1914", "", False),
        ("2 million", "21 million", "", False),
        ("", "no", "", False),
        ("American", "United States", "Which country is she from?", True),
        ("the Netherlands", "Dutch", "What country of origin do they share?", True),
        ("British actor", "United Kingdom", "Which actor is from which country?", True),
        ("American Broadcasting Company", "ABC", "", True),
        ("South American", "United States", "", False),
        ("French", "Spain", "", False),
        ("4 July 1776", "July 4, 1776", "", True),
        ("the 4th of July, 1776", "July 4, 1776", "", True),
        ("5 July 1776", "July 4, 1776", "", False),
        ("7 May 1804", "May 4, 1807", "", False),
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
        ("Sputnik 1", "Sputnik I", "", True),
        ("George Mifflin Dallas", "vice president george", "", True),
        ("Makoto Koshinaka", "Makoto, born July 15, 1980", "", True),
    ],
)
def test_answers_that_say_the_same_in_other_words_are_told(
    answer: str, accepted: str, question: str, is_same: bool
) -> None:
    assert says_the_same(answer, accepted, question) is is_same


MORE = "Who has more skills, Ian McEwan or Langston Hughes?"


@pytest.mark.parametrize(
    ("answer", "accepted", "question", "is_same"),
    [
        ("Ian McEwan has more skills than Langston Hughes", "langston hughes", MORE, False),
        ("Langston Hughes has more skills than Ian McEwan", "langston hughes", MORE, True),
        ("Langston Hughes has fewer skills than Ian McEwan", "langston hughes", MORE, False),
        ("It was Ian McEwan, not Langston Hughes", "langston hughes", MORE, False),
        ("I don't know whether it was Langston Hughes", "langston hughes", MORE, False),
        ("There is no information on Langston Hughes", "langston hughes", MORE, False),
        ("The teacher of Langston Hughes, I think", "langston hughes", "Who wrote it?", False),
        ("Langston Hughes's mother Carrie wrote it", "langston hughes", "Who wrote it?", False),
        ("It was written by Langston Hughes", "langston hughes", "Who wrote it?", True),
        (
            "Hughes met Ian McEwan and many other writers of his time in Langston",
            "langston hughes",
            "Who wrote it?",
            False,
        ),
        ("Not Without Laughter", "Not Without Laughter (novel)", "Which novel is it?", True),
    ],
)
def test_a_sentence_that_names_the_accepted_answer_and_means_another_is_no_form_of_it(
    answer: str, accepted: str, question: str, is_same: bool
) -> None:
    asked = replace(BRIDGE, question=question, gold_answers=(accepted,), gold_titles=())
    assert says_the_same(answer, accepted, question) is is_same
    found = explain(row(*end("Hm.", answer), question=asked), asked)
    assert (found[0].cause is Cause.GRADED_WRONG) is is_same


@pytest.mark.parametrize(
    ("shown", "is_evidence"),
    [
        ("Ada Novak, a film director, was born in 1920 in Riga.", True),
        ("The night train line and its director opened a film museum in 1920.", False),
        ("Ada Novak was born in Oslo and liked a night train. A museum opened in 1920.", False),
        ("Someone was born in 1920.", False),
    ],
)
def test_a_gold_word_that_is_shown_by_accident_is_no_evidence(
    shown: str, is_evidence: bool
) -> None:
    asked = replace(
        BRIDGE,
        question="When was Ada Novak, director of a night train film, born?",
        gold_answers=("1920",),
        gold_titles=(),
    )
    step = protocol.observation("search", shown, Outcome.OK, ("elsewhere",))
    search = turn("I need her birth.", "Ada Novak birth year", "other")[:-1]
    found = explain(row(*search, step, *end("So 1921.", "1921"), question=asked), asked)
    assert (found[0].cause is Cause.EVIDENCE_IGNORED) is is_evidence


def test_words_of_a_long_answer_that_stand_far_apart_are_no_evidence() -> None:
    asked = replace(
        BRIDGE,
        question="Who was the brother of Ada Novak?",
        gold_answers=("John Churchill, Duke of Marlborough",),
        gold_titles=(),
    )
    scattered = (
        "Ada Novak knew John Smith, and her brother knew a duke; in the same summer of that year "
        "they moved from the town of Marlborough to an estate that had belonged to Churchill."
    )
    step = protocol.observation("search", scattered, Outcome.OK, ("elsewhere",))
    search = turn("I need her brother.", "Ada Novak brother", "other")[:-1]
    found = explain(row(*search, step, *end("So Otto.", "Otto"), question=asked), asked)
    assert found[0].cause is not Cause.EVIDENCE_IGNORED


def test_long_hostile_answers_and_texts_are_compared_in_little_time() -> None:
    word = "Old School Reference and Index Compilation"
    answers = ("old " * 50_000, "older " * 50_000 + "than", "not the " * 50_000, "1" * 200_000)
    started = time.process_time()
    for answer in answers:
        assert says_the_same(answer, word, "Who is older?", [answer]) in (True, False)
        assert not holds_most(answer, word, "")
    assert time.process_time() - started < 10


def test_a_text_that_says_what_somebody_is_called_makes_two_names_one() -> None:
    text = "1. OSRIC, short for Old School Reference and Index Compilation, is a system."
    accepted = "Old School Reference and Index Compilation"
    assert says_the_same("OSRIC", accepted, texts=[text])
    assert not says_the_same("OSRIC", accepted)
    known = "Morris Dalitz (1899-1989), known as Moe Dalitz, met Gus Greenbaum."
    assert says_the_same("Morris Dalitz", "Moe Dalitz", texts=[known])
    assert not says_the_same("Gus Greenbaum", "Moe Dalitz", texts=[known])


def test_a_name_that_a_text_gives_in_brackets_is_the_same() -> None:
    assert says_the_same(
        "Fiat", "Fabbrica Italiana", texts=["It owns Fiat (Fabbrica Italiana) still."]
    )
    assert not says_the_same(
        "Ford", "Fabbrica Italiana", texts=["Ford and Fiat (Fabbrica Italiana)."]
    )


@given(st.text(max_size=30), st.text(max_size=30), st.text(max_size=30))
def test_any_two_texts_are_compared(answer: str, accepted: str, text: str) -> None:
    assert says_the_same(answer, accepted, text, [text]) in (True, False)
