"""Curation in shards: ranges of rows, the bytes of one process, and a judge that is paid once."""

import shutil
import sys
from pathlib import Path

import pytest

from coa.costs import read_stages
from coa.errors import CapError, InputError
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Trajectory
from coa.shards.files import (
    JUDGED,
    SHARDS,
    Shard,
    hash_files,
    read_finished,
    split,
    write_finished,
)
from coa.spending.prices import CostParams
from coa.store.files import GRADED, INGESTED, SAMPLED
from coa.store.journal import JournalReader
from coa.store.journal_file import JOURNALS
from coa.store.tables import count_rows, read_table, write_table
from curate.analyse import main as analyse
from curate.branch import main as branch
from curate.filter import main as filter_
from curate.grade import main as grade
from curate.screen import main as screen
from tests.shard_support import (
    CONCURRENCY,
    PROMPTS,
    Main,
    clear,
    copy_run,
    finish,
    kill,
    made,
    paid_judge,
    process_of,
    run_shards,
    start,
    wait_until,
)

JUDGED_BY_SCRIPT = [*PROMPTS, "judge.policy.policy=scripted_judge", "judge.flips=0.3"]
SCREEN = ["min_similarity=0.15", "shingle_words=3", "ngram_words=4"]
STAGES: dict[str, tuple[Main, list[str]]] = {
    "grade": (grade, []),
    "grade, judged": (grade, JUDGED_BY_SCRIPT),
    "analyse": (analyse, []),
    "filter": (filter_, []),
    "screen": (screen, SCREEN),
    "branch, judged": (branch, ["right_by=judge", *JUDGED_BY_SCRIPT]),
}


@pytest.fixture
def run(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small run as the current folder, without journals."""
    monkeypatch.chdir(copy_run(small_run, tmp_path / "run"))
    return Path()


OTHER_SHAPES = ("grade", "branch, judged")
"""Shapes of stages that are there in another shape, too."""


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(name, marks=pytest.mark.long) if name in OTHER_SHAPES else name
        for name in STAGES
    ],
)
def test_shards_of_rows_give_the_bytes_of_one_process(stage: str, run: Path) -> None:
    main, arguments = STAGES[stage]
    if main is branch:
        grade(JUDGED_BY_SCRIPT)
    expected_summary = main(arguments)
    expected = made()
    clear()
    summary = run_shards(main, arguments, 2 if main is branch else 3)
    assert made() == expected
    assert main is branch or summary == expected_summary
    assert not SHARDS.exists() or not list(SHARDS.iterdir())


def test_some_rows_are_copies_over_shards(run: Path) -> None:
    screen(SCREEN)
    report = Path("metrics/screen.json").read_text()
    assert '"near_duplicate": 0' not in report.partition('"trajectory"')[2].partition("}")[0]


def test_every_row_has_one_shard_and_each_of_several_files_is_divided(run: Path) -> None:
    first = list(read_table(SAMPLED / "coa.parquet", Trajectory))
    for mode in ("cot", "coa"):
        write_table(INGESTED / f"{mode}.parquet", Trajectory, ())
    both = ["samples=[data/sample,data/ingest]", f"out={GRADED}"]
    grade(both)
    expected = made()
    for number in (1, 2, 3):
        grade([*both, f"shard={number}/3"])
    parts = sorted(SHARDS.glob("grade/*/grade-2.parquet"))
    assert sum(count_rows(part) for part in parts) == len(first)
    assert max(count_rows(part) for part in parts) <= len(first) // 3 + 1
    grade([*both, "shard=merged"])
    assert made() == expected


def test_a_shard_that_is_missing_or_has_other_settings_is_refused(run: Path) -> None:
    before = made()
    filter_(["shard=1/2"])
    with pytest.raises(InputError, match="1 of 2 shards cannot be merged yet"):
        filter_(["shard=merged"])
    filter_(["shard=2/2", "max_repeats=1"])
    with pytest.raises(InputError, match=r"filter\.max_repeats is 1 there and 3 here"):
        filter_(["shard=merged"])
    assert made() == before


def test_shards_of_another_file_are_refused(run: Path) -> None:
    for number in (1, 2):
        screen([f"shard={number}/2"])
    rows = list(read_table(GRADED, GradedTrajectory))
    write_table(GRADED, GradedTrajectory, rows[:-1])
    with pytest.raises(InputError, match="the items of the stage are others"):
        screen(["shard=merged"])


def test_a_row_in_the_tables_of_two_shards_is_refused_whatever_they_say_of_themselves(
    run: Path,
) -> None:
    for number in (1, 2):
        filter_([f"shard={number}/2"])
    first, second = (SHARDS / "filter" / shard.folder for shard in split(2))
    own = read_finished(second)
    shutil.copy(first / "kept.parquet", second / "kept.parquet")
    assert own
    own.files = hash_files(second)
    write_finished(second, own)
    before = made()
    with pytest.raises(InputError, match="is in the tables of two shards"):
        filter_(["shard=merged"])
    assert made() == before


def test_limits_of_a_judge_hold_over_all_shards_and_nothing_is_paid_twice(run: Path) -> None:
    cap = 21
    for number in (1, 2, 3):
        with pytest.raises(CapError, match=r"costs\.max_calls"):
            grade([*JUDGED_BY_SCRIPT, f"shard={number}/3", f"costs.max_calls={cap}"])
    (costs,) = read_stages(JOURNALS, CostParams())
    assert costs.name == "grade-judge"
    assert cap - 3 < costs.spending.total.calls <= cap
    for number in (1, 2, 3):
        grade([*JUDGED_BY_SCRIPT, f"shard={number}/3"])
    calls = 0
    for path in SHARDS.rglob(JUDGED):
        with JournalReader(path) as journal:
            calls += len(list(journal.calls()))
    grade([*JUDGED_BY_SCRIPT, "shard=merged"])
    with JournalReader(JOURNALS / "grade-judge.sqlite") as journal:
        keys = {key for key, _, _ in journal.replies("policy")}  # type: ignore[arg-type]
    assert calls - 4 <= len(keys) <= calls  # rollouts of a question on both sides of a border
    assert "by the judge" in grade(JUDGED_BY_SCRIPT)


def test_one_process_takes_over_the_verdicts_that_shards_paid(run: Path) -> None:
    grade([*JUDGED_BY_SCRIPT, "shard=1/2"])
    with JournalReader(SHARDS / "grade/1-of-2" / JUDGED) as journal:
        paid = len(list(journal.calls()))
    grade(JUDGED_BY_SCRIPT)
    assert not SHARDS.exists() or not list(SHARDS.iterdir())
    with JournalReader(JOURNALS / "grade-judge.sqlite") as journal:
        assert len(list(journal.calls())) > paid > 0


@pytest.mark.slow
def test_a_shard_that_is_killed_while_it_judges_pays_only_calls_in_flight_again(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (sys.executable, "-m", "curate.grade")
    with paid_judge() as (judge, at_server):
        finish(start(run, *command, *at_server))
        expected = made(run)
        num_calls = judge.answered.total()
        clear(run)
        judge.answered.clear()
        killed = start(run, *command, *at_server, "shard=1/2")
        process = process_of(run, "grade", Shard(1, 2), JUDGED)
        wait_until(lambda: judge.answered.total() > 10)
        kill(process)
        killed.communicate()
        for number in (1, 2):
            finish(start(run, *command, *at_server, f"shard={number}/2"))
        merge = (sys.executable, "-m", "coa.merge", "stage=grade")
        finish(start(run, *merge, *at_server))
        assert made(run) == expected
        assert judge.num_repeated <= CONCURRENCY
        assert len(judge.answered) == num_calls
        clear(run)
