"""Check, before anything is paid for, that training and evaluation will find what they need.

    python -m train.check

Looks at the section `pipeline` and at what its training stages name: models, sets, prompts,
rewards, the trainers' arguments, and the questions of the evaluated split. Nothing is downloaded
and no model is loaded; the summary line says what could not be checked. Writes
data/train_check.json, on which sampling depends.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from coa.errors import ConfigError, MissingExtraError
from coa.plan import Plan
from coa.policy.chat_templates import own_template
from coa.policy.local.model import load_tokenizer
from coa.policy.prompts import Prompt
from coa.records.question import Question
from coa.settings.params import PARAMS_FILE, Params
from coa.settings.stages import Stage
from coa.store import tables
from coa.store.files import DATA, QUESTIONS, STUDENT_ASSEMBLED, TRAINED
from coa.store.whole_files import write_file
from coa.student.asking import Asking
from coa.student.evaluate_settings import EvaluateParams
from coa.student.held_out import choose_held_out, choose_watched
from coa.student.sets import SETTINGS, how_to_make
from coa.student.settings import TrainParams
from train.arguments import arguments_kind, check_types
from train.base import check_files, check_window, read_window
from train.rewards import check_stages

OUT = DATA / "train_check.json"
_CONTENT = '{"training": "will find what it needs"}\n'
"""The same whenever all is well: nothing is sampled again because the check ran again."""
_STUDENT_SETS = {
    "coa": "add rft to pipeline.training, for which that set is made",
    "cot_a": "set pipeline.student_pairs=1500, or how many pairs the student may mine",
}
"""The sets of what a student wrote, and how to have each made."""
_RL = (Stage.RL1, Stage.RL2)


class Base(NamedTuple):
    """What is known of the model that training starts from."""

    tokenizer: Any = None
    """None where the model is not here, or transformers is not installed."""

    @property
    def unit(self) -> str:
        """Name what `count` counts: there are at least as many tokens as words."""
        return "words" if self.tokenizer is None else "tokens"

    def count(self, text: str) -> int:
        """Count the tokens of a text, or its words."""
        if self.tokenizer is None:
            return len(text.split())
        return len(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def written_out(self, template: str) -> str:
        """Return a chat template; the model's own for an empty one, as far as it is known.

        Raises:
            ConfigError: the model has none.
        """
        if template or self.tokenizer is None:
            return template
        return own_template(self.tokenizer)


class PromptUse(NamedTuple):
    """A prompt file that a model is asked with."""

    file: str
    template: str
    """The chat template around it; empty: the model's own."""
    limit: int
    """Tokens of the whole rollout."""
    limit_setting: str


def check_models(params: TrainParams, stages: Sequence[Stage]) -> Iterator[str]:
    """Check the models that stages start from; yield what could not be checked.

    Raises:
        ConfigError: one is no model, reads less than rows may have, or starts from itself.
    """
    needed = params.max_context_tokens
    if Stage.PRETRAIN in stages and not params.pretrain.base:
        own_window = params.pretrain.student.max_context_tokens
        check_window("train.pretrain.student.max_context_tokens", own_window, needed)
    for setting, model in _given_models(params, stages):
        folder = Path(model)
        if folder.is_dir():
            check_files(folder, model)
            check_window(model, read_window(folder), needed)
        elif folder.is_absolute() or model.count("/") != 1:
            raise ConfigError(
                "there is no such model",
                where=f"{PARAMS_FILE}, {setting}",
                expected="a folder, or a name on the Hub: owner/name",
                got=model,
            )
        else:
            yield f"{model}, which is no folder here and so a name on the Hub"
    for stage in stages:
        _check_beginning(params, stage)


def _given_models(params: TrainParams, stages: Sequence[Stage]) -> Iterator[tuple[str, str]]:
    """Yield the models that no stage of the run trains, with the settings that name them."""
    if Stage.PRETRAIN in stages and params.pretrain.base:
        yield "train.pretrain.base", params.pretrain.base
    for stage, init in params.initial_models().items():
        if stage in stages and not Path(init).is_relative_to(TRAINED):
            yield f"train.{stage}.init", init


def _check_beginning(params: TrainParams, stage: Stage) -> None:
    """Refuse stages that start from each other in a circle."""
    inits = {str(TRAINED / name): init for name, init in params.initial_models().items()}
    seen = [str(TRAINED / stage)]
    while seen[-1] in inits:
        init = inits[seen[-1]]
        if init in seen:
            raise ConfigError(
                "training stages start from each other in a circle",
                where=f"{PARAMS_FILE}, train.{stage}.init",
                expected="a chain that begins at a model",
                got=" <- ".join([*seen, init]),
                fix=f"set train.{stage}.init to the stage before it",
            )
        seen.append(init)


def check_sets(params: TrainParams, plan: Plan) -> None:
    """Check that every set that is trained on will be built, or is there.

    Raises:
        ConfigError: a set is not built, or not there.
    """
    for stage in map(Stage, plan.training):
        if stage is Stage.PRETRAIN:
            continue
        for folder in params.sets_of(stage):
            what = f"there is nothing to train {stage} on: {folder} will not be there"
            where = f"{PARAMS_FILE}, train.{stage}"
            if Path(folder).as_posix() in SETTINGS:
                continue  # The plan knows whether it is built.
            if Path(folder).is_relative_to(STUDENT_ASSEMBLED):
                name = Path(folder).name
                if name not in plan.student_sets:
                    fix = _STUDENT_SETS.get(name, how_to_make(folder))
                    raise ConfigError(what, where=where, fix=fix)
            elif not (Path(folder) / "train.parquet").is_file():
                raise ConfigError(what, where=where, got="no such set", fix=how_to_make(folder))


def prompt_uses(params: TrainParams, asked: EvaluateParams, plan: Plan) -> Iterator[PromptUse]:
    """Yield the prompts of training, and of the evaluations that follow it."""
    own = (params.max_context_tokens, "train.max_context_tokens")
    yield PromptUse(params.prompt, params.chat_template, *own)
    if Stage.RL2 in plan.training and params.rl2.asking is Asking.REACT:
        yield PromptUse(params.rl2.react_prompt, params.chat_template, *own)
    limit = (asked.limits.max_context_tokens, "evaluate.limits.max_context_tokens")
    for mode in sorted({row.mode for row in plan.evaluations}):
        file: str = getattr(asked.prompts, mode)
        yield PromptUse(file, asked.policy.chat_template, *limit)


def check_prompt(use: PromptUse, question: str, base: Base) -> int:
    """Check that a prompt can be read and leaves room; return its length with the longest question.

    Raises:
        ConfigError: its file is missing or has no place for the question, the model has no chat
            template, or the prompt alone fills the context.
    """
    template = base.written_out(use.template) or "{prompt}"
    length = base.count(Prompt.load(Path(use.file), template).fill(question))
    if length >= use.limit:
        raise ConfigError(
            "the prompt with the longest question leaves no room for an answer",
            where=use.file,
            expected=f"fewer than {use.limit_setting} = {use.limit} tokens",
            got=f"{length} {base.unit}",
            fix=f"raise {use.limit_setting}, or shorten the prompt or the questions",
        )
    return length


def warn_of_templates(params: TrainParams, asked: EvaluateParams, base: Base) -> None:
    """Say so where models are evaluated in another chat format than they are trained in."""
    trained = base.written_out(params.chat_template)
    evaluated = base.written_out(asked.policy.chat_template)
    if trained and evaluated and trained != evaluated:
        print(
            "WARNING: models are evaluated in another chat format than they are trained in: "
            f"train.chat_template is {trained!r}, evaluate.policy.chat_template {evaluated!r}",
            file=sys.stderr,
        )


def longest_question(path: Path) -> str:
    """Read the longest question of a table, by characters.

    Raises:
        InputError: the file is missing or broken, or lacks the column.
    """
    tables.require_columns(path, tables.open_parquet(path).schema_arrow.names, ["question"])
    length = pl.col("question").str.len_chars()
    longest = pl.scan_parquet(path).select("question").sort(length, descending=True).head(1)
    found = longest.collect()["question"].to_list()
    return found[0] if found else ""


def check_arguments(params: TrainParams, stages: Sequence[Stage]) -> bool:
    """Check the names of rewards, and the names and types of the trainers' arguments.

    Returns:
        False where the trainers are not installed, so that their arguments cannot be checked.

    Raises:
        ConfigError: a name is unknown, or a value has the wrong type.
    """
    is_known = True
    for stage in stages:
        if stage in _RL:
            check_stages(params.rl_of(stage), where=f"{PARAMS_FILE}, train.{stage}")
        kind = arguments_kind(stage)
        if kind is None:
            is_known = False
        else:
            where = f"{PARAMS_FILE}, train.{stage}.arguments"
            check_types(kind, params.arguments_of(stage), where=where)
    return is_known


def load_base(params: TrainParams, stages: Sequence[Stage]) -> Base:
    """Load the tokenizer of the first given model that is here.

    Raises:
        ConfigError: it cannot be read.
    """
    for _, model in _given_models(params, stages):
        if Path(model).is_dir():
            try:
                return Base(load_tokenizer(model))
            except MissingExtraError:
                return Base()
    return Base()


def main(arguments: Sequence[str]) -> str:
    """Check all of it and return the summary line."""
    loaded = Params.load("train", arguments)
    plan = Plan(loaded)
    params = loaded.section(TrainParams)
    asked = loaded.section(EvaluateParams, "evaluate")
    stages = [Stage(name) for name in plan.training]
    if not stages:
        raise ConfigError(
            "there is nothing to check: no training stage is named",
            where=f"{PARAMS_FILE}, section 'pipeline'",
            expected="pipeline.training: [pretrain, sft1, ...]",
        )
    unchecked = list(check_models(params, stages))
    check_sets(params, plan)
    if not check_arguments(params, stages):
        unchecked.append("the trainers' arguments (TRL is not installed)")
    choose_held_out(tables.read_table(QUESTIONS, Question), asked)
    if params.monitors.every > 0 and stages != [Stage.PRETRAIN]:
        choose_watched(tables.read_table(QUESTIONS, Question), params.monitors.num_questions)
    base = load_base(params, stages)
    warn_of_templates(params, asked, base)
    question = longest_question(QUESTIONS)
    uses = list(prompt_uses(params, asked, plan))
    lengths = [check_prompt(use, question, base) for use in uses]
    write_file(OUT, _CONTENT)
    shown = f"prompts of at most {max(lengths)} {base.unit}"
    rest = f"; not checked: {', '.join(unchecked)}" if unchecked else ""
    return f"{OUT}: {', '.join(stages)} will find what they need; {shown}{rest}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
