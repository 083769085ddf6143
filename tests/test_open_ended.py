"""Questions with a rubric and no accepted answer go through every stage that grades."""

import asyncio
import json
from pathlib import Path

import pytest

from coa.errors import ConfigError, InputError
from coa.records.drops import Dropped, DropReason
from coa.records.graded import GradedTrajectory, is_right
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Mode
from coa.records.verdicts import JudgeVerdict
from coa.search.index import main as index
from coa.settings.params import Params, write_profile
from coa.store import tables
from coa.store.reviews import write_reviews
from curate.analyse import main as analyse
from curate.assemble import main as assemble
from curate.branch import main as branch
from curate.filter import main as filter_rows
from curate.grade import main as grade
from curate.screen import main as screen
from evaluation import evaluate, table
from evaluation.result_files import read_result
from synth.question_file import QuestionFile
from synth.questions import QuestionParams, read_questions
from synth.questions import main as questions
from synth.sample import main as sample
from train.judging import JudgeAccount, judged
from train.rewards import REWARDS, reward_functions

ROOT = Path(__file__).parent.parent
NAMES = ("Ada", "Bea", "Cid", "Dov", "Eli", "Fay", "Gus", "Hal", "Ina", "Jon", "Kit", "Lou")
JUDGED = "judge.policy.policy=scripted_judge"
SETTINGS = """
pipeline: {training: [], student: null}
questions:
  files:
  - {path: raw.jsonl, columns: {gold_answers: ""}}
index: {corpus: corpus.jsonl}
search: {observation: {top_k: 2, shows_titles: true}}
teacher: {policy: gold, gold: {remembers_other: 0.5, copied_observation: 0.0}}
rollout: {max_context_tokens: 4096, max_answer_tokens: 64}
sample: {assignment: same, num_questions: 7, num_rollouts: 4}
filter: {max_policy_tokens: 512, max_copied_words: 24}
branch: {max_parents: {act_is_better: 60, think_is_better: 60}, points_per_trajectory: 2}
evaluate:
  policy: {policy: gold}
  num_questions: 0
  limits: {max_context_tokens: 4096, max_answer_tokens: 64}
"""


def raw(name: str) -> dict[str, object]:
    return {
        "question_id": name.lower(),
        "question": f"What is to be said of {name} Fenn?",
        "rubric": [
            {"text": f"painter from {name}town", "weight": 2},
            {"text": f"director of {name}land"},
        ],
        "gold_titles": [f"{name} Fenn"],
        "split": "validation" if name > "Ina" else "train",
        "source": "open",
    }


def passage(name: str) -> dict[str, str]:
    text = f"{name} Fenn is a painter from {name}town, director of {name}land. "
    return {"id": name, "title": f"{name} Fenn", "text": text + "Much was written of that. " * 9}


def write_lines(path: str, rows: list[dict[str, object]] | list[dict[str, str]]) -> None:
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the line ran from questions to pairs and an evaluation."""
    folder = tmp_path_factory.mktemp("line")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("synth", "coa", "train"):
            Path(name).symlink_to(ROOT / name)
        Path("own.yaml").write_text(SETTINGS)
        write_profile(Path("own.yaml"), base=ROOT / "conf/microworld.yaml")
        write_lines("raw.jsonl", [raw(name) for name in NAMES])
        write_lines("corpus.jsonl", [passage(name) for name in NAMES])
        questions([])
        index([])
        for mode in Mode:
            sample([f"mode={mode}"])
        grade([JUDGED])
        analyse([])
        filter_rows([])
        branch([JUDGED])
        screen([])
        write_reviews([])
        assemble(["num_cot_a=2", "num_coa=4", "num_cot=2", "num_rl=2", "validation_share=0"])
        evaluate.main([JUDGED, "name=gold"])
    return folder


def graded(line: Path) -> list[GradedTrajectory]:
    return list(tables.read_table(line / "data/grade.parquet", GradedTrajectory))


def test_grades_are_the_judges_and_exact_match_is_null(line: Path) -> None:
    rows = graded(line)
    assert len(rows) == 7 * 4 * 2
    assert {row.grade.exact_match for row in rows} == {None}
    assert {is_right(row) for row in rows} == {True, False}
    scores = {row.judgement.score for row in rows if row.judgement}
    assert {0.0, 1.0} <= scores
    metrics = json.loads((line / "metrics/grade.json").read_text())
    assert metrics["coa_open_ended"] == metrics["coa_trajectories"] == 28
    assert sum(metrics["coa_judged"].values()) == 28


def test_pairs_join_a_right_and_a_wrong_side(line: Path) -> None:
    pairs = list(tables.read_table(line / "data/branch/pairs.parquet", PreferencePair))
    forks = tables.read_table(line / "data/branch/forks.parquet", GradedTrajectory)
    right = {row.trajectory.trajectory_id: is_right(row) for row in (*graded(line), *forks)}
    assert pairs
    for pair in pairs:
        assert (right[pair.chosen_id], right[pair.rejected_id]) == (True, False)


def test_an_evaluation_counts_open_ended_questions_apart(
    line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = read_result(line / "results/evaluate/gold.json")
    assert result.metrics["exact_match"] is None
    judged_right, score = result.metrics["judged_right"], result.metrics["rubric_score"]
    assert judged_right is not None and judged_right.num == 3
    assert score is not None and 0 < score.value <= 1
    assert result.outcomes["exact_match"] == [None] * 3
    monkeypatch.chdir(line)
    table.main([])
    text = Path("results/table.md").read_text()
    assert "right by the judge" in text and "open-ended" in text


def test_rl_is_paid_by_the_judge_and_by_no_comparison(
    line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(line)
    rows = graded(line)[:6]
    with JudgeAccount(Params.load("train", [JUDGED]), "rl2") as account:
        weights = {"judge": 1.0, "f1": 1.0, "format_penalty": 0.1}
        functions = reward_functions(weights, open_judge=account.open_judge)
        named = {function.__name__: function for function in functions}
        assert asyncio.run(named["judge"](graded=rows)) == [judged(row) for row in rows]
        assert account.ledger is not None and account.ledger.paid.total.calls > 0
    assert [REWARDS["exact_match"](row) for row in rows] == [None] * 6
    assert [REWARDS["recalled"](row) for row in rows] == [None] * 6
    nobody = JudgeAccount(Params.load("train", []), "other")
    with nobody, pytest.raises(ConfigError, match="the reward `judge` has a weight"):
        nobody.open_judge()


def test_a_judge_that_is_down_is_seen_in_every_table(
    line: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(line)
    down = ["judge.policy.policy=chat", "judge.policy.server.model=m"]
    down += ["judge.policy.server.base_url=http://127.0.0.1:9/v1"]
    down += ["judge.policy.server.patience_minutes=0"]
    assert "28 coa (0 correct, 28 open-ended; by the judge" in grade(
        [*down, "out=data/down/grade.parquet"]
    )
    filter_rows(["graded=data/down/grade.parquet", "out=data/down/filter"])
    dropped = tables.read_table(Path("data/down/filter/dropped.parquet"), Dropped)
    reasons = [row.reason for row in dropped]
    assert reasons.count(DropReason.UNJUDGED) > 35 and DropReason.WRONG not in reasons
    summary = evaluate.main([*down, "name=down"])
    assert "3 answers were NOT JUDGED and count as wrong" in summary
    result = read_result(Path("results/evaluate/down.json"))
    assert result.outcomes["judged"] == [JudgeVerdict.FAILED] * 3
    failed = result.metrics["judge_failed"]
    assert failed is not None and failed.value == 1.0
    Path("results/evaluate/down.json").unlink()


def read_rubric(folder: Path, **changes: object) -> list[Question]:
    path = folder / "raw.jsonl"
    path.write_text(json.dumps({**raw("Ada"), **changes}) + "\n")
    columns = {} if "gold_answers" in changes else {"gold_answers": ""}
    return list(read_questions(QuestionParams((QuestionFile(str(path), columns=columns),))))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rubric": None}, "no gold answer"),
        ({"rubric": "[{"}, "cannot be read"),
        ({"rubric": [{"weight": 1}]}, "cannot be read"),
        ({"rubric": [{"text": "x", "weight": 0}]}, "not above 0"),
        ({"rubric": [{"text": " "}]}, "no text"),
        ({"gold_answers": ["Ada"]}, "beside gold answers"),
    ],
)
def test_a_bad_rubric_is_named(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_rubric(tmp_path, **changes)
