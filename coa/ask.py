"""Ask a policy one question in the terminal, and show every step in its author's colour.

    coa ask "What is the hometown of the director of Kindred Quarry?"
    coa ask "QUESTION" model=data/train/rl2     # a model that was trained here
    coa ask "QUESTION" [mode=cot] [teacher.policy=...]

Policy, search and budgets are those of params.yaml (the microworld's teacher knows only questions
about its world). A trained model is asked with the prompt that it was trained with. Calls are kept
in .journal/ask.sqlite, so the same question with the same settings is answered again at no cost.
For another answer give teacher.sampling.seed=1.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import polars as pl
from omegaconf import OmegaConf
from rich.console import Console
from rich.text import Text

from coa.errors import ConfigError, InputError, closest, unknown_name
from coa.interruption import run_interruptible
from coa.microworld.plans import UnknownQuestionError
from coa.policy.prompts import Prompt, PromptParams
from coa.records.grading import boxed_answer
from coa.records.protocol import answer_text
from coa.records.trajectory import FAILED_STOPS, Author, Mode, Step, StepKind, Trajectory
from coa.rollout.drivers import follow
from coa.rollout.factory import TeacherParams, template_of
from coa.rollout.loop import finish
from coa.rollout.runtime import open_runtime
from coa.rollout.tasks import make_task
from coa.settings.params import PARAMS_FILE, Params
from coa.store.files import DATA, QUESTIONS, TRAINED
from coa.terminal import printable

_STYLES = {StepKind.THOUGHT: "", StepKind.ACTION: "bold cyan", StepKind.ANSWER: "bold green"}
_AUTHOR_STYLES = {Author.ENVIRONMENT: "yellow", Author.SCAFFOLD: "magenta"}

_AS_TRAINED = {
    "train.prompt": ("prompts.coa", "prompts.cot"),
    "train.chat_template": ("teacher.chat_template",),
}
"""The settings of a model's training, and those under which it is asked in the same way."""
_NUM_EXAMPLES = 4


def styled(step: Step) -> Text:
    """Return a step in its colour; signs that would act on the terminal are spelled out."""
    style = _STYLES.get(step.kind, "")
    style = _AUTHOR_STYLES.get(step.author, style)
    return Text(printable(step.text), style=style)


def read_arguments(arguments: Sequence[str]) -> tuple[str, Mode, list[str]]:
    """Return the question, the mode and the settings of a command line."""
    if not arguments or not arguments[0].strip():
        raise ConfigError(
            "there is no question",
            expected='coa ask "QUESTION" [mode=cot] [model=FOLDER] [key=value ...]',
            fix=_examples(),
        )
    mode = str(Mode.COA)
    settings: list[str] = []
    for argument in arguments[1:]:
        if argument.startswith("mode="):
            mode = argument.removeprefix("mode=")
        elif argument.startswith("model="):
            settings = [*settings_of_model(argument.removeprefix("model=")), *settings]
        else:
            settings.append(argument)
    if mode not in list(Mode):
        raise unknown_name("mode", mode, Mode)
    return arguments[0], Mode(mode), settings


def settings_of_model(model: str) -> list[str]:
    """Return the settings under which a model in this process is asked as it was trained.

    Its folder keeps the settings of its training. A model of another maker has its tokenizer's chat
    template.
    """
    folder = Path(model)
    if not folder.is_dir() and (model.count("/") != 1 or folder.parts[0] == DATA.name):
        trained = [path.as_posix() for path in sorted(TRAINED.glob("*/")) if path.is_dir()]
        raise ConfigError(
            f"there is no model folder {model!r}",
            expected="a folder, or OWNER/NAME on the Hub",
            got=f"in {TRAINED}/: {', '.join(trained) or 'none'}",
            fix=closest(model, trained),
        )
    settings = ["teacher.policy=local", f"teacher.local.model={json.dumps(model)}"]
    kept = folder / PARAMS_FILE.name
    if not kept.is_file():
        return [*settings, 'teacher.chat_template=""']
    trained_with = OmegaConf.load(kept)
    for name, keys in _AS_TRAINED.items():
        value = OmegaConf.select(trained_with, name)
        if value is not None:
            settings += [f"{key}={json.dumps(value)}" for key in keys]
    return settings


def _examples() -> str:
    """Give questions that can be asked, where the run has any."""
    if not QUESTIONS.exists():
        return "`dvc repro questions` makes the questions of the invented world"
    asked = pl.scan_parquet(QUESTIONS).filter(pl.col("split") != "train").select("question")
    found = asked.head(_NUM_EXAMPLES).collect()["question"].to_list()
    return "\n    ".join(["ask one of these, for example:", *found])


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
            for step in state.steps[shown:]:
                console.print(styled(step), end="", soft_wrap=True)
            shown = len(state.steps)
        assert state is not None
        return finish(state)


def main(arguments: Sequence[str]) -> str:
    """Ask a question, show the steps, and return the answer with its cost.

    Where a tool or the policy's server failed, the line that says so is printed and the status 1.
    """
    question, mode, settings = read_arguments(arguments)
    params = Params.load("teacher", settings)
    try:
        row = run_interruptible(ask(question, mode, params, Console()))
    except UnknownQuestionError as error:
        raise InputError(
            "the invented world does not know this question: its teacher is a script, no model",
            got=question,
            fix=f"{_examples()}\n    or ask a model: model=FOLDER, or teacher.policy=...",
        ) from error
    answer = boxed_answer(answer_text(row.steps))
    tokens = f"{row.num_policy_tokens:,} tokens written, {row.num_environment_tokens:,} read"
    said = f"answer: {answer}" if answer else "no answer"
    reason = f"; {row.error}" if row.error else ""
    line = f"\n\n{said}  [{row.stop_reason}{reason}; {row.num_actions} actions, {tokens}]"
    if row.stop_reason in FAILED_STOPS:
        print(printable(line))
        sys.exit(1)
    return line


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
