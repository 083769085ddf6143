"""Grading a file of trajectories: counts, and tables that are not written in our tags."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from coa.errors import InputError
from coa.foreign.own_tags import to_own_tags
from coa.foreign.react import read_react_text
from coa.foreign.tag_families import R1_SEARCHER
from coa.foreign.tagged_text import read_tagged_text
from coa.policy.foreign_tags import foreign_tags
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, Sampling, Step, StopReason, Trajectory
from coa.store import tables
from curate.grade import main

QUESTION = Question("q", "What is the capital?", ("Paris",), "train", "chain", 1)
R1_TEXT = (
    "I look it up. <|begin_of_query|> capital <|end_of_query|>\n\n<|begin_of_documents|>\n"
    "(1)Title: France Text: Its capital is Paris.<|end_of_documents|>\n\nSo it is Paris.</think>"
    "<answer>Paris</answer>"
)
REACT = (
    "Thought: I look it up.\nAction: search[capital]\nObservation: Its capital is Paris.\n"
    "Thought: So it is Paris.\nAction: finish[Paris]"
)
FOREIGN = [
    "I look it up.<search>capital</search><information>Paris</information><answer>Paris</answer>",
    'I look it up.<tool_call>{"name": "search"}</tool_call>',
    "I look it up.<|begin_search_query|>capital<|end_search_query|>",
    "I look it up.<|python_tag|>search(capital)",
    "I know it.</think><answer>Paris</answer>",
    R1_TEXT,
    REACT,
]
OWN = "It is Paris.</think> \\boxed{Paris}"


def row(k: int, steps: tuple[Step, ...]) -> Trajectory:
    return Trajectory(
        f"q/coa/{k}",
        "q",
        Mode.COA,
        k,
        QUESTION.question,
        "",
        steps,
        StopReason.ANSWERED,
        "model",
        Sampling(),
        "",
        "",
        1,
        1,
        0,
        1,
        0,
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text((root / "params.yaml").read_text())
    tables.write_table(Path("data/questions.parquet"), Question, [QUESTION])
    return tmp_path


def graded(*rows: tuple[Step, ...]) -> str:
    table = [row(k, steps) for k, steps in enumerate(rows)]
    tables.write_table(Path("data/sample/coa.parquet"), Trajectory, table)
    return main(["modes=[coa]"])


@pytest.mark.parametrize("text", FOREIGN)
def test_a_file_in_the_tags_of_another_framework_is_refused(folder: Path, text: str) -> None:
    with pytest.raises(InputError, match="not written in the tags of this project") as refused:
        graded(*[protocol.parse(text)] * 3)
    assert foreign_tags(protocol.parse(text))[0] in refused.value.details["got"]
    assert "3 of 3 rows, the first is 'q/coa/0'" in refused.value.details["where"]
    assert not Path("data/grade.parquet").exists()


@pytest.mark.parametrize("steps", [read_tagged_text(R1_TEXT, R1_SEARCHER), read_react_text(REACT)])
def test_ingested_rows_are_refused_until_they_are_brought_into_our_tags(
    folder: Path, steps: tuple[Step, ...]
) -> None:
    with pytest.raises(InputError, match="not written in the tags") as refused:
        graded(steps)
    assert "ingest.files" in refused.value.details["what to do"]
    own = to_own_tags(row(0, steps)).steps
    assert graded(own).endswith("1 coa (1 correct)")


def test_a_foreign_tag_now_and_then_stops_no_run_and_is_counted(folder: Path) -> None:
    own = protocol.parse(OWN)
    told = graded(*[own] * 4, protocol.parse(FOREIGN[0]))
    assert "5 coa (4 correct, 1 in foreign tags: <search> in 1, </search> in 1" in told
    rows = list(tables.read_table(Path("data/grade.parquet"), GradedTrajectory))
    assert [found.grade.exact_match for found in rows] == [True] * 4 + [False]


def test_a_row_in_our_tags_may_speak_of_foreign_ones() -> None:
    for text in (
        f"A page begins with <search>. {OWN}",
        "<begin_search> <answer> </end_search> I do not know.",
        "It is Paris.</think><answer>\\boxed{Paris}</answer>",
        "Is 3 < 4? The search> of an answer.",
    ):
        assert foreign_tags(protocol.parse(text)) == []


def test_what_an_observation_says_is_no_tag_of_the_policy() -> None:
    steps = protocol.parse("<begin_search> q </end_search>\n<search_result> <b> </search_result>\n")
    shown = replace(steps[1], text=steps[1].text.replace("<b>", "<search>"))
    assert foreign_tags([shown]) == []


def test_a_file_without_any_boxed_answer_is_graded_and_says_so(folder: Path) -> None:
    told = graded(*[protocol.parse("I do not know.")] * 2)
    assert told.endswith("2 coa (0 correct, none has a boxed answer)")
    metrics = json.loads(Path("metrics/grade.json").read_text())
    assert metrics == {"coa_trajectories": 2, "coa_correct_rate": 0.0}
