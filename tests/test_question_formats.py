"""Read the smallest row of each public data set, as it is published, as the question it becomes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.records.question import Question
from synth.question_formats import (
    BadRowError,
    QuestionFormat,
    RefusalReason,
    published_columns,
    read_question,
    whole_answers,
)

HOTPOT = {
    "id": "5a7a06935542990198eaf050",
    "question": "Which magazine was started first Arthur's Magazine or First for Women?",
    "answer": "Arthur's Magazine",
    "type": "comparison",
    "level": "medium",
    "supporting_facts": {
        "title": ["Arthur's Magazine", "First for Women", "First for Women"],
        "sent_id": [0, 0, 1],
    },
}
HOTPOT_QUESTION = Question(
    "5a7a06935542990198eaf050",
    HOTPOT["question"],
    ("Arthur's Magazine",),
    "",
    "comparison",
    2,  # type: ignore[arg-type]
    ("Arthur's Magazine", "First for Women"),
    "hotpotqa",
)
TWO_WIKI: dict[str, Any] = {
    "_id": "8813f87c0bdd11eba7f7acde48001122",
    "type": "compositional",
    "question": "Who is the mother of the director of film Polish-Russian War (Film)?",
    "supporting_facts": [["Polish-Russian War (film)", 1], ["Xawery Żuławski", 2]],
    "evidences": [["Polish-Russian War", "director", "Xawery Żuławski"]],
    "answer": "Małgorzata Braunek",
}
MUSIQUE: dict[str, Any] = {
    "id": "3hop1__9285_5188_23307",
    "question": (
        "What month did the Tripartite discussions begin between Britain, France, and the country?"
    ),
    "answer": "mid-June",
    "answer_aliases": ["June", "mid-June"],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "Soviet Union", "paragraph_text": "...", "is_supporting": True},
        {"idx": 1, "title": "Pub", "paragraph_text": "...", "is_supporting": False},
        {"idx": 2, "title": "Crimea", "paragraph_text": "...", "is_supporting": True},
    ],
    "question_decomposition": [
        {"id": 1, "question": "...", "answer": "...", "paragraph_support_idx": 2},
        {"id": 2, "question": "...", "answer": "...", "paragraph_support_idx": 0},
        {"id": 3, "question": "...", "answer": "...", "paragraph_support_idx": None},
    ],
}
TRIVIA: dict[str, Any] = {
    "question": "Which American-born Sinclair won the Nobel Prize for Literature in 1930?",
    "question_id": "tc_1",
    "answer": {
        "aliases": ["(Harry) Sinclair Lewis", "Sinclair Lewis"],
        "normalized_aliases": ["sinclair lewis"],
        "normalized_value": "sinclair lewis",
        "type": "WikipediaEntity",
        "value": "Sinclair Lewis",
    },
}
PROMPT = """
You are an intelligent reasoning assistant with access to a web search tool.

Now, please answer the user's question below:\x20
Who wrote Chocolat?"""
AUTOCOA: dict[str, Any] = {
    "data_source": "hotpotqa",
    "prompt": [{"role": "user", "content": PROMPT}],
    "ability": "qa",
    "reward_model": {
        "style": "rule",
        "ground_truth": "Joanne Harris<ans_split>Joanne Michèle Sylvie Harris",
    },
    "extra_info": {"split": "train", "index": 7},
    "id": "5a800da55542992e7d278df4",
}


def reason_of(values: dict[str, Any], form: QuestionFormat) -> RefusalReason:
    with pytest.raises(BadRowError) as error:
        read_question(values, form)
    return error.value.reason


@pytest.mark.parametrize(
    ("form", "row", "answers", "hops"),
    [
        (
            "nq",
            {"question": "who played it", "answer": ["Dorothy", "Dot"]},
            ("Dorothy", "Dot"),
            None,
        ),
        ("triviaqa", TRIVIA, ("Sinclair Lewis", "(Harry) Sinclair Lewis"), None),
        ("triviaqa", TRIVIA | {"answer": {"aliases": [], "value": "<unk>"}}, (), None),
        ("bamboogle", {"Question": "Who was it?", "Answer": "Taft"}, ("Taft",), 2),
        ("simpleqa", {"problem": "Who painted it?", "answer": "Ann Lee"}, ("Ann Lee",), None),
        (
            "browsecomp_plus",
            {"query_id": 769, "query": "Which?", "answer": "None"},
            ("None",),
            None,
        ),
    ],
)
def test_the_smallest_rows_are_read(
    form: str, row: dict[str, Any], answers: tuple[str, ...], hops: int | None
) -> None:
    question = read_question(row, QuestionFormat(form))
    assert (question.gold_answers, question.num_hops, question.source) == (answers, hops, form)
    published = str(row.get("question_id") or row.get("query_id") or "")
    if published:
        assert question.question_id == published
    else:
        assert question.question_id.startswith(f"{form}-")
        assert read_question({**row}, QuestionFormat(form)).question_id == question.question_id


def test_hotpotqa_reads_the_same_from_its_original_file() -> None:
    assert read_question(HOTPOT, QuestionFormat.HOTPOTQA) == HOTPOT_QUESTION
    facts = [["Arthur's Magazine", 0], ["First for Women", 0], ["First for Women", 1]]
    original = {**HOTPOT, "_id": HOTPOT["id"], "id": None, "supporting_facts": facts}
    assert read_question(original, QuestionFormat.HOTPOTQA) == HOTPOT_QUESTION


def test_two_wiki_gives_hops_by_type() -> None:
    question = read_question(TWO_WIKI, QuestionFormat.TWO_WIKI)
    assert question.question_id == "8813f87c0bdd11eba7f7acde48001122"
    assert (question.question_type, question.num_hops) == ("compositional", 2)
    assert question.gold_titles == ("Polish-Russian War (film)", "Xawery Żuławski")
    assert (
        read_question({**TWO_WIKI, "type": "bridge_comparison"}, QuestionFormat.TWO_WIKI).num_hops
        == 4
    )


def test_musique_gives_aliases_hops_and_titles_in_reading_order() -> None:
    question = read_question(MUSIQUE, QuestionFormat.MUSIQUE)
    assert (question.question_type, question.num_hops) == ("3hop1", 3)
    assert question.gold_answers == ("mid-June", "June")
    assert question.gold_titles == ("Crimea", "Soviet Union")
    # Without a decomposition, the titles are those of the supporting paragraphs.
    question = read_question({**MUSIQUE, "question_decomposition": []}, QuestionFormat.MUSIQUE)
    assert question.gold_titles == ("Soviet Union", "Crimea")
    unanswerable = {**MUSIQUE, "answerable": False}
    assert reason_of(unanswerable, QuestionFormat.MUSIQUE) is RefusalReason.NO_ANSWER


def test_frames_is_read_from_its_prompt_and_keeps_its_kinds_of_reasoning() -> None:
    row: dict[str, Any] = {
        "Prompt": "How old was the older of the two?",
        "Answer": "42",
        "reasoning_types": "Numerical reasoning | Multiple constraints",
        "wiki_links": "['https://en.wikipedia.org/wiki/A']",
    }
    question = read_question(row, QuestionFormat.FRAMES)
    assert (question.gold_answers, question.source) == (("42",), "frames")
    assert question.question_type == "Numerical reasoning | Multiple constraints"
    listed = {**row, "reasoning_types": ["Numerical reasoning", "Multiple constraints"]}
    assert read_question(listed, QuestionFormat.FRAMES) == question


@pytest.mark.parametrize(
    ("form", "hops"), [("nq", None), ("bamboogle", 2), ("hotpotqa", 2), ("2wikimultihopqa", 4)]
)
def test_every_data_set_is_read_in_flashrags_form(form: str, hops: int | None) -> None:
    facts = {"title": ["A", "B"], "sent_id": [0, 1]}
    metadata = {"type": "bridge_comparison", "supporting_facts": facts}
    row = {
        "id": "train_0",
        "question": "Who?",
        "golden_answers": ["Ann", "Anna"],
        "metadata": metadata,
    }
    question = read_question(row, QuestionFormat(form))
    assert question == Question(
        f"{form}-train_0", "Who?", ("Ann", "Anna"), "", "bridge_comparison", hops, ("A", "B"), form
    )


@pytest.mark.parametrize("metadata", [None, {}, {"supporting_facts": 7}, ["?"]])
def test_metadata_of_another_form_is_passed_over(metadata: object) -> None:
    row = {"id": "test_1", "question": "Who?", "golden_answers": ["Ann"], "metadata": metadata}
    assert read_question(row, QuestionFormat.MUSIQUE).gold_titles == ()


def test_the_prompt_of_autocoa_is_taken_off() -> None:
    question = read_question(AUTOCOA, QuestionFormat.AUTOCOA)
    assert (question.question_id, question.question) == (
        "5a800da55542992e7d278df4",
        "Who wrote Chocolat?",
    )
    assert question.gold_answers == ("Joanne Harris", "Joanne Michèle Sylvie Harris")
    assert question.source == "hotpotqa"
    unknown = {**AUTOCOA, "prompt": "Q: who?"}
    assert reason_of(unknown, QuestionFormat.AUTOCOA) is RefusalReason.WRONG_FORMAT


def test_a_test_row_of_autocoa_is_named_after_its_file() -> None:
    row = {
        **AUTOCOA,
        "id": "dev_0",
        "source_file": "processed/fanoutqa.json",
        "reward_model": {"ground_truth": ["A", "Bo"]},
    }
    question = read_question(row, QuestionFormat.AUTOCOA)
    assert (question.question_id, question.source, question.gold_answers) == (
        "fanoutqa-dev_0",
        "fanoutqa",
        ("A", "Bo"),
    )


@pytest.mark.parametrize("truth", ["Ann", ["Ann"], {"target": ["Ann"]}, {"target": "Ann"}])
def test_the_ground_truth_of_autocoa_is_a_text_a_list_or_a_target(truth: object) -> None:
    row = {**AUTOCOA, "reward_model": {"ground_truth": truth}}
    assert read_question(row, QuestionFormat.AUTOCOA).gold_answers == ("Ann",)


@pytest.mark.parametrize("form", [form for form in QuestionFormat if form])
@pytest.mark.parametrize(
    "values", [{}, {"question": 7}, {"question": ["a"], "Question": {}, "prompt": 3}]
)
def test_a_row_of_another_form_is_refused(form: QuestionFormat, values: dict[str, Any]) -> None:
    assert reason_of(values, form) is RefusalReason.WRONG_FORMAT


def test_passages_are_left_in_the_file_where_nobody_reads_them() -> None:
    assert "context" not in published_columns(QuestionFormat.HOTPOTQA)
    assert {"_id", "golden_answers", "metadata"} <= set(published_columns(QuestionFormat.HOTPOTQA))
    assert "Question" in published_columns(QuestionFormat.BAMBOOGLE)


@given(st.text(min_size=2).filter(str.strip))
def test_a_text_that_was_made_a_list_is_refused(text: str) -> None:
    with pytest.raises(BadRowError, match="letters of"):
        whole_answers(list(text))


@given(st.lists(st.text(min_size=2)), st.text(max_size=1))
def test_other_lists_of_answers_pass(answers: list[str], short: str) -> None:
    assert whole_answers(answers) == tuple(answers)
    assert whole_answers([short]) == ((short,) if short else ())


@pytest.mark.parametrize(
    ("values", "form"),
    [
        ({"question": "Who?", "golden_answers": ["n", "o"]}, QuestionFormat.TWO_WIKI),
        ({"question": "Who?", "answer": ["1", "9", "8", "3"]}, QuestionFormat.NQ),
        ({**AUTOCOA, "reward_model": {"ground_truth": ["y", "e", "s"]}}, QuestionFormat.AUTOCOA),
    ],
)
def test_split_answers_are_refused_in_every_form(
    values: dict[str, Any], form: QuestionFormat
) -> None:
    assert reason_of(values, form) is RefusalReason.SPELT_ANSWER
