"""Sample trajectories whose true faults are known, and change them to hold others."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from coa.microworld.phrases import read_back
from coa.microworld.plans import Plan
from coa.microworld.relations import read_value
from coa.microworld.teacher import Teacher
from coa.microworld.world import World
from coa.policy.prompts import Prompt
from coa.policy.scripted import ScriptedPolicy
from coa.policy.teacher.sentences import PhraseKind, Utterance
from coa.policy.teacher.settings import TeacherDecision, TeacherEvent
from coa.records import protocol
from coa.records.causes import Cause
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.question import Question
from coa.records.trajectory import (
    FORCED_STOPS,
    Author,
    Mode,
    Sampling,
    Step,
    StepKind,
    StopReason,
    Trajectory,
    trajectory_id,
)
from coa.rollout.drivers import roll_out_batched
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import ObservationSettings, SearchTool
from curate.diagnosis.gold import Corpus
from curate.diagnosis.queries import asking_words
from curate.diagnosis.rules import Context

PROMPTS = Path(__file__).parent.parent / "synth" / "prompts"
VALUES = (PhraseKind.RECALL, PhraseKind.GUESS, PhraseKind.READ)


class Truth(NamedTuple):
    """What really went wrong."""

    cause: Cause
    step: int | None = None
    """Where the wrong value is stated."""


class Sampled(NamedTuple):
    """Rollouts of both modes with the truth about the failed ones."""

    world: World
    questions: dict[str, Question]
    corpus: Corpus
    rows: list[GradedTrajectory]
    truth: dict[str, Truth]

    def context(self) -> Context:
        return Context(
            self.corpus, asking_words(question.question for question in self.questions.values())
        )


def roll_out_known(
    world: World,
    plans: dict[str, Plan],
    asked: list[Question],
    mode: Mode,
    max_actions: int,
    events: dict[str, list[TeacherEvent]],
) -> list[Trajectory]:
    teacher = Teacher(
        world,
        plans.values(),
        on_event=lambda event: events.setdefault(event.question_id, []).append(event),
    )
    tool = SearchTool(
        EmbeddedSearch.in_memory(world.passages()), ObservationSettings(top_k=2, shows_titles=False)
    )
    policy = ScriptedPolicy(teacher.write)
    prompt = Prompt.load(PROMPTS / f"{mode}.txt", "{prompt}\n\n")
    offered, forbidden = (("search",), ()) if mode is Mode.COA else ((), ("search",))
    tasks = [
        Task(
            trajectory_id(q.question_id, mode, 0),
            q.question_id,
            mode,
            0,
            q.question,
            prompt.fill(q.question),
            prompt.prompt_hash,
            offered,
            forbidden,
        )
        for q in asked
    ]
    run = RolloutContext(policy, Sampling(), Limits(max_actions, 1024, 32), tool.fingerprint)

    async def collect() -> list[Trajectory]:
        return [
            done
            async for done in roll_out_batched(tasks, run, policy, {"search": tool}, batch_size=64)
        ]

    return asyncio.run(collect())


def true_fault(trajectory: Trajectory, plan: Plan, events: list[TeacherEvent]) -> Truth:
    """The first fact whose value is not the plan's, and what the teacher decided there."""
    if trajectory.stop_reason in FORCED_STOPS:
        return Truth(Cause.BUDGET)
    decided = {event.what for event in events}
    if TeacherDecision.FORMAT in decided:
        return Truth(Cause.FORMAT)
    for hop, (fact, (step, said, seen)) in enumerate(
        zip(plan.facts, _values(trajectory), strict=True)
    ):
        if said.text == fact.value:
            continue
        here = [event.what for event in events if event.hop == hop]
        if said.said is PhraseKind.READ:
            was_shown = bool(read_value(seen, fact.entity, fact.relation))
            return Truth(Cause.EVIDENCE_IGNORED if was_shown else Cause.DISTRACTOR_FOLLOWED, step)
        if TeacherDecision.SEARCHED in here:
            return Truth(Cause.RETRIEVAL_MISS if _had_good_query(here) else Cause.BAD_QUERY)
        return Truth(
            Cause.NEVER_SEARCHED if trajectory.mode is Mode.COA else Cause.KNOWLEDGE_GAP, step
        )
    return Truth(Cause.REASONING_SLIP)


def _values(trajectory: Trajectory) -> Iterator[tuple[int, Utterance, str]]:
    """The values that were stated, each with its step and the observation seen last."""
    seen = ""
    for i, step in enumerate(trajectory.steps):
        if step.kind is StepKind.OBSERVATION:
            seen = step.text
        elif step.kind is StepKind.THOUGHT:
            yield from ((i, said, seen) for said in read_back(step.text) if said.said in VALUES)


def _had_good_query(decisions: list[TeacherDecision]) -> bool:
    """Whether any query was good; a repeated one is as good as the one before."""
    is_good = [
        beside is not TeacherDecision.BAD_QUERY
        for what, beside in zip(decisions, [*decisions[1:], None], strict=True)
        if what is TeacherDecision.SEARCHED and beside is not TeacherDecision.REPEATED_SEARCH
    ]
    return any(is_good)


def change_steps(
    row: GradedTrajectory, name: str, steps: Iterable[Step], stop_reason: StopReason | None = None
) -> GradedTrajectory:
    """A row with other steps under an id of its own, graded anew against the same answers."""
    trajectory = replace(
        row.trajectory,
        trajectory_id=f"{row.trajectory.trajectory_id}/{name}",
        steps=tuple(steps),
        stop_reason=stop_reason or row.trajectory.stop_reason,
    )
    return grade_trajectory(
        trajectory, Question("", "", row.gold_answers, "train", row.question_type, row.num_hops)
    )


def _confident(row: GradedTrajectory, _: Sampled) -> GradedTrajectory:
    """The same guesses, stated as knowledge."""
    return change_steps(
        row, "confident", (_rewritten(step, "Maybe ", "I recall ") for step in row.trajectory.steps)
    )


def _concluding_wrongly(row: GradedTrajectory, sampled: Sampled) -> GradedTrajectory:
    """The same right facts, another answer."""
    question = sampled.questions[row.trajectory.question_id]
    right = row.grade.prediction or ""
    others = [title for title in (*question.gold_titles, "Nobody Else") if title != right]
    wrong = {"yes": "no", "no": "yes"}.get(right, others[0])
    steps = (
        _rewritten(step, f"answer is {right}", f"answer is {wrong}")
        for step in row.trajectory.steps
    )
    return change_steps(
        row, "slip", (_rewritten(step, f"{{{right}}}", f"{{{wrong}}}") for step in steps)
    )


def _forging(row: GradedTrajectory, _: Sampled) -> GradedTrajectory:
    """A search result that the policy wrote itself."""
    first, *rest = row.trajectory.steps
    return change_steps(row, "forged", [replace(first, text=first.text + FORGED), *rest])


def _cut_off(row: GradedTrajectory, _: Sampled) -> GradedTrajectory:
    """The answer without its end."""
    *before, answer = row.trajectory.steps
    cut = [*before, replace(answer, text=answer.text.rstrip().removesuffix("}"))]
    return change_steps(row, "cut", cut, stop_reason=StopReason.TRUNCATED)


def _without_alias(row: GradedTrajectory, _: Sampled) -> GradedTrajectory:
    """Graded without the accepted answer that it equals."""
    strict = replace(row, gold_answers=row.gold_answers[1:])
    return change_steps(strict, "strict", row.trajectory.steps)


def _after_failure(row: GradedTrajectory, _: Sampled) -> GradedTrajectory:
    return change_steps(row, "failed", row.trajectory.steps[:2], stop_reason=StopReason.TOOL_ERROR)


def _rewritten(step: Step, old: str, new: str) -> Step:
    return replace(step, text=step.text.replace(old, new)) if step.author is Author.POLICY else step


FORGED = protocol.observation_text("search", "result 1: Nobody knows.")
MADE: dict[Cause, Callable[[GradedTrajectory, Sampled], GradedTrajectory]] = {
    Cause.FALSE_RECALL: _confident,
    Cause.REASONING_SLIP: _concluding_wrongly,
    Cause.FORGED_OBSERVATION: _forging,
    Cause.TRUNCATED: _cut_off,
    Cause.GRADED_WRONG: _without_alias,
    Cause.TOOL_FAILURE: _after_failure,
}


def fits_cause(cause: Cause, row: GradedTrajectory, truth: Cause) -> bool:
    """Whether a row can be changed so that `cause` is what went wrong in it."""
    if cause is Cause.FALSE_RECALL:
        return (
            truth is Cause.KNOWLEDGE_GAP
            and row.trajectory.mode is Mode.COT
            and not row.grade.exact_match
        )
    if cause is Cause.REASONING_SLIP:
        return truth is Cause.REASONING_SLIP and row.grade.exact_match
    if cause is Cause.GRADED_WRONG:
        return row.grade.matched_alias == 0 and len(row.gold_answers) > 1
    return row.trajectory.num_actions > 0 and row.trajectory.stop_reason is StopReason.ANSWERED


def measure_rules(pairs: list[tuple[Cause, Cause | None]]) -> dict[Cause, tuple[int, float, float]]:
    """Number, precision and recall of each cause; pairs are the true one and the one found."""
    counts = Counter(pairs)
    table = {}
    for cause in Cause:
        hits = counts[cause, cause]
        num_true = sum(n for (true, _), n in counts.items() if true is cause)
        num_found = sum(n for (_, found), n in counts.items() if found is cause)
        if num_true or num_found:
            table[cause] = (num_true, hits / max(num_found, 1), hits / max(num_true, 1))
    lines = (
        f"| `{cause}` | {n:,} | {precision:.3f} | {recall:.3f} |"
        for cause, (n, precision, recall) in table.items()
    )
    print("", "| cause | cases | precision | recall |", "|---|---|---|---|", *lines, sep="\n")
    return table
