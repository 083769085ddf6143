"""Ask a policy one question in the terminal, and show every step in its author's colour.

    python -m coa.ask "What is the hometown of the director of Kindred Quarry?"
    python -m coa.ask "QUESTION" [mode=cot] [teacher.policy=...]

Policy, search and budgets are those of params.yaml (the microworld's teacher knows only questions
about its world). Calls are kept in .journal/ask.sqlite, so the same question with the same settings
is answered again at no cost. For another answer give teacher.sampling.seed=1.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from coa.asking import make_task
from coa.drivers import follow
from coa.errors import ConfigError, unknown_name
from coa.factory import TeacherParams, template_of
from coa.grading import boxed_answer
from coa.interruption import run_interruptible
from coa.params import Params
from coa.prompts import Prompt, PromptParams
from coa.protocol import answer_text
from coa.rollout import State, finish
from coa.runtime import open_runtime
from coa.terminal import printable
from coa.trajectory import Author, Mode, Step, StepKind, Trajectory

_STYLES = {StepKind.THOUGHT: "", StepKind.ACTION: "bold cyan", StepKind.ANSWER: "bold green"}
_AUTHOR_STYLES = {Author.ENVIRONMENT: "yellow", Author.SCAFFOLD: "magenta"}


def styled(step: Step) -> Text:
    """Return a step in its colour; signs that would act on the terminal are spelled out."""
    style = _STYLES.get(step.kind, "")
    style = _AUTHOR_STYLES.get(step.author, style)
    return Text(printable(step.text), style=style)


def read_arguments(arguments: Sequence[str]) -> tuple[str, Mode, list[str]]:
    """Return the question, the mode and the settings of a command line.

    Raises:
        ConfigError: There is no question, or the mode is unknown.
    """
    if not arguments or not arguments[0].strip():
        raise ConfigError(
            "there is no question",
            expected='python -m coa.ask "QUESTION" [mode=cot] [key=value ...]',
        )
    mode = str(Mode.COA)
    settings = []
    for argument in arguments[1:]:
        if argument.startswith("mode="):
            mode = argument.removeprefix("mode=")
        else:
            settings.append(argument)
    if mode not in list(Mode):
        raise unknown_name("mode", mode, Mode)
    return arguments[0], Mode(mode), settings


def load_prompt(mode: Mode, params: Params) -> Prompt:
    """Load the prompt that the settings name for a mode."""
    files = params.section(PromptParams, "prompts")
    template = template_of(params.section(TeacherParams))
    path = Path(files.coa if mode is Mode.COA else files.cot)
    return Prompt.load(path, template)


async def ask(question: str, mode: Mode, params: Params, console: Console) -> Trajectory:
    """Roll out a question that no table holds, printing each step as soon as it is there."""
    prompt = load_prompt(mode, params)
    async with open_runtime(params, "ask") as runtime:
        prompt = prompt.for_policy(runtime.run.encoder)
        task = make_task("ask", question, mode, 0, prompt, tuple(runtime.tools))
        shown = 0
        state = None
        async for state in follow(task, runtime.run, runtime.unbatched_policy, runtime.tools):
            shown = _show_new(state, shown, console)
        assert state is not None
        return finish(state)


def _show_new(state: State, shown: int, console: Console) -> int:
    for step in state.steps[shown:]:
        console.print(styled(step), end="", soft_wrap=True)
    return len(state.steps)


def main(arguments: Sequence[str]) -> str:
    """Ask a question, show the steps, and return the answer with its cost."""
    question, mode, settings = read_arguments(arguments)
    params = Params.load("teacher", settings)
    row = run_interruptible(ask(question, mode, params, Console()))
    answer = boxed_answer(answer_text(row.steps))
    tokens = f"{row.num_policy_tokens:,} tokens written, {row.num_environment_tokens:,} read"
    said = f"answer: {answer}" if answer else "no answer"
    reason = f"; {row.error}" if row.error else ""
    return f"\n\n{said}  [{row.stop_reason}{reason}; {row.num_actions} actions, {tokens}]"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
