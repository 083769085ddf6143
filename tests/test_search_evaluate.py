"""Recall of gold titles and answers, on any questions file."""

import asyncio
import json
from pathlib import Path

import pytest

from coa.errors import InputError
from coa.search import Hit, Passage
from coa.search.embedded import EmbeddedSearch
from coa.search.evaluate import (
    Found,
    SearchEvaluateParams,
    Sought,
    judge,
    read_sought,
    search_all,
    summarise,
)

RIVER = Passage("p1", "Danube", "A river that ends in the Black Sea.")
TOWN = Passage("p2", "AT&amp;T Town", "A town in 1,137 words.")
QUESTIONS = [
    {
        "q": "Where does the Danube end?",
        "titles": ["Danube", "Rhine"],
        "answers": ["the Black Sea"],
        "split": "test",
    },
    {"q": "Is the town a town?", "titles": ["AT&T Town"], "answers": ["yes"], "split": "test"},
    {"q": "Zymurgy?", "titles": [], "answers": ["Sea"], "split": "train"},
]
COLUMNS = {"question": "q", "gold_titles": "titles", "gold_answers": "answers"}


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    path = tmp_path / "q.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    return path


def test_questions_are_read_from_any_file(questions: Path) -> None:
    sought = list(read_sought(SearchEvaluateParams(str(questions), COLUMNS)))
    assert [item.query for item in sought] == [str(row["q"]) for row in QUESTIONS]
    assert [len(item.gold_titles) for item in sought] == [2, 1, 0]
    assert [len(item.gold_answers) for item in sought] == [1, 0, 1]  # yes stands in any text
    assert len(list(read_sought(SearchEvaluateParams(str(questions), COLUMNS, "train")))) == 1
    assert len(list(read_sought(SearchEvaluateParams(str(questions), COLUMNS, "test", 1)))) == 1


def test_a_split_without_questions_is_an_error(questions: Path) -> None:
    with pytest.raises(InputError, match="has no questions"):
        list(read_sought(SearchEvaluateParams(str(questions), COLUMNS, "validation")))


def test_titles_and_answers_are_found_by_words_and_not_by_letters() -> None:
    sought = Sought("q", frozenset({"danube", "rhine"}), ("sea",))
    hits = [Hit(Passage("p3", "Season", "No answer, seaside."), 2.0), Hit(RIVER, 1.0)]
    assert judge(sought, hits, 0.1) == Found((2, 0), 2, 0.1)
    assert judge(sought, [], 0.1) == Found((0, 0), 0, 0.1)


def test_recall_is_averaged_over_the_questions_that_can_tell(questions: Path) -> None:
    sought = list(read_sought(SearchEvaluateParams(str(questions), COLUMNS)))
    engine = EmbeddedSearch.in_memory([RIVER, TOWN])
    summary = summarise(asyncio.run(search_all(engine, sought, 5)), 5)
    assert summary["questions"] == 3
    assert summary["recall@5"] == 0.75
    assert summary["all_titles@5"] == 0.5
    assert summary["answer@5"] == 0.5
    assert summary["p99_ms"] >= summary["median_ms"] > 0
