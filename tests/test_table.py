"""Test the table of results: what stands beside what, and differences beyond noise."""

import pytest

from coa.errors import InputError
from evaluation.table import arrange, by_questions, difference, write_markdown
from tests.evaluate_support import TABLE, result


def test_rows_follow_the_titles_and_the_others_come_after() -> None:
    rows = arrange([result(name, [True]) for name in ("a", "zebra", "b")], TABLE.rows)
    assert [row.title for row in rows] == ["second", "first", "zebra"]


def test_seeds_are_one_row_and_a_question_counts_with_its_mean() -> None:
    rows = arrange([result("a-s0", [True, False]), result("a-s1", [True, True])], TABLE.rows)
    assert len(rows) == 1
    assert rows[0].per_question("exact_match") == {"q000": 1.0, "q001": 0.5}


def test_results_over_another_search_have_a_part_of_their_own() -> None:
    without = result("c", [True], search="")
    asked = [result("a", [True]), result("b", [True]), result("d", [True], search="zz"), without]
    groups = by_questions(asked)
    names = [[found.setting.name for found in group] for group in groups]
    assert names == [["a", "b", "c"], ["d"]]


def test_results_over_another_search_stand_in_no_table() -> None:
    with pytest.raises(InputError, match="differ in search"):
        arrange([result("a", [True]), result("b", [True], search="other")], {})


@pytest.mark.parametrize("key", ["split", "questions"])
def test_results_on_other_questions_stand_in_a_part_of_their_own(key: str) -> None:
    groups = by_questions(
        [result("c", [True], **{key: "zzz"}), result("a", [True]), result("b", [True])]
    )
    assert [[found.setting.name for found in group] for group in groups] == [["a", "b"], ["c"]]


def test_a_result_without_a_tool_compares_with_every_search() -> None:
    assert len(arrange([result("a", [True]), result("b", [True], search="")], {})) == 2


def test_the_table_shows_differences_beyond_noise_in_bold() -> None:
    better, worse = [True] * 80 + [False] * 20, [True] * 40 + [False] * 60
    rows = arrange([result("a", better), result("b", worse)], TABLE.rows)
    page = write_markdown(rows, TABLE)
    assert "| first over second | **+40.0 [" in page
    found = difference(rows[1], rows[0], "exact_match")
    assert found is not None and found.value == 0.4


def test_a_hostile_name_stays_in_its_cell() -> None:
    page = write_markdown(arrange([result("a", [True])], {"a": "x | <script> `y`\n# z"}), TABLE)
    assert r"| x \| \<script\> \`y\` # z | 1 |" in page
    assert "\n# z" not in page
