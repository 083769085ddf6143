"""The screen: which rows may not enter a training set, why, and what is left for the sets."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pytest

from coa.errors import CoaError, ConfigError
from coa.records import protocol
from coa.records.exclusions import Excluded, ExclusionReason, RowKind
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.sets import AssembleParams
from coa.records.trajectory import Outcome
from coa.store import tables
from curate import screen
from tests.sample_records import make_graded, make_pair, make_trajectory

ANSWER = f"{protocol.THINK_CLOSE} \\boxed{{Paris}}"
SETTINGS = {
    "evaluation": "data/questions.parquet",
    "evaluation_columns": {},
    "ngram_words": 6,
    "shingle_words": 3,
    "min_similarity": 0.8,
}
SIZES = asdict(AssembleParams())
TEST = Question("test-1", "Who is the mayor of Villa Pellin in Estavia?", ("Ada",), "test")


def question(row_id: str, text: str, *also_in: str, split: str = "train") -> Question:
    return Question(row_id, text, ("Paris",), split, also_in=also_in)


def trajectory(
    asked: Question, thought: str, index: int = 0, shown: str = "nothing"
) -> GradedTrajectory:
    steps = (
        *protocol.parse_policy(
            f"{thought} {protocol.open_tag('search')} capital {protocol.close_tag('search')}"
        ),
        protocol.observation("search", shown, Outcome.OK),
        *protocol.parse_policy(f"It says so. {ANSWER}"),
    )
    name = f"{asked.question_id}/coa/{index}"
    return make_graded(asked, steps, trajectory_id=name, index=index)


def pair(asked: Question, point: int, prefix: str, chosen: str, rejected: str) -> PreferencePair:
    sides = [protocol.parse_policy(text) for text in (prefix, chosen, rejected)]
    parent = make_trajectory(asked, ())
    return make_pair(parent, sides[1], sides[2], point=point, prefix=sides[0])


Screened = Callable[..., dict[str, Excluded]]


@pytest.fixture
def screened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Screened:
    """The function that runs the stage over some rows and returns what it excluded, by id."""
    monkeypatch.chdir(tmp_path)

    def run(
        questions: list[Question],
        kept: Sequence[GradedTrajectory] = (),
        pairs: Sequence[PreferencePair] = (),
        arguments: Sequence[str] = (),
    ) -> dict[str, Excluded]:
        Path("params.yaml").write_text(json.dumps({"screen": SETTINGS, "assemble": SIZES}))
        tables.write_table(screen.QUESTIONS, Question, questions)
        tables.write_table(screen.KEPT, GradedTrajectory, kept)
        tables.write_table(screen.GRADED, GradedTrajectory, kept)
        tables.write_table(screen.PAIRS, PreferencePair, pairs)
        screen.main(arguments)
        return {row.row_id: row for row in tables.read_table(screen.EXCLUDED, Excluded)}

    return run


def test_a_marked_question_takes_its_trajectories_and_pairs_with_it(screened: Screened) -> None:
    asked = question("q1", "Who wrote the book?", "bamboogle", "musique")
    found = screened(
        [asked, question("q2", "Where?", "nq")],
        [trajectory(asked, "Hm.")],
        [pair(asked, 3, "a", "b", ANSWER)],
    )
    assert {(row.what, row.row_id, row.reason) for row in found.values()} == {
        (RowKind.TRAJECTORY, "q1/coa/0", ExclusionReason.MARKED),
        (RowKind.PAIR, "q1/coa/0/3", ExclusionReason.MARKED),
        (RowKind.QUESTION, "q2", ExclusionReason.MARKED),
    }
    assert found["q1/coa/0"].detail == "also in bamboogle, musique"
    assert found["q1/coa/0"].question_id == "q1"


def test_a_question_that_a_split_for_evaluation_holds_is_excluded(screened: Screened) -> None:
    asked = question("q1", "who is mayor of Villa Pellin in Estavia")
    found = screened([asked, TEST], [trajectory(asked, "Hm.")])
    assert found["q1/coa/0"].reason is ExclusionReason.EVALUATION_QUESTION
    assert found["q1/coa/0"].detail == "asks what test-1 of test asks"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Who is currently the mayor of that Villa Pellin in Estavia?",
            ExclusionReason.EVALUATION_NEAR,
        ),
        ("In Estavia who is mayor of Pellin Villa?", ExclusionReason.EVALUATION_NEAR),
        ("Who runs the mayor of Villa Pellin in Estavia?", ExclusionReason.EVALUATION_NGRAM),
        (
            "Wh\u043e is the may\u043er of Villa Pellin in Estavia?",
            ExclusionReason.EVALUATION_QUESTION,
        ),
    ],
)
def test_an_edited_evaluation_question_is_excluded(
    screened: Screened, text: str, reason: ExclusionReason
) -> None:
    asked = question("q1", text)
    found = screened(
        [asked, question("q2", text), question("q3", "Who is the mayor of Bay Usk?"), TEST],
        [trajectory(asked, "Hm.")],
    )
    assert {row_id: row.reason for row_id, row in found.items()} == {
        "q1/coa/0": reason,
        "q2": reason,
    }
    assert "test-1 of test" in found["q1/coa/0"].detail


def test_the_policys_own_words_are_held_against_evaluation_questions_and_observations_are_not(
    screened: Screened,
) -> None:
    asked, other = question("q1", "Who wrote the book?"), question("q2", "Where is the river?")
    leak = "is the mayor of Villa Pellin"
    found = screened(
        [asked, other, TEST],
        [trajectory(asked, f"Now: who {leak}?"), trajectory(other, "Hm.", shown=leak)],
    )
    assert set(found) == {"q1/coa/0"}
    assert found["q1/coa/0"].reason is ExclusionReason.EVALUATION_NGRAM
    assert found["q1/coa/0"].detail == f"shares {leak.lower()!r} with test-1 of test"


@pytest.mark.parametrize("place", range(3))
def test_each_part_of_a_pair_is_held_against_evaluation_questions(
    screened: Screened, place: int
) -> None:
    asked = question("q1", "Who wrote the book?")
    parts = ["one", "two", "three"]
    parts[place] = "is the mayor of Villa Pellin"
    found = screened([asked, TEST], [trajectory(asked, "Hm.")], [pair(asked, 3, *parts)])
    assert {row.reason for row in found.values()} == {ExclusionReason.EVALUATION_NGRAM}


def test_rollouts_that_say_nearly_the_same_leave_one(screened: Screened) -> None:
    asked = question("q1", "Who wrote the book?")
    thought = "I need the author of the book, who lived in the north and wrote it by candle light"
    rollouts = [
        trajectory(asked, thought, 1),
        trajectory(asked, f"{thought}!", 0),
        trajectory(asked, "I recall it.", 2),
    ]
    found = screened([asked], rollouts)
    assert set(found) == {"q1/coa/1"}
    assert found["q1/coa/1"].reason is ExclusionReason.NEAR_DUPLICATE
    assert found["q1/coa/1"].detail == "similarity 1.00 with q1/coa/0"


def test_a_folder_of_evaluation_sets_is_read_whole(screened: Screened, tmp_path: Path) -> None:
    folder = tmp_path / "evaluation"
    folder.mkdir()
    pl.DataFrame({"id": ["a"], "question": ["Who wrote it?"]}).write_parquet(folder / "nq.parquet")
    (folder / "musique.jsonl").write_text('{"question": "Where is it?"}\n')
    (folder / "README.md").write_text("none of ours")
    questions = [
        question("q1", "who wrote it"),
        question("q2", "Where is it"),
        question("q3", "When was it?"),
    ]
    found = screened(
        questions, arguments=[f"evaluation={folder}", "evaluation_columns={question_id: id}"]
    )
    assert {row.row_id: row.detail for row in found.values()} == {
        "q1": "asks what a of nq asks",
        "q2": "asks what row 1 of musique asks",
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", "", "holds no question"),
        ("blank.jsonl", '{"question": " "}\n', "not text"),
        ("number.jsonl", '{"question": 3}\n', "not text"),
        ("lacking.jsonl", '{"text": "Who?"}\n', "lacks the column 'question'"),
        ("lacking.csv", "text\nWho?\n", "lacks the column 'question'"),
        ("broken.jsonl", "{", "not JSON"),
        ("broken.parquet", "PAR1", "cannot read"),
        ("set.txt", "Who?", "cannot tell the format"),
    ],
)
def test_an_evaluation_file_that_cannot_be_used_is_named(
    screened: Screened, tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CoaError, match=message) as raised:
        screened([TEST], arguments=[f"evaluation={name}"])
    assert name in str(raised.value)
    assert not screen.EXCLUDED.exists()


@pytest.mark.parametrize(
    "setting", ["min_similarity=0", "min_similarity=1.1", "ngram_words=0", "shingle_words=-1"]
)
def test_a_limit_out_of_range_is_an_error(screened: Screened, setting: str) -> None:
    with pytest.raises(ConfigError, match="bad value"):
        screened([TEST], arguments=[setting])


@pytest.mark.long
def test_texts_that_are_empty_hostile_or_huge_pass_through(screened: Screened) -> None:
    asked = [
        question("q1", "\x00"),
        question("q2", "(((.*)+)+$ {{x}} \u202e"),
        question("q3", "word " * 2_000_000),
    ]
    kept = [
        trajectory(row, text)
        for row, text in zip(asked[:2], ("", "\x00 a(b)+ \\1" * 1000), strict=True)
    ]
    assert screened([*asked, TEST], kept) == {}


def test_a_trajectory_whose_question_is_not_listed_is_judged_by_its_own_text(
    screened: Screened,
) -> None:
    stranger = question("q9", TEST.question)
    assert set(screened([TEST], [trajectory(stranger, "Hm.")])) == {"q9/coa/0"}


def test_a_copy_of_an_excluded_row_stays(screened: Screened) -> None:
    asked, again = (
        question("q1", "Who wrote the book?", "nq"),
        question("q2", "Who wrote the book?"),
    )
    assert set(screened([asked, again], [trajectory(asked, "Hm."), trajectory(again, "Hm.")])) == {
        "q1/coa/0"
    }
