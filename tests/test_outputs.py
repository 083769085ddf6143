"""What belongs to an output bears a name of its own; the names of the profiles stay."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coa.errors import ConfigError
from coa.records.trajectory import Trajectory
from coa.rollout.calls import journal_of
from coa.settings.outputs import check_file, check_folder, journal_name, metrics_name
from coa.settings.params import Params
from coa.store import tables
from curate import filter as filter_stage
from curate import grade
from synth import sample


@pytest.mark.parametrize(
    ("out", "also", "metrics", "journal"),
    [
        ("data/sample", ("coa",), "sample_coa", "sample-coa"),
        ("data/student/sample", ("coa",), "student_sample_coa", "student-sample-coa"),
        ("data/v1", ("cot",), "v1_cot", "v1-cot"),
        ("data/grade.parquet", (), "grade", "grade"),
        ("data/student/grade.parquet", (), "student_grade", "student-grade"),
        ("data/filter", (), "filter", "filter"),
        ("./data//student/filter/", (), "student_filter", "student-filter"),
    ],
)
def test_names_that_were_in_use_stay(
    out: str, also: tuple[str, ...], metrics: str, journal: str
) -> None:
    assert (metrics_name(out, *also), journal_name(out, *also)) == (metrics, journal)


parts = st.lists(st.from_regex(r"\A[a-c1]([a-c1_.-]{0,4}[a-c1])?\Z"), min_size=1, max_size=3)


@given(parts, parts)
def test_no_two_paths_share_a_name(one: list[str], other: list[str]) -> None:
    for name in (metrics_name, journal_name):
        is_same = name("/".join(["data", *one])) == name("/".join(["data", *other]))
        assert is_same == (one == other)


@pytest.mark.parametrize(
    "out", [".", "", "data", "data/..", "/tmp/x", "../data/x", "elsewhere/x", "data/x_", "data/_x"]
)
def test_an_output_that_can_have_no_name_is_an_error_that_says_what_to_do(out: str) -> None:
    with pytest.raises(ConfigError, match="out="):
        metrics_name(out)


def test_a_file_is_no_folder_and_a_folder_no_file() -> None:
    check_folder("data/v1.5", "curate.filter")
    check_file("data/v1.5.parquet", "curate.grade")
    with pytest.raises(ConfigError, match="out is a folder"):
        check_folder("data/x.parquet", "curate.filter")
    with pytest.raises(ConfigError, match=r"expected: out=data/x\.parquet"):
        check_file("data/x", "curate.grade")


@pytest.mark.parametrize("main", [sample.main, grade.main, filter_stage.main])
def test_every_stage_refuses_an_output_of_no_name_before_it_writes(
    main: Callable[[Sequence[str]], str], small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_run)
    before = sorted(Path().iterdir())
    with pytest.raises(ConfigError, match="out"):
        main(["out=."])
    assert sorted(Path().iterdir()) == before


def test_lineage_looks_into_the_journal_that_sampling_wrote(
    small_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small_run)
    row = next(tables.read_table(Path("data/sample/coa.parquet"), Trajectory))
    assert journal_of(row, Params.load("publish")).exists()
    other = Params.load("publish", ["sample.out=data/v1.5"])
    assert journal_of(row, other) == Path(".journal/v1.5-coa.sqlite")


@pytest.mark.parametrize("name", [metrics_name, journal_name])
def test_outputs_that_look_alike_have_names_of_their_own(name: object) -> None:
    outs = (
        "v1.5",
        "v1.6",
        "v1",
        "a_b",
        "a/b",
        "a-b",
        "a__b",
        "a/b/c",
        "a_b/c",
        "a/b_c",
        "x",
        "x.parquet",
    )
    assert callable(name)
    assert len({name(f"data/{out}", "coa") for out in outs}) == len(outs)
