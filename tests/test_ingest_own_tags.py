"""Foreign rows in our tags: prompts, ids and questions over several files, what cannot be kept."""

from pathlib import Path

import pytest

from coa.errors import InputError
from coa.foreign.own_tags import rewrite
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.grading import boxed_answer
from coa.records.question import Question
from coa.records.trajectory import (
    Author,
    Mode,
    Sampling,
    Step,
    StepKind,
    StopReason,
    Trajectory,
    is_imported,
)
from coa.records.unreadable import UnreadableError, UnreadableReason
from coa.store.tables import read_table
from synth.ingest import DroppedLine, Recorded, main
from tests.ingest_support import R1, TEXT, TRAINING, make_folder, write

INGESTED = Path("data/ingest")
ANSWERED_AT_ONCE = "Thought: a\nAction: finish[Paris]\nObservation: Episode finished"


@pytest.fixture
def folder(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with settings and prompts."""
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path, root)
    return tmp_path


def ingested(mode: Mode = Mode.COA) -> list[Trajectory]:
    return list(read_table(INGESTED / f"{mode}.parquet", Trajectory))


def questions() -> list[Question]:
    return list(read_table(INGESTED / "questions.parquet", Question))


def dropped() -> list[DroppedLine]:
    return list(read_table(INGESTED / "dropped.parquet", DroppedLine))


def test_rows_are_written_in_our_tags_after_the_prompt_of_their_mode(folder: Path) -> None:
    write(folder / "a.jsonl", {**R1, "question": "Which?"})
    write(folder / "b.jsonl", {**TRAINING, "output": ANSWERED_AT_ONCE})
    template = "<|user|>{prompt}<|assistant|>"
    main(["ingest.files=[{path: a.jsonl}, {path: b.jsonl}]", f"teacher.chat_template={template}"])
    for mode in Mode:
        (row,) = ingested(mode)
        prompt = Prompt.load(Path(f"synth/prompts/{mode}.txt"), template)
        assert (row.prompt, row.prompt_hash) == (prompt.fill("Which?"), prompt.prompt_hash)
        assert protocol.parse(protocol.render(row.steps))[-1].kind is StepKind.ANSWER
        assert boxed_answer(protocol.answer_text(row.steps)) == "Paris"
        assert is_imported(row)
    (searched,) = ingested()
    assert searched.steps[1].text == "<begin_search> q </end_search>"
    assert searched.num_policy_tokens == 8


def test_a_file_says_who_published_its_rows_under_which_licence(folder: Path) -> None:
    write(folder / "a.jsonl", R1)
    write(folder / "b.jsonl", {**TEXT, "model": "llama"})
    entries = "{path: a.jsonl, split: train, source: hotpotqa, origin: R1-Searcher, license: MIT}"
    summary = main([f"ingest.files=[{entries}, {{path: b.jsonl}}]"])
    assert summary.startswith("data/ingest: 2 of 2 rows")
    said = [(row.model, row.origin, row.license) for row in ingested()]
    assert said == [("a", "R1-Searcher", "MIT"), ("llama", "", "")]
    assert [(row.split, row.source) for row in questions()] == [("train", "hotpotqa"), ("test", "")]


def test_a_question_of_two_files_is_one_question_with_the_rows_of_both(folder: Path) -> None:
    write(folder / "qwen.jsonl", R1, R1)
    write(folder / "llama.jsonl", {**R1, "answer": "Lyon", "id": "other"}, b"{", R1)
    main(["ingest.files=[{path: qwen.jsonl}, {path: llama.jsonl}]"])
    (question,) = questions()
    assert question.gold_answers == ("Paris",)
    rows = ingested()
    assert [row.trajectory_id for row in rows] == [
        f"{question.question_id}/coa/{index}" for index in range(4)
    ]
    assert [row.model for row in rows] == ["qwen", "qwen", "llama", "llama"]
    places = list(read_table(INGESTED / "recorded.parquet", Recorded))
    assert [(one.file, one.line) for one in places] == [
        ("qwen.jsonl", 1),
        ("qwen.jsonl", 2),
        ("llama.jsonl", 1),
        ("llama.jsonl", 3),
    ]
    assert places[2].gold_answers == ("Lyon",)


def test_a_row_without_a_gold_answer_is_kept_where_an_earlier_row_has_one(folder: Path) -> None:
    bare = {**R1, "answer": ""}
    write(folder / "a.jsonl", bare, R1, bare)
    main(["ingest.files=[{path: a.jsonl}]"])
    assert [row.index for row in ingested()] == [1, 2]
    (row,) = dropped()
    assert (row.reason, row.line, row.detail) == (UnreadableReason.NO_GOLD_ANSWER, 1, "Where?")


def test_one_entry_without_a_usable_row_stops_the_run_and_leaves_nothing(folder: Path) -> None:
    write(folder / "a.jsonl", R1)
    write(folder / "b.jsonl", TRAINING)
    write(folder / "c.jsonl")
    with pytest.raises(InputError, match=r"no row of b\.jsonl can be used: 1 no_gold_answer"):
        main(["ingest.files=[{path: a.jsonl}, {path: b.jsonl}]"])
    with pytest.raises(InputError, match=r"c\.jsonl holds no row"):
        main(["ingest.files=[{path: c.jsonl}]"])
    with pytest.raises(InputError, match="no file of trajectories is named"):
        main(["ingest.files=[]"])
    assert not list(INGESTED.glob("*"))


def foreign(*steps: Step) -> Trajectory:
    return Trajectory(
        trajectory_id="q/coa/0",
        question_id="q",
        mode=Mode.COA,
        index=0,
        question="Where?",
        prompt="",
        steps=steps,
        stop_reason=StopReason.ANSWERED,
        model="m",
        sampling=Sampling(-1.0, -1.0, -1),
        prompt_hash="",
        search_fingerprint="",
        num_prompt_tokens=0,
        num_policy_tokens=0,
        num_environment_tokens=0,
        num_calls=1,
        num_actions=0,
    )


def test_a_row_that_our_tags_cannot_say_is_refused_with_the_step() -> None:
    policy = Author.POLICY
    row = foreign(
        Step(StepKind.THOUGHT, policy, "I look."),
        Step(StepKind.OBSERVATION, Author.ENVIRONMENT, "In Paris.", tool="search"),
        Step(StepKind.ANSWER, policy, "<answer>Paris</answer>"),
    )
    with pytest.raises(UnreadableError) as caught:
        rewrite(row, Prompt("{question}", ""))
    assert caught.value.reason is UnreadableReason.NOT_REWRITTEN
    assert caught.value.detail == "step 1 is read back as another one: thought 'I look.'"
