"""Test that an evaluation set that has changed is refused, and never measured unseen."""

from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import to_builtins
from omegaconf import OmegaConf

from coa.errors import ConfigError, InputError
from coa.judging.judge import JudgeParams
from coa.records.question import Question
from coa.shards.stage import ShardsParams
from coa.store import tables
from coa.student.evaluate_settings import EvaluateParams
from evaluation import evaluate, pin
from evaluation.benchmarks import Pin, check_pins, pin_sets, read_pins

QUESTIONS = [
    Question(f"{source}-{i}", f"Who is number {i}?", (str(i),), "test", source=source)
    for source in ("nq", "musique")
    for i in range(3)
]


@pytest.fixture
def pins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Pin the questions in a folder that has params.yaml; returns the file."""
    monkeypatch.chdir(tmp_path)
    tables.write_table(Path("data/questions.parquet"), Question, QUESTIONS)
    values = {
        "evaluate": to_builtins(EvaluateParams(name="a", split="test", pins="pins.json")),
        "shards": to_builtins(ShardsParams()),
        "judge": to_builtins(JudgeParams()),
    }
    Path("params.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(values)))
    assert pin.main([]) == "pins.json: 2 sets of the split test (musique 3, nq 3)"
    return Path("pins.json")


def test_sets_that_are_as_pinned_pass(pins: Path) -> None:
    found = pin_sets(reversed(QUESTIONS), "test")
    check_pins(found, pins)
    check_pins(found, pins, ("nq",))
    assert read_pins(pins) == found
    assert found["nq"].num_questions == 3 and len(found["nq"].checksum) == 16


def test_an_evaluation_refuses_a_benchmark_whose_number_of_questions_changed(pins: Path) -> None:
    tables.write_table(Path("data/questions.parquet"), Question, QUESTIONS[1:])
    with pytest.raises(InputError, match="the benchmark 'nq' has changed") as caught:
        evaluate.main([])
    details = caught.value.details
    assert "3 questions, checksum" in str(details["expected"])
    assert str(details["got"]).startswith("2 questions, checksum")
    assert "coa pin pins=pins.json" in str(details["what to do"])


def test_a_changed_question_is_seen_by_the_checksum(pins: Path) -> None:
    changed = replace(QUESTIONS[0], gold_answers=("0", "zero"))
    found = pin_sets([changed, *QUESTIONS[1:]], "test")
    check_pins(found, pins, ("musique",))
    with pytest.raises(InputError, match="'nq' has changed"):
        check_pins(found, pins)


def test_a_benchmark_that_is_missing_is_refused_unless_it_is_not_asked(pins: Path) -> None:
    found = pin_sets(QUESTIONS[:3], "test")
    check_pins(found, pins, ("nq",))
    with pytest.raises(InputError, match="'musique' has changed") as caught:
        check_pins(found, pins)
    assert caught.value.details["got"] == "no questions"


def test_a_set_without_a_pin_is_refused_with_the_command_that_pins_it(pins: Path) -> None:
    found = {**pin_sets(QUESTIONS, "test"), "mine": Pin(1, "0" * 16)}
    with pytest.raises(ConfigError, match="'mine' has no pin") as caught:
        check_pins(found, pins)
    assert "coa pin" in str(caught.value.details["what to do"])


def test_a_file_that_holds_something_else_is_not_replaced(pins: Path) -> None:
    pins.write_text('["mine"]')
    with pytest.raises(InputError, match=r"cannot read pins\.json"):
        pin.main([])
    assert pins.read_text() == '["mine"]'


def test_pinning_needs_a_file_and_questions(pins: Path) -> None:
    with pytest.raises(ConfigError, match="no file is named"):
        pin.main(["pins=''"])
    with pytest.raises(ConfigError, match="has no questions"):
        pin.main(["split=validation"])
