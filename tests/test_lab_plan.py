"""Test the experiments of the lab, and that a row's plan holds what decides the row."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from coa.errors import ConfigError, InputError
from lab.plan import Plan, main, read_data, read_plan
from lab.records import read_lab
from tests.lab_support import LOCK, plans_of, write_params

ROWS = ("test_pretrain_cot", "sft1", "sft2", "cot_half", "test_rl2", "gate_model_sft2")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_params()
    Path("dvc.lock").write_text(LOCK)
    return tmp_path


def changed_rows(before: dict[str, Plan]) -> set[str]:
    """Return the rows whose plans differ from earlier ones."""
    now = plans_of(tuple(before))
    return {row for row, plan in before.items() if now[row].hash != plan.hash}


def test_every_chain_begins_with_pre_training_and_every_training_is_of_a_row() -> None:
    lab = read_lab()
    used = set()
    for row in lab.rows.values():
        chain = lab.chain_of(row.training)
        assert chain[0] == "pretrain" or chain[0] in lab.sets
        used.update(chain)
    assert used == {*lab.trainings, *lab.sets}


LABS = pytest.mark.parametrize("lab_folder", ["lab", "lab/smollm"])


@LABS
def test_every_row_is_of_an_experiment(lab_folder: str) -> None:
    lab = read_lab(Path(lab_folder))
    shown = [name for experiment in lab.experiments.values() for name in experiment.rows]
    assert set(shown) == set(lab.rows)


@LABS
def test_dvc_runs_the_rows_and_seeds_of_the_experiments(lab_folder: str) -> None:
    lab = read_lab(Path(lab_folder))
    text = (Path(__file__).parent.parent / lab_folder / "dvc.yaml").read_text()
    matrix = YAML(typ="safe").load(text)["stages"]["row"]["matrix"]
    assert matrix == {"row": list(lab.rows), "seed": list(lab.seeds)}


def test_a_changed_learning_rate_changes_the_plans_of_the_rows_that_depend_on_it(
    folder: Path,
) -> None:
    before = plans_of(ROWS)
    write_params("train.sft2.arguments.learning_rate=0.5")
    assert changed_rows(before) == {"sft2", "cot_half", "test_rl2", "gate_model_sft2"}
    write_params("train.rl2.arguments.learning_rate=0.5")
    assert changed_rows(before) == {"test_rl2"}


@pytest.mark.parametrize(
    "change",
    [
        "evaluate.policy.sampling.temperature=0.3",
        "microworld.world.seed=5",
        "search.observation.top_k=5",
    ],
)
def test_what_changes_the_evaluation_changes_every_plan(folder: Path, change: str) -> None:
    before = plans_of(ROWS)
    write_params(change)
    assert changed_rows(before) == set(ROWS)


def test_a_changed_simulator_changes_the_rows_that_practise_on_it(folder: Path) -> None:
    before = plans_of((*ROWS, "test_rl1"))
    write_params("simulator.recorded.min_share=0.3")
    assert changed_rows(before) == {"test_rl1", "gate_model_sft2"}


def test_changed_data_change_the_rows_that_read_them(folder: Path) -> None:
    before = plans_of((*ROWS, "mined_teacher"))
    Path("dvc.lock").write_text(LOCK.replace("md5: sets", "md5: others"))
    assert changed_rows(before) == {*before} - {"test_pretrain_cot"}
    Path("dvc.lock").write_text(LOCK.replace("md5: pairs", "md5: others"))
    assert changed_rows(before) == {"mined_teacher"}


def test_paths_and_pace_leave_every_plan_as_it_is(folder: Path) -> None:
    before = plans_of(ROWS)
    write_params(
        "evaluate.policy.local.batch_size=3",
        "evaluate.policy.concurrency=2",
        "search.index=/another/machine/index",
        "train.sft1.init=/another/machine/model",
        "train.launch=accelerate launch -m",
        "train.rft.arguments.learning_rate=1",
        "table.sets={nq: NQ}",
    )
    assert changed_rows(before) == set()


def test_rows_share_the_trainings_that_they_share(folder: Path) -> None:
    found = plans_of(("sft2", "sft2_other", "cot_half", "test_rl2"))
    models = {row: [step.name for step in plan.steps] for row, plan in found.items()}
    assert models["sft2"] == models["sft2_other"] == models["test_rl2"][:3]
    assert models["cot_half"][:2] == models["sft2"][:2]
    assert found["sft2"].hash != found["sft2_other"].hash


def test_a_chain_is_planned_with_the_folders_of_what_it_needs(folder: Path) -> None:
    plan = plans_of(("cot_half",), seed=2)["cot_half"]
    made, training = plan.steps[-2:]
    assert made.folder.startswith("data/lab/mix_half-s2-")
    assert made.commands[0].startswith(f"lab.subset out={made.folder} seed=2 num_rows=2000 ")
    assert training.commands == (f"train.sft2.trajectories=[{made.folder}]",)
    assert training.start == next(step.folder for step in plan.steps if step.stage == "sft1")


def test_every_seed_has_plans_of_its_own(folder: Path) -> None:
    assert plans_of(("sft2",), 0)["sft2"].hash != plans_of(("sft2",), 1)["sft2"].hash


def test_the_model_of_another_training_is_made_before_it_is_needed(folder: Path) -> None:
    plan = plans_of(("gate_model_sft2",))["gate_model_sft2"]
    names = [step.name.partition("-")[0] for step in plan.steps]
    assert names == ["pretrain", "sft1", "sft2", "sft3", "gate_model_sft2"]
    assert f"simulator.model={plan.steps[3].folder}" in plan.steps[4].commands[0]


@pytest.mark.parametrize(
    ("trainings", "experiments", "what"),
    [
        ("{a: {stage: sft1, settings: '{nobody}'}}", "{}", "unknown place 'nobody'"),
        ("{a: {stage: sft1, start: b}, b: {stage: sft1, start: a}}", "{}", "needs itself"),
        ("{}", "{one: {title: t, claim: c, reading: r, rows: [b]}}", "unknown row 'b'"),
    ],
)
def test_experiments_that_cannot_be_are_refused(
    tmp_path: Path, trainings: str, experiments: str, what: str
) -> None:
    text = f"seeds: [0]\ntrainings: {trainings}\nrows: {{}}\nexperiments: {experiments}\n"
    (tmp_path / "experiments.yaml").write_text(text)
    with pytest.raises(ConfigError, match=what):
        read_lab(tmp_path).chain_of("a")


def test_a_broken_lock_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "dvc.lock"
    assert read_data(path) == {}
    path.write_text("stages: [1, 2]")
    with pytest.raises(InputError, match="cannot read"):
        read_data(path)


def test_plans_are_written_for_all_rows_and_seeds_and_others_go(folder: Path) -> None:
    stale = Path("lab/plans/nobody-s0.json")
    stale.parent.mkdir(parents=True)
    stale.write_text("{}")
    main([])
    lab = read_lab()
    names = {f"{row}-s{seed}.json" for row in lab.rows for seed in lab.seeds}
    assert {path.name for path in stale.parent.iterdir()} == names
    assert read_plan("sft2", 1).hash == plans_of(("sft2",), 1)["sft2"].hash


def test_a_set_that_does_not_depend_on_the_seed_serves_all_seeds(folder: Path) -> None:
    first, second = (plans_of(("untimed_sft2",), seed)["untimed_sft2"].steps for seed in (0, 1))
    names = [{step.name for step in steps if not step.stage} for steps in (first, second)]
    assert names[0] == names[1] != set()
