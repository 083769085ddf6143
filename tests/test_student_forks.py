"""Run the commands by which a student forks its own rollouts, with a small random model."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from ruamel.yaml import YAML

from coa.pipeline import render_pipeline
from coa.plan import Plan
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import Arm
from coa.records.question import Question
from coa.rollout.points import Point
from coa.search import Passage
from coa.search.analysis import IndexSettings
from coa.search.building import build_index
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import STUDENT_BRANCHED, STUDENT_GRADED
from curate import analyse, branch
from tests.sample_records import make_graded
from tests.settings_support import every_setting

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

ROOT = Path(__file__).parent.parent
ROLLOUT = "I need the keeper of it. It is Ada.\n</think>\n\n\\boxed{Ada}"
QUESTIONS = [
    Question(f"q{i}", f"Who is the keeper of lighthouse {i}?", ("Ada",), "train", "bridge", 1)
    for i in range(3)
]


def arguments_of(stage: str) -> list[str]:
    """What a stage's command is given, with the settings that DVC would fill in."""
    params = Params.load("pipeline", ())
    text = render_pipeline(Plan(params))
    command: str = YAML(typ="safe").load(text)["stages"][stage]["cmd"]
    settings = OmegaConf.create(params.values())

    def setting(place: re.Match[str]) -> str:
        return str(OmegaConf.select(settings, place[1]))

    filled = re.sub(r"(?<!\\)\$\{([\w.]+)\}", setting, command).replace("\\${", "${")
    return [word for word in shlex.split(filled) if "=" in word]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose student sft2 has random weights and three rollouts."""
    from coa.student.small import StudentSettings, new_student

    monkeypatch.chdir(tmp_path)
    for name in ("train", "pipeline"):
        (tmp_path / name).symlink_to(ROOT / name)
    settings: Any = every_setting()
    changes = {
        "index": {"corpus": ""},
        "pipeline": {"student": "sft2", "student_pairs": 5, "student_continuations": 2},
        "branch": {"first_continuations": 1},
        "train": {"max_context_tokens": 48, "prompt": "train/prompts/question.txt"},
        "evaluate": {"prompts": {"cot": "train/prompts/question.txt"}},
    }
    OmegaConf.save(OmegaConf.merge(settings, changes), "params.yaml")
    shape = StudentSettings(
        hidden_size=16, num_layers=1, num_heads=2, intermediate_size=16, max_context_tokens=64
    )
    for part in new_student([ROLLOUT, *(q.question for q in QUESTIONS)], shape, seed=0):
        part.save_pretrained("data/train/sft2")
    tables.write_table(Path("data/questions.parquet"), Question, QUESTIONS)
    steps = protocol.parse_policy(ROLLOUT)
    rows = [make_graded(q, steps, num_actions=0, model="data/train/sft2") for q in QUESTIONS]
    tables.write_table(STUDENT_GRADED, GradedTrajectory, rows)
    passages = [Passage("p1", "Lighthouse", "The keeper of it is Ada.")]
    build_index(passages, Path("data/index"), IndexSettings(), "corpus", None)
    return tmp_path


def test_the_student_itself_writes_both_arms_at_its_points(project: Path) -> None:
    analyse.main(arguments_of("student_analyse"))
    branch.main(arguments_of("student_branch"))

    points = list(tables.read_table(STUDENT_BRANCHED / "points.parquet", Point))
    forks = list(tables.read_table(STUDENT_BRANCHED / "forks.parquet", GradedTrajectory))
    assert {point.parent_id for point in points} == {f"{q.question_id}/coa/0" for q in QUESTIONS}
    assert {row.trajectory.model for row in forks} == {"data/train/sft2"}
    for arm in Arm:
        on_arm = [row for row in forks if f"/{arm}" in row.trajectory.trajectory_id]
        assert len(on_arm) == 2 * len(points)
    assert Path("metrics/student_branch.json").exists()
    assert Path(".journal/student-branch.sqlite").exists()
