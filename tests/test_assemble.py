"""Test the sets: none holds what the screen excluded, and one that cannot be filled says why."""

import resource
from pathlib import Path

import polars as pl
import pytest
import yaml

from coa.errors import InputError, OutputError
from coa.records import protocol
from coa.records.exclusions import Excluded, ExclusionReason, RowKind
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PairKind, PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Mode
from coa.store import tables
from coa.store.files import EXCLUDED
from coa.store.reviews import write_reviews
from curate import assemble
from tests.sample_records import make_graded, make_pair

SETTINGS = {
    "num_cot_a": 2,
    "num_coa": 3,
    "num_cot": 3,
    "num_rl": 3,
    "allows_fewer": False,
    "validation_share": 0.0,
    "seed": 0,
}
QUESTIONS = [Question(f"q{i}", f"Who is {i}?", ("Ada",), "train", "bridge", 2) for i in range(12)]


def trajectory(asked: Question, mode: Mode) -> GradedTrajectory:
    steps = protocol.parse_policy(f"Hm. {protocol.THINK_CLOSE} \\boxed{{Ada}}")
    return make_graded(asked, steps, mode, num_environment_tokens=0, num_calls=1, num_actions=0)


def pair(row: GradedTrajectory, kind: PairKind) -> PreferencePair:
    it = row.trajectory
    sides = {"chosen_id": it.trajectory_id, "rejected_id": it.trajectory_id}
    return make_pair(it, it.steps, it.steps, kind=kind, **sides)


def exclude(*rows: tuple[str, RowKind]) -> None:
    excluded = [
        Excluded(row_id, row_id.split("/")[0], what, ExclusionReason.MARKED, "also in nq")
        for row_id, what in rows
    ]
    tables.write_table(EXCLUDED, Excluded, excluded)


@pytest.fixture
def folder(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write four trajectories of each mode, four pairs and four questions to the current folder.

    The questions have no trajectory.
    """
    monkeypatch.chdir(tmp_path)
    sections = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    Path("params.yaml").write_text(yaml.safe_dump({**sections, "assemble": SETTINGS}))
    kept = [trajectory(asked, mode) for mode in Mode for asked in QUESTIONS[:4]]
    kept += [trajectory(asked, Mode.COA) for asked in QUESTIONS[4:8]]
    tables.write_table(assemble.QUESTIONS, Question, QUESTIONS)
    tables.write_table(assemble.GRADED, GradedTrajectory, kept)
    tables.write_table(assemble.KEPT, GradedTrajectory, kept)
    kinds = [*PairKind, *PairKind]
    tables.write_table(assemble.PAIRS, PreferencePair, map(pair, kept[:4], kinds))
    exclude()
    write_reviews([])
    return tmp_path


def ids(name: str, column: pl.Expr) -> list[str]:
    return (
        pl.read_parquet(assemble.OUT / name / "train.parquet").select(column).to_series().to_list()
    )


TRAJECTORY_ID = pl.col("trajectory").struct.field("trajectory_id")


def test_excluded_rows_are_in_no_set_and_other_kinds_with_their_id_are(folder: Path) -> None:
    exclude(
        ("q0/cot/0", RowKind.TRAJECTORY),
        ("q0/cot/0/3", RowKind.PAIR),
        ("q3/cot/0/3", RowKind.PAIR),
        ("q9", RowKind.QUESTION),
        ("q10", RowKind.TRAJECTORY),
        ("q0/coa/0", RowKind.QUESTION),
    )
    assemble.main(["num_coa=8"])
    assert ids("cot", TRAJECTORY_ID) == ["q1/cot/0", "q2/cot/0", "q3/cot/0"]
    assert ids("cot_a", pl.col("pair_id")) == ["q1/cot/0/3", "q2/cot/0/3"]
    assert ids("rl", pl.col("question_id")) == ["q10", "q11", "q8"]
    assert ids("coa", TRAJECTORY_ID)[0] == "q0/coa/0"


@pytest.mark.parametrize(
    ("row_ids", "what", "name"),
    [
        (["q0/cot/0", "q1/cot/0"], RowKind.TRAJECTORY, "cot"),
        (["q0/cot/0/3", "q1/cot/0/3", "q2/cot/0/3"], RowKind.PAIR, "cot_a"),
        (["q8", "q9"], RowKind.QUESTION, "rl"),
    ],
)
def test_a_set_that_the_screen_left_too_small_says_how_much_it_took(
    folder: Path, row_ids: list[str], what: RowKind, name: str
) -> None:
    exclude(*((row_id, what) for row_id in row_ids))
    with pytest.raises(InputError, match=f"too few rows for the set '{name}'") as raised:
        assemble.main([])
    assert f"the screen took {len(row_ids)} of both splits ({len(row_ids)} marked)" in str(
        raised.value
    )


def test_a_file_of_exclusions_that_is_missing_or_lacks_a_column_is_named(folder: Path) -> None:
    pl.DataFrame({"row_id": ["q0"], "what": ["question"]}).write_parquet(EXCLUDED)
    with pytest.raises(InputError, match="lacks the column 'reason'"):
        assemble.main([])
    EXCLUDED.unlink()
    with pytest.raises(InputError, match="is missing"):
        assemble.main([])


def test_a_full_disk_leaves_the_sets_of_the_run_before(folder: Path) -> None:
    assemble.main([])
    before = {path: path.read_bytes() for path in assemble.OUT.rglob("*.parquet")}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, limits[1]))
    try:
        with pytest.raises(OutputError):
            assemble.main(["num_coa=2"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in assemble.OUT.rglob("*.parquet")} == before
    assert [path.name for path in Path("data").iterdir() if path.name.startswith(".")] == []


def test_a_set_that_is_no_longer_built_goes(folder: Path) -> None:
    assemble.main([])
    assert (assemble.OUT / "cot_a/train.parquet").exists()
    pairs = pl.read_parquet(assemble.PAIRS)["pair_id"]
    exclude(*((pair_id, RowKind.PAIR) for pair_id in pairs))
    assert "cot_a: no row is left" in assemble.main(["allows_fewer=true"])
    built = {path.name for path in assemble.OUT.iterdir() if path.is_dir()}
    assert built == {"coa", "cot", "rl"}
