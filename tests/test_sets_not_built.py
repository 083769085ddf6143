"""Test runs with only some of the sets: nothing loops over a set that was not built.

Trajectories of one mode alone, as imported ones are, and runs without a corpus are among them.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import DatasetCard

from annotate.push import kinds_of_run
from coa.errors import ConfigError, InputError
from coa.plan import Plan
from coa.records.causes import Analysis
from coa.records.drops import Dropped
from coa.records.graded import GradedTrajectory
from coa.records.sets import AssembleParams
from coa.records.trajectory import Mode
from coa.rollout.points import Point
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import ANALYSED, BRANCHED, DROPPED, GRADED, POINTS
from coa.store.reviews import ReviewKind
from curate import analyse, assemble, filter, grade, report, screen, summary
from data_cards import export, lineage, render
from data_cards.catalogue import SetName, built_sets, local_path
from data_cards.formats.published_rows import write_published
from data_cards.publish import set_files
from data_cards.settings import shown_settings
from tests.settings_support import change_settings

datasets = pytest.importorskip("datasets")
pytestmark = pytest.mark.usefixtures("quiet_bars")
COA_ALONE = {"num_cot_a": 0, "num_cot": 0, "num_rl": 0}


@pytest.fixture(scope="module")
def finished_coa_run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that built the set `coa` alone, in the folder of one that built all."""
    folder = tmp_path_factory.mktemp("coa") / "run"
    shutil.copytree(small_run, folder)
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        change_settings("assemble", **COA_ALONE)
        screen.main([])
        assemble.main([])
        report.main([])
        render.main([])
    return folder


@pytest.fixture
def coa_run(finished_coa_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy of the run with the set `coa` alone the current folder."""
    folder = Path(shutil.copytree(finished_coa_run, tmp_path / "coa_run"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def empty_run(copied_run: Path) -> Path:
    """A run that kept no trajectory."""
    change_settings("assemble", num_cot_a=0, num_rl=0, allows_fewer=True)
    filter.main(["max_policy_tokens=1"])
    screen.main([])
    assemble.main([])
    report.main([])
    render.main([])
    return copied_run


def params_of(**sizes: Any) -> AssembleParams:
    return AssembleParams(num_cot_a=1, num_coa=1, num_cot=1, num_rl=1, **sizes)


def page() -> str:
    report.main([])
    return report.OUT.read_text(encoding="utf-8")


def test_the_sets_of_a_run_are_those_that_it_asks_for(copied_run: Path) -> None:
    assert built_sets(params_of()) == list(SetName)
    assert built_sets(replace(params_of(), num_cot=0)) == ["cot_a", "coa", "rl"]
    shutil.rmtree("data/assemble/cot")
    assert SetName.COT in built_sets(params_of())
    assert SetName.COT not in built_sets(params_of(allows_fewer=True))


def test_sets_that_were_never_assembled_are_an_error_and_no_empty_run(copied_run: Path) -> None:
    shutil.rmtree("data/assemble")
    with pytest.raises(InputError, match="data/assemble is missing"):
        built_sets(params_of(allows_fewer=True))


def test_the_cards_are_those_of_the_set_that_was_built(coa_run: Path) -> None:
    files = sorted(path.relative_to(render.OUT).as_posix() for path in render.OUT.rglob("*.md"))
    assert files == ["README.md", "coa/README.md"]
    text = (render.OUT / "README.md").read_text(encoding="utf-8")
    head = DatasetCard(text).data.to_dict()  # type: ignore[no-untyped-call]
    assert [config["config_name"] for config in head["configs"]] == ["coa"]
    assert "One set for training" in text
    assert "In training, `coa` teaches how" in text
    assert "not built" not in text
    assert "cot_a" not in text
    assert summary.main([]).split("\n")[-1].split() == ["coa", "20", "4"]


def test_a_set_that_was_built_is_exported_and_one_that_was_not_is_named(
    coa_run: Path, root: Path
) -> None:
    prompt = f"prompt={root / 'train/prompts/question.txt'}"
    assert export.main([prompt]) == (
        "data/export: 20 llamafactory/coa_train, 4 llamafactory/coa_validation"
    )
    assert not Path("data/export/verl").exists()
    with pytest.raises(InputError, match="the set 'rl' was not built") as raised:
        export.main([prompt, "sets=[coa,rl]"])
    assert raised.value.details["expected"] == "of the sets of this run: coa"


def test_an_export_of_no_set_is_refused(empty_run: Path) -> None:
    with pytest.raises(InputError, match="no set was built"):
        export.main([])
    assert not Path("data/export").exists()


def test_rows_of_the_set_that_was_built_are_traced(coa_run: Path) -> None:
    row = next(tables.read_table(local_path(SetName.COA, "train"), GradedTrajectory))
    shutil.rmtree(BRANCHED)
    traced = lineage.main([row.trajectory.trajectory_id])
    assert "coa, train (data/assemble/coa/train.parquet)" in traced
    with pytest.raises(InputError, match="no set has a row") as raised:
        lineage.main(["nowhere"])
    assert raised.value.details["where"] == "the sets of this run: coa"


def test_a_set_whose_validation_split_has_no_row_can_be_loaded(
    coa_run: Path, tmp_path: Path
) -> None:
    change_settings("assemble", validation_share=0.0)
    assemble.main([])
    render.main([])
    text = (render.OUT / "README.md").read_text(encoding="utf-8")
    assert "|    20 |          0 |" in text
    repository = tmp_path / "repository"
    shutil.copytree(render.OUT, repository)
    published = tmp_path / "published"
    write_published([SetName.COA], published)
    for path, content in set_files([SetName.COA], 0, published).items():
        assert isinstance(content, Path)
        (repository / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(content, repository / path)
    loaded = datasets.load_dataset(str(repository), "coa", cache_dir=str(tmp_path / "cache"))
    assert {split: rows.num_rows for split, rows in loaded.items()} == {"train": 20}


def test_without_pairs_the_error_report_has_no_forks(copied_run: Path) -> None:
    assert "Forks: both arms from one point" in page()
    change_settings("assemble", num_cot_a=0)
    text = page()
    assert "fork" not in text.lower()
    assert "Thinking against acting" not in text
    assert not (report.PICTURES / "quadrants.png").exists()


def test_without_pairs_both_modes_are_still_compared_on_the_same_questions(
    copied_run: Path,
) -> None:
    change_settings("assemble", num_cot_a=0)
    rows: list[Analysis] = []
    for i, row in enumerate(tables.read_table(ANALYSED, Analysis)):
        rows.append(replace(row, question_id=f"q{i // 2}", mode=list(Mode)[i % 2], index=0))
    tables.write_table(ANALYSED, Analysis, rows)
    text = page()
    assert "pairs of a CoT and a CoA rollout of the same question" in text
    assert "CoT and CoA rollouts of the same question" in text
    assert "fork" not in text.lower()
    assert (report.PICTURES / "quadrants.png").exists()


@pytest.mark.parametrize(("mode", "verdict"), [(Mode.COT, "wrong"), (Mode.COA, "any")])
def test_the_error_report_is_made_of_one_mode_or_of_wrong_rows_alone(
    copied_run: Path, mode: Mode, verdict: str
) -> None:
    rows: list[Analysis] = []
    for row in tables.read_table(ANALYSED, Analysis):
        if row.mode is mode and (verdict == "any" or row.cause):
            rows.append(row)
    ids = {row.trajectory_id for row in rows}
    graded = [
        row
        for row in tables.read_table(GRADED, GradedTrajectory)
        if row.trajectory.trajectory_id in ids
    ]
    tables.write_table(ANALYSED, Analysis, rows)
    tables.write_table(GRADED, GradedTrajectory, graded)
    tables.write_table(POINTS, Point, [])
    filter.main(["max_policy_tokens=1"])
    text = page()
    assert f"<b>{len(rows)}</b><span>trajectories</span>" in text
    assert "no trajectory was forked, because none had a point to fork" in text


def test_the_error_report_of_a_run_without_rows_says_so(copied_run: Path) -> None:
    tables.write_table(ANALYSED, Analysis, [])
    tables.write_table(GRADED, GradedTrajectory, [])
    tables.write_table(DROPPED, Dropped, [])
    tables.write_table(POINTS, Point, [])
    text = page()
    for words in ("There is no trajectory.", "No trajectory failed.", "There is nothing to show."):
        assert words in text


def test_pairs_of_an_earlier_run_are_not_reviewed() -> None:
    kinds = list(ReviewKind)
    assert kinds_of_run(kinds, AssembleParams()) == kinds
    assert ReviewKind.PAIR not in kinds_of_run(kinds, AssembleParams(num_cot_a=0))


@pytest.fixture
def imported_run(copied_run: Path) -> Path:
    """A run on trajectories of one mode that were imported; it has no corpus and no index."""
    imported: list[GradedTrajectory] = []
    for row in tables.read_table(GRADED, GradedTrajectory):
        it = row.trajectory
        if it.mode is Mode.COA:
            sampling = replace(it.sampling, temperature=-1.0, top_p=-1.0, seed=-1)
            foreign = replace(it, model="gpt-4", sampling=sampling, search_fingerprint="google")
            imported.append(replace(row, trajectory=foreign))
    folder = Path("data/ingest")
    trajectories = [row.trajectory for row in imported]
    tables.write_table(folder / "coa.parquet", type(trajectories[0]), trajectories)
    tables.write_table(folder / "cot.parquet", type(trajectories[0]), [])
    for unused in ("data/branch", "data/index", "data/sample", "data/microworld"):
        shutil.rmtree(unused)
    for name in ("branch", "sample_cot", "sample_coa"):
        Path(f"metrics/{name}.json").unlink()
    change_settings("pipeline", trajectories=["ingest"], training=[], student=None)
    change_settings("assemble", num_cot_a=0, num_rl=0, allows_fewer=True)
    change_settings("index", corpus="")
    return copied_run


@pytest.mark.parametrize("reads_corpus", [True, False])
def test_imported_trajectories_become_sets_without_a_corpus(
    imported_run: Path, reads_corpus: bool
) -> None:
    change_settings("analyse", reads_corpus=reads_corpus)
    grade.main(["samples=[data/ingest]", "out=data/grade.parquet"])
    analyse.main([])
    filter.main([])
    screen.main([])
    assert assemble.main([]) == "data/assemble: 20 coa; cot: no row is left"
    report.main([])
    render.main([])
    card = (render.OUT / "coa/README.md").read_text(encoding="utf-8")
    front = (render.OUT / "README.md").read_text(encoding="utf-8")
    for text in (card, front):
        assert "corpus" not in text
        assert "imported search results" in text
    assert "`cot`, trajectories that reason without a tool: no train row is left" in front
    shown = summary.main([])
    assert "forked" not in shown
    assert "cot: no row is left of 6 that were asked for" in shown


def test_a_card_shows_no_settings_of_stages_that_the_run_does_not_have(copied_run: Path) -> None:
    assert {"branch", "index"} <= shown_settings(Params.load("render")).keys()
    change_settings("assemble", num_cot_a=0)
    change_settings("index", corpus="")
    assert not {"branch", "index"} & shown_settings(Params.load("render")).keys()


def test_a_training_stage_that_reads_a_set_of_size_zero_is_refused_beforehand(root: Path) -> None:
    def plan_of(*overrides: str) -> Plan:
        return Plan(Params.load("pipeline", overrides, root / "conf/microworld.yaml"))

    with pytest.raises(ConfigError, match="sft1 reads data/assemble/cot, which is not built"):
        plan_of("assemble.num_cot=0")
    without = "trajectories=[data/assemble/coa]"
    stages = [f"train.{stage}.{without}" for stage in ("sft1", "sft2", "sft3")]
    plan = plan_of("assemble.num_cot=0", *stages)
    assert "sft2" in plan.training
