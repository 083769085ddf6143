"""Fork the trajectories of a chat teacher over a real socket, and count what becomes of them."""

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from coa.policy import Policy
from coa.policy.chat.families import FAMILIES, ChatFamily, ChatSettings, FamilyName, Waiver
from coa.policy.chat.policy import ChatPolicy
from coa.policy.completions import CompletionsPolicy
from coa.policy.prompts import Prompt
from coa.policy.server_settings import ServerSettings
from coa.records.graded import GradedTrajectory, grade_like, grade_trajectory
from coa.records.pairs import Arm, PreferencePair
from coa.records.trajectory import Mode, Trajectory
from coa.rollout.forks import BranchParams
from coa.rollout.loop import Limits
from coa.rollout.points import Point, PointOutcome
from curate.forks.choice import Fork, Refused, forks_of
from curate.forks.tasks import ForkRun, fork_task
from tests.chat_support import MODEL, ROOT, Script, chat_rows, roll, world
from tests.doubles.model_server import Personality, serve
from tests.settle_support import settle_fork

PARAMS = BranchParams(cue=r"\bneed\b", points_per_trajectory=2)
WAIVES = (Waiver.NO_REASONING,)


@dataclass
class Forked:
    """What became of the forks of some parents."""

    points: list[Point] = field(default_factory=list)
    pairs: list[PreferencePair] = field(default_factory=list)
    rows: list[GradedTrajectory] = field(default_factory=list)
    refused: Refused = field(default_factory=Refused)

    @property
    def outcomes(self) -> Counter[PointOutcome]:
        """Count the points by outcome."""
        return Counter(point.outcome for point in self.points)


def prompts(kind: str) -> dict[Arm, Prompt]:
    """Load both arms' prompts, `chat_` ones or those with tags."""
    names = {Arm.ACT: Mode.COA, Arm.THINK: Mode.COT}
    found = {}
    for arm, mode in names.items():
        path = ROOT / f"synth/prompts/{kind}{mode}.txt"
        found[arm] = Prompt.load(path, "{prompt}\n\n")
    return found


@cache
def parents(personality: Personality, num_questions: int) -> tuple[GradedTrajectory, ...]:
    """Roll out and grade, with and without tools, over chat."""
    found = []
    for mode in Mode:
        rows = chat_rows(mode, num_questions, personality, waives=WAIVES)
        for row, question in zip(rows, world().questions, strict=False):
            found.append(grade_trajectory(row, question))
    return tuple(found)


def fork_chat(rows: Sequence[GradedTrajectory], personality: Personality, **chat: Any) -> Forked:
    """Fork through a chat server of these manners, at its own address."""
    family = FAMILIES[FamilyName(chat.pop("family", personality.value))]
    settings = ChatSettings(family=FamilyName(personality.value), waives=WAIVES, **chat)

    def open_chat(base_url: str) -> Policy:
        address = base_url
        if family.prefix_address:
            address = re.sub("/v1$", family.prefix_address, base_url)
        return ChatPolicy(ServerSettings(address, MODEL, patience_minutes=0.1), settings)

    return _fork(rows, family, open_chat, "chat_", personality)


def fork_raw(rows: Sequence[GradedTrajectory]) -> Forked:
    """Fork through raw completions of the same script."""

    def open_raw(base_url: str) -> Policy:
        return CompletionsPolicy(ServerSettings(base_url, MODEL, patience_minutes=0.1))

    return _fork(rows, None, open_raw, "", Personality.PLAIN)


def _fork(
    rows: Sequence[GradedTrajectory],
    family: ChatFamily | None,
    open_policy: Any,
    kind: str,
    personality: Personality,
) -> Forked:
    found = Forked()
    chosen: list[Fork] = []
    for row in rows:
        chosen += forks_of(row, PARAMS, family, found.refused)
    loaded = prompts(kind)
    run = ForkRun(loaded, family=family)
    asked = [fork_task(fork, 0, run) for fork in chosen]

    async def through() -> list[Trajectory]:
        async with AsyncExitStack() as stack:
            served = serve(Script(), personality=personality)
            base_url = await stack.enter_async_context(served)
            policy = await stack.enter_async_context(open_policy(base_url))
            return await roll(policy, asked, limits=Limits())

    for fork, continuation in zip(chosen, asyncio.run(through()), strict=True):
        graded = grade_like(fork.parent, continuation)
        point, pair = settle_fork(fork, [graded], loaded[Arm.ACT])
        found.rows.append(graded)
        found.points.append(point)
        found.pairs += [pair] if pair else []
    return found
