"""Evaluation sets have the names of their sources, and a comparison with none is never quiet."""

import json
from pathlib import Path

import msgspec
import pytest

from coa.questions.evaluation_questions import read_evaluation
from coa.records.exclusions import EvaluationSet
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.sets import AssembleParams
from coa.store import tables
from coa.store.files import EVALUATION_SETS, GRADED, KEPT, PAIRS, QUESTIONS
from curate import screen
from data_cards.catalogue import SetName, local_path
from data_cards.publishing import gate
from data_cards.publishing.gate import Reason
from data_cards.render import main as render

QUESTION_OF = {
    "musique test": Question("a", "Who is a?", ("x",), "test", source="musique"),
    "nq test": Question("b", "Who is b?", ("x",), "test", source="nq"),
    "nq validation": Question("c", "Who is c?", ("x",), "validation", source="nq"),
    "test": Question("d", "Who is d?", ("x",), "test"),
}
TRAIN = Question("e", "Where is the source of the Nile?", ("x",), "train", source="nq")
SETTINGS = {
    "evaluation": str(QUESTIONS),
    "evaluation_columns": {},
    "ngram_words": 8,
    "shingle_words": 5,
    "min_similarity": 0.8,
}


def write_inputs(*questions: Question) -> None:
    Path("params.yaml").write_text(
        json.dumps({"screen": SETTINGS, "assemble": msgspec.to_builtins(AssembleParams())})
    )
    tables.write_table(QUESTIONS, Question, questions)
    for path in (KEPT, GRADED):
        tables.write_table(path, GradedTrajectory, [])
    tables.write_table(PAIRS, PreferencePair, [])


def test_a_set_has_the_name_of_its_source_and_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(*QUESTION_OF.values(), TRAIN)
    found = read_evaluation(QUESTIONS, QUESTIONS, {})
    assert [(item.set_name, item.question_id) for item in found] == [
        (name, question.question_id) for name, question in QUESTION_OF.items()
    ]

    summary = screen.main([])

    assert summary.endswith(
        "compared with 4 questions of musique test, nq test, nq validation, test"
    )
    figures = json.loads(Path("metrics/screen.json").read_text())
    assert figures["evaluation_sets"] == dict.fromkeys(QUESTION_OF, 1)
    rows = tables.read_table(EVALUATION_SETS, EvaluationSet)
    assert [row.name for row in rows] == list(QUESTION_OF)


def test_without_an_evaluation_question_summary_and_metrics_say_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_inputs(TRAIN)
    assert screen.main([]).endswith("; compared with no evaluation set")
    figures = json.loads(Path("metrics/screen.json").read_text())
    assert figures["compared_with"] == "no evaluation set"
    assert (figures["evaluation_questions"], figures["evaluation_sets"]) == (0, {})


# --- cards and the gate


SCREEN = {"evaluation": str(QUESTIONS), "evaluation_columns": {}}


def without_evaluation() -> None:
    """Leave train questions only, and screen again."""
    train = [row for row in tables.read_table(QUESTIONS, Question) if row.split == "train"]
    tables.write_table(QUESTIONS, Question, train)
    screen.main([])


def test_sets_that_were_compared_with_nothing_are_refused_by_a_reason_of_their_own(
    linked_run: Path,
) -> None:
    sets = (SetName.COA, SetName.RL)
    assert list(gate.evaluation_refusals(sets, SCREEN)) == []
    without_evaluation()
    (refusal,) = gate.evaluation_refusals(sets, SCREEN)
    assert refusal.reason is Reason.NO_EVALUATION_SET
    assert "screen.evaluation" in refusal.detail
    gate.enforce([refusal], gate.read_allowed("no_evaluation_set"))


def test_questions_that_came_after_the_screen_do_not_make_up_for_it(linked_run: Path) -> None:
    without_evaluation()
    questions = [*tables.read_table(QUESTIONS, Question), QUESTION_OF["nq test"]]
    tables.write_table(QUESTIONS, Question, questions)
    (refusal,) = gate.evaluation_refusals([SetName.COA], SCREEN)
    assert refusal.reason is Reason.NO_EVALUATION_SET


def test_rows_without_the_screens_list_of_sets_count_as_never_screened(linked_run: Path) -> None:
    EVALUATION_SETS.unlink()
    (refusal,) = gate.evaluation_refusals([SetName.COA], SCREEN)
    assert refusal.reason is Reason.EVALUATION_OVERLAP
    assert str(EVALUATION_SETS) in refusal.detail


def test_a_card_lists_every_set_or_says_that_there_was_none(linked_run: Path) -> None:
    card = Path("data/render/coa/README.md")
    assert local_path(SetName.COA, "train").exists()
    assert "Every row was compared with the questions of these sets" in card.read_text()
    assert "`microworld test`" in card.read_text()
    without_evaluation()
    render([])
    text = card.read_text()
    assert "**The rows were compared with no evaluation set**" in text
    assert "Every row was compared" not in text
    section = text.partition("## Evaluation sets\n")[2].partition("\n## ")[0]
    assert section.strip().count("\n") == 0
