"""The calls behind a row and what they cost: of samples, evaluations and shards, with prices."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from coa import show
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Trajectory
from coa.settings.params import Params
from coa.store import tables
from coa.view.app import create_app
from coa.view.masks import Masks
from coa.view.related import find_calls_of
from coa.view.run_files import find_files
from data_cards.lineage import call_lines
from evaluation.evaluate import main as evaluate
from tests.costs_support import PaidTeacher, served
from tests.lineage_support import save_student
from tests.view_support import ADDRESS

SAMPLED = Path("data/sample/coa.parquet")
MICROWORLD = "evaluate.policy.policy=microworld"
TAUGHT = (
    "name=taught",
    MICROWORLD,
    "evaluate.prompts.coa=synth/prompts/coa.txt",
    "num_questions=8",
)
PROMPTS = {"coa": "train/prompts/question.txt", "react": "train/prompts/react.txt"}
SAME = "their replies give this trajectory again, character by character"


@pytest.fixture(autouse=True)
def run_folder(linked_run: Path) -> Path:
    return linked_run


def page(file: Path, row_id: str, *settings: str) -> str:
    app = create_app(find_files([file.as_posix()]), Masks(""), settings)
    query = {"file": file.as_posix(), "id": row_id}
    return TestClient(app, base_url=ADDRESS).get("/behind", params=query).text


def prices(it: Trajectory) -> str:
    return f"costs.models={{{it.model}: {{input: 2, output: 8}}}}"


def rows(file: Path) -> Sequence[Trajectory]:
    return [row.trajectory for row in tables.read_table(file, GradedTrajectory)]


def acting(found: Sequence[Trajectory]) -> Trajectory:
    return next(it for it in found if it.num_actions)


def test_every_call_of_a_sample_is_shown_with_its_dollars_and_the_sum() -> None:
    it = acting(list(tables.read_table(SAMPLED, Trajectory)))
    found, _ = find_calls_of(it, SAMPLED, [prices(it)])
    asked = [call.cost for call in found.calls if call.cost.tokens]
    assert len(asked) == it.num_calls
    assert sum(cost.written_tokens for cost in asked) == it.num_policy_tokens
    for cost in asked:
        paid = (2 * cost.context_tokens + 8 * cost.written_tokens) / 1e6
        assert cost.dollars == pytest.approx(paid)
    text = page(SAMPLED, it.trajectory_id, prices(it))
    for cost in [*asked, found.cost]:
        assert f"{cost.written_tokens:,} written, ${cost.dollars:,.6f}" in text
    assert f"{SAME}." in text
    assert "dollars not known" in page(SAMPLED, it.trajectory_id)
    lines = dict(call_lines(it, Params.load("publish", [prices(it)])))
    assert lines["cost"] == found.cost.text


def test_the_calls_of_an_evaluation_are_those_of_its_own_journal() -> None:
    evaluate(TAUGHT)
    file = Path("data/evaluate/taught.parquet")
    for it in rows(file):
        found, note = find_calls_of(it, file, [MICROWORLD, prices(it)])
        assert note == SAME
        assert found.cost.calls == it.num_calls
        assert found.cost.known_dollars
    assert "does not give this trajectory" in find_calls_of(it, file)[1]


def test_the_calls_of_a_shard_are_in_the_journal_beside_its_file() -> None:
    evaluate([*TAUGHT, "shard=1/2"])
    file = Path(".journal/shards/evaluate-taught/1-of-2/taught.parquet")
    found, note = find_calls_of(acting(rows(file)), file, [MICROWORLD])
    assert (found.is_same, note) == (True, SAME)


def test_what_a_server_says_that_its_calls_cost_is_shown_in_the_terminal(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    teacher = PaidTeacher(dollars=0.25)
    prompt = root / "train/prompts/question.txt"
    with served(teacher) as asked:
        policy = [f"evaluate.{it.replace('teacher.', 'policy.')}" for it in asked]
        evaluate(
            [*policy, "name=paid", "mode=cot", "num_questions=5", f"evaluate.prompts.cot={prompt}"]
        )
    file = Path("data/evaluate/paid.parquet")
    params = Params.load("evaluate", policy).dump(list(Params.load("evaluate").values()))
    Path("params.yaml").unlink()
    Path("params.yaml").write_text(params.replace(asked[1].partition("=")[2], "http://nowhere"))
    for it in rows(file):
        show.main([it.trajectory_id, f"file={file}"])
        assert f"written, $0.250000: {SAME}" in capsys.readouterr().out


def test_the_calls_of_a_model_in_a_folder_are_found_without_naming_it(root: Path) -> None:
    pytest.importorskip("torch")
    model = "data/train/tiny"
    save_student(0, model)
    files = [f"evaluate.prompts.{name}={root / path}" for name, path in PROMPTS.items()]
    budgets = ["evaluate.limits.max_context_tokens=1500", "evaluate.limits.max_answer_tokens=4"]
    for mode in PROMPTS:
        asked = [f"model={model}", f"name={mode}", f"mode={mode}", "num_questions=2"]
        evaluate([*asked, *files, *budgets])
        file = Path(f"data/evaluate/{mode}.parquet")
        for it in rows(file):
            found, note = find_calls_of(it, file, [*budgets, prices(it)])
            assert note == SAME
            assert found.cost.known_dollars
