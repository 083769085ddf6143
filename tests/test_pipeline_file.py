"""Test that a profile decides which stages dvc.yaml has, and that contradictions are refused."""

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from coa.errors import ConfigError
from coa.pipeline import render_pipeline
from coa.plan import Plan
from coa.settings.params import Params, find_profiles, write_profiles
from coa.settings.stages import Stage

ROOT = Path(__file__).parent.parent
DATA_LINE = ["grade", "analyse", "filter", "screen", "assemble", "report", "render"]
OVERLAYS = (
    "7b",
    "32b",
    "random_model",
    "decisions",
    "tiny_student",
    "chat_teacher",
    "student_teacher",
    "student_teacher_chat",
)
"""Profiles that are laid over another one."""
PROFILES = (
    [[Path(path)] for name, path in find_profiles(ROOT / "conf").items() if name not in OVERLAYS]
    + [[ROOT / "conf/paper.yaml", ROOT / "conf/7b.yaml"]]
    + [[ROOT / f"conf/{name}.yaml" for name in ("paper", "7b", "32b")]]
    + [[ROOT / "conf/real.yaml", ROOT / "conf/random_model.yaml"]]
    + [
        [
            ROOT / f"conf/{name}.yaml"
            for name in ("microworld_priced", "decisions", "tiny", "tiny_student")
        ]
    ]
)
"""Files of settings that are laid one over the other, as the pages do."""
NO_TRAINING = ["pipeline.training=[]", "pipeline.student=null"]
REAL = [
    "questions.files=[{path: data/raw/a.parquet}, {path: data/raw/b.parquet}]",
    "index.corpus=data/raw/corpus",
    "teacher.policy=gold",
]


def plan_of(*overrides: str) -> Plan:
    return Plan(Params.load("pipeline", overrides, ROOT / "conf/microworld.yaml"))


def stages_of(*overrides: str) -> dict[str, Any]:
    text = render_pipeline(plan_of(*overrides))
    found: dict[str, Any] = YAML(typ="safe").load(text)["stages"]
    return found


def pipeline_of(profiles: list[Path], folder: Path) -> dict[str, Any]:
    write_profiles(profiles, folder / "params.yaml")
    plan = Plan(Params.load("pipeline", (), folder / "params.yaml"))
    found: dict[str, Any] = YAML(typ="safe").load(render_pipeline(plan))
    return found


def path_of(out: str | dict[str, Any]) -> Path:
    return Path(out if isinstance(out, str) else next(iter(out)))


def name_of(profiles: list[Path]) -> str:
    return "+".join(path.stem for path in profiles)


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)


def test_the_committed_file_is_what_the_default_profile_needs() -> None:
    params = Params.load("pipeline", (), ROOT / "conf/microworld.yaml")
    written = render_pipeline(Plan(params))
    text = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    assert text.partition("\n")[2] == written, "run `coa params conf/microworld.yaml`"
    assert len(text.splitlines()) <= 500


def test_a_run_on_real_data_without_training_makes_no_world_and_ends_with_cards() -> None:
    stages = stages_of(*REAL, *NO_TRAINING)
    assert list(stages) == [
        "code",
        "questions",
        "index",
        "sample",
        *DATA_LINE[:3],
        "branch",
        *DATA_LINE[3:],
    ]
    for stage in stages.values():
        assert "microworld" not in stage.get("do", stage).get("params", [])


def test_imported_trajectories_are_neither_sampled_nor_forked_nor_searched_for() -> None:
    ingest = ["pipeline.trajectories=[ingest]", "ingest.files=[{path: data/raw/rows/*.jsonl}]"]
    stages = stages_of(*REAL, *NO_TRAINING, *ingest, "assemble.num_cot_a=0")
    assert list(stages) == ["code", "ingest", "questions", *DATA_LINE]
    assert "data/raw/rows" in stages["ingest"]["deps"]
    assert "data/ingest" in stages["grade"]["deps"]
    assert stages["grade"]["cmd"].endswith("'samples=[data/ingest]'")


def test_without_pairs_nothing_depends_on_them() -> None:
    overrides = [
        "assemble.num_cot_a=0",
        "pipeline.training=[pretrain,sft2]",
        "pipeline.student=null",
        "train.sft2.init=data/train/pretrain",
    ]
    text = render_pipeline(plan_of(*overrides))
    assert "data/branch" not in text
    assert [row.name for row in plan_of(*overrides).evaluations] == [
        "pretrain_cot",
        "pretrain_react",
        "sft2",
    ]


def test_a_base_of_another_maker_needs_no_text_of_the_invented_world() -> None:
    base = ["train.pretrain.base=data/raw/base"]
    stages = stages_of(*REAL, *base)
    assert "microworld" not in stages
    assert stages["pretrain"]["deps"][0] == "${train.pretrain.base}"
    assert "${train.pretrain.base}" in stages["train_check"]["deps"]


def test_forks_may_have_a_policy_and_prompts_of_their_own() -> None:
    stages = stages_of(
        "teacher.policy=chat",
        "teacher.chat.family=deepseek",
        "branch.policy.policy=completions",
        "branch.prompts={coa: tags.txt}",
    )
    assert {"tags.txt", "synth/prompts/cot.txt"} <= set(stages["branch"]["deps"])
    assert "${prompts.coa}" not in stages["branch"]["deps"]


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["pipeline.trajectories=[]"], "there are no trajectories"),
        (["pipeline.trajectories=[ingest]"], "no file of trajectories is named"),
        (
            ["pipeline.trajectories=[ingest]", "ingest.files=[{path: data/raw/a.jsonl}]"],
            "pairs are made of a teacher's trajectories, and none are sampled",
        ),
        (
            ["pipeline.trajectories=[ingest]", "ingest.files=[{path: '*.jsonl'}]"],
            "a pattern of ingest.files needs a folder of its own",
        ),
        (["teacher.policy=native"], "native policy cannot fork"),
        (["teacher.policy=chat", "teacher.chat.family=deepseek"], "ends with /beta"),
        (["assemble.num_cot_a=0"], "sft1 reads data/assemble/cot_a, which is not"),
        (["assemble.num_rl=0"], "rl1 reads data/assemble/rl, which is not built"),
        (["pipeline.training=[sft2]"], "sft2 starts from data/train/sft1"),
        (["pipeline.student=rft"], "rft"),
        (["pipeline.training=[pretrain,sft1,rft]", "pipeline.student=null"], "none writes"),
        (
            [
                "pipeline.training=[pretrain,sft1,sft2,rl1]",
                "train.rl1.init=data/train/sft2",
                "pipeline.student=null",
            ],
            "the world model of rl1 is not trained",
        ),
        (["pipeline.training=[sft9]"], "a setting has a bad value"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        plan_of(*overrides)


@pytest.mark.parametrize("profiles", PROFILES, ids=name_of)
def test_every_shipped_profile_makes_a_pipeline_whose_plots_are_pictures_that_a_stage_writes(
    profiles: list[Path], tmp_path: Path
) -> None:
    pipeline = pipeline_of(profiles, tmp_path)
    in_world = {"microworld", "microworld_priced", "decisions", "tiny", "tiny_student"}
    assert ("microworld" in pipeline["stages"]) is ({path.stem for path in profiles} <= in_world)
    stages = [stage.get("do", stage) for stage in pipeline["stages"].values()]
    assert not any("plots" in stage for stage in stages), "DVC draws those by a script of the web"
    written = {path_of(out) for stage in stages for out in stage.get("outs", ())}
    trained = {Path("data/train", name) for name in Stage if name in pipeline["stages"]}
    for plot in map(Path, pipeline["plots"]):
        assert plot == Path("reports/pictures") or plot.suffix == ".png"
        assert {plot, plot.parent} & written
    drawn = {Path(plot).parent for plot in pipeline["plots"] if plot.endswith("curves.png")}
    assert trained - drawn <= {Path("data/train/pretrain")}, "which may be of another maker"
