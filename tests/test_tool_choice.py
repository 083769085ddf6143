"""Which tool a policy chooses: in results, in the table and in the summary."""

from dataclasses import replace
from pathlib import Path

from coa.microworld.plans import CALCULATIONS
from coa.microworld.questions import make_questions
from coa.microworld.world import Group, GroupSize, WorldSettings, make_world
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.student.knowledge import NOBODY_CAN_TELL, KnowledgeProbe
from evaluation.evaluate import read_outcome
from evaluation.outcomes import Outcome, Result, summarise
from evaluation.result_files import read_result, write_result
from evaluation.table import arrange, write_markdown
from tests.evaluate_support import TABLE, result
from tests.sample_records import make_graded

TOOLS = ("search", "calculate")
SEARCHED = "I need it. <begin_search> who </end_search>\n<search_result> Ada </search_result>\n"
CALCULATED = "<begin_calculate> 1 + 1 </end_calculate>\n<calculate_result> 2 </calculate_result>\n"
ANSWERED = "</think>\\boxed{Ada}"
SETTINGS = WorldSettings(
    known=GroupSize(30, 20, 10, 10),
    train=GroupSize(40, 30, 16, 16),
    validation=GroupSize(15, 10, 6, 6),
    test=GroupSize(15, 10, 6, 6),
    calculation_share=0.4,
)


def graded(question: Question, *parts: str) -> GradedTrajectory:
    steps = protocol.parse("".join([*parts, ANSWERED]))
    return make_graded(question, steps, num_actions=len(parts))


def outcomes() -> list[Outcome]:
    """Two questions that need the calculator and two that do not, of which half use it each."""
    question = Question("q", "Who?", ("Ada",), "test")
    found = []
    for number, parts in enumerate(
        ((SEARCHED, CALCULATED), (SEARCHED,), (CALCULATED,), (SEARCHED, SEARCHED))
    ):
        row = read_outcome(graded(question, *parts), question, NOBODY_CAN_TELL, 0.0, TOOLS)
        found.append(replace(row, question_id=f"q{number}", needs_calculation=number < 2))
    return found


def with_tools(name: str, price: float = 0.0) -> Result:
    setting = replace(result(name, [True]).setting, tools=TOOLS, search_price=price)
    return summarise(setting, outcomes(), num_resamples=100, seed=0)


def value(found: Result, measure: str) -> float:
    interval = found.metrics[measure]
    assert interval is not None
    return interval.value


def test_a_result_counts_the_calls_of_each_tool_and_whether_they_were_needed() -> None:
    found = with_tools("a")
    assert value(found, "calls_search") == 1.0
    assert value(found, "calls_calculate") == 0.5
    assert value(found, "calculated_where_needed") == 0.5
    assert value(found, "calculated_needlessly") == 0.5


def test_a_calculation_is_no_needless_search() -> None:
    setting = replace(result("a", [True]).setting, tools=TOOLS)
    rows = [replace(row, needs_no_search=True) for row in outcomes()]
    found = summarise(setting, rows, num_resamples=100, seed=0)
    assert value(found, "actions") == 1.5
    assert value(found, "needless_search") == 0.75


def test_a_written_result_keeps_the_tools_and_their_calls(tmp_path: Path) -> None:
    written = with_tools("a")
    read = read_result(write_result(written, tmp_path))
    assert read == written
    assert read.rows()[0].calls == {"search": 1, "calculate": 1}


def test_a_result_of_search_alone_says_nothing_of_tools(tmp_path: Path) -> None:
    found = result("a", [True, False])
    text = write_result(found, tmp_path).read_text()
    for word in ("calls", "calculat", "tools", "utility"):
        assert word not in text
    assert "calculated" not in write_markdown(arrange([found], {}), TABLE)


def test_the_table_marks_a_row_that_had_other_tools() -> None:
    rows = [with_tools("a"), with_tools("b"), result("c", [True])]
    page = write_markdown(arrange(rows, {}), TABLE)
    assert "tools search instead of search, calculate" in page


def test_utility_is_shown_by_hops_where_searches_have_a_price() -> None:
    setting = replace(result("a", [True]).setting, search_price=0.05)
    rows = [
        replace(outcome, num_hops=1 + number % 2, utility=0.95 - number / 10)
        for number, outcome in enumerate(outcomes())
    ]
    found = summarise(setting, rows, num_resamples=100, seed=0)
    by_hops = [round(part.value, 4) for part in found.utility_by_hops.values() if part]
    assert by_hops == [0.85, 0.75]
    page = write_markdown(arrange([found], {}), TABLE)
    assert "### Utility by hops" in page
    assert "| 85.0 (2) | 75.0 (2) |" in page


def test_the_microworld_tells_which_questions_need_a_calculation() -> None:
    world = make_world(SETTINGS)
    probe = KnowledgeProbe(world)
    needs = 0
    for question in make_questions(world, Group.TRAIN, 100, seed=0):
        needed = probe.needs_calculation(question)
        assert needed == (question.question_type in CALCULATIONS)
        needs += bool(needed)
    assert 0 < needs < 100
    elsewhere = Question("x", "Who wrote Emma?", ("Jane Austen",), "test", source="other")
    assert probe.needs_calculation(elsewhere) is None
    assert NOBODY_CAN_TELL.needs_calculation(elsewhere) is None
