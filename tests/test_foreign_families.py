"""Test the formats of one text with tags: authors, render and read again, refusals, speed."""

import pytest

from coa.foreign.autocoa import read_autocoa
from coa.foreign.frames import bare_observation, prediction
from coa.foreign.record import Format
from coa.foreign.rows import TEXT_FORMATS, read_foreign_row
from coa.foreign.tag_families import (
    SEARCH_R1,
)
from coa.records import protocol
from coa.records.trajectory import Mode, Outcome, Step, StepKind
from coa.records.unreadable import UnreadableError, UnreadableReason
from tests.foreign_family_examples import ENVIRONMENT, EXAMPLES, POLICY, SCAFFOLD, Example

READERS = {reader.format: reader for reader in TEXT_FORMATS}


def read(text: str, form: Format) -> tuple[Step, ...]:
    """Read a text as one of the formats."""
    return READERS[form].read({"question": "Which?", "response": text}).steps


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.format)
def test_every_character_has_its_author(example: Example) -> None:
    row = read_foreign_row({"question": "Which?", "answer": "Paris", "response": example.text})
    assert row.format is example.format
    assert [(step.kind, step.author, step.text) for step in row.steps] == list(example.pieces)
    calls = [step for step in row.steps if step.kind is StepKind.ACTION]
    assert [(call.tool, call.argument) for call in calls] == list(example.calls)
    assert prediction(row.steps) == "Paris"
    assert (row.mode, row.gold_answers) == (Mode.COA, ("Paris",))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.format)
def test_observations_lose_their_frames(example: Example) -> None:
    seen = [step for step in read(example.text, example.format) if step.author is ENVIRONMENT]
    for step in seen:
        assert not set("<>|") & set(bare_observation(step.text, step.tool))
        assert not bare_observation(step.text, step.tool).startswith("Observation")


def test_documents_of_search_r1_have_their_titles() -> None:
    row = read_foreign_row({"question": "Which?", "response": EXAMPLES[0].text})
    assert row.steps[4].passages == ("France (state)", "Paris")


def test_information_that_the_policy_made_up_is_its_own_only_where_the_format_is_named() -> None:
    row = {"question": "Which?", "response": EXAMPLES[0].text}
    assert read_foreign_row(row).format is Format.SEARCH_R1
    steps = read(EXAMPLES[0].text.replace(SEARCH_R1.retry, ""), Format.SSRL)
    made_up = [step for step in steps if step.kind is StepKind.OBSERVATION]
    assert [(step.author, step.outcome) for step in made_up] == [(POLICY, Outcome.SIMULATED)]


def test_a_policy_may_open_the_thinking_of_autocoas_text_itself() -> None:
    steps = read_autocoa("<think>I know.</think> \\boxed{Paris}")
    assert [(step.kind, step.author) for step in steps] == [
        (StepKind.THOUGHT, POLICY),
        (StepKind.ANSWER, POLICY),
    ]
    with pytest.raises(UnreadableError) as error:
        read_autocoa("<think>I <think> know.</think> \\boxed{Paris}")
    assert (error.value.reason, error.value.character) == (UnreadableReason.MISPLACED_TAG, 9)


def test_an_answer_that_was_forced_goes_on_in_the_box_of_the_scaffold() -> None:
    steps = read_autocoa(f"I know.{protocol.ANSWER_MARKER}Paris}}.")
    assert [step.author for step in steps] == [POLICY, SCAFFOLD, POLICY]
    assert prediction(steps) == "Paris"
