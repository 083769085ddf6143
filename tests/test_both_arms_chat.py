"""A chat server takes both arms at a point: it is forced to call, or asked without tools."""

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

from coa.policy.chat.families import FAMILIES, ChatSettings, FamilyName
from coa.policy.chat.policy import ChatPolicy
from coa.policy.server import serve
from coa.policy.server_settings import ServerSettings
from coa.records.graded import grade_like, is_sound
from coa.records.pairs import Arm, side_of
from coa.records.protocol import action_indices
from coa.records.trajectory import Trajectory
from curate.forks.arms import takes_arm
from curate.forks.choice import forks_of
from curate.forks.tasks import ForkRun, fork_task
from tests.chat_support import MODEL, Script, roll
from tests.doubles.model_server import Personality
from tests.fork_support import PARAMS, WAIVES, parents, prompts


def test_every_sound_continuation_takes_its_arm_and_who_thinks_never_acts() -> None:
    family = FAMILIES[FamilyName.VLLM]
    run = ForkRun(prompts("chat_"), family=family)
    forks = []
    for parent in parents(Personality.VLLM, 8):
        forks += forks_of(parent, PARAMS, family)
    expected = []
    for fork in forks:
        for arm in Arm:
            expected.append((fork, arm))
    tasks = [fork_task(fork, 0, run, arm) for fork, arm in expected]

    async def through() -> list[Trajectory]:
        async with AsyncExitStack() as stack:
            served = serve(Script())
            address = await stack.enter_async_context(served)
            settings = ChatSettings(family=FamilyName.VLLM, waives=WAIVES)
            policy = ChatPolicy(ServerSettings(address, MODEL, patience_minutes=0.1), settings)
            return await roll(await stack.enter_async_context(policy), tasks)

    taken: Counter[Arm] = Counter()
    for (fork, arm), continuation in zip(expected, asyncio.run(through()), strict=True):
        row = grade_like(fork.parent, continuation)
        if not is_sound(row):
            continue
        assert takes_arm(row, fork, arm)
        taken[arm] += 1
        if arm is Arm.THINK:
            assert not action_indices(side_of(continuation, fork.point))
    assert min(taken[arm] for arm in Arm) > len(forks) / 2
