"""Roll out the scripted teacher for gold titles over a real index of a few passages."""

import asyncio
from collections.abc import Iterable
from pathlib import Path

from coa.policy.prompts import Prompt
from coa.policy.scripted import ScriptedPolicy
from coa.policy.teacher.titled import GoldSettings, GoldTeacher
from coa.records import protocol
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, Sampling, StepKind
from coa.rollout.drivers import roll_out
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.search import Passage
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import ObservationSettings, SearchTool
from synth.sample import make_tasks

ROOT = Path(__file__).parent.parent
LONG = (
    "It was shown in forty towns of the north before anybody in the capital had heard of it, "
    "and the reels "
) * 2
PASSAGES = (
    Passage("p1", "Iron Sky Road", f"Iron Sky Road is a film directed by Ada Fenn. {LONG}"),
    Passage("p2", "Ada Fenn", f"Ada Fenn is a director from Turku. She began as a painter. {LONG}"),
    Passage("p3", "Danube", f"The Danube is a river of ten countries. {LONG}"),
    Passage("p4", "Rhine", f"The Rhine is a river that flows north. {LONG}"),
    Passage("p5", "Love &amp; Rivers", f"Love &amp; Rivers is a song of 1984. {LONG}"),
    Passage("p6", "Iron", f"Iron is a metal that is found in many a road. {LONG}"),
)
BRIDGE = Question(
    "q1",
    "Where is the director of Iron Sky Road from?",
    ("Turku",),
    "train",
    "bridge",
    gold_titles=("Iron Sky Road", "Ada Fenn"),
)
CLOSED = Question(
    "q2",
    "Are both Danube and Rhine rivers?",
    ("yes",),
    "train",
    "comparison",
    gold_titles=("Danube", "Rhine"),
)
CHOICE = Question(
    "q3",
    "Which is longer, the Danube or the Rhine?",
    ("Danube",),
    "train",
    "comparison",
    gold_titles=("Rhine", "Danube"),
)
NUMBER = Question(
    "q4",
    "In which year came out the song Love & Rivers?",
    ("1984",),
    "train",
    "bridge",
    gold_titles=("Love &amp; Rivers",),
)
OTHERS = tuple(
    Question(f"o{i}", f"What is {i}?", (answer,), "train", gold_titles=("Iron",))
    for i, answer in enumerate(("Oslo", "Riga", "1850", "1999"))
)
QUESTIONS = (BRIDGE, CLOSED, CHOICE, NUMBER)
FLAWLESS = GoldSettings(
    remembers_other=0.0,
    searches_again=1.0,
    never_searched=0.0,
    bad_query=0.0,
    evidence_ignored=0.0,
    distractor_followed=0.0,
    false_recall=0.0,
    reasoning_slip=0.0,
    repeated_search=0.0,
    needless_search=0.0,
    copied_observation=0.0,
    format=0.0,
)
SHOWN = ObservationSettings(top_k=2)
PROMPTS = {mode: Prompt.load(ROOT / f"synth/prompts/{mode}.txt", "{prompt}\n\n") for mode in Mode}
ENGINE = EmbeddedSearch.in_memory(PASSAGES)


def teacher(
    settings: GoldSettings = FLAWLESS, asked: Iterable[Question] = QUESTIONS
) -> ScriptedPolicy:
    return ScriptedPolicy(GoldTeacher((*asked, *OTHERS), settings).write)


def run_task(
    task: Task,
    policy: ScriptedPolicy,
    question: Question,
    engine: EmbeddedSearch,
    seed: int,
    limits: Limits,
) -> GradedTrajectory:
    run = RolloutContext(policy, Sampling(seed=seed), limits)
    tools = {"search": SearchTool(engine, SHOWN)}
    return grade_trajectory(asyncio.run(roll_out(task, run, policy, tools)), question)


def roll(
    question: Question,
    settings: GoldSettings = FLAWLESS,
    mode: Mode = Mode.COA,
    seed: int = 0,
    engine: EmbeddedSearch = ENGINE,
    limits: Limits = Limits(),  # noqa: B008
) -> GradedTrajectory:
    """One graded rollout of a question that the teacher knows."""
    task = next(make_tasks([question], mode, 1, PROMPTS[mode]))
    known = () if question in QUESTIONS else (question,)
    return run_task(task, teacher(settings, (*QUESTIONS, *known)), question, engine, seed, limits)


def queries(row: GradedTrajectory) -> list[str]:
    return [step.argument or "" for step in row.trajectory.steps if step.kind is StepKind.ACTION]


def text(row: GradedTrajectory) -> str:
    return protocol.render(row.trajectory.steps)
