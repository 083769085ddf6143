"""The gate before rl1: a search that shows no answer is refused, one that does passes."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from coa.errors import ConfigError
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, Outcome, Sampling
from coa.rollout.simulators.settings import RecordedSettings, SimulatorKind, SimulatorParams
from coa.settings.stages import Stage
from coa.store import tables
from coa.student.knowledge import NOBODY_CAN_TELL
from coa.student.verdict import GateReport, Prediction
from evaluation import gate
from evaluation.gate import GateParams, choose, compare
from tests.sample_records import make_graded

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

from coa.student.checkpoint import Student, load_student  # noqa: E402
from tests.rl_support import (  # noqa: E402
    KEYS,
    LIMITS,
    QUESTIONS,
    TEXTS,
    Library,
    Wanderer,
    make_run,
    save_student,
    write_project,
)
from train.monitors.spending import SearchBill, Searches  # noqa: E402
from train.rollouts import Ask, Rollouts  # noqa: E402
from train.run import main  # noqa: E402

SEARCH = "need the author. <begin_search> who wrote </end_search>"


def searched(shown: str, number: int = 0) -> GradedTrajectory:
    steps = (
        *protocol.parse(SEARCH),
        protocol.observation("search", shown, Outcome.SIMULATED),
        *protocol.parse("</think>\\boxed{Bob}"),
    )
    return make_graded(Question(f"q{number}", "Who?", ("Ada",), "train"), steps)


def answered(text: str, number: int = 0) -> GradedTrajectory:
    steps = protocol.parse(f"</think>\\boxed{{{text}}}")
    return make_graded(Question(f"q{number}", "Who?", ("Ada",), "train"), steps, Mode.COT)


def judged(shown: list[str], recalled: list[str]) -> GateReport:
    return compare(
        GateParams(),
        "student",
        "simulated",
        SimulatorParams(),
        [searched(text, i) if text else answered("Bob", i) for i, text in enumerate(shown)],
        [answered(text, i) for i, text in enumerate(recalled)],
        NOBODY_CAN_TELL,
    )


def test_a_search_pays_where_it_shows_the_answer_more_often_than_the_model_knows_it() -> None:
    shown = ["by Ada", "by Ada", "by Bob", ""]
    found = judged(shown * 5, ["Ada", "Bob", "Bob", "Ada"] * 5)
    assert (found.prediction, found.num_searched, found.num_searches) == (Prediction.GAIN, 15, 15)
    assert found.answer_bearing and found.closed_book and found.pays
    values = (found.answer_bearing.value, found.closed_book.value, found.pays.value)
    assert values == pytest.approx((0.6667, 0.3333, 0.3333))


@pytest.mark.parametrize(
    ("shown", "recalled"),
    [
        (["by Bob"], ["Bob"]),
        (["by Ada", "by Bob"], ["Ada", "Ada"]),
        (["", ""], ["Ada", "Bob"]),
        (["by Ada", "by Bob", "by Bob"], ["Bob", "Bob", "Bob"]),  # one more of three may be chance
    ],
)
def test_a_search_that_does_not_pay_is_expected_to_harm(
    shown: list[str], recalled: list[str]
) -> None:
    assert judged(shown, recalled).prediction is Prediction.HARM


def test_yes_is_no_finding() -> None:
    yes = Question("yes", "Is it?", ("Yes",), "train")
    chosen = choose([yes, *QUESTIONS], GateParams(num_questions=3))
    assert len(chosen) == 3
    assert yes not in chosen


@pytest.fixture(scope="module")
def searcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a tiny student until it searches for every question."""
    folder = save_student(tmp_path_factory.mktemp("searcher"), [*TEXTS, SEARCH])
    student = load_student(str(folder))
    texts = [f"Question: {question.question}\n\n<think>\n{SEARCH}" for question in QUESTIONS]
    optimizer = torch.optim.AdamW(student.model.parameters(), lr=5e-3)
    for _ in range(80):
        for text in texts:
            ids = torch.tensor([student.tokenizer(text)["input_ids"]])
            optimizer.zero_grad()
            student.model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
    student.model.save_pretrained(folder)
    return folder


@pytest.fixture
def project(searcher: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write a project whose recorded search shows a text."""
    monkeypatch.chdir(tmp_path)

    def write(shown: str, **changes: Any) -> None:
        steps = (
            *protocol.parse(SEARCH),
            protocol.observation("search", shown, Outcome.OK),
        )
        row = make_graded(QUESTIONS[0], steps)
        tables.write_table(Path("recorded.parquet"), GradedTrajectory, [row])
        recorded = RecordedSettings(sets=("recorded.parquet",), fallback=None)
        world = SimulatorParams(SimulatorKind.RECORDED, recorded=recorded, **changes)
        write_project(tmp_path, Stage.RL1, searcher, simulator=world, max_context_tokens=60)

    return write


def test_rl1_is_refused_without_a_verdict_and_where_no_observation_holds_an_answer(
    project: Callable[..., None],
) -> None:
    project("result 1: the book")
    with pytest.raises(ConfigError, match="before the gate has measured") as error:
        main([])
    assert "coa gate model=" in str(error.value)
    assert ": harm: P(answer in observation | search) 0 [0, 0]" in gate.main([])
    with pytest.raises(ConfigError, match="does not pay") as error:
        main([])
    assert "P(answer in observation | search) 0 [0, 0]" in str(error.value)
    assert "simulator.kind=recorded" in str(error.value)
    assert not Path("data/train/rl1").exists()
    # The verdict is on this simulator alone.
    with pytest.raises(ConfigError, match="before the gate has measured"):
        main(["simulator.recorded.min_share=0.9"])


def test_rl1_starts_where_observations_hold_the_answers_and_counts_its_searches(
    project: Callable[..., None],
) -> None:
    project("result 1: it says Ada")
    line = gate.main(["name=tried"])
    assert line.startswith("results/gate/tried.json: gain: P(answer in observation | search) 1 ")
    main([])
    kept = json.loads(Path("data/train/rl1/gate.json").read_text())
    assert kept["prediction"] == "gain"
    spent = json.loads(Path("data/train/rl1/searches.json").read_text())
    assert spent["simulated"] > 0
    assert spent["real"] == spent["validation"]


def test_calls_are_counted_as_real_or_simulated_and_priced(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    from coa.search.tool import SearchTool

    bill = SearchBill(dollars_a_request=0.5)
    asks = [Ask(question, Mode.COA) for question in QUESTIONS]
    tools = {"search": SearchTool(Library())}
    run = make_run(tmp_path, Stage.RL1)
    rollouts = Rollouts(run, student.tokenizer, asks, LIMITS, tools, loop, bill=bill)
    counts = []
    for options in ({}, {"is_validation": True}):
        policy = Wanderer(student.tokenizer)
        out = rollouts.roll_out(KEYS, policy, Sampling(), **options)
        outcomes = {Outcome.OK: 0, Outcome.SIMULATED: 0}
        for row in out["graded"]:
            for step in row.trajectory.steps:
                if step.outcome in outcomes:
                    outcomes[step.outcome] += 1
        counts.append((outcomes[Outcome.OK], outcomes[Outcome.SIMULATED]))
        assert out["logged"]["spent/real_searches"] >= outcomes[Outcome.OK]
        assert out["logged"]["spent/simulated_searches"] >= outcomes[Outcome.SIMULATED]
    assert [bool(real) for real, _ in counts] == [False, True]
    assert [bool(simulated) for _, simulated in counts] == [True, False]
    assert bill.total.validation > 0
    told = bill.summary(Searches(real=4, simulated=6, requests=5))
    assert (told["dollars"], told["saved_dollars"]) == (2.5, 3.0)
