"""Real trajectories of one question: those of two different models share no prefix."""

import os
from collections import defaultdict
from pathlib import Path

import pytest

from bench.shared_prefix import SOURCES, Row, describe, read_rows
from coa.records.grading import normalise

pytestmark = pytest.mark.skipif(
    "COA_REAL_DATA" not in os.environ, reason="COA_REAL_DATA does not name the folder of real data"
)


def test_two_models_share_a_prefix_in_none_of_500_questions() -> None:
    folder = Path(os.environ["COA_REAL_DATA"]) / "trajectories"
    questions: defaultdict[str, list[Row]] = defaultdict(list)
    for file in SOURCES["R1-Searcher, two models"]:
        for row in read_rows(folder / f"trajectories_{file}.jsonl"):
            questions[normalise(row.trajectory.question)].append(row)
    told = describe(list(questions.values()))
    assert told.startswith("0 of 500 questions share a prefix (500 nothing_shared); ")
