"""Test the scripted teacher for gold titles: what it writes over a real index, and how it errs.

The whole line runs with it as well.
"""

import os
import re
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from coa import protocol, tables
from coa.drops import DropReason
from coa.errors import InputError
from coa.graded import GradedTrajectory, is_sound
from coa.grading import Verdict
from coa.microworld.factory import MicroworldParams, scripted_teacher
from coa.pairs import Arm
from coa.params import write_profile
from coa.policy import Request
from coa.policy.gold.teacher import GoldSettings, GoldTeacher, gold_teacher
from coa.policy.scripted import ScriptedPolicy
from coa.question import Question
from coa.reviews import write_reviews
from coa.rollout import Limits
from coa.search import Passage
from coa.search.embedded import EmbeddedSearch
from coa.search.index import main as index
from coa.trajectory import Mode
from curate.analyse import main as analyse
from curate.assemble import main as assemble
from curate.branch import main as branch
from curate.filter import FilterParams, judge
from curate.filter import main as filter_rows
from curate.fork_choice import Fork, thought_points
from curate.fork_tasks import ForkRun, fork_task
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
def test_it_searches_for_the_gold_titles_in_turn_and_answers_rightly(question: Question) -> None:
    row = roll(question)
    assert queries(row) == [title.replace("&amp;", "&") for title in question.gold_titles]
    assert row.grade.exact_match and is_sound(row)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.question_id)
def test_without_the_tool_it_answers_rightly_only_what_it_remembers(question: Question) -> None:
    assert roll(question, replace(FLAWLESS, remembers=1.0), Mode.COT).grade.exact_match
    row = roll(question, FLAWLESS, Mode.COT)
    assert row.grade.verdict is Verdict.WRONG and is_sound(row) and not queries(row)


def test_without_the_passage_it_asks_again_in_other_words_and_guesses() -> None:
    engine = EmbeddedSearch.in_memory(passage for passage in PASSAGES if passage.id != "p2")
    row = roll(BRIDGE, engine=engine)
    assert queries(row) == ["Iron Sky Road", "Ada Fenn", "Ada Fenn Where director from"]
    assert row.grade.verdict is Verdict.WRONG
    assert roll(
        BRIDGE, replace(FLAWLESS, remembers=1.0, guesses_wrong=0.0), engine=engine
    ).grade.exact_match


@pytest.mark.parametrize("question", [CLOSED, CHOICE])
def test_what_is_compared_can_be_told_only_from_all_titles(question: Question) -> None:
    engine = EmbeddedSearch.in_memory(passage for passage in PASSAGES if passage.title != "Rhine")
    assert not roll(question, engine=engine).grade.exact_match


def test_a_title_is_shown_only_as_a_title() -> None:
    engine = EmbeddedSearch.in_memory([PASSAGES[2], Passage("p7", "Rhine, New York", "A town.")])
    assert not roll(CLOSED, engine=engine).grade.exact_match


def test_a_title_that_would_give_the_answer_away_is_not_called_by_its_name() -> None:
    question = replace(
        BRIDGE, question_id="q9", question="Who directed Iron Sky Road?", gold_answers=("Ada Fenn",)
    )
    row = roll(question, mode=Mode.COT)
    assert "Iron Sky Road" in text(row)
    assert "Ada Fenn" not in text(row)


def test_a_question_without_gold_titles_is_searched_for_itself() -> None:
    asked = "Who directed the film Iron Sky Road?"
    found = Question("q10", asked, ("Ada Fenn",), "train")
    row = roll(found)
    assert queries(row)[0] == asked and row.grade.exact_match and is_sound(row)
    assert "The results do not mention" not in text(row)
    row = roll(replace(found, gold_answers=("Kemi",)))
    assert queries(row) == [asked, f"{asked} directed film Iron Road"]
    assert row.grade.verdict is Verdict.WRONG


@pytest.mark.parametrize("question", [CLOSED, CHOICE])
def test_without_gold_titles_nothing_shows_that_a_comparison_is_settled(question: Question) -> None:
    asked = f"Tell me: {question.question}"
    row = roll(replace(question, question_id="q11", question=asked, gold_titles=()))
    assert len(queries(row)) == 2 and row.grade.verdict is Verdict.WRONG


def test_of_equal_questions_the_one_with_gold_titles_is_known() -> None:
    untitled = replace(BRIDGE, question_id="q12", gold_titles=())
    known = GoldTeacher([untitled, BRIDGE, untitled])
    assert [lookup.question_id for lookup in known.lookups.values()] == ["q1"]


def two_equal(found: list[str]) -> bool:
    return any(a == b for a, b in pairwise(found))


ERRORS: dict[str, Callable[[GradedTrajectory], bool]] = {
    "never_searches": lambda row: not queries(row) and row.trajectory.mode is Mode.COA,
    "poor_query": lambda row: queries(row)[0] in ("Iron", "Sky", "Road"),
    "repeated_search": lambda row: two_equal(queries(row)),
    "needless_search": lambda row: len(queries(row)) > 2,
    "ignores_evidence": lambda row: (
        row.grade.verdict is Verdict.WRONG and "I do not trust these results" in text(row)
    ),
    "wrong_answer": lambda row: (
        row.grade.verdict is Verdict.WRONG and "results" in text(row).split("</search_result>")[-1]
    ),
    "copied_observation": lambda row: (
        getattr(judge(row, FilterParams()), "reason", "") is DropReason.COPIED_OBSERVATION
    ),
    "unboxed": lambda row: row.grade.verdict is Verdict.NO_ANSWER,
}


@pytest.mark.parametrize("name", ERRORS)
def test_every_error_shows_at_its_rate_and_not_without(name: str) -> None:
    settings = replace(FLAWLESS, **{name: 1.0})  # type: ignore[arg-type]
    assert ERRORS[name](roll(BRIDGE, settings))
    assert not ERRORS[name](roll(BRIDGE))


@pytest.mark.parametrize(
    ("hedges", "says"), [(1.0, ("might be", "Perhaps")), (0.0, ("I recall", "well known"))]
)
def test_a_wrong_memory_before_a_search_is_hedged_or_not(
    hedges: float, says: tuple[str, ...]
) -> None:
    row = roll(BRIDGE, replace(FLAWLESS, wrong_recall=1.0, hedges=hedges))
    first = row.trajectory.steps[0].text
    assert any(words in first for words in says)
    assert row.grade.exact_match


def test_rates_are_met() -> None:
    settings = replace(FLAWLESS, never_searches=0.25, wrong_answer=0.5)
    rows = [roll(BRIDGE, settings, seed=seed) for seed in range(300)]
    searched = [row for row in rows if queries(row)]
    assert 0.17 < 1 - len(searched) / len(rows) < 0.33
    assert 0.4 < sum(row.grade.exact_match for row in searched) / len(searched) < 0.6


def test_which_answers_are_remembered_follows_from_the_question_and_the_seed() -> None:
    asked = [
        replace(BRIDGE, question_id=f"x{i}", question=f"Where is {i} from?") for i in range(200)
    ]

    def remembered(seed: int) -> list[bool]:
        known = GoldTeacher(asked, GoldSettings(seed=seed))
        return [known.remembers(lookup) for lookup in known.lookups.values()]

    assert remembered(0) == remembered(0) != remembered(1)
    assert 0.2 < sum(remembered(0)) / 200 < 0.4


def test_a_wrong_answer_is_found_even_where_there_is_no_other_question() -> None:
    known = GoldTeacher([BRIDGE], replace(FLAWLESS, wrong_answer=1.0))
    task = next(make_tasks([BRIDGE], Mode.COT, 1, PROMPTS[Mode.COT]))
    row = run_task(task, ScriptedPolicy(known.write), BRIDGE, ENGINE, 0, Limits())
    assert row.grade.prediction == "unknown"


def request(row: GradedTrajectory, response: str, seed: int = 0) -> Request:
    return Request(row.trajectory.prompt + response, (), 1000, 0.6, 1.0, seed)


ROWS = {mode: roll(BRIDGE, mode=mode) for mode in Mode}


@given(st.sampled_from(Mode), st.integers(0, 5000), st.integers(0, 3))
def test_a_rollout_goes_on_from_wherever_it_was_cut(mode: Mode, end: int, seed: int) -> None:
    whole = text(ROWS[mode])
    prefix = whole[: end % (len(whole) + 1)]
    known = GoldTeacher((*QUESTIONS, *OTHERS), GoldSettings(unboxed=0.0))
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
        row = roll(hostile, replace(FLAWLESS, remembers=1.0, guesses_wrong=0.0), mode)
        assert protocol.stray_tags(row.trajectory.steps) == []
        assert row.grade.prediction == "{Set} ‹/think>"


def test_a_question_that_it_was_not_told_is_an_error() -> None:
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


def test_questions_without_gold_titles_are_an_error() -> None:
    with pytest.raises(
        InputError, match=r"no question has gold titles[\s\S]*data/questions\.parquet"
    ):
        GoldTeacher([replace(BRIDGE, gold_titles=())])


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
