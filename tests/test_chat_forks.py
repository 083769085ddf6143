"""Forks through chat servers over real sockets: what each family can do, and what is refused."""

import asyncio
import re
from collections import Counter
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from aiohttp import web
from msgspec import UNSET

from coa.errors import ConfigError
from coa.policy import Completion, Native, Request, Turns
from coa.policy.chat.families import FAMILIES, ChatSettings, FamilyName, ForkWay
from coa.policy.chat.policy import ChatPolicy
from coa.policy.chat.record import Unforkable, UnforkableError, mark_transcribed, rebuild_messages
from coa.policy.scripted import ScriptedPolicy
from coa.policy.server_settings import ServerSettings
from coa.records import protocol
from coa.records.graded import grade_like, is_sound
from coa.records.pairs import Arm, arm_of, side_of
from coa.records.protocol import action_indices
from coa.records.trajectory import Mode, Step, StepKind, Trajectory, merge_thoughts
from coa.rollout.factory import PolicyKind, TeacherParams
from coa.rollout.forks import PointChoice, family_of, first_turns, require_forks, way_to
from coa.rollout.points import PointOutcome
from curate.forks.arms import takes_arm
from curate.forks.choice import Fork, action_points, forks_of
from curate.forks.tasks import ForkRun, fork_task
from tests.chat_support import MODEL, Script, roll, tasks
from tests.doubles.model_server import Personality, serve
from tests.fork_support import PARAMS, WAIVES, Forked, fork_chat, fork_raw, parents, prompts

NUM_QUESTIONS = 40
DEEPSEEK = FAMILIES[FamilyName.DEEPSEEK]
VLLM = FAMILIES[FamilyName.VLLM]


class Recording(Script):
    """A chat policy that remembers what each rollout was told of its own messages."""

    reads_turns = True

    def __init__(self, policy: ChatPolicy) -> None:
        super().__init__()
        self._policy = policy
        self.told: dict[str, tuple[str, ...]] = {}

    def encode(self, text: str, **_: Any) -> None:
        """Give no ids, like the policy itself."""

    async def complete(self, request: Request) -> Completion:
        """Pass a request on."""
        assert request.turns is not UNSET and request.session is not UNSET
        self.told[request.session] = request.turns.messages
        return await self._policy.complete(request)


@pytest.mark.parametrize("family", [FamilyName.VLLM, FamilyName.SGLANG, FamilyName.DEEPSEEK])
def test_the_policys_own_messages_are_rebuilt_from_the_record(family: FamilyName) -> None:
    async def roll_out() -> tuple[list[Any], dict[str, tuple[str, ...]]]:
        async with serve(Script(), personality=Personality(family.value)) as base_url:
            settings = ServerSettings(base_url, MODEL)
            async with ChatPolicy(settings, ChatSettings(family=family)) as policy:
                recording = Recording(policy)
                rows = await roll(recording, tasks(Mode.COA, "chat_coa", NUM_QUESTIONS))
                return rows, recording.told

    rows, told = asyncio.run(roll_out())
    rebuilt = [rebuild_messages(row.steps, FAMILIES[family]) for row in rows]
    sent = sorted(without_ids(messages) for messages in told.values())
    assert sorted(without_ids(messages) for messages in rebuilt) == sent
    assert sum(len(messages) for messages in rebuilt) > NUM_QUESTIONS


def without_ids(messages: tuple[str, ...]) -> list[str]:
    return [re.sub(r'"id":"[^"]*"', '"id":""', message) for message in messages]


SAID_BESIDE = [
    # reasoning, content, what is known of them for sure
    ("I need it.", "", ("I need it.", "")),
    ("I need it.", "\n\n", ("I need it.", "\n\n")),
    ("", "I will look.", ("", "I will look.")),
    ("I need it.\n", "I will look.", ("I need it.\n", "I will look.")),
    ("I write <think> here.", "", ("I write <think> here.", "")),
    ("I need it.", "I will look.", None),
    ("I write <think> here.", "I will look.", None),
]


@pytest.mark.parametrize(("reasoning", "content", "known"), SAID_BESIDE)
def test_what_was_said_beside_a_call_is_told_apart_or_the_point_is_refused(
    reasoning: str, content: str, known: tuple[str, str] | None
) -> None:
    steps = transcribed(reasoning, content)
    if known is None:
        with pytest.raises(UnforkableError, match=Unforkable.NOT_VERBATIM):
            rebuild_messages(steps, VLLM)
        return
    (message,) = rebuild_messages(steps, VLLM)
    fields = msgspec.json.decode(message)
    assert (fields.get("reasoning", ""), fields["content"]) == known


def transcribed(reasoning: str, content: str) -> tuple[Step, ...]:
    """Make the steps of one chat turn that ends in a call."""
    function = {"name": "search", "arguments": '{"query": "x"}'}
    call = {"id": "a", "type": "function", "function": function}
    message = {"role": "assistant", "content": content, "reasoning": reasoning}
    reply = {"choices": [{"message": {**message, "tool_calls": [call]}}], "model": MODEL}
    said: list[Native] = []

    async def ask() -> str:
        def answer(http_request: Any, body: Any) -> Any:
            return web.json_response(reply)

        turns = Turns(("search",), (), must_call="search")
        asked = Request("Who?\n<think>\n", (), 64, 0.6, 1.0, 7, turns=turns)
        async with (
            serve(ScriptedPolicy([], MODEL), fails=answer) as base_url,
            ChatPolicy(ServerSettings(base_url, MODEL), ChatSettings()) as policy,
        ):
            completion = await policy.complete(asked)
        assert completion.native is not None
        said.append(completion.native)
        return completion.text

    text = asyncio.run(ask())
    return mark_transcribed(protocol.parse_policy(text), said[0])


@pytest.mark.parametrize("personality", list(Personality))
def test_each_personality_gives_pairs_in_the_ways_of_its_family(personality: Personality) -> None:
    rows = parents(personality, NUM_QUESTIONS)
    raw = fork_raw(rows)
    forked = fork_chat(rows, personality)
    family = FAMILIES[FamilyName(personality.value)]
    ways = {way_to(arm, family) for arm in Arm}
    assert {point.way for point in forked.points} == ways
    assert set(forked.refused) <= {Unforkable.OPAQUE_STATE}
    unsound = forked.outcomes[PointOutcome.UNSOUND]
    assert unsound <= len(forked.points) // 10  # the script breaks the format in 3%
    assert len(forked.pairs) >= len(raw.pairs) // 2
    assert_pairs_are_whole(forked)


@pytest.mark.parametrize("personality", list(Personality))
def test_no_fork_tries_the_arm_that_its_parent_took(personality: Personality) -> None:
    family = FAMILIES[FamilyName(personality.value)]
    anywhere = replace(PARAMS, points=PointChoice.RANDOM, points_per_trajectory=20)
    forks: list[Fork] = []
    for row in parents(personality, NUM_QUESTIONS):
        forks += forks_of(row, anywhere, family)
    assert {fork.arm for fork in forks} == set(Arm)
    for fork in forks:
        side = side_of(fork.parent.trajectory, fork.point)
        assert arm_of(side, by_turn=fork.by_turn) is not fork.arm


def assert_pairs_are_whole(forked: Forked) -> None:
    continued = {row.trajectory.trajectory_id: row.trajectory for row in forked.rows}
    for pair in forked.pairs:
        sides = (pair.chosen, pair.rejected)
        assert {arm_of(side, by_turn=True) for side in sides} == set(Arm)
        fork_id = pair.chosen_id if pair.chosen_id in continued else pair.rejected_id
        side = pair.chosen if fork_id == pair.chosen_id else pair.rejected
        text = protocol.render(pair.prefix) + protocol.render(side)
        assert text == protocol.render(continued[fork_id].steps)
        assert not any(step.kind is StepKind.MARKER for step in side)


def test_a_prefix_is_gone_on_from_and_the_next_turn_is_told_the_whole_thought() -> None:
    forked = fork_chat(parents(Personality.DEEPSEEK, NUM_QUESTIONS), Personality.DEEPSEEK)
    acting = [pair for pair in forked.pairs if pair.point and pair.prefix]
    assert acting
    for pair in acting:
        assert pair.prefix[-1].kind is StepKind.THOUGHT  # both sides share it
    # Our server refuses a conversation whose earlier reasoning was lost.
    assert all(not row.trajectory.error for row in forked.rows)


def test_points_after_signed_reasoning_are_refused_because_no_record_keeps_it() -> None:
    forked = fork_chat(parents(Personality.OPENROUTER, NUM_QUESTIONS), Personality.OPENROUTER)
    assert forked.refused[Unforkable.OPAQUE_STATE] > 0
    assert {point.point for point in forked.points} == {0}


def test_a_family_that_cannot_force_a_call_forks_only_what_acted() -> None:
    rows = parents(Personality.VLLM, NUM_QUESTIONS)
    forked = fork_chat(rows, Personality.VLLM, family="kimi")
    assert {point.arm for point in forked.points} == {Arm.THINK}
    assert forked.refused[Unforkable.NO_WAY] > 0


def test_calls_that_were_written_in_tags_are_not_told_as_native_ones() -> None:
    rows = parents(Personality.VLLM, NUM_QUESTIONS)
    raw = [row.trajectory for row in fork_raw(rows).rows]
    steps = next(row.steps for row in raw if row.num_actions and row.mode is Mode.COA)
    with pytest.raises(UnforkableError, match=Unforkable.NOT_NATIVE):
        first_turns(steps, Arm.THINK, ForkWay.TOOLS_WITHHELD, VLLM)


def test_a_thought_with_broken_tags_is_not_gone_on_from() -> None:
    thought = protocol.parse_policy("I write ‹think> here.")[0]
    broken = replace(thought, transcribed="I write <think> here.")
    with pytest.raises(UnforkableError, match=Unforkable.NOT_VERBATIM):
        first_turns((broken,), Arm.THINK, ForkWay.PREFIX, DEEPSEEK)


def test_a_call_without_a_thought_is_forked_where_its_turn_begins() -> None:
    call = "<begin_search> x </end_search>"
    observed = protocol.observation_text("search", "nothing")
    steps = protocol.parse(f"I need it. {call}{observed}{call}")
    first, second = action_points(steps)
    text = protocol.render(steps)
    assert text[:first] == "I need it."
    assert text[:second].endswith("</search_result>\n")


def test_deepseek_forks_only_at_its_beta_address() -> None:
    settings = ChatSettings(family=FamilyName.DEEPSEEK)
    at = TeacherParams(
        policy=PolicyKind.CHAT,
        chat=settings,
        server=ServerSettings("https://api.deepseek.com/v1", MODEL),
    )
    with pytest.raises(ConfigError, match=r"ends with /beta[\s\S]*branch\.policy"):
        require_forks(at)
    beta = ServerSettings("https://api.deepseek.com/beta/", MODEL)
    require_forks(replace(at, server=beta))
    assert family_of(at) is DEEPSEEK


def bodies(turns: Turns, family: FamilyName) -> Any:
    policy = ChatPolicy(ServerSettings(model=MODEL), ChatSettings(family=family))
    context = f"Who?\n<think>\n{turns.begun or ''}"
    return msgspec.json.decode(policy._body(Request(context, (), 64, 0.6, 1.0, 7, turns=turns)))


def test_a_request_at_a_fork_names_the_tool_or_begins_the_thought() -> None:
    called = bodies(Turns(("search",), (), must_call="search"), FamilyName.VLLM)
    assert called["tool_choice"] == {"type": "function", "function": {"name": "search"}}
    begun = bodies(Turns((), (), begun="I need"), FamilyName.DEEPSEEK)
    assert begun["messages"][-1] == {
        "role": "assistant",
        "content": "",
        "reasoning_content": "I need",
        "prefix": True,
    }
    assert "tools" not in begun


def test_a_begun_thought_is_told_as_over_where_the_answer_is_forced() -> None:
    policy = ChatPolicy(ServerSettings(model=MODEL), ChatSettings(family=FamilyName.DEEPSEEK))
    context = f"Who?\n<think>\nI need{protocol.ANSWER_MARKER}"
    turns = Turns((), (), begun="I need")
    sent = msgspec.json.decode(policy._body(Request(context, (), 64, 0.6, 1.0, 7, turns=turns)))
    _, own, last = sent["messages"]
    assert own == {"role": "assistant", "content": "", "reasoning_content": "I need"}
    assert last["role"] == "user"


def test_a_thought_that_was_gone_on_from_keeps_the_policys_own_text() -> None:
    head, rest = protocol.parse_policy("I write ")[0], protocol.parse_policy("a tag. ")[0]
    (merged,) = merge_thoughts((head, replace(rest, transcribed="<think>. ")))
    assert merged.text == "I write a tag. "
    assert merged.transcribed == "I write <think>. "


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
            served = serve(Script(), personality=Personality.VLLM)
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
