"""The record of a chat policy's native calls, as masks, cards, the gate and exports know it."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from coa.doctor.recorded_authors import mask_fault
from coa.policy.chat.families import ChatSettings, FamilyName
from coa.policy.chat.policy import ChatPolicy
from coa.policy.chat.replies import argument_of
from coa.policy.server_settings import ServerSettings
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.question import Question
from coa.records.trajectory import (
    Mode,
    Step,
    StepKind,
    Trajectory,
    describe_sampling,
    is_imported,
)
from coa.rollout.calls import replay
from coa.rollout.loop import Limits, RolloutContext
from coa.store import tables
from coa.store.files import QUESTIONS
from coa.store.journal import Journal
from data_cards.cards.contents import sampling_table
from data_cards.catalogue import SPLITS, SetName, local_path
from data_cards.facts import facts
from data_cards.formats.traces import trace
from tests.chat_support import MODEL, chat_rows
from tests.doubles.model_server import Personality


@pytest.fixture(scope="module")
def rows() -> list[Trajectory]:
    return chat_rows(Mode.COA, 30, Personality.VLLM)


def graded(trajectory: Trajectory) -> GradedTrajectory:
    return grade_trajectory(trajectory, Question("q", "Who?", ("x",), "train"))


def acting(rows: Sequence[Trajectory]) -> Trajectory:
    return next(row for row in rows if row.num_actions)


def changed(row: Trajectory, kind: StepKind, **changes: object) -> GradedTrajectory:
    def change(step: Step) -> Step:
        return replace(step, **changes) if step.kind is kind else step  # type: ignore[arg-type]

    return graded(replace(row, steps=tuple(change(step) for step in row.steps)))


def test_the_gate_refuses_a_call_that_the_policy_did_not_make(rows: list[Trajectory]) -> None:
    row = acting(rows)
    other = json.dumps({"query": "something else"})
    assert "was not made" in mask_fault(changed(row, StepKind.ACTION, transcribed=other))
    assert "was not made" in mask_fault(changed(row, StepKind.ACTION, transcribed="half a"))
    of_tool = mask_fault(changed(row, StepKind.OBSERVATION, transcribed="x"))
    assert of_tool == "text of the environment is recorded as transcribed from the policy's"


def test_an_exported_trace_has_the_policys_own_arguments(rows: list[Trajectory]) -> None:
    row = acting(rows)
    native = json.dumps({"q": "Villa Pellin"})
    shown = trace(changed(row, StepKind.ACTION, transcribed=native).trajectory)
    arguments = []
    for line in map(json.loads, shown.splitlines()):
        for call in line.get("message", {}).get("toolCalls", ()):
            arguments.append(call["function"]["arguments"])
    assert arguments == [native] * row.num_actions


@pytest.mark.parametrize("family", [FamilyName.OPENROUTER, FamilyName.DEEPSEEK])
def test_the_lineage_of_a_chat_row_is_replayed_from_the_journal(
    family: FamilyName, journal_path: Path
) -> None:
    with Journal(journal_path) as journal:
        rows = chat_rows(Mode.COA, 10, Personality(family), journal=journal)
    server = ServerSettings("http://127.0.0.1:1/v1", MODEL)
    policy = ChatPolicy(server, ChatSettings(family=family))
    for row in rows:
        run = RolloutContext(policy, row.sampling, Limits(), row.search_fingerprint)
        found = replay(row, run, journal_path, ("search",))
        assert found.is_same and len(found.calls) == row.num_calls + row.num_actions


def test_settings_that_a_family_is_not_sent_are_not_in_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = chat_rows(Mode.COA, 3, Personality.DEEPSEEK)
    stated = "temperature not sent, top-p not sent, seed 3"
    assert {describe_sampling(row.sampling) for row in rows} == {stated}
    assert not any(map(is_imported, rows))
    for split in SPLITS:
        path = local_path(SetName.COA, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        tables.write_table(path, GradedTrajectory, map(graded, rows))
    tables.write_table(QUESTIONS, Question, [Question("q", "Who?", ("x",), "train")])
    found = facts(SetName.COA)
    shown = sampling_table(SetName.COA, found).splitlines()
    (line,) = [line for line in shown if line.startswith("| sampling ")]
    assert [cell.strip() for cell in line.strip("|").split("|")] == ["sampling", stated, "6"]
    assert not found.select("is_imported").collect()["is_imported"].any()


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"query": "a b"}', "a b"),
        ('{"q": "a b"}', "a b"),
        ('{"query": "a", "top_k": 3}', "a"),
        ('{"q": "a", "n": "b"}', None),
        ('{"query": 3}', None),
        ('["a"]', None),
        ('{"query": "a', None),
        ("", None),
        ("null", None),
        ("[" * 5000, None),
    ],
)
def test_a_calls_one_text_is_read(arguments: str, read: str | None) -> None:
    assert argument_of(arguments) == read


def test_the_gate_finds_nothing_against_transcribed_calls(rows: list[Trajectory]) -> None:
    assert [mask_fault(graded(row)) for row in rows] == [""] * len(rows)
