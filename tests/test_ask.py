"""One question in the terminal: the steps are shown, and no text can act on the terminal."""

import asyncio
from io import StringIO

import pytest
from rich.console import Console

from coa.ask import load_prompt, read_arguments, styled
from coa.asking import make_task
from coa.drivers import follow
from coa.errors import ConfigError
from coa.params import Params
from coa.pending import Done
from coa.policy import BatchPolicy, UnbatchedPolicy
from coa.policy.scripted import ScriptedPolicy
from coa.rollout import Limits, RolloutContext
from coa.trajectory import Author, Mode, Sampling, Step, StepKind, StopReason


def test_the_first_argument_is_the_question_and_mode_is_picked_out() -> None:
    assert read_arguments(["Who?", "mode=cot", "sampling.seed=1"]) == (
        "Who?",
        Mode.COT,
        ["sampling.seed=1"],
    )
    assert read_arguments(["Who?"]) == ("Who?", Mode.COA, [])


@pytest.mark.parametrize("arguments", [[], [" "], ["Who?", "mode=telepathy"]])
def test_a_command_line_that_asks_nothing_is_an_error(arguments: list[str]) -> None:
    with pytest.raises(ConfigError):
        read_arguments(arguments)


def test_control_and_direction_characters_are_spelled_out() -> None:
    hostile = Step(
        StepKind.OBSERVATION, Author.ENVIRONMENT, "a\x1b[2Jb\x07\x9bc\u202ed [bold]e[/bold]\n"
    )
    shown = StringIO()
    Console(file=shown, force_terminal=False).print(styled(hostile), end="")
    assert shown.getvalue() == "a\\x1b[2Jb\\x07\\x9bc\\u202ed [bold]e[/bold]\n"


def test_authors_have_different_colours() -> None:
    steps = [Step(StepKind.THOUGHT, author, "x") for author in Author]
    assert len({str(styled(step).style) for step in steps}) == len(steps)


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
