"""The stage that pairs trajectories of one question: its files, its figures, its memory."""

import json
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coa.errors import InputError
from coa.records import protocol
from coa.records.comparisons import Comparison, Parting
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PairKind, PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Mode, Outcome, Sampling, StopReason
from coa.settings.params import write_profile
from coa.store import tables
from coa.store.files import COMPARISONS, GRADED, SHARED_PREFIX_PAIRS
from curate.shared_prefix import main, read_groups
from tests.sample_records import make_graded

ACT = "I need the leader. <begin_search> leader </end_search>"
THINK = "I need the leader. I recall her.\n</think>\n\n\\boxed{Jade Ransom}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path) -> Path:
    """A folder with the settings of the default profile."""
    monkeypatch.chdir(tmp_path)
    profile = root / "conf/microworld.yaml"
    write_profile(profile, base=profile)
    return tmp_path


def asked(number: int) -> Question:
    return Question(f"q{number}", "Who leads Villa Pellin?", ("Felix Brandt",), "train")


def acting(number: int, answer: str = "Felix Brandt", more: str = "") -> GradedTrajectory:
    """Make a trajectory that searches first."""
    steps = (
        *protocol.parse_policy(ACT),
        protocol.observation("search", "The leader is Felix Brandt.", Outcome.OK, ("p-1",)),
        *protocol.parse_policy(f"It says so.{more}\n</think>\n\n\\boxed{{{answer}}}"),
    )
    return make_graded(asked(number), steps)


def thinking(number: int, **changes: Any) -> GradedTrajectory:
    """Make a wrong trajectory that begins alike and does not search."""
    return make_graded(asked(number), protocol.parse_policy(THINK), Mode.COT, **changes)


def write(rows: Iterable[GradedTrajectory]) -> None:
    tables.write_table(GRADED, GradedTrajectory, rows)


def written() -> tuple[list[PreferencePair], list[Comparison]]:
    pairs = list(tables.read_table(SHARED_PREFIX_PAIRS, PreferencePair))
    return pairs, list(tables.read_table(COMPARISONS, Comparison))


def test_trajectories_of_one_question_are_paired_and_those_of_two_are_not(folder: Path) -> None:
    write([acting(0), acting(1), thinking(2), thinking(0)])
    summary = main([])
    pairs, comparisons = written()
    assert [pair.pair_id for pair in pairs] == ["q0/coa/0/18/q0/cot/0"]
    assert comparisons == []
    assert summary == (
        "data/shared_prefix: 1 pairs (1 act_is_better, 0 think_is_better) and 0 comparisons "
        "(0 one_acts, 0 both_act, 0 both_think, 0 acts_later, 0 scaffold, 0 nothing_shared) of "
        "3 questions, "
        "1 of them answered both right and wrong"
    )
    metrics = json.loads(Path("metrics/shared__prefix.json").read_text(encoding="utf-8"))
    assert metrics["questions"] == 3
    assert metrics["mixed_questions"] == 1
    assert metrics["longest_prefix"]["one_acts"] == 1


def test_a_question_gives_as_many_pairs_as_the_setting_says(folder: Path) -> None:
    write([acting(0), thinking(0), thinking(0, trajectory_id="q0/cot/1")])
    main([])
    assert len(written()[0]) == 1
    main(["max_pairs_per_question=5"])
    assert len(written()[0]) == 2


def test_a_pair_that_the_other_samples_contradict_is_not_written(folder: Path) -> None:
    lucky = acting(0)
    others = [acting(0, "Jade Ransom", more=f" {number}.") for number in range(2)]
    right = make_graded(
        asked(0), protocol.parse_policy(THINK.replace("Jade Ransom", "Felix Brandt"))
    )
    rows = [lucky, *others, thinking(0), right]
    for number, row in enumerate(rows):
        named = replace(row.trajectory, trajectory_id=f"q0/coa/{number}")
        rows[number] = replace(row, trajectory=named)
    write(rows)
    main([])
    (pair,) = written()[0]
    assert pair.kind is PairKind.THINK_IS_BETTER
    assert (pair.num_act, pair.num_act_correct) == (3, 1)
    assert (pair.num_think, pair.num_think_correct) == (2, 1)
    write([rows[0], rows[1], rows[3], rows[4]])
    assert "; 1 give none, because the other arm was right as often" in main([])
    assert written()[0] == []


def test_the_order_of_the_rows_does_not_matter(folder: Path) -> None:
    rows = [acting(0), thinking(1), acting(1, "Jade Ransom"), thinking(0), acting(1)]
    rows[2] = replace(rows[2], trajectory=replace(rows[2].trajectory, trajectory_id="q1/coa/1"))
    found = []
    for order in (rows, rows[::-1], rows[2:] + rows[:2]):
        write(order)
        main(["max_pairs_per_question=2"])
        found.append(written())
    assert found[0] == found[1] == found[2]
    assert found[0][0] and found[0][1]


def test_the_same_outcome_and_unsound_rows_make_nothing(folder: Path) -> None:
    cut = thinking(1, stop_reason=StopReason.ACTION_BUDGET)
    forged = thinking(2)
    steps = protocol.parse_policy("I need. <search_result> Bea </search_result>\n" + THINK)
    forged = replace(forged, trajectory=replace(forged.trajectory, steps=steps))
    write([acting(0), acting(0, more=" Really."), acting(1), cut, acting(2), forged])
    main([])
    assert written() == ([], [])


def test_imported_rows_are_compared_with_their_licences_and_make_no_pair(folder: Path) -> None:
    imported = Sampling(temperature=-1.0, top_p=-1.0, seed=-1)
    stated = thinking(0, sampling=imported, origin="R1-Searcher", license="MIT")
    unstated = thinking(1, sampling=imported)
    write([acting(0), stated, acting(1), unstated])
    summary = main([])
    pairs, comparisons = written()
    assert pairs == []
    licences = [comparison.rejected_source.license for comparison in comparisons]
    assert licences == ["MIT", ""]
    assert {comparison.parting for comparison in comparisons} == {Parting.ONE_ACTS}
    assert summary.endswith("; 1 comparisons have a side of unknown licence")


def test_another_table_and_another_folder_can_be_named(folder: Path) -> None:
    graded = Path("data/student/grade.parquet")
    tables.write_table(graded, GradedTrajectory, [acting(0), thinking(0)])
    main([f"graded={graded}", "out=data/student/alike"])
    assert tables.count_rows(Path("data/student/alike/pairs.parquet")) == 1
    assert Path("metrics/student_alike.json").exists()


def test_a_table_of_another_kind_is_refused(folder: Path) -> None:
    tables.write_table(GRADED, Question, [asked(0)])
    with pytest.raises(InputError, match="lacks the column 'trajectory'"):
        main([])


def many(num_questions: int) -> Iterator[GradedTrajectory]:
    """Make long trajectories, all of which wait in the file until the second half is read."""
    for number in range(num_questions):
        yield acting(number, more=" So it is." * 200)
    for number in range(num_questions):
        yield thinking(number)


def peak_of(num_questions: int) -> int:
    write(many(num_questions))
    tracemalloc.start()
    num_groups = sum(1 for _ in read_groups(GRADED))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert num_groups == num_questions
    return peak


@pytest.mark.long
def test_memory_holds_a_few_bytes_of_a_row_that_waits(folder: Path) -> None:
    few, more = peak_of(1_000), peak_of(2_500)
    assert (more - few) / 3_000 < 400
