"""Which questions a mode samples, and what its rollouts are offered."""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from aiohttp import web

from coa.errors import ConfigError, ServiceError
from coa.policy.probe import STORY
from coa.policy.prompts import Prompt
from coa.records.question import Question
from coa.records.trajectory import Author, Mode, Step, StepKind
from curate.summary import funnel, read_metrics
from synth.sample import (
    Assignment,
    SampleParams,
    choose_questions,
    count_held_elsewhere,
    main,
    make_tasks,
    show_preview,
)
from tests.sample_records import make_graded

QUESTIONS = [
    Question(f"q{i:03}", f"Who is {i}?", ("x",), "train" if i < 90 else "test") for i in range(100)
]
PROMPT = Prompt("Question: {question}\n<think>\n", "hash")


def ids(mode: Mode, **changes: object) -> list[str]:
    params = SampleParams(num_questions=60, **changes)  # type: ignore[arg-type]
    return [question.question_id for question in choose_questions(QUESTIONS, params, mode)]


def test_the_two_modes_get_disjoint_halves() -> None:
    cot, coa = ids(Mode.COT), ids(Mode.COA)
    assert (len(cot), len(coa)) == (30, 30)
    assert not set(cot) & set(coa)
    assert cot == sorted(cot)


def test_or_both_get_the_same_questions() -> None:
    assert ids(Mode.COT, assignment=Assignment.SAME) == ids(Mode.COA, assignment=Assignment.SAME)
    assert len(ids(Mode.COT, assignment=Assignment.SAME)) == 60


HELD = [replace(question, also_in=("hotpotqa_dev",)) for question in QUESTIONS[:30]] + QUESTIONS[
    30:
]


@pytest.mark.parametrize("assignment", Assignment)
def test_a_question_that_an_evaluation_set_holds_is_never_sampled(assignment: Assignment) -> None:
    params = SampleParams(num_questions=60, assignment=assignment)
    chosen = {question for mode in Mode for question in choose_questions(HELD, params, mode)}
    assert chosen == set(HELD[30:90])
    assert count_held_elsewhere(HELD) == 30


def test_questions_held_elsewhere_are_named_where_too_few_are_left() -> None:
    with pytest.raises(
        ConfigError, match=r"60 in data/questions\.parquet, 30 more are also in an evaluation set"
    ):
        choose_questions(HELD, SampleParams(num_questions=61), Mode.COA)


def test_a_negative_number_of_questions_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be negative"):
        choose_questions(HELD, SampleParams(num_questions=-2), Mode.COA)


def test_the_choice_follows_from_the_seed_and_not_from_the_order() -> None:
    params = SampleParams(num_questions=60)
    assert choose_questions(QUESTIONS[::-1], params, Mode.COA) == choose_questions(
        QUESTIONS, params, Mode.COA
    )
    assert ids(Mode.COA, seed=1) != ids(Mode.COA, seed=2)


def test_too_few_questions_are_an_error_that_says_what_to_change() -> None:
    with pytest.raises(ConfigError, match=r"sample\.num_questions = 91"):
        choose_questions(QUESTIONS, SampleParams(num_questions=91), Mode.COA)


def test_cot_forbids_the_tool_and_coa_offers_it() -> None:
    for mode, offered, forbidden in ((Mode.COT, (), ("search",)), (Mode.COA, ("search",), ())):
        tasks = list(make_tasks(QUESTIONS[:2], mode, 3, PROMPT))
        assert [task.trajectory_id for task in tasks[:3]] == [f"q000/{mode}/{k}" for k in range(3)]
        assert len(tasks) == 6
        assert {(task.tools, task.forbidden_tools) for task in tasks} == {(offered, forbidden)}


def test_only_the_coa_prompt_mentions_the_tool(root: Path) -> None:
    prompts = {
        mode: Prompt.load(root / f"synth/prompts/{mode}.txt", "{prompt}\n\n").fill("Who?")
        for mode in Mode
    }
    assert "<begin_search>" in prompts[Mode.COA]
    assert "search" not in prompts[Mode.COT]
    assert all(prompt.endswith("Question: Who?\n\n<think>\n") for prompt in prompts.values())


# --- tools


def prompt_of(folder: Path, body: str) -> Prompt:
    (folder / "prompt.txt").write_text(body + " {question}")
    return Prompt.load(folder / "prompt.txt", "{prompt}\n")


def test_a_prompt_shows_the_tags_of_any_tool(tmp_path: Path) -> None:
    prompt = prompt_of(
        tmp_path, "{open_search} q {close_search} {open_get_weather} town {close_get_weather}"
    )
    assert prompt.shown_tools == ("get_weather", "search")
    (task,) = make_tasks(QUESTIONS[:1], Mode.COA, 1, prompt, ("search", "get_weather"))
    assert (
        "<begin_search> q </end_search> <begin_get_weather> town </end_get_weather> Who is 0?"
        in task.prompt
    )


@pytest.mark.parametrize(
    "tools", [("search",), ("search", "calculate", "open"), ("calculate", "open")]
)
def test_a_prompt_that_shows_other_tools_than_there_are_is_refused(
    tmp_path: Path, tools: tuple[str, ...]
) -> None:
    prompt = prompt_of(
        tmp_path, "{open_search} q {close_search} {open_calculate} 1+1 {close_calculate}"
    )
    with pytest.raises(ConfigError, match="other tools than there are"):
        list(make_tasks(QUESTIONS[:1], Mode.COA, 1, prompt, tools))


# --- the command


@pytest.fixture
def folder(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small run as the current folder, without its journals."""
    for path in small_run.rglob("*"):
        if path.is_file() and ".journal" not in path.parts:
            target = tmp_path / path.relative_to(small_run)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def server_that(refuses: Callable[[int], bool], *, refuses_probe: bool = False) -> web.Application:
    """Answers completions, but for those that it refuses by their number."""
    numbers = count()

    async def complete(request: web.Request) -> web.Response:
        is_probe = (await request.json())["prompt"].startswith(STORY)
        if refuses_probe if is_probe else refuses(next(numbers)):
            error = {"message": "This model's maximum context length is 4096 tokens"}
            return web.json_response({"error": error}, status=400)
        choice = {"index": 0, "text": "</think> \\boxed{1}", "finish_reason": "stop"}
        reply = {"id": "1", "object": "text_completion", "created": 0, "model": "m"}
        return web.json_response({**reply, "choices": [choice]})

    app = web.Application()
    app.router.add_post("/v1/completions", complete)
    return app


def arguments(url: str) -> list[str]:
    return [
        "mode=cot",
        "teacher.policy=completions",
        f"teacher.server.base_url={url}/v1",
        "teacher.server.model=m",
        "teacher.concurrency=1",
    ]


@pytest.mark.parametrize("refuses_probe", [True, False])
def test_a_run_that_the_server_refuses_writes_nothing_and_says_why(
    folder: Path, served_app: Callable[..., AbstractContextManager[str]], refuses_probe: bool
) -> None:
    error = ConfigError if refuses_probe else ServiceError
    before = Path("data/sample/cot.parquet").read_bytes()
    with (
        served_app(server_that(lambda number: True, refuses_probe=refuses_probe)) as url,
        pytest.raises(error, match="maximum context length is 4096 tokens"),
    ):
        main(arguments(url))
    assert Path("data/sample/cot.parquet").read_bytes() == before


def test_stop_reasons_stand_in_the_summary_the_metrics_and_the_table(
    folder: Path, served_app: Callable[..., AbstractContextManager[str]]
) -> None:
    with served_app(server_that(lambda number: number % 4 == 1)) as url:
        line = main(arguments(url))
    assert "; 30 answered, 10 policy_error; 31 calls made" in line  # one of them probes
    reasons = json.loads(Path("metrics/sample_cot.json").read_text())["stop_reasons"]
    assert (reasons["answered"], reasons["policy_error"], reasons["tool_error"]) == (30, 10, 0)
    assert ("  policy_error", "10", "0") in funnel(read_metrics())


def sample_student(seed: int, *overrides: str) -> str:
    """Sample a new student and return the summary line."""
    from coa.student.small import StudentSettings, new_student

    shape = StudentSettings(16, 1, 2, 32, 2048)
    for part in new_student(["Question: who is it?"], shape, seed=seed):
        part.save_pretrained("student")
    return main(
        [
            "mode=cot",
            "out=data/student/sample",
            "num_questions=8",
            "teacher.policy=local",
            "teacher.local.model=student",
            "rollout.max_context_tokens=400",
            "rollout.max_answer_tokens=4",
            *overrides,
        ]
    )


def test_a_student_that_is_trained_again_is_asked_again(folder: Path) -> None:
    """As the stage `student_sample` does: one folder, one journal, other weights."""
    pytest.importorskip("torch")
    assert sample_student(0).endswith(", 0 taken from the journal")
    assert "; 0 calls made, " in sample_student(0)
    assert sample_student(1).endswith(", 0 taken from the journal")


def test_turns_that_reach_their_limit_are_counted(folder: Path) -> None:
    pytest.importorskip("torch")
    assert "; 4 turn_budget; 4 calls made" in sample_student(0, "rollout.max_turn_tokens=3")
    metrics = json.loads(Path("metrics/student_sample_cot.json").read_text())
    assert metrics["stop_reasons"]["turn_budget"] == 4


def test_a_preview_cuts_results_alone_and_says_the_grade(
    capsys: pytest.CaptureFixture[str],
) -> None:
    thought = "I wonder. " * 40
    steps = (
        Step(StepKind.THOUGHT, Author.POLICY, thought),
        Step(StepKind.OBSERVATION, Author.ENVIRONMENT, "\x1b[2J" + "found " * 100 + "the end"),
        Step(StepKind.ANSWER, Author.POLICY, "</think>\n\n\\boxed{y}"),
    )
    show_preview([make_graded(QUESTIONS[0], steps)])
    shown = capsys.readouterr().out
    assert thought in shown
    assert "\x1b" not in shown
    assert "\\x1b[2J" in shown
    assert "the end" not in shown
    assert "451 more characters" in shown
    assert "[answered; wrong, accepted: x]" in shown


def test_only_train_questions_are_sampled() -> None:
    train = {question.question_id for question in QUESTIONS if question.split == "train"}
    assert set(ids(Mode.COT)) | set(ids(Mode.COA)) <= train
