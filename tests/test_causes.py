"""Test every cause on the smallest trajectory of ordinary English that it explains.

Where the rules lack something, they say so.
"""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.foreign.own_tags import to_own_tags
from coa.records import protocol
from coa.records.causes import CONTRIBUTING_ONLY, Cause
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, StopReason
from curate.diagnosis.answers import says_the_same
from curate.diagnosis.claims import Basis, read
from curate.diagnosis.gold import Corpus
from synth.ingest import ForeignFile, Ingested, IngestParams, ingest
from tests.causes_support import (
    BRIDGE,
    end,
    explain,
    row,
    turn,
)

WHICH = Question(
    "q",
    "Which film is older, Night Train or Red Dust?",
    ("Red Dust",),
    "train",
    num_hops=2,
    gold_titles=("Night Train (1959 film)", "Red Dust"),
)
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


def test_what_led_to_a_wrong_fact_comes_first_and_how_it_was_stated_beside() -> None:
    assert [found.cause for found in explain(SMALLEST[Cause.RETRIEVAL_MISS])] == [
        Cause.RETRIEVAL_MISS,
        Cause.KNOWLEDGE_GAP,
    ]
    assert [found.cause for found in explain(SMALLEST[Cause.NEVER_SEARCHED])] == [
        Cause.NEVER_SEARCHED,
        Cause.FALSE_RECALL,
    ]


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
        one
        for one in ingest(IngestParams((ForeignFile(str(path)),)))
        if isinstance(one, Ingested) and one.question
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
    assert sum(one.cause is Cause.UNKNOWN for one in found) / len(found) < 0.15


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
