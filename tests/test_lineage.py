"""Trace rows of a small run: every lineage is complete, and says honestly what is missing."""

import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from coa.microworld.factory import MicroworldParams
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.trajectory import Author, Step, StepKind, Trajectory
from coa.rollout.calls import journal_of, replay
from coa.rollout.factory import TeacherParams, open_policy
from coa.rollout.loop import Limits, RolloutContext
from coa.settings.params import Params
from coa.store import tables
from coa.store.reviews import (
    Answer,
    Review,
    ReviewKind,
    ReviewQuestion,
    trajectory_version,
    write_reviews,
)
from data_cards.catalogue import SetName, local_path
from data_cards.lineage import call_lines, main
from synth import sample
from tests.lineage_support import (
    rows,
    save_student,
    sections,
)


@pytest.mark.parametrize("name", [SetName.COA, SetName.COT])
def test_the_lineage_of_a_random_trajectory_is_complete(current_run: Path, name: SetName) -> None:
    row: GradedTrajectory = random.Random(str(name)).choice(rows(name, GradedTrajectory))
    it = row.trajectory
    found = sections(main([it.trajectory_id]))
    facts = dict(found[f"trajectory {it.trajectory_id}"])
    assert dict(found[it.trajectory_id])["is in"] == f"{name}, train ({local_path(name, 'train')})"
    assert dict(found[f"question {it.question_id}"])["asks"] == it.question
    assert facts["teacher"] == it.model
    assert facts["grade"].startswith("correct: ")
    assert facts["cause"].startswith("none: right")
    assert facts["prompt"] == f"synth/prompts/{name}.txt, hash {it.prompt_hash}"
    calls = found[f"calls of {it.trajectory_id}"]
    assert [name for name, _ in calls].count("teacher") == it.num_calls
    assert [name for name, _ in calls].count("search") == it.num_actions
    assert all(
        re.match(r"20\d\d-\d\d-\d\dT.*, key [0-9a-f]{32}: ", text)
        for name, text in calls[: it.num_calls]
    )
    observations = [step for step in it.steps if step.kind is StepKind.OBSERVATION]
    results = [text for name, text in calls if name.startswith("result ")]
    assert [text.partition(": ")[2].partition(", by ")[0] for text in results] == [
        ", ".join(step.passages) or "nothing" for step in observations
    ]
    assert all(text.endswith(it.search_fingerprint) for text in results)
    assert calls[-1][1].endswith("its replies give this trajectory again, character by character")
    assert found["reviews"] == [("none", "no person has reviewed it")]
    assert {name for name, _ in found["code and files"]} >= {"commit", "dvc.lock"}


def test_the_lineage_of_a_pair_goes_down_both_sides(current_run: Path) -> None:
    pair: PreferencePair = random.Random(3).choice(rows(SetName.COT_A, PreferencePair))
    found = sections(main([pair.pair_id]))
    assert dict(found[f"pair {pair.pair_id}"])["kind"] == pair.kind
    for side, trajectory_id in (("chosen", pair.chosen_id), ("rejected", pair.rejected_id)):
        grade = dict(found[f"{side} {trajectory_id}"])["grade"]
        assert grade.startswith("correct") == (side == "chosen")
        assert "again, character by character" in found[f"calls of {trajectory_id}"][-1][1]


def test_every_row_of_every_set_is_given_again_by_the_journal(current_run: Path) -> None:
    params = Params.load("publish")
    policy = open_policy(
        params.section(TeacherParams, "teacher"), params.section(MicroworldParams, "microworld")
    )
    limits = params.section(Limits, "rollout")

    def is_same(it: Trajectory) -> bool:
        shared = RolloutContext(policy, it.sampling, limits, it.search_fingerprint)
        found = replay(it, shared, journal_of(it, params))
        return found.is_same and all(call.finished_at for call in found.calls)

    every = [
        row.trajectory
        for name in (SetName.COA, SetName.COT)
        for row in rows(name, GradedTrajectory)
    ]
    every += [
        row.trajectory
        for row in tables.read_table(Path("data/branch/forks.parquet"), GradedTrajectory)
    ]
    assert [it.trajectory_id for it in every if not is_same(it)] == []
    changed = replace(
        every[0], steps=(Step(StepKind.THOUGHT, Author.POLICY, "Forged. "), *every[0].steps)
    )
    assert not is_same(changed)


STUDENT = [
    "sample.out=data/student/sample",
    "teacher.policy=local",
    "teacher.local.model=student",
    "teacher.sampling.temperature=0.0",
    "rollout.max_context_tokens=1500",
    "rollout.max_answer_tokens=4",
]


def sample_student(*arguments: str) -> list[Trajectory]:
    """Sample rollouts of a tiny model in this process."""
    sample.main(["mode=coa", "num_questions=5", *STUDENT, *arguments])
    return list(tables.read_table(Path("data/student/sample/coa.parquet"), Trajectory))


def calls_of_student(it: Trajectory) -> list[tuple[str, str]]:
    return [(name, value) for name, value in call_lines(it, Params.load("publish", STUDENT))]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_calls_of_a_model_in_this_process_are_found_in_the_journal(
    linked_run: Path, dtype: str
) -> None:
    pytest.importorskip("torch")
    save_student(0)
    sampled = sample_student(f"teacher.local.dtype={dtype}")
    assert any(it.num_actions for it in sampled)
    for it in sampled:
        lines = calls_of_student(it)
        assert [name for name, _ in lines].count("teacher") == it.num_calls
        assert lines[-1][1].endswith("give this trajectory again, character by character")


def test_calls_of_a_model_that_was_trained_again_or_is_gone_cannot_be_proven(
    linked_run: Path,
) -> None:
    pytest.importorskip("torch")
    save_student(0)
    first = sample_student()[0]
    save_student(1)
    trained_again = dict(calls_of_student(first))
    shutil.rmtree("student")
    gone = dict(calls_of_student(first))
    for facts, reason in ((trained_again, "other weights"), (gone, "is not here")):
        assert "teacher" not in facts
        assert "the calls cannot be proven: " in facts["journal"]
        assert reason in facts["journal"]


def test_what_reviewers_said_is_shown_and_no_name(linked_run: Path) -> None:
    row = rows(SetName.COA, GradedTrajectory)[0]
    said = Review(
        row.trajectory.trajectory_id,
        ReviewKind.TRAJECTORY,
        trajectory_version(row),
        1,
        1,
        "ann",
        "2026-01-01T00:00:00Z",
        (Answer(ReviewQuestion.VERDICT, ("fix",)),),
    )
    Path("data/reviews.parquet").unlink()
    write_reviews([said])
    text = main([row.trajectory.trajectory_id])
    assert "trajectory: fix (2026-01-01T00:00:00Z, round 1" in text
    assert "ann" not in text.partition("reviews")[2].partition("code and files")[0]


def test_text_of_a_model_cannot_steer_the_terminal(
    linked_run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = local_path(SetName.COA, "train")
    first, *rest = rows(SetName.COA, GradedTrajectory)

    def evil(text: str) -> str:
        return f"\x1b[2J{text}\u202e"

    changed = replace(
        first, trajectory=replace(first.trajectory, model=evil("m"), search_fingerprint=evil("f"))
    )
    tables.write_table(Path("new"), GradedTrajectory, [changed, *rest])
    Path("new").replace(path)
    graded = Path("data/grade.parquet")
    every = [
        changed if it.trajectory.trajectory_id == first.trajectory.trajectory_id else it
        for it in tables.read_table(graded, GradedTrajectory)
    ]
    tables.write_table(Path("new"), GradedTrajectory, every)
    Path("new").replace(graded)
    text = main([first.trajectory.trajectory_id])
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"\u001b[2Jm" in text


def test_calls_whose_replies_are_not_in_the_trajectory_are_not_its_calls(current_run: Path) -> None:
    params = Params.load("publish")
    policy = open_policy(
        params.section(TeacherParams, "teacher"), params.section(MicroworldParams, "microworld")
    )
    limits = params.section(Limits, "rollout")
    it = next(
        row.trajectory
        for row in rows(SetName.COA, GradedTrajectory)
        if row.trajectory.num_calls > 2
    )
    shared = RolloutContext(policy, it.sampling, limits, it.search_fingerprint)
    whole = replay(it, shared, journal_of(it, params)).calls
    *before, last = it.steps
    other = replace(it, steps=(*before, replace(last, text=last.text.replace("{", "{Not "))))
    assert replay(other, shared, journal_of(it, params)).calls == whole[:-1]
    first = replace(it, steps=(replace(it.steps[0], text="Another. "), *it.steps[1:]))
    assert replay(first, shared, journal_of(it, params)).calls == ()
