"""Roll out the microworld's teacher in tags and behind chat servers of several manners."""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from coa.microworld.questions import make_questions
from coa.microworld.teacher import Teacher
from coa.microworld.world import Group, GroupSize, WorldSettings, make_world
from coa.policy import Completion, Policy, Request, sent_sampling
from coa.policy.chat.families import ChatSettings
from coa.policy.chat.policy import ChatPolicy
from coa.policy.prompts import Prompt
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server_settings import ServerSettings
from coa.records.question import Question
from coa.records.trajectory import Mode, Sampling, Trajectory
from coa.rollout.drivers import roll_out_all
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.search.embedded import EmbeddedSearch
from coa.search.tool import ObservationSettings, SearchTool
from coa.spending.journaled import JournaledPolicy
from coa.store.journal import Journal
from synth.sample import make_tasks
from tests.doubles.faults import FaultKind, Faults, FaultSettings
from tests.doubles.model_server import Personality, serve

ROOT = Path(__file__).parent.parent
MODEL = "scripted/teacher"
SMALL = GroupSize(person=60, film=40, company=20, city=20)


@dataclass(frozen=True)
class World:
    """A world with its teacher, its search and questions."""

    teacher: Teacher
    search: SearchTool
    questions: tuple[Question, ...]


@cache
def world() -> World:
    settings = WorldSettings(known=SMALL, train=SMALL, validation=SMALL, test=SMALL)
    made = make_world(settings)
    engine = EmbeddedSearch.in_memory(tuple(made.passages()))
    questions = make_questions(made, Group.TRAIN, 150, seed=1)
    return World(Teacher(made), SearchTool(engine, ObservationSettings(top_k=2)), tuple(questions))


class Script(ScriptedPolicy):
    """The teacher, which counts its calls; it may be told no seeds, as hosted models are."""

    def __init__(self, *, has_seeds: bool = True) -> None:
        super().__init__(world().teacher.write, MODEL)
        self.num_calls = 0
        self._has_seeds = has_seeds

    async def complete(self, request: Request) -> Completion:
        """Continue one request."""
        self.num_calls += 1
        seed = request.seed if self._has_seeds else 0
        return await super().complete(replace(request, seed=seed))


def tasks(mode: Mode, prompt: str, num_questions: int) -> list[Task]:
    loaded = Prompt.load(ROOT / f"synth/prompts/{prompt}.txt", "{prompt}\n\n")
    return list(make_tasks(world().questions[:num_questions], mode, 1, loaded))


async def roll(
    policy: Policy,
    asked: Iterable[Task],
    *,
    limits: Limits | None = None,
    journal: Journal | None = None,
) -> list[Trajectory]:
    """Roll out tasks, sixteen at once."""
    sampling = sent_sampling(policy, Sampling(seed=3))
    run = RolloutContext(policy, sampling, limits or Limits())
    asking = JournaledPolicy(policy, journal) if journal else policy
    tools = {"search": world().search}
    rollouts = roll_out_all(asked, run, asking, tools, concurrency=16)
    try:
        return [row async for row in rollouts]
    finally:
        calls = [call.task for call in journal.in_flight.values()] if journal else []
        for task in calls:
            assert task is not None
            task.cancel()
        await asyncio.gather(*filter(None, calls), return_exceptions=True)


def raw_rows(
    mode: Mode, num_questions: int, *, has_seeds: bool = True, limits: Limits | None = None
) -> list[Trajectory]:
    """Roll out with the tags written by the teacher itself."""
    script = Script(has_seeds=has_seeds)
    return asyncio.run(roll(script, tasks(mode, mode, num_questions), limits=limits))


def chat_rows(
    mode: Mode,
    num_questions: int,
    personality: Personality,
    *,
    faults: Faults | None = None,
    limits: Limits | None = None,
    journal: Journal | None = None,
    script: Policy | None = None,
    server: dict[str, Any] | None = None,
    **chat: Any,
) -> list[Trajectory]:
    """Roll out over a real socket, with the teacher behind a chat server of these manners."""

    async def through() -> list[Trajectory]:
        async with serve(script or Script(), personality=personality, faults=faults) as base_url:
            wanted = {"patience_minutes": 1.0, **(server or {})}
            settings = ServerSettings(base_url, MODEL, **wanted)
            manners = ChatSettings(**{"family": personality.value, **chat})
            async with ChatPolicy(settings, manners) as policy:
                asked = tasks(mode, f"chat_{mode}", num_questions)
                return await roll(policy, asked, limits=limits, journal=journal)

    return asyncio.run(through())


def differing(first: Sequence[Trajectory], second: Sequence[Trajectory]) -> list[str]:
    """Name the rows whose steps or ends differ; what only a chat policy has is left out."""
    ids = []
    for a, b in zip(first, second, strict=True):
        steps = tuple(replace(step, transcribed=None) for step in b.steps)
        if (a.steps, a.stop_reason) != (steps, b.stop_reason):
            ids.append(a.trajectory_id)
    return ids


def faulty(*kinds: str, share: float, **settings: Any) -> Faults:
    chosen = tuple(FaultKind(kind) for kind in kinds)
    return Faults(FaultSettings(kinds=chosen, share=share, seed=5, **settings))
