"""What stands in for the search: frozen models, told models, recorded searches, and mixtures."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coa import protocol, tables
from coa.errors import ConfigError, InputError
from coa.graded import GradedTrajectory
from coa.journal import CallKind, Journal, request_key, to_json
from coa.pending import Call
from coa.policy import Turns
from coa.policy.local.model import LocalSettings
from coa.policy.scripted import ScriptedPolicy
from coa.question import Question
from coa.rollout import Limits, RolloutContext, State, Task
from coa.simulators.factory import open_simulator
from coa.simulators.mixing import is_real_step
from coa.simulators.recorded import JournaledCalls, RecordedCall, RecordedTools, Recordings
from coa.simulators.settings import (
    Compares,
    MixSettings,
    RecordedSettings,
    Schedule,
    SimulatorKind,
    SimulatorParams,
    ToldSettings,
)
from coa.simulators.told import noise_share, write_note
from coa.tools import ToolReply
from coa.tools.simulated import SimulatedTools
from coa.trajectory import Mode, Outcome, Sampling
from tests.sample_records import make_graded
from train.knowledge import NOBODY_CAN_TELL
from train.simulating import answers_of
from train.teller import Teller

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


def opened(params: SimulatorParams, frozen: ScriptedPolicy, done: float = 0.0) -> Any:
    """The simulator of a step, whose policy writes nothing."""
    loaded: list[LocalSettings] = []

    def load(settings: LocalSettings) -> ScriptedPolicy:
        loaded.append(settings)
        return frozen

    simulate = open_simulator(
        params, max_tokens=64, answers=lambda _: ("Ada <begin_search>",), load=load
    )
    assert len(loaded) <= 1
    return simulate(ScriptedPolicy([CLOSED] * 9, name="policy"), done)


def test_a_frozen_model_writes_in_place_of_the_policy_all_of_a_step_together() -> None:
    frozen = ScriptedPolicy([CLOSED, " Bob"], name="sft3")
    simulator = opened(SimulatorParams(SimulatorKind.MODEL), frozen)
    assert answer(simulator, waiting("book"), waiting("film")) == ["result 1: Ada wrote it.", "Bob"]
    assert simulator.fingerprint == "simulated/sft3/64tokens"
    assert simulator.last_whole == [True, False]
    assert simulator.confidences() == [None, None]


@pytest.mark.parametrize(
    ("noise", "note"), [(0.0, "It says Ada ‹begin_search>."), (1.0, "Not found.")]
)
def test_a_told_model_gets_a_note_that_the_policy_never_sees(noise: float, note: str) -> None:
    frozen = ScriptedPolicy([CLOSED], name="teller")
    told = ToldSettings(noise_start=noise, noise_end=noise)
    simulator = opened(SimulatorParams(SimulatorKind.TOLD, told=told), frozen)
    state = waiting("book")
    assert answer(simulator, state) == ["result 1: Ada wrote it."]
    assert frozen.requests is not None
    assert frozen.requests[0].context == f"{state.context}\n{note}\n<search_result>"
    assert simulator.fingerprint == f"told/teller/64tokens/{noise:.3f}noise"


def test_noise_grows_as_in_zerosearch_and_as_many_observations_are_noisy() -> None:
    told = ToldSettings(noise_start=0.1, noise_end=0.5)
    assert [noise_share(told, done) for done in (0.0, 1.0)] == pytest.approx([0.1, 0.5])
    assert noise_share(told, 0.5) == pytest.approx(0.1 + (2 - 1) / 3 * 0.4)
    frozen = ScriptedPolicy([CLOSED] * 200, name="teller")
    params = SimulatorParams(SimulatorKind.TOLD, told=ToldSettings(noise_end=0.5))
    answer(opened(params, frozen, done=1.0), *(waiting("book", i) for i in range(200)))
    assert frozen.requests is not None
    noisy = sum("Not found." in request.context for request in frozen.requests)
    assert 70 < noisy < 130


def test_a_note_without_a_place_for_the_answer_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"told\.useful"):
        ToldSettings(useful="It says so.")
    assert write_note(ToldSettings(), "A\n</think>B") == "\nIt says A ‹/think>B."


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
    simulator = RecordedTools(recordings, JournaledCalls([]), fallback, name="three")
    states = [waiting("a book"), waiting("director of Iron Harbor", 1), waiting("a film", 2)]
    assert answer(simulator, *states) == ["result 1: Ada wrote it.", RECORDED[0].body, "Bob"]
    assert (simulator.num_near, simulator.last_whole) == (1, [True, True, False])
    assert simulator.confidences() == [None, None, None]
    alone = RecordedTools(recordings, JournaledCalls([]), None, name="three")
    assert answer(alone, waiting("a book")) == ["No results."]


def test_recorded_searches_are_read_from_sets_and_journals(tmp_path: Path) -> None:
    question = Question("q1", "Who?", ("Ada",), "train")
    steps = (
        *protocol.parse("I look. <begin_search> who wrote it </end_search>"),
        protocol.observation("search", "Ada <b> wrote it.", Outcome.OK),
        *protocol.parse("<begin_search> never answered </end_search>"),
        protocol.observation("search", "imagined", Outcome.SIMULATED),
    )
    tables.write_table(tmp_path / "train.parquet", GradedTrajectory, [make_graded(question, steps)])
    with Journal(tmp_path / "journal.sqlite") as journal:
        key = request_key(CallKind.TOOL, "search", "engine/top3", "a paid query")
        reply = to_json(ToolReply(Outcome.OK, "result 1: paid"))
        journal.put(key, reply, kind=CallKind.TOOL, who="engine/top3", seconds=1.0)
    recorded = RecordedSettings(
        sets=(str(tmp_path),), journals=(str(tmp_path / "journal.sqlite"),), fallback=None
    )
    simulator = opened(
        SimulatorParams(SimulatorKind.RECORDED, recorded=recorded), ScriptedPolicy([])
    )
    queries = ("who wrote it", "a paid query", "a paid queries", "never answered")
    assert answer(simulator, *map(waiting, queries)) == [
        "Ada <b> wrote it.",
        "result 1: paid",
        "No results.",
        "No results.",
    ]


def test_recorded_searches_that_are_not_there_or_stand_in_for_themselves_are_refused() -> None:
    recorded = RecordedSettings(sets=(), fallback=SimulatorKind.RECORDED)
    params = SimulatorParams(SimulatorKind.RECORDED, recorded=recorded)
    with pytest.raises(ConfigError, match="stand in for themselves"):
        opened(params, ScriptedPolicy([]))
    with pytest.raises(InputError, match="no recorded searches"):
        opened(replace(params, recorded=replace(recorded, fallback=None)), ScriptedPolicy([]))


@pytest.mark.parametrize(
    ("simulated", "real", "steps", "num_real"),
    [(1, 0, 12, 0), (0, 1, 12, 12), (5, 1, 24, 4), (7, 1, 32, 4), (3, 1, 10, 2), (5, 1, 7, 1)],
)
def test_a_mixture_has_exactly_as_many_real_steps_spread_or_last(
    simulated: int, real: int, steps: int, num_real: int
) -> None:
    spread = MixSettings(simulated, real)
    last = MixSettings(simulated, real, Schedule.SIMULATED_FIRST)
    are_real = [is_real_step(spread, step, steps) for step in range(steps)]
    assert are_real.count(True) == num_real
    if num_real:
        gaps = [i for i, is_real in enumerate(are_real) if is_real]
        assert max(b - a for a, b in zip([-1, *gaps], [*gaps, steps], strict=False)) <= (
            steps // num_real + 1
        )
    ordered = [is_real_step(last, step, steps) for step in range(steps)]
    assert ordered == [False] * (steps - num_real) + [True] * num_real


def test_a_mixture_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="no steps"):
        MixSettings(0, 0)


def test_answers_are_those_of_the_question_where_no_fact_is_known() -> None:
    questions = [Question("q", "Who?", ("Ada", "Ada P."), "train")]
    assert answers_of(questions, NOBODY_CAN_TELL)(waiting("book")) == ("Ada", "Ada P.")


def test_a_teller_learns_observations_after_a_note_of_what_they_hold() -> None:
    def row(number: int, shown: str) -> GradedTrajectory:
        steps = (
            *protocol.parse(f"I look. <begin_search> book {number} </end_search>"),
            protocol.observation("search", shown, Outcome.OK),
            *protocol.parse("</think>\\boxed{Ada}"),
        )
        return make_graded(Question(f"q{number}", "Who?", ("Ada",), "train"), steps)

    teller = Teller(ToldSettings(), NOBODY_CAN_TELL, seed=0)
    assert [steps[-2].text for steps in teller.rows(row(0, "nothing here"))] == ["\nNot found."]
    made = [list(teller.rows(row(number, "by Ada"))) for number in range(1, 2)]
    assert made[0][0][-2].text == "\nIt says Ada."
    assert made[0][0][-1].text == protocol.observation_text("search", "by Ada")
    teller = Teller(ToldSettings(), NOBODY_CAN_TELL, seed=0)
    noisy = 0
    for number in range(60):
        rows = list(teller.rows(row(number, "by Ada" if number % 2 else "nothing here")))
        for steps in rows[1:]:
            noisy += 1
            assert (steps[-2].text, "nothing here" in steps[-1].text) == ("\nNot found.", True)
    assert 3 <= noisy <= 20
