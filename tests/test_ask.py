"""One question in the terminal: the steps are shown, and no text can act on the terminal."""

import asyncio
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from rich.console import Console

from coa.ask import load_prompt, main, read_arguments, styled
from coa.errors import ConfigError, InputError
from coa.policy import BatchPolicy, UnbatchedPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.records.trajectory import Author, Mode, Sampling, Step, StepKind, StopReason
from coa.rollout.drivers import follow
from coa.rollout.loop import Limits, RolloutContext
from coa.rollout.tasks import make_task
from coa.settings.params import Params
from coa.store.pending import Done


@pytest.mark.parametrize("arguments", [[], [" "], ["Who?", "mode=telepathy"]])
def test_a_command_line_that_asks_nothing_is_an_error(arguments: list[str]) -> None:
    with pytest.raises(ConfigError):
        read_arguments(arguments)


def test_following_a_rollout_gives_every_state_to_the_last() -> None:
    policy: BatchPolicy = ScriptedPolicy(["I know. </think> \\boxed{4}"])
    task = make_task(
        "ask", "What is 2 + 2?", Mode.COT, 0, load_prompt(Mode.COT, Params.load("teacher"))
    )
    run = RolloutContext(policy, Sampling(), Limits())

    async def collect() -> list[int]:
        states = [state async for state in follow(task, run, UnbatchedPolicy(policy), {})]
        assert isinstance(states[-1].pending, Done)
        assert states[-1].pending.reason is StopReason.ANSWERED
        return [len(state.steps) for state in states]

    assert asyncio.run(collect()) == [0, 2]


def test_a_question_that_the_server_refuses_ends_with_status_one(
    linked_run: Path, served_app: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "I know no France"}}, status=400)

    server = web.Application()
    server.router.add_post("/v1/completions", refuse)
    with served_app(server) as url, pytest.raises(SystemExit) as ended:
        main(
            [
                "Who is the king of France?",
                "teacher.policy=completions",
                "teacher.probe=false",
                f"teacher.server.base_url={url}/v1",
                "teacher.server.model=some",
            ]
        )
    assert ended.value.code == 1
    assert "no answer  [policy_error; HTTP 400: I know no France" in capsys.readouterr().out


def test_a_question_that_the_scripted_teacher_does_not_know_is_met_with_some_that_it_does(
    linked_run: Path,
) -> None:
    with pytest.raises(InputError, match="does not know this question") as raised:
        main(["Who is the king of France?"])
    assert "ask one of these, for example:\n    " in str(raised.value)


def test_control_and_direction_characters_are_spelled_out() -> None:
    hostile = Step(
        StepKind.OBSERVATION, Author.ENVIRONMENT, "a\x1b[2Jb\x07\x9bc\u202ed [bold]e[/bold]\n"
    )
    shown = StringIO()
    Console(file=shown, force_terminal=False).print(styled(hostile), end="")
    assert shown.getvalue() == "a\\x1b[2Jb\\x07\\x9bc\\u202ed [bold]e[/bold]\n"
