"""Searches with a price: in evaluation, in the table of results and as a reward."""

from dataclasses import replace
from pathlib import Path

import pytest

from coa.errors import ConfigError
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.student.evaluate_settings import EvaluateParams
from evaluation.evaluate import check
from evaluation.outcomes import Result, outcome_of, summarise
from evaluation.result_files import read_result, write_result
from evaluation.table import arrange, write_markdown
from tests.evaluate_support import TABLE, result
from tests.sample_records import make_graded
from train.rewards import searches

SEARCHED = (
    "I need it. <begin_search> who </end_search>\n<search_result> Ada </search_result>\n"
    "Now the sum. <begin_calculate> 1 + 1 </end_calculate>\n<calculate_result> 2"
    " </calculate_result>\n</think>\\boxed{Ada}"
)
PRICE = 0.05


def graded() -> GradedTrajectory:
    """Make a right rollout with one search and one calculation."""
    question = Question("q", "Who?", ("Ada",), "test")
    return make_graded(question, protocol.parse(SEARCHED), num_actions=2)


def priced(name: str, price: float) -> Result:
    """Sum up four questions, each with one search."""
    setting = replace(result(name, [True]).setting, search_price=price)
    outcome = outcome_of(graded(), "world", None, [], search_price=price)
    outcomes = [replace(outcome, question_id=f"q{i}") for i in range(4)]
    return summarise(setting, outcomes, num_resamples=100, seed=0)


def test_only_searches_have_a_price() -> None:
    assert outcome_of(graded(), "", None, [], search_price=PRICE).utility == 0.95
    assert searches(graded()) == 1.0


def test_a_result_keeps_the_utility_and_its_price(tmp_path: Path) -> None:
    written = priced("a", PRICE)
    read = read_result(write_result(written, tmp_path))
    assert read == written
    utility = read.metrics["utility"]
    assert utility is not None and utility.value == 0.95


def test_a_result_without_a_price_says_nothing_about_one(tmp_path: Path) -> None:
    path = write_result(priced("a", 0.0), tmp_path)
    text = path.read_text()
    assert "utility" not in text and "search_price" not in text
    assert read_result(path).setting.search_price == 0.0


def test_the_table_shows_the_utility_where_searches_have_a_price() -> None:
    with_price = write_markdown(arrange([priced("a", PRICE), priced("b", PRICE)], {}), TABLE)
    without = write_markdown(arrange([priced("a", 0.0), priced("b", 0.0)], {}), TABLE)
    assert with_price.count("utility") == 2  # a column of rows, one of differences
    assert "utility" not in without


def test_a_negative_price_is_an_error() -> None:
    with pytest.raises(ConfigError, match="negative price"):
        check(EvaluateParams(model="data/train/sft2", search_price=-0.1))
