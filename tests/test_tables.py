"""Records survive the way to parquet and back; damaged files say what to do."""

import os
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from coa.errors import InputError
from coa.records.question import Question
from coa.records.trajectory import (
    Author,
    Outcome,
    Step,
    StepKind,
    Trajectory,
)
from coa.store import tables
from tests.sample_records import make_trajectory

ROOT = Path(__file__).parent.parent


def trajectory(index: int = 0) -> Trajectory:
    step = Step(
        StepKind.OBSERVATION,
        Author.ENVIRONMENT,
        "a\n\x00ü",
        "search",
        None,
        Outcome.OK,
        ("p1", "p2"),
    )
    question = Question("q", "Who?", ("Ada",), "train")
    return make_trajectory(question, (step,), trajectory_id=f"q/coa/{index}", index=index)


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [trajectory(i) for i in range(2500)]
    assert tables.write_table(tmp_path / "t.parquet", Trajectory, rows) == 2500
    assert list(tables.read_table(tmp_path / "t.parquet", Trajectory)) == rows


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        tables.write_table(tmp_path / name, Trajectory, map(trajectory, range(1200)))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_block_that_fails_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    tables.write_table(path, Trajectory, [trajectory()])
    before = path.read_bytes()
    with pytest.raises(RuntimeError), tables.TableWriter(path, Trajectory) as table:
        table.write(trajectory(1))
        raise RuntimeError("killed")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_file_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="dvc repro"):
        list(tables.read_table(tmp_path / "t.parquet", Question))


@pytest.mark.parametrize("keep", [0, 4, 200, -10])
def test_a_truncated_file_is_named(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "t.parquet"
    tables.write_table(path, Trajectory, map(trajectory, range(50)))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"t\.parquet"):
        list(tables.read_table(path, Trajectory))


def test_damage_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    tables.write_table(path, Trajectory, map(trajectory, range(5000)))
    content = bytearray(path.read_bytes())
    content[100:900] = os.urandom(800)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"t\.parquet"):
        list(tables.read_table(path, Trajectory))


def test_a_file_of_another_schema_version_is_refused(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Small:
        name: str

    pl.DataFrame({"name": ["a"]}).write_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="another schema version"):
        list(tables.read_table(tmp_path / "t.parquet", Small))


def test_a_value_that_does_not_fit_names_the_row(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    tables.write_table(path, Trajectory, [trajectory()])
    frame = pl.read_parquet(path).with_columns(mode=pl.lit("telepathy"))
    frame.write_parquet(path, metadata={"coa.schema_version": "1"})
    with pytest.raises(InputError, match="row 0"):
        list(tables.read_table(path, Trajectory))


def test_a_disk_that_fills_up_is_an_error_that_names_the_file_and_keeps_the_old_one(
    tmp_path: Path,
) -> None:
    script = """
import resource, sys
from pathlib import Path
from coa.store import tables
from coa.errors import OutputError
from coa.search import Passage
path = Path(sys.argv[1])
tables.write_table(path, Passage, [Passage("1", "t", "x")])
before = path.read_bytes()
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    rows = (Passage(str(i), "t", str(hash(str(i)) ** 3)) for i in range(5000))
    tables.write_table(path, Passage, rows)
except OutputError as error:
    print(error)
assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
"""
    command = [sys.executable, "-c", script, str(tmp_path / "t.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "t.parquet" in done.stdout
    assert "free some space" in done.stdout


def test_files_that_are_joined_have_the_bytes_of_one(tmp_path: Path) -> None:
    rows = [trajectory(i) for i in range(3300)]
    tables.write_table(tmp_path / "all.parquet", Trajectory, rows)
    borders = [0, 700, 700, 2750, 3300]
    parts = []
    for first, end in pairwise(borders):
        parts.append(tmp_path / f"{first}-{end}.parquet")
        tables.write_table(parts[-1], Trajectory, rows[first:end])
    tables.join(tmp_path / "joined.parquet", Trajectory, parts)
    assert (tmp_path / "joined.parquet").read_bytes() == (tmp_path / "all.parquet").read_bytes()


def test_a_range_of_rows_is_read_alone(tmp_path: Path) -> None:
    rows = [trajectory(i) for i in range(2500)]
    path = tmp_path / "t.parquet"
    tables.write_table(path, Trajectory, rows)
    for wanted in (range(0), range(999, 1001), range(1000, 2000), range(1500, 2500), range(2500)):
        found = list(tables.read_table(path, Trajectory, wanted))
        assert found == rows[wanted.start : wanted.stop]


def test_reading_holds_a_group_of_rows_and_not_the_file(tmp_path: Path) -> None:
    path = tmp_path / "questions.parquet"
    rows = (
        Question(f"q{number}", os.urandom(500).hex(), ("yes",), "train", "bridge", 2)
        for number in range(30_000)
    )
    tables.write_table(path, Question, rows)
    before = pa.total_allocated_bytes()
    most = 0
    for _ in tables.read_table(path, Question):
        most = max(most, pa.total_allocated_bytes() - before)
    assert path.stat().st_size > 10_000_000
    assert most < path.stat().st_size / 3
