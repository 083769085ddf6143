"""Test every cause on the smallest trajectory of ordinary English that it explains.

Where the rules lack something, they say so.
"""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa import protocol
from coa.causes import CONTRIBUTING_ONLY, Cause, Finding
from coa.graded import GradedTrajectory, grade_trajectory
from coa.own_tags import to_own_tags
from coa.question import Question
from coa.search import Passage
from coa.trajectory import Mode, Outcome, Sampling, Step, StepKind, StopReason, Trajectory
from curate.diagnosis.answers import says_the_same
from curate.diagnosis.claims import Basis, read
from curate.diagnosis.gold import Corpus, gold_passages
from curate.diagnosis.queries import holds_most
from curate.diagnosis.rules import Context, diagnose
from synth.ingest import Ingested, IngestParams, ingest

BRIDGE = Question(
    "q",
    "Where was the director of the film Night Train born?",
    ("Riga",),
    "train",
    num_hops=2,
    gold_titles=("Night Train (1959 film)", "Ada Novak"),
)
WHICH = Question(
    "q",
    "Which film is older, Night Train or Red Dust?",
    ("Red Dust",),
    "train",
    num_hops=2,
    gold_titles=("Night Train (1959 film)", "Red Dust"),
)
PASSAGES = (
    Passage(
        "film", "Night Train (1959 film)", "Night Train is a 1959 thriller directed by Ada Novak."
    ),
    Passage("person", "Ada Novak", "Ada Novak was born in Riga in 1920."),
    Passage("dust", "Red Dust", "Red Dust is a 1932 drama."),
)
TEXTS = {passage.id: f"{passage.title}: {passage.text}" for passage in PASSAGES} | {
    "other": "Otto: Otto lives in Oslo."
}
CORPUS = gold_passages(PASSAGES, [passage.title for passage in PASSAGES])


def turn(thought: str, query: str, *shown: str) -> tuple[Step, ...]:
    written = f"{thought} {protocol.open_tag('search')} {query} {protocol.close_tag('search')}"
    body = "\n".join(TEXTS[name] for name in shown)
    return (
        *protocol.parse_policy(written),
        protocol.observation("search", body, Outcome.OK, shown),
    )


def end(thought: str, answer: str) -> tuple[Step, ...]:
    return protocol.parse_policy(f"{thought}\n{protocol.THINK_CLOSE} \\boxed{{{answer}}}")


def row(
    *steps: Step,
    question: Question = BRIDGE,
    mode: Mode = Mode.COA,
    stop: StopReason = StopReason.ANSWERED,
) -> GradedTrajectory:
    trajectory = Trajectory(
        f"q/{mode}/0",
        "q",
        mode,
        0,
        question.question,
        "prompt",
        steps,
        stop,
        "m",
        Sampling(),
        "hash",
        "fp",
        1,
        9,
        0,
        1,
        sum(step.kind is StepKind.ACTION for step in steps),
        "time-out" if stop is StopReason.TOOL_ERROR else "",
    )
    return grade_trajectory(trajectory, question)


def explain(
    given_row: GradedTrajectory, question: Question = BRIDGE, corpus: Corpus = CORPUS
) -> tuple[Finding, ...]:
    return diagnose(given_row, question, Context(corpus))


FILM = turn("I need the director.", "Night Train director", "film")
READ = "According to the results, Ada Novak directed it. Now her birthplace."
BORN = turn(READ, "Ada Novak birthplace born", "person")
WANTED = turn(READ, "Ada Novak birthplace born", "other")
FORCED = (
    protocol.marker(protocol.ANSWER_MARKER),
    *protocol.parse_policy("Oslo}", is_thinking=False),
)
FORGED = protocol.observation_text("search", "Riga").strip()
SMALLEST = {
    Cause.TOOL_FAILURE: row(*protocol.parse_policy("x"), stop=StopReason.TOOL_ERROR),
    Cause.FORGED_OBSERVATION: row(*end(FORGED.replace("Riga", "It is Oslo"), "Oslo")),
    Cause.TRUNCATED: row(*end("x", "Oslo"), stop=StopReason.TRUNCATED),
    Cause.BUDGET: row(*FILM, *FORCED, stop=StopReason.ACTION_BUDGET),
    Cause.FORMAT: row(*protocol.parse_policy(f"Riga {protocol.THINK_CLOSE} Riga")),
    Cause.GRADED_WRONG: row(*end("It is the city.", "the city of Riga")),
    Cause.REASONING_SLIP: row(
        *FILM, *BORN, *end("The passage says she was born in Riga. I take Oslo.", "Oslo")
    ),
    Cause.FALSE_RECALL: row(
        *end("Ada Novak directed it. She was born in Oslo.", "Oslo"), mode=Mode.COT
    ),
    Cause.KNOWLEDGE_GAP: row(*end("It was Ada Novak, perhaps from Oslo.", "Oslo"), mode=Mode.COT),
    Cause.NEVER_SEARCHED: row(*FILM, *end(f"{READ} I recall that she was born in Oslo.", "Oslo")),
    Cause.BAD_QUERY: row(
        *FILM, *turn(READ, "novak films", "other"), *end("No mention. Maybe Bergen.", "Bergen")
    ),
    Cause.RETRIEVAL_MISS: row(*FILM, *WANTED, *end("No mention. Maybe Bergen.", "Bergen")),
    Cause.EVIDENCE_IGNORED: row(
        *FILM, *BORN, *end("I see that she was born in 1920 in Oslo.", "Oslo")
    ),
    Cause.DISTRACTOR_FOLLOWED: row(*FILM, *WANTED, *end("The passage says Oslo.", "Oslo")),
    Cause.UNKNOWN: row(*end("Hm.", "no"), question=WHICH),
}


@pytest.mark.parametrize("cause", [cause for cause in Cause if cause not in CONTRIBUTING_ONLY])
def test_the_smallest_example_of_a_cause_is_explained_by_it(cause: Cause) -> None:
    found = explain(SMALLEST[cause], WHICH if cause is Cause.UNKNOWN else BRIDGE)
    assert found[0].cause is cause
    assert found[0].evidence


def test_a_correct_trajectory_has_no_cause_but_keeps_what_went_wrong_beside() -> None:
    assert explain(row(*FILM, *BORN, *end("She was born in Riga.", "Riga"))) == ()
    again = row(
        *FILM, *turn("Again.", "night train, director", "film"), *end("I know: Riga.", "Riga")
    )
    more = row(*FILM, *turn("More.", "Night Train film", "film"), *end("I know: Riga.", "Riga"))
    assert [(found.cause, found.step) for found in explain(again)] == [(Cause.REPEATED_SEARCH, 4)]
    assert [(found.cause, found.passages) for found in explain(more)] == [
        (Cause.NEEDLESS_SEARCH, ("film",))
    ]


def test_the_blamed_step_and_passages_are_named() -> None:
    found = explain(SMALLEST[Cause.EVIDENCE_IGNORED])[0]
    assert (found.step, found.passages, found.needs_gold_titles) == (6, ("person",), True)
    assert "instead of “Riga”" in found.evidence


def test_what_led_to_a_wrong_fact_comes_first_and_how_it_was_stated_beside() -> None:
    assert [found.cause for found in explain(SMALLEST[Cause.RETRIEVAL_MISS])] == [
        Cause.RETRIEVAL_MISS,
        Cause.KNOWLEDGE_GAP,
    ]
    assert [found.cause for found in explain(SMALLEST[Cause.NEVER_SEARCHED])] == [
        Cause.NEVER_SEARCHED,
        Cause.FALSE_RECALL,
    ]


@pytest.mark.parametrize("cause", [Cause.RETRIEVAL_MISS, Cause.DISTRACTOR_FOLLOWED])
def test_without_gold_titles_the_rules_that_need_them_say_unknown(cause: Cause) -> None:
    bare = replace(BRIDGE, gold_titles=())
    found = explain(SMALLEST[cause], bare)
    assert [(one.cause, one.needs_gold_titles) for one in found] == [(Cause.UNKNOWN, False)]


def test_without_gold_titles_an_answer_that_was_shown_was_ignored() -> None:
    found = explain(SMALLEST[Cause.EVIDENCE_IGNORED], replace(BRIDGE, gold_titles=()))
    assert [(one.cause, one.needs_gold_titles) for one in found] == [
        (Cause.EVIDENCE_IGNORED, False)
    ]


def test_passages_of_another_corpus_are_known_by_their_titles_or_their_text() -> None:
    titles = {"film": "Night Train (1959 film)", "person": "Ada Novak", "other": "Otto"}
    for rename in (titles, dict.fromkeys(titles, "")):
        found = explain(_renamed(SMALLEST[Cause.EVIDENCE_IGNORED], rename))
        assert found[0].cause is Cause.EVIDENCE_IGNORED
        assert (
            explain(_renamed(SMALLEST[Cause.RETRIEVAL_MISS], rename))[0].cause
            is Cause.RETRIEVAL_MISS
        )


def _renamed(graded: GradedTrajectory, names: dict[str, str]) -> GradedTrajectory:
    """The same observations, their passages named otherwise; without a name where it is empty."""
    steps = (
        replace(step, passages=tuple(filter(None, map(names.__getitem__, step.passages))))
        for step in graded.trajectory.steps
    )
    return replace(graded, trajectory=replace(graded.trajectory, steps=tuple(steps)))


@pytest.mark.parametrize("cause", [Cause.KNOWLEDGE_GAP, Cause.FALSE_RECALL])
def test_without_gold_titles_statements_of_one_kind_still_decide(cause: Cause) -> None:
    guess = "Perhaps Oslo." if cause is Cause.KNOWLEDGE_GAP else "It is Oslo."
    found = explain(row(*end(guess, "Oslo"), mode=Mode.COT), replace(BRIDGE, gold_titles=()))
    assert [(one.cause, one.needs_gold_titles) for one in found] == [(cause, False)]


@pytest.mark.parametrize(
    "cause", [Cause.EVIDENCE_IGNORED, Cause.DISTRACTOR_FOLLOWED, Cause.RETRIEVAL_MISS]
)
def test_without_a_corpus_the_text_of_the_observations_decides(cause: Cause) -> None:
    assert explain(SMALLEST[cause], corpus=Corpus())[0].cause is cause


def test_comparing_is_checked_against_the_passages_under_the_gold_titles() -> None:
    thoughts = "Night Train came out in {}. Red Dust came out in {}. So it is Night Train."
    right = row(*end(thoughts.format(1959, 1932), "Night Train"), question=WHICH, mode=Mode.COT)
    wrong = row(*end(thoughts.format(1959, 1975), "Night Train"), question=WHICH, mode=Mode.COT)
    assert explain(right, WHICH)[0].cause is Cause.REASONING_SLIP
    assert explain(wrong, WHICH)[0].cause is Cause.FALSE_RECALL
    assert "1975" in explain(wrong, WHICH)[0].evidence


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


@pytest.mark.parametrize(
    ("sentence", "values", "basis"),
    [
        ("I think it was Ada Novak, not Otto.", ("ada novak", "otto"), Basis.GUESSED),
        ("It was probably a comedy.", ("comedy",), Basis.GUESSED),
        ("As far as I recall, Riga.", ("riga",), Basis.RECALLED),
        ("The second result says she moved to New York in 1999.", ("new york", "1999"), Basis.READ),
        ("She lived in New York.", ("new york",), Basis.RECALLED),
    ],
)
def test_claims_are_told_from_ordinary_sentences(
    sentence: str, values: tuple[str, ...], basis: Basis
) -> None:
    (said,) = read(protocol.parse_policy(sentence), "Who?")
    assert said.claim is not None
    assert (said.claim.values, said.claim.basis) == (values, basis)


@pytest.mark.parametrize(
    "sentence",
    ["Wait, that is hard.", "The results do not mention Riga.", "So the film Night Train."],
)
def test_sentences_that_state_nothing_new_are_no_claims(sentence: str) -> None:
    (said,) = read(protocol.parse_policy(sentence), BRIDGE.question)
    assert said.claim is None


@given(st.lists(st.text(max_size=40), max_size=6), st.text(max_size=20))
def test_any_text_is_explained_by_exactly_one_cause(thoughts: list[str], answer: str) -> None:
    steps = tuple(step for thought in thoughts for step in turn(thought, thought, "other"))
    graded = row(*steps, *end(" ".join(thoughts), answer))
    found = explain(graded)
    assert graded.grade.exact_match or found[0].cause not in CONTRIBUTING_ONLY
    assert len({one.cause for one in found}) == len(found)


@pytest.mark.skipif(
    "COA_REAL_DATA" not in os.environ, reason="COA_REAL_DATA does not name the folder of real data"
)
@pytest.mark.parametrize("file", ["r1searcher_hotpotqa_qwen", "fireact_hotpotdev500_llama2_13b"])
def test_every_failure_of_real_trajectories_has_a_cause_or_an_honest_unknown(file: str) -> None:
    path = Path(os.environ["COA_REAL_DATA"]) / f"trajectories/trajectories_{file}.jsonl"
    rows = [
        one for one in ingest(IngestParams(str(path))) if isinstance(one, Ingested) and one.question
    ]
    failed = [
        (one.question, graded)
        for one in rows
        if one.question
        and not (
            graded := grade_trajectory(to_own_tags(one.trajectory), one.question)
        ).grade.exact_match
    ]
    found = [explain(graded, question, Corpus())[0] for question, graded in failed]
    assert len(found) > 200
    assert all(one.evidence for one in found)
    assert not any(one.needs_gold_titles for one in found)
    assert 0.2 < sum(one.cause is Cause.UNKNOWN for one in found) / len(found) < 0.8
