"""Test the table over several evaluation sets, and its notes on what was asked otherwise."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import to_builtins
from omegaconf import OmegaConf

from coa.records.trajectory import Sampling
from evaluation import table
from evaluation.outcomes import Result, Setting, summarise
from evaluation.result_files import write_result
from evaluation.table import (
    Difference,
    TableParams,
    arrange,
    find_differences,
    make_panel,
    write_markdown,
)
from tests.evaluate_support import outcome
from tests.settings_support import every_setting

LIMITS = {"max_actions": 10, "max_context_tokens": 512, "max_answer_tokens": 32}
SETTING = Setting(
    name="a",
    model="m",
    model_fingerprint="",
    mode="coa",
    split="test",
    questions="hash",
    prompt_hash="p1",
    search="bm25/top2",
    sampling=Sampling(0.0),
    limits=LIMITS,
    prompt_file="question.txt",
)
SETS = {"nq": 40, "hotpotqa": 10}
TABLE = TableParams(rows={"b": "second", "a": "first"})


def result(
    name: str, *, sets: dict[str, int] = SETS, share: float = 0.5, **changes: object
) -> Result:
    """Evaluate so many questions of each set; of `nq` this share is right, of others none."""
    rows = []
    for source, size in sets.items():
        for i in range(size):
            is_right = source == "nq" and i < share * size
            row = outcome(f"{source}-{i:03}", is_right, source=source, needs_no_search=None)
            rows.append(row)
    setting = replace(SETTING, name=name, **changes)  # type: ignore[arg-type]
    return summarise(setting, rows, num_resamples=100, seed=0)


def page_of(*results: Result, params: TableParams = TABLE) -> str:
    return write_markdown(arrange(results, params.rows), params)


def older(found: Result) -> Result:
    """Return a result as it was before results named their sets."""
    columns = {name: column for name, column in found.outcomes.items() if name != "source"}
    return replace(found, outcomes=columns, by_set={}, mean_over_sets={})


# A column for each set


def test_the_first_table_has_a_column_for_each_set_and_one_for_the_mean() -> None:
    page = page_of(result("a"), result("b", share=0.25))
    by_set, everything = page.split("### All questions")
    assert "| system | hotpotqa (10) | nq (40) | mean |" in by_set
    rows = re.findall(
        r"^\| (\w+) \| ([\d.]+) \[.*?\] \| ([\d.]+) \[.*?\] \| ([\d.]+) \[", by_set, re.M
    )
    assert rows == [("second", "0.0", "25.0", "12.5"), ("first", "0.0", "50.0", "25.0")]
    assert "| first | 1 | 40.0 [" in everything  # 20 of 50 questions


def test_the_columns_have_the_order_and_the_titles_of_the_profile() -> None:
    params = replace(TABLE, sets={"nq": "Natural Questions", "triviaqa": "TriviaQA"})
    page = page_of(result("a", sets={"nq": 4, "b": 2, "a": 2}), params=params)
    assert "| system | Natural Questions (4) | a (2) | b (2) | mean |" in page


def test_with_one_set_the_page_has_no_table_by_set() -> None:
    page = page_of(result("a", sets={"nq": 40}), result("b", sets={"nq": 40}))
    assert "evaluation set" not in page
    assert "### All questions" not in page
    assert page == page_of(*(older(result(name, sets={"nq": 40})) for name in "ab"))


def test_seeds_of_a_row_count_with_their_mean_in_each_set() -> None:
    page = page_of(result("a-s0", share=0.5), result("a-s1", share=1.0))
    assert re.search(r"^\| first \| 0\.0 \[.*?\] \| 75\.0 \[.*?\] \| 37\.5 \[", page, re.M)


def test_an_older_result_takes_its_sets_from_the_others() -> None:
    page = page_of(older(result("a")), result("b"))
    assert "| system | hotpotqa (10) | nq (40) | mean |" in page
    assert re.search(r"^\| first \| 0\.0 \[.*?\] \| 50\.0 \[.*?\] \| 25\.0 \[", page, re.M)


def test_a_hostile_set_stays_in_its_cell() -> None:
    page = page_of(result("a", sets={"x | <b> `y`": 4, "": 2}))
    assert r"| system | without a source (2) | x \| \<b\> \`y\` (4) | mean |" in page


def test_the_picture_shows_the_mean_over_the_sets() -> None:
    panel = make_panel(arrange([result("a")], {}), TABLE)
    (bar,) = panel.bars
    assert (bar[0], bar[1].value) == ("a", 0.25)
    assert panel.caption.startswith("exact match (%), mean over 2 sets, 50 questions, test")
    panel = make_panel(arrange([result("a", sets={"nq": 40})], {}), TABLE)
    assert (panel.bars[0][1].value, panel.caption[:19]) == (0.5, "exact match (%), 40")


# What was asked otherwise


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        (
            {"limits": {**LIMITS, "max_context_tokens": 384}},
            "max_context_tokens 384 instead of 512",
        ),
        ({"sampling": Sampling(0.6)}, "temperature 0.6 instead of 0.0"),
        (
            {"prompt_hash": "p2", "prompt_file": "other.txt"},
            "prompt other.txt (p2) instead of question.txt (p1)",
        ),
        ({"prompt_hash": "p2", "prompt_file": ""}, "prompt p2 instead of question.txt (p1)"),
        (
            {"limits": {"max_actions": 10, "max_context_tokens": 512}},
            "max_answer_tokens unknown instead of 32",
        ),
    ],
)
def test_a_row_that_was_asked_otherwise_is_marked(changes: dict[str, object], note: str) -> None:
    page = page_of(result("a", **changes), result("b"), result("c"))
    assert page.count("| first ¹ |") == 5  # by set, all, costs, by hops, by actions
    assert f"\n- ¹ first (coa): {note}\n" in page
    assert "second ¹" not in page


def test_questions_that_do_not_tell_their_hops_have_no_table_of_hops() -> None:
    found = result("a")
    columns = {**found.outcomes, "num_hops": [None] * found.num_questions}
    assert "by hops" in page_of(found)
    assert "by hops" not in page_of(replace(found, outcomes=columns))


def test_all_that_differs_stands_in_one_note_and_each_row_has_its_own() -> None:
    page = page_of(
        result("a", limits={**LIMITS, "max_actions": 4}, sampling=Sampling(0.6)),
        result("b", prompt_hash="p2", prompt_file="other.txt"),
        result("c"),
        result("d"),
    )
    notes = [line for line in page.splitlines() if line.startswith("- ")]
    assert notes == [
        "- ¹ second (coa): prompt other.txt (p2) instead of question.txt (p1)",
        "- ² first (coa): max_actions 4 instead of 10; temperature 0.6 instead of 0.0",
    ]
    assert page.index("second ¹") < page.index("first ²") < page.index("- ¹ second")


def test_rows_are_compared_with_their_own_way_of_asking_alone() -> None:
    react = {"mode": "react", "prompt_hash": "r", "limits": {**LIMITS, "max_actions": 3}}
    page = page_of(result("a"), result("b", **react), result("c", mode="cot", prompt_hash="c"))
    assert "asked otherwise" not in page


def test_another_seed_of_sampling_is_another_draw_and_no_other_way_of_asking() -> None:
    page = page_of(result("a-s0"), result("a-s1", sampling=Sampling(0.0, seed=1)), result("b"))
    assert "asked otherwise" not in page


def test_a_seed_that_differs_from_the_others_of_its_row_is_named() -> None:
    shorter = {**LIMITS, "max_context_tokens": 384}
    page = page_of(result("a-s0"), result("a-s1", limits=shorter), result("b"))
    assert "- ¹ first (coa): max_context_tokens 384 instead of 512 (in a-s1)" in page


def test_many_seeds_of_one_row_do_not_outvote_two_rows() -> None:
    rows = [[result(f"a-s{i}", prompt_hash="p2") for i in range(5)], [result("b")], [result("c")]]
    found = find_differences(rows)
    names = tuple(f"a-s{i}" for i in range(5))
    shown = ("question.txt (p2)", "question.txt (p1)")
    assert found == [[Difference("prompt", *shown, names)], [], []]


def test_the_command_writes_page_and_picture(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    values = every_setting()
    values.table = to_builtins(replace(TABLE, sets={"nq": "NQ", "hotpotqa": "HotpotQA"}))
    Path("params.yaml").write_text(OmegaConf.to_yaml(values))
    for name in ("a", "b"):
        write_result(result(name))
    assert "2 systems from 2 results" in table.main([])
    page = Path("results/table.md").read_text()
    assert "| system | NQ (40) | HotpotQA (10) | mean |" in page
    assert Path("results/table.png").read_bytes().startswith(b"\x89PNG")
