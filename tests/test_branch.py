"""Forks: both kinds of pair from all four kinds of parent, the exact prefix on both sides."""

import asyncio
import re
from pathlib import Path

import pytest

from coa.errors import InputError
from coa.policy.prompts import Prompt
from coa.policy.scripted import ScriptedPolicy
from coa.records import protocol
from coa.records.graded import GradedTrajectory, grade_like, grade_trajectory
from coa.records.pairs import (
    Arm,
    ArmCount,
    PairKind,
    arm_of,
    attribute_trigger_to_policy,
    make_pair,
)
from coa.records.question import Question
from coa.records.trajectory import Author, Mode, Sampling, StepKind, StopReason, Trajectory
from coa.rollout.drivers import roll_out
from coa.rollout.forks import BranchParams
from coa.rollout.loop import Limits, RolloutContext
from coa.rollout.points import PointOutcome
from coa.search import Passage
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import SearchTool
from coa.store import tables
from curate.forks.choice import Fork, action_points, choose_parents, forks_of, thought_points
from curate.forks.tasks import ForkRun, fork_task
from tests.settle_support import settle_fork

QUESTION = Question("q", "What is the capital?", ("Paris",), "train", "chain", 1)
TOOL = SearchTool(
    EmbeddedSearch.in_memory([Passage("p", "France", "The capital of France is Paris.")])
)
PROMPTS = {arm: Prompt(f"{arm}: {{question}}\n<think>\n", str(arm)) for arm in Arm}
ACT = (
    f"I need the capital. {protocol.open_tag('search')} capital France "
    f"{protocol.close_tag('search')}"
)
RIGHT, WRONG = "It is Paris.\n</think> \\boxed{Paris}", "It is Rome.\n</think> \\boxed{Rome}"
THINK = "I need the capital. "
PARAMS = BranchParams(cue=r"\bneed\b")


def roll(mode: Mode, *texts: str) -> GradedTrajectory:
    prompt = PROMPTS[Arm.ACT if mode is Mode.COA else Arm.THINK]
    offered = ("search",) if mode is Mode.COA else ()
    from coa.rollout.loop import Task

    task = Task(
        f"q/{mode}/0", "q", mode, 0, QUESTION.question, prompt.fill(QUESTION.question), "h", offered
    )
    return grade_trajectory(complete(task, *texts), QUESTION)


def complete(task: object, *texts: str) -> Trajectory:
    policy = ScriptedPolicy(texts)
    run = RolloutContext(policy, Sampling(), Limits(), TOOL.fingerprint)
    return asyncio.run(roll_out(task, run, policy, {"search": TOOL}))  # type: ignore[arg-type]


def continued(fork: Fork, *texts: str) -> GradedTrajectory:
    task = fork_task(fork, 0, ForkRun(PROMPTS))
    return grade_like(fork.parent, complete(task, *texts))


CASES = [
    # parent, what it wrote, the fork's continuation, the kind of pair
    (
        Mode.COT,
        (THINK + WRONG,),
        (f" capital France {protocol.close_tag('search')}", RIGHT),
        PairKind.ACT_IS_BETTER,
    ),
    (
        Mode.COT,
        (THINK + RIGHT,),
        (f" capital France {protocol.close_tag('search')}", WRONG),
        PairKind.THINK_IS_BETTER,
    ),
    (Mode.COA, (ACT, RIGHT), (" " + WRONG,), PairKind.ACT_IS_BETTER),
    (Mode.COA, (ACT, WRONG), (" " + RIGHT,), PairKind.THINK_IS_BETTER),
]


@pytest.mark.parametrize(("mode", "texts", "continuation", "kind"), CASES)
def test_both_kinds_of_pair_come_from_all_four_kinds_of_parent(
    mode: Mode, texts: tuple[str, ...], continuation: tuple[str, ...], kind: PairKind
) -> None:
    parent = roll(mode, *texts)
    (fork,) = forks_of(parent, PARAMS)
    other = continued(fork, *continuation)
    point, pair = settle_fork(fork, [other], PROMPTS[Arm.ACT])
    assert pair is not None
    assert (point.outcome, pair.kind, pair.pair_id) == (
        PointOutcome.PAIRED,
        kind,
        f"q/{mode}/0/{fork.point}",
    )
    assert {arm_of(pair.chosen), arm_of(pair.rejected)} == set(Arm)
    assert (arm_of(pair.chosen) is Arm.ACT) == (kind is PairKind.ACT_IS_BETTER)
    assert "Paris" in protocol.answer_text(pair.chosen)
    assert "Rome" in protocol.answer_text(pair.rejected)
    assert protocol.render(pair.prefix) == "I need the capital."
    for side, whole in ((pair.chosen, pair.chosen_id), (pair.rejected, pair.rejected_id)):
        trajectory = (
            parent.trajectory if whole == parent.trajectory.trajectory_id else other.trajectory
        )
        assert protocol.render(pair.prefix) + protocol.render(side) == protocol.render(
            trajectory.steps
        )
    assert pair.prompt == PROMPTS[Arm.ACT].fill(QUESTION.question)
    assert pair.value_of_acting == (1 if kind is PairKind.ACT_IS_BETTER else -1)


def test_the_inserted_trigger_is_the_policys_in_a_pair_and_the_scaffolds_in_the_fork() -> None:
    (fork,) = forks_of(roll(Mode.COT, THINK + WRONG), PARAMS)
    other = continued(fork, f" capital France {protocol.close_tag('search')}", RIGHT)
    marker = next(step for step in other.trajectory.steps if step.kind is StepKind.MARKER)
    assert (marker.author, marker.text) == (Author.SCAFFOLD, f" {protocol.open_tag('search')}")
    _, pair = settle_fork(fork, [other], PROMPTS[Arm.ACT])
    assert pair is not None
    action = next(step for step in pair.chosen if step.kind is StepKind.ACTION)
    assert (action.author, action.argument) == (Author.POLICY, "capital France")
    assert action.text.startswith(protocol.open_tag("search"))
    assert not any(step.author is Author.SCAFFOLD for step in pair.chosen)


def test_a_continuation_that_acts_where_it_must_not_is_no_evidence() -> None:
    (fork,) = forks_of(roll(Mode.COA, ACT, RIGHT), PARAMS)
    row = continued(fork, f" {protocol.open_tag('search')} q {protocol.close_tag('search')}")
    assert row.trajectory.stop_reason is StopReason.FORBIDDEN_ACTION
    point, pair = settle_fork(fork, [row], PROMPTS[Arm.ACT])
    assert (point.outcome, point.num_continuations, pair) == (PointOutcome.UNSOUND, 0, None)


UNCLOSED = " capital France, I suppose. "
"""Goes on after an inserted trigger as if it were a thought."""


@pytest.mark.parametrize(("parent", "end"), [(WRONG, RIGHT), (RIGHT, WRONG), (RIGHT, RIGHT)])
def test_a_call_that_was_opened_and_never_closed_is_on_neither_arm(parent: str, end: str) -> None:
    (fork,) = forks_of(roll(Mode.COT, THINK + parent), PARAMS)
    row = continued(fork, UNCLOSED + end)
    assert row.trajectory.stop_reason is StopReason.ANSWERED and row.trajectory.num_actions == 0
    point, pair = settle_fork(fork, [row], PROMPTS[Arm.ACT])
    assert (point.outcome, point.num_continuations, point.num_correct, pair) == (
        PointOutcome.OFF_ARM,
        0,
        0,
        None,
    )


def test_only_continuations_on_their_arm_are_counted() -> None:
    (fork,) = forks_of(roll(Mode.COT, THINK + WRONG), PARAMS)
    acted = continued(fork, f" capital France {protocol.close_tag('search')}", RIGHT)
    unclosed = continued(fork, UNCLOSED + RIGHT)
    point, pair = settle_fork(fork, [unclosed, acted, unclosed], PROMPTS[Arm.ACT])
    assert pair is not None
    assert (pair.num_act, pair.num_act_correct) == (1, 1)
    assert (point.num_continuations, point.num_correct) == (1, 1)
    assert arm_of(pair.chosen) is Arm.ACT


def test_sides_that_do_not_differ_in_acting_are_refused_as_a_pair() -> None:
    parent = roll(Mode.COT, THINK + WRONG)
    (fork,) = forks_of(parent, PARAMS)
    unclosed = continued(fork, UNCLOSED + RIGHT).trajectory
    reasoned = roll(Mode.COT, THINK + RIGHT).trajectory
    for other in (unclosed, reasoned):
        with pytest.raises(InputError, match="do not differ in whether a tool is called"):
            make_pair(
                parent.trajectory,
                fork.point,
                chosen=other,
                rejected=parent.trajectory,
                prompt="",
                act=ArmCount(1, 1),
                think=ArmCount(1, 0),
            )


def test_several_continuations_are_counted_and_the_first_that_differs_is_taken() -> None:
    (fork,) = forks_of(roll(Mode.COA, ACT, RIGHT), PARAMS)
    point, pair = settle_fork(
        fork,
        [continued(fork, text) for text in (" " + RIGHT, " " + WRONG, " " + WRONG)],
        PROMPTS[Arm.ACT],
    )
    assert pair is not None
    assert (pair.num_act, pair.num_act_correct, pair.num_think, pair.num_think_correct) == (
        1,
        1,
        3,
        1,
    )
    assert (point.num_continuations, point.num_correct) == (3, 1)
    assert pair.value_of_acting == pytest.approx(2 / 3)


def test_a_parent_that_ended_by_accident_is_not_forked() -> None:
    assert forks_of(roll(Mode.COT, "I need the capital. It is"), PARAMS) == []


def test_points_are_at_sentence_ends_with_a_cue_and_before_actions() -> None:
    steps = (*protocol.parse_policy("First this. I need a. I need b! Then c. " + ACT),)
    text = protocol.render(steps)
    ends = [text[:point] for point in thought_points(steps, re.compile("need"))]
    assert [end.rsplit(" ", 1)[-1] for end in ends] == ["a.", "b!", "capital."]
    assert [text[:point][-8:] for point in action_points(steps)] == ["capital."]


def test_a_fork_after_an_observation_keeps_all_steps_before_it() -> None:
    parent = roll(Mode.COA, ACT, ACT.replace("need", "still need"), RIGHT)
    point = action_points(parent.trajectory.steps)[1]
    task = fork_task(Fork(parent, point, Arm.THINK), 3, ForkRun(PROMPTS))
    assert task.trajectory_id == f"q/coa/0/{point}/think/3"
    assert [step.kind for step in task.prefix] == ["thought", "action", "observation", "thought"]
    assert task.prefix[:3] == parent.trajectory.steps[:3]
    assert (task.mode, task.tools, task.forbidden_tools) == (Mode.COT, (), ("search",))


def test_parents_are_spread_over_what_they_did_and_how_it_ended(tmp_path: Path) -> None:
    from dataclasses import replace

    def many(row: GradedTrajectory, count: int) -> list[GradedTrajectory]:
        mode = row.trajectory.mode
        ids = (f"q{i}-{row.grade.exact_match}/{mode}/0" for i in range(count))
        return [
            replace(row, trajectory=replace(row.trajectory, trajectory_id=name)) for name in ids
        ]

    rows = [
        row
        for mode, texts, _, _ in CASES
        for row in many(roll(mode, *texts), 30 if mode is Mode.COA else 4)
    ]
    tables.write_table(tmp_path / "g.parquet", GradedTrajectory, rows)
    params = BranchParams(max_parents={PairKind.ACT_IS_BETTER: 14, PairKind.THINK_IS_BETTER: 6})
    chosen = choose_parents(tmp_path / "g.parquet", params)
    kinds = [(name.split("-")[1].split("/")[0], name.split("/")[1]) for name in chosen]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        ("True", "coa"): 10,
        ("False", "cot"): 4,
        ("False", "coa"): 3,
        ("True", "cot"): 3,
    }
    assert chosen == choose_parents(tmp_path / "g.parquet", params)


def test_owning_a_trigger_keeps_the_text() -> None:
    trigger = protocol.marker(f"\n\n{protocol.open_tag('search')}", tool="search")
    written = f" q {protocol.close_tag('search')}"
    pair_steps = (trigger, *protocol.parse_policy(written, triggered_tool="search"))
    assert protocol.render(attribute_trigger_to_policy(pair_steps)) == protocol.render(pair_steps)
