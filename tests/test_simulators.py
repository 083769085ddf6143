"""What stands in for the search: frozen models and recorded searches."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coa.errors import ConfigError, InputError
from coa.policy import Turns
from coa.policy.local.model import LocalSettings
from coa.policy.scripted import ScriptedPolicy
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, Outcome, Sampling
from coa.rollout.loop import Limits, RolloutContext, State, Task
from coa.rollout.simulated import SimulatedTools
from coa.rollout.simulators.factory import open_simulator
from coa.rollout.simulators.recorded import RecordedCall, RecordedTools, Recordings
from coa.rollout.simulators.settings import (
    Compares,
    RecordedSettings,
    SimulatorKind,
    SimulatorParams,
)
from coa.store import tables
from coa.store.pending import Call
from tests.sample_records import make_graded

CLOSED = " result 1: Ada wrote it. </search_result>"


def waiting(query: str, number: int = 0) -> State:
    """A rollout that waits for a search."""
    steps = protocol.parse(f"I look. <begin_search> {query} </end_search>")
    task = Task(f"q/coa/{number}", "q", Mode.COA, number, "Who?", "Question: Who?\n\n", "hash")
    return State(
        task=task,
        run=RolloutContext(ScriptedPolicy([], name="policy"), Sampling(), Limits()),
        context=task.prompt + protocol.render(steps),
        steps=steps,
        pending=Call("search", query),
        turns=Turns(("search",), ()),
        num_context_tokens=0,
    )


def answer(simulator: Any, *states: State) -> list[str]:
    replies = asyncio.run(simulator(states))
    assert {reply.outcome for reply in replies} == {Outcome.SIMULATED}
    return [reply.text for reply in replies]


def opened(params: SimulatorParams, frozen: ScriptedPolicy) -> Any:
    """The simulator of a step, whose policy writes nothing."""
    loaded: list[LocalSettings] = []

    def load(settings: LocalSettings) -> ScriptedPolicy:
        loaded.append(settings)
        return frozen

    simulate = open_simulator(params, max_tokens=64, load=load)
    assert len(loaded) <= 1
    return simulate(ScriptedPolicy([CLOSED] * 9, name="policy"))


def test_a_frozen_model_writes_in_place_of_the_policy_all_of_a_step_together() -> None:
    frozen = ScriptedPolicy([CLOSED, " Bob"], name="sft3")
    simulator = opened(SimulatorParams(SimulatorKind.MODEL), frozen)
    assert answer(simulator, waiting("book"), waiting("film")) == ["result 1: Ada wrote it.", "Bob"]
    assert simulator.fingerprint == "simulated/sft3/64tokens"
    assert simulator.last_whole == [True, False]


RECORDED = (
    RecordedCall("q1", "search", "director of Iron Harbor", "result 1: Iron Harbor, Ada Poole."),
    RecordedCall("q2", "search", "studio of Green Hill", "result 1: Green Hill, of Amber Works."),
    RecordedCall("q", "search", "mayor of Port Ellis", "result 1: Port Ellis elected Tom Reed."),
)


@pytest.mark.parametrize(
    ("query", "settings", "found"),
    [
        ("the director of Iron Harbor", RecordedSettings(), "result 1: Iron Harbor, Ada Poole."),
        ("the studio of Iron Harbor", RecordedSettings(min_share=0.8), None),
        ("studio of Iron Harbor", RecordedSettings(), RECORDED[0].body),
        ("who owns Amber Works", RecordedSettings(compares=Compares.QUERIES), None),
        ("Amber Works", RecordedSettings(), "result 1: Green Hill, of Amber Works."),
        ("mayor of Port Ellis", RecordedSettings(), RECORDED[2].body),
        ("mayor of Port Ellis", RecordedSettings(held_out=True), None),
        ("xyzzy", RecordedSettings(min_share=0.0), None),
    ],
)
def test_the_nearest_recorded_search_answers_where_one_is_near(
    query: str, settings: RecordedSettings, found: str | None
) -> None:
    near = Recordings(RECORDED, settings).find("q", "search", query)
    assert (near.body if near else None) == found


def test_where_nothing_is_near_another_simulator_writes_in_one_batch() -> None:
    frozen = ScriptedPolicy([CLOSED, " Bob"], name="sft3")
    fallback = SimulatedTools(frozen, max_tokens=64)
    recordings = Recordings(RECORDED, RecordedSettings())
    simulator = RecordedTools(recordings, fallback, name="three")
    states = [waiting("a book"), waiting("director of Iron Harbor", 1), waiting("a film", 2)]
    assert answer(simulator, *states) == ["result 1: Ada wrote it.", RECORDED[0].body, "Bob"]
    assert simulator.last_whole == [True, True, False]
    alone = RecordedTools(recordings, None, name="three")
    assert answer(alone, waiting("a book")) == ["No results."]


def test_recorded_searches_are_read_from_sets(tmp_path: Path) -> None:
    question = Question("q1", "Who?", ("Ada",), "train")
    steps = (
        *protocol.parse("I look. <begin_search> who wrote it </end_search>"),
        protocol.observation("search", "Ada <b> wrote it.", Outcome.OK),
        *protocol.parse("<begin_search> never answered </end_search>"),
        protocol.observation("search", "imagined", Outcome.SIMULATED),
    )
    tables.write_table(tmp_path / "train.parquet", GradedTrajectory, [make_graded(question, steps)])
    recorded = RecordedSettings(sets=(str(tmp_path),), fallback=None)
    simulator = opened(
        SimulatorParams(SimulatorKind.RECORDED, recorded=recorded), ScriptedPolicy([])
    )
    queries = ("who wrote it", "never answered")
    assert answer(simulator, *map(waiting, queries)) == ["Ada <b> wrote it.", "No results."]


def test_recorded_searches_that_are_not_there_or_stand_in_for_themselves_are_refused() -> None:
    recorded = RecordedSettings(sets=(), fallback=SimulatorKind.RECORDED)
    params = SimulatorParams(SimulatorKind.RECORDED, recorded=recorded)
    with pytest.raises(ConfigError, match="cannot replace themselves"):
        opened(params, ScriptedPolicy([]))
    with pytest.raises(InputError, match="no recorded searches"):
        opened(replace(params, recorded=replace(recorded, fallback=None)), ScriptedPolicy([]))
