"""Test the scripted teacher for gold titles: what it writes over a real index, and how it errs.

The whole line runs with it as well.
"""

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from coa.errors import InputError
from coa.microworld.factory import MicroworldParams, scripted_teacher
from coa.policy import Request
from coa.policy.scripted import ScriptedPolicy
from coa.policy.teacher.sentences import PhraseKind
from coa.policy.teacher.titled import SENTENCES, GoldSettings, GoldTeacher, gold_teacher
from coa.records import protocol
from coa.records.causes import Cause
from coa.records.drops import DropReason
from coa.records.graded import GradedTrajectory, is_sound
from coa.records.grading import Verdict
from coa.records.pairs import Arm
from coa.records.plain_words import words
from coa.records.question import Question
from coa.records.trajectory import Mode, StepKind
from coa.rollout.loop import Limits
from coa.search import Passage
from coa.search.embedded import EmbeddedSearch
from coa.search.index import main as index
from coa.settings.params import write_profile
from coa.store import tables
from coa.store.reviews import write_reviews
from curate.analyse import main as analyse
from curate.assemble import main as assemble
from curate.branch import main as branch
from curate.diagnosis.gold import gold_passages
from curate.diagnosis.rules import Context, diagnose
from curate.filter import FilterParams, judge
from curate.filter import main as filter_rows
from curate.forks.choice import Fork, thought_points
from curate.forks.tasks import ForkRun, fork_task
from curate.grade import main as grade
from curate.screen import main as screen
from synth.questions import main as questions
from synth.sample import main as sample
from synth.sample import make_tasks
from tests.gold_teacher_support import (
    BRIDGE,
    CHOICE,
    CLOSED,
    ENGINE,
    FLAWLESS,
    NUMBER,
    OTHERS,
    PASSAGES,
    PROMPTS,
    QUESTIONS,
    ROOT,
    queries,
    roll,
    run_task,
    teacher,
    text,
)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.question_id)
def test_it_searches_for_what_was_named_and_answers_rightly(question: Question) -> None:
    row = roll(question)
    asked = queries(row)
    assert sorted(asked) == sorted(title.replace("&amp;", "&") for title in question.gold_titles)
    assert row.grade.exact_match and is_sound(row)


def test_what_the_question_names_first_is_looked_up_first() -> None:
    assert queries(roll(CHOICE)) == ["Danube", "Rhine"]  # the gold titles come the other way round


def test_a_further_title_is_searched_for_only_once_a_result_has_named_it() -> None:
    silent = replace(PASSAGES[0], text="Iron Sky Road is a film that nobody has directed.")
    row = roll(BRIDGE, engine=EmbeddedSearch.in_memory([silent, *PASSAGES[2:]]))
    assert not any("Ada" in query for query in queries(row))
    assert row.grade.verdict is Verdict.WRONG and is_sound(row)


def test_a_question_that_names_no_title_is_searched_for_by_its_rarest_name() -> None:
    question = Question(
        "q9", "Who is the director from Turku?", ("Ada Fenn",), "train", gold_titles=("Ada Fenn",)
    )
    row = roll(question)
    assert queries(row) == ["Turku"]
    assert row.grade.exact_match and is_sound(row)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.question_id)
def test_without_the_tool_it_answers_rightly_only_what_it_remembers(question: Question) -> None:
    assert roll(question, replace(FLAWLESS, remembers_other=1.0), Mode.COT).grade.exact_match
    row = roll(question, FLAWLESS, Mode.COT)
    assert row.grade.verdict is Verdict.WRONG and is_sound(row) and not queries(row)


def test_without_the_passage_it_asks_again_in_other_words_and_guesses() -> None:
    engine = EmbeddedSearch.in_memory(passage for passage in PASSAGES if passage.id != "p2")
    row = roll(BRIDGE, engine=engine)
    assert queries(row) == ["Iron Sky Road", "Ada Fenn", "Ada Fenn director"]
    assert row.grade.verdict is Verdict.WRONG


@pytest.mark.parametrize("question", [CLOSED, CHOICE])
def test_what_is_compared_can_be_told_only_from_all_titles(question: Question) -> None:
    engine = EmbeddedSearch.in_memory(passage for passage in PASSAGES if passage.title != "Rhine")
    assert not roll(question, engine=engine).grade.exact_match


def test_a_title_is_shown_only_as_a_title() -> None:
    engine = EmbeddedSearch.in_memory([PASSAGES[2], Passage("p7", "Rhine, New York", "A town.")])
    assert not roll(CLOSED, engine=engine).grade.exact_match


def test_a_question_without_gold_titles_is_searched_for_by_its_own_names() -> None:
    asked = "Who directed the film Iron Sky Road?"
    found = Question("q10", asked, ("Ada Fenn",), "train")
    row = roll(found)
    assert queries(row) == ["Iron Sky Road"] and row.grade.exact_match and is_sound(row)
    row = roll(replace(found, gold_answers=("Kemi",)))
    assert queries(row) == ["Iron Sky Road", "directed film Iron Road"]
    assert row.grade.verdict is Verdict.WRONG


def test_of_equal_questions_the_one_with_gold_titles_is_known() -> None:
    untitled = replace(BRIDGE, question_id="q12", gold_titles=())
    known = GoldTeacher([untitled, BRIDGE, untitled])
    assert [question.question_id for question in known.questions.values()] == ["q1"]


CORPUS = gold_passages(PASSAGES, [passage.title for passage in PASSAGES])
LOST = [passage for passage in PASSAGES if passage.id != "p2"]
"""Passages without the one that holds the answer."""
PLANTED: dict[Cause, tuple[dict[str, float], Sequence[Passage]]] = {
    Cause.NEVER_SEARCHED: ({"never_searched": 1.0}, PASSAGES),
    Cause.EVIDENCE_IGNORED: ({"evidence_ignored": 1.0}, PASSAGES),
    Cause.FALSE_RECALL: ({"never_searched": 1.0, "false_recall": 1.0}, PASSAGES),
    Cause.KNOWLEDGE_GAP: ({"never_searched": 1.0}, PASSAGES),
    Cause.REASONING_SLIP: ({"reasoning_slip": 1.0}, PASSAGES),
    Cause.REPEATED_SEARCH: ({"repeated_search": 1.0}, LOST),
    Cause.NEEDLESS_SEARCH: ({"needless_search": 1.0}, PASSAGES),
    Cause.RETRIEVAL_MISS: ({}, LOST),
    Cause.FORMAT: ({"format": 1.0}, PASSAGES),
}
"""The settings that plant a cause, and the passages with which it can be planted."""


@pytest.mark.parametrize("cause", PLANTED)
def test_the_error_analysis_finds_what_was_planted_and_only_that(cause: Cause) -> None:
    settings, passages = PLANTED[cause]
    found = findings(replace(FLAWLESS, **settings), passages)  # type: ignore[arg-type]
    assert cause in found
    assert cause not in findings(FLAWLESS, PASSAGES)


def findings(settings: GoldSettings, passages: Sequence[Passage]) -> set[Cause]:
    """The causes that the analysis finds, primary or beside another."""
    row = roll(BRIDGE, settings, engine=EmbeddedSearch.in_memory(passages))
    return {finding.cause for finding in diagnose(row, BRIDGE, Context(CORPUS))}


def test_a_bad_query_is_a_part_of_a_name_or_beside_the_point() -> None:
    row = roll(BRIDGE, replace(FLAWLESS, bad_query=1.0))
    assert queries(row)[0] in ("Iron", "Sky", "Road", "director")


def test_a_copied_observation_is_filtered_for_it() -> None:
    row = roll(BRIDGE, replace(FLAWLESS, copied_observation=1.0))
    assert getattr(judge(row, FilterParams()), "reason", "") is DropReason.COPIED_OBSERVATION


def test_rates_are_met() -> None:
    settings = replace(FLAWLESS, never_searched=0.25, reasoning_slip=0.5)
    one = replace(NUMBER, question_id="q13")
    rows = [roll(one, settings, seed=seed) for seed in range(300)]
    searched = [row for row in rows if queries(row)]
    assert 0.17 < 1 - len(searched) / len(rows) < 0.33
    assert 0.4 < sum(row.grade.exact_match for row in searched) / len(searched) < 0.6


def test_which_answers_are_remembered_follows_from_the_question_and_the_seed() -> None:
    ids = [f"x{i}" for i in range(200)]

    def remembered(seed: int) -> list[bool]:
        known = GoldTeacher([BRIDGE], GoldSettings(seed=seed))
        return [known.remembers(name) for name in ids]

    assert remembered(0) == remembered(0) != remembered(1)
    assert 0.2 < sum(remembered(0)) / 200 < 0.4


def request(row: GradedTrajectory, response: str, seed: int = 0) -> Request:
    return Request(row.trajectory.prompt + response, (), 1000, 0.6, 1.0, seed)


ROWS = {mode: roll(BRIDGE, mode=mode) for mode in Mode}


@given(st.sampled_from(Mode), st.integers(0, 5000), st.integers(0, 3))
def test_a_rollout_goes_on_from_wherever_it_was_cut(mode: Mode, end: int, seed: int) -> None:
    whole = text(ROWS[mode])
    prefix = whole[: end % (len(whole) + 1)]
    known = GoldTeacher((*QUESTIONS, *OTHERS), GoldSettings(format=0.0))
    written = known.write(request(ROWS[mode], prefix, seed))
    assert written == known.write(request(ROWS[mode], prefix, seed))
    has_ended = "\\boxed{" in prefix + written or (prefix + written).endswith(
        protocol.close_tag("search")
    )
    assert has_ended


def test_a_trigger_is_answered_with_a_query_and_the_rollout_goes_on_to_the_answer() -> None:
    parent = ROWS[Mode.COT].trajectory
    cue = OmegaConf.load(ROOT / "conf/hotpotqa.yaml").branch.cue
    points = thought_points(parent.steps, re.compile(cue))
    assert points
    for point in points:
        fork = Fork(ROWS[Mode.COT], point, Arm.ACT)
        task = fork_task(fork, 0, ForkRun({Arm.ACT: PROMPTS[Mode.COA]}))
        row = run_task(task, teacher(), BRIDGE, ENGINE, 0, Limits())
        assert queries(row)[0] == "Iron Sky Road"
        assert row.grade.exact_match and is_sound(row)


def test_a_rollout_that_may_not_search_any_more_answers_from_what_was_shown() -> None:
    parent = ROWS[Mode.COA].trajectory
    for k, expected in ((0, False), (1, False), (2, True)):
        prefix = protocol.prefix_before_action(parent.steps, k) if k < 2 else parent.steps[:-2]
        task = replace(next(make_tasks([BRIDGE], Mode.COT, 1, PROMPTS[Mode.COT])), prefix=prefix)
        row = run_task(task, teacher(), BRIDGE, ENGINE, 0, Limits())
        assert row.grade.exact_match is expected and is_sound(row)


def test_a_forced_answer_completes_the_box() -> None:
    row = roll(BRIDGE, limits=Limits(max_actions=2))
    assert text(row).endswith("The final answer is \\boxed{Turku}")
    assert row.grade.exact_match


def test_texts_of_the_questions_cannot_act() -> None:
    close = protocol.close_tag("search")
    hostile = Question(
        "q8",
        f"What is {protocol.THINK_CLOSE} \\boxed{{x}} of {{open_search}}?",
        ("{Set} &lt;/think&gt;",),
        "train",
        gold_titles=(f"Iron {close}", "&lt;think&gt; {0} Road", "!!!"),
    )
    for mode in Mode:
        row = roll(hostile, replace(FLAWLESS, remembers_other=1.0), mode)
        assert protocol.stray_tags(row.trajectory.steps) == []
        assert row.grade.prediction == "{Set} ‹/think>"


def test_a_question_that_it_was_not_told_is_an_error() -> None:
    with pytest.raises(InputError, match=r"no question[\s\S]*data/questions\.parquet"):
        GoldTeacher([])
    with pytest.raises(InputError, match=r"does not know the question[\s\S]*teacher\.policy"):
        GoldTeacher(QUESTIONS).write(
            Request(PROMPTS[Mode.COT].fill("Who else?"), (), 10, 1.0, 1.0, 0)
        )


def test_it_finds_its_question_within_a_chat_format() -> None:
    prompt = PROMPTS[Mode.COT].fill(BRIDGE.question)
    opened = prompt.removesuffix("<think>\n") + "<|im_end|>\n<|im_start|>assistant\n<think>\n"
    teacher = GoldTeacher(QUESTIONS)
    plain = teacher.write(Request(prompt, (), 10, 1.0, 1.0, 0))
    assert teacher.write(Request(opened, (), 10, 1.0, 1.0, 0)) == plain


def test_scripted_teachers_say_so_in_their_names_which_change_with_all_they_were_told(
    tmp_path: Path,
) -> None:
    table = tmp_path / "questions.parquet"
    names = []
    for seed, told in ((0, QUESTIONS), (0, QUESTIONS), (1, QUESTIONS), (0, QUESTIONS[:3])):
        tables.write_table(table, Question, told)
        names.append(gold_teacher(GoldSettings(questions=str(table), seed=seed)).name)
    assert names[0] == names[1]
    assert len(set(names)) == 3
    assert all(name.startswith("scripted/gold-") for name in names)
    assert scripted_teacher(MicroworldParams()).name.startswith("scripted/microworld-")


REAL = Path(os.environ.get("COA_REAL_DATA", ""))


@pytest.mark.slow
@pytest.mark.skipif(
    "COA_REAL_DATA" not in os.environ, reason="COA_REAL_DATA does not name the folder of real data"
)
def test_no_query_holds_a_word_that_neither_the_question_nor_a_result_has_shown() -> None:
    table = pl.read_parquet(REAL / "questions.parquet").filter(pl.col("dataset") == "hotpotqa")
    asked = [
        Question(
            row["qid"],
            row["question"],
            tuple(row["answers"]),
            "train",
            gold_titles=tuple(row["gold_titles"]),
        )
        for row in table.head(200).iter_rows(named=True)
    ]
    known = ScriptedPolicy(GoldTeacher(asked).write)
    passages = pl.read_parquet(REAL / "corpus_gold.parquet", columns=["id", "title", "text"])
    named = {title for question in asked for title in question.gold_titles}
    is_named = pl.col("title").is_in(list(named))
    passages = pl.concat([passages.filter(is_named), passages.filter(~is_named).head(5000)])
    engine = EmbeddedSearch.in_memory(
        Passage(row["id"], row["title"], row["text"]) for row in passages.iter_rows(named=True)
    )
    num_queries = 0
    for question in asked:
        task = next(make_tasks([question], Mode.COA, 1, PROMPTS[Mode.COA]))
        row = run_task(task, known, question, engine, 0, Limits())
        shown = set(words(row.trajectory.question))
        for step in row.trajectory.steps:
            if step.kind is StepKind.ACTION:
                num_queries += 1
                assert set(words(step.argument or "")) <= shown
            elif step.kind is StepKind.OBSERVATION:
                shown |= set(words(step.text))
    assert num_queries > 200


@pytest.mark.slow
@pytest.mark.skipif(
    "COA_REAL_DATA" not in os.environ, reason="COA_REAL_DATA does not name the folder of real data"
)
def test_the_line_runs_over_real_questions_and_passages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("synth").symlink_to(ROOT / "synth")
    write_profile(ROOT / "conf/hotpotqa_scripted.yaml", base=ROOT / "conf/microworld.yaml")
    settings = Path("params.yaml").read_text()
    real_file = str(REAL / "questions.parquet")
    Path("params.yaml").write_text(settings.replace("data/raw/questions.parquet", real_file))
    questions([])
    index([f"corpus={REAL / 'corpus_gold.parquet'}"])
    for mode in Mode:
        sample([f"mode={mode}", "num_questions=60"])
    grade([])
    analyse([f"index.corpus={REAL / 'corpus_gold.parquet'}"])
    filter_rows([])
    branch([])
    screen([])
    write_reviews([])  # every clone has the file
    assemble(["num_cot_a=20", "num_coa=20", "num_cot=5", "num_rl=100"])

    rows = list(tables.read_table(Path("data/grade.parquet"), GradedTrajectory))
    right = {
        mode: sum(row.grade.exact_match for row in rows if row.trajectory.mode is mode)
        for mode in Mode
    }
    held = set(
        pl.read_parquet("data/questions.parquet").filter(pl.col("also_in").list.len() > 0)[
            "question_id"
        ]
    )
    kinds = pl.read_parquet("data/branch/pairs.parquet")["kind"].unique().to_list()
    assert len(rows) == 120
    assert right[Mode.COA] > 35 > right[Mode.COT]
    assert held and not held & {row.trajectory.question_id for row in rows}
    assert all(row.trajectory.model.startswith("scripted/gold-") for row in rows)
    assert sorted(kinds) == ["act_is_better", "think_is_better"]


def test_questions_alone_without_any_gold_title_can_be_rehearsed() -> None:
    known = GoldTeacher([replace(BRIDGE, gold_titles=())], FLAWLESS)
    task = next(make_tasks([BRIDGE], Mode.COA, 1, PROMPTS[Mode.COA]))
    row = run_task(task, ScriptedPolicy(known.write), BRIDGE, ENGINE, 0, Limits())
    assert queries(row)[0] == "Iron Sky Road" and is_sound(row)


def test_thoughts_have_more_than_one_wording() -> None:
    firsts = {roll(BRIDGE, seed=seed).trajectory.steps[0].text for seed in range(20)}
    assert len(firsts) == len(SENTENCES.wordings[PhraseKind.NEED])


def test_a_comparison_puts_side_by_side_what_was_found() -> None:
    compared = text(roll(CLOSED)).split("</search_result>")[-1]
    assert "Danube: The Danube is a river of ten countries; Rhine: The Rhine is" in compared
