"""Evaluate a policy on held-out questions, through the one rollout loop.

    python -m train.evaluate model=data/train/sft2           # a checkpoint, or a name on the Hub
    python -m train.evaluate model=data/train/pretrain mode=react name=pretrain_react
    python -m train.evaluate model=data/train/pretrain mode=cot name=pretrain_cot split=test
    # what evaluate.policy describes:
    python -m train.evaluate evaluate.policy.policy=completions name=served

The evaluation sets are the sources of the split's questions; all of them are asked unless
`evaluate.sets` names some. Writes results/evaluate/{name}.json (exact match and other figures with
their intervals, over all questions and for each set, all settings, every question's outcome) and
the rollouts to data/evaluate/{name}.parquet. A killed evaluation goes on from .journal/ where it
stopped.
"""

import hashlib
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from coa import tables
from coa.asking import make_task
from coa.errors import ConfigError
from coa.factory import PolicyKind, SearchParams, TeacherParams, template_of
from coa.files import EVALUATED, QUESTIONS
from coa.graded import GradedTrajectory, grade_trajectory
from coa.interruption import run_interruptible
from coa.metrics import shown_stop_reasons
from coa.model_files import fingerprint_model
from coa.params import Params
from coa.policy.react import as_react
from coa.progress import Progress
from coa.prompts import Prompt
from coa.question import Question
from coa.rollout import Limits, Task
from coa.runtime import Runtime, open_runtime
from coa.trajectory import Mode, StopReason
from train.asking import Asking, AskingPrompts
from train.knowledge import KnowledgeProbe, open_probe
from train.outcomes import (
    Outcome,
    Result,
    Setting,
    calls_measure,
    outcome_of,
    shown_set,
    summarise,
    write_result,
)
from train.results import file_name
from train.searched import describe_search

ROLLOUTS = EVALUATED


@dataclass(frozen=True, slots=True)
class EvaluateParams:
    """Who is asked what, and how."""

    model: str = ""
    """A folder or a name on the Hub, loaded in this process; empty: what `policy` describes."""
    name: str = ""
    """Of the result; empty: the last part of `model`."""
    split: str = "validation"
    """Settings are chosen on validation; test is for the final table."""
    mode: Asking = Asking.COA
    """coa offers the tool, cot forbids it, react asks in the form of ReAct."""
    sets: tuple[str, ...] = ()
    """The evaluation sets that are asked, as the questions' sources name them; empty: all sets of
    the split."""
    num_questions: int = 0
    """Of each set, chosen by `seed`; 0 asks all. Of several sets a smaller one is asked whole."""
    seed: int = 0
    """Chooses questions and resamples."""
    num_resamples: int = 2000
    """Of the bootstrap."""
    prompts: AskingPrompts = field(default_factory=AskingPrompts)
    policy: TeacherParams = field(default_factory=TeacherParams)
    """As in the section `teacher`; with a `model`, `policy.local` says how it is loaded."""
    limits: Limits = field(default_factory=Limits)
    """As in the section `rollout`."""
    search_price: float = 0.0
    """What one search costs, in exact match; above 0 the utility is reported, too: exact match
    minus the price of the searches."""


def check(params: EvaluateParams) -> EvaluateParams:
    """Return the settings with the result's name and the policy settled.

    Raises:
        ConfigError: the result has no name that can be a file's, or the price is below 0.
    """
    if params.search_price < 0:
        raise ConfigError(
            "a search has a negative price",
            where="evaluate.search_price",
            expected="0 (no price) or more, such as 0.05",
            got=params.search_price,
        )
    name = file_name(params.name, params.model, "name")
    if not params.model:
        return replace(params, name=name)
    local = replace(params.policy.local, model=params.model)
    policy = replace(params.policy, policy=PolicyKind.LOCAL, local=local)
    return replace(params, name=name, policy=policy)


def choose_held_out(questions: Iterable[Question], params: EvaluateParams) -> list[Question]:
    """Choose the questions that are asked, so many of each evaluation set, sorted by id.

    The choice in a set follows from the seed and the ids alone. Of several sets one that has fewer
    questions than asked for is asked whole.

    Raises:
        ConfigError: the split is train's, has none of the sets, or there is a single set with fewer
            questions than asked for.
    """
    by_split: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_split[question.split].append(question)
    if params.split == "train" or not by_split[params.split]:
        raise _unusable_split(params, by_split)
    sets = _choose_sets(by_split[params.split], params)

    def draw(question: Question) -> bytes:
        return hashlib.sha256(f"{params.seed}/{question.question_id}".encode()).digest()

    chosen: list[Question] = []
    for part in sets.values():
        chosen += sorted(part, key=draw)[: params.num_questions or None]
    return sorted(chosen, key=lambda question: question.question_id)


def _unusable_split(
    params: EvaluateParams, by_split: Mapping[str, Sequence[Question]]
) -> ConfigError:
    """Say which splits there are, and which of them can be asked."""
    sizes = {split: len(part) for split, part in by_split.items() if part}
    shown = [f"{size:,} {split}" for split, size in sorted(sizes.items())]
    usable = [f"split={name}" for name in ("validation", "test") if name in sizes]
    fix = f"set {' or '.join(usable)}"
    if not usable:
        fix = "bring questions of the split validation or test, for the measure alone"
    return ConfigError(
        f"the split {params.split!r} cannot be evaluated on",
        where=QUESTIONS,
        expected=f"{params.num_questions or 'any'} questions, none of them for training",
        got=f"questions: {', '.join(shown) or 'none'}",
        fix=fix,
    )


def _choose_sets(
    questions: Iterable[Question], params: EvaluateParams
) -> dict[str, list[Question]]:
    """Part the questions of the split by their source, and keep the sets that are asked.

    Raises:
        ConfigError: a set is not there, or there is a single one with too few questions.
    """
    there: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        there[question.source].append(question)
    shown = [f"{shown_set(name)} ({len(there[name]):,} questions)" for name in sorted(there)]
    for name in params.sets:
        if name not in there:
            raise ConfigError(
                f"the split {params.split!r} has no evaluation set {name!r}",
                where="evaluate.sets",
                expected=f"sources of its questions: {', '.join(shown)}",
                got=name,
            )
    sets = {name: there[name] for name in params.sets or sorted(there)}
    if len(sets) == 1:
        (part,) = sets.values()
        size = len(part)
        if size < params.num_questions:
            raise ConfigError(
                f"the split {params.split!r} cannot be evaluated on: it has too few questions",
                where=QUESTIONS,
                expected=f"{params.num_questions:,} questions of {shown_set(*sets)}",
                got=f"{size:,}",
                fix=f"set num_questions={size} or fewer; 0 asks all {size:,}",
            )
    return sets


def make_evaluation_task(
    question: Question, mode: Asking, prompt: Prompt, tools: Sequence[str] = ("search",)
) -> Task:
    """Make the rollout of one question; in cot a call of a tool ends it."""
    asked = Mode.COT if mode is Asking.COT else Mode.COA
    return make_task(question.question_id, question.question, asked, 0, prompt, tools)


def questions_hash(questions: Iterable[Question]) -> str:
    """Hash ids, texts and gold answers: the first 16 hex digits of their SHA-256."""
    asked = []
    for question in questions:
        asked.append((question.question_id, question.question, question.gold_answers))
    return hashlib.sha256(repr(asked).encode()).hexdigest()[:16]


def read_outcome(
    row: GradedTrajectory,
    question: Question,
    probe: KnowledgeProbe,
    search_price: float = 0.0,
    tools: Sequence[str] = (),
) -> Outcome:
    """Say what became of a question; where the world is known, also what was searched for.

    `tools` are those that were offered; empty where no other tool than search was.
    """
    return outcome_of(
        row,
        question.source,
        probe.needs_no_search(question),
        list(probe.decisions(row.trajectory.steps)),
        search_price,
        tools,
        probe.needs_calculation(question),
    )


def _journal_name(params: EvaluateParams) -> str:
    """Name the journal, with the model's fingerprint: once trained again, it replies otherwise."""
    parts = ("evaluate", params.name, fingerprint_model(params.model))
    return "-".join(part for part in parts if part)


async def evaluate(params: EvaluateParams, loaded: Params, questions: Sequence[Question]) -> Result:
    """Ask the questions and sum up; rollouts go to data/evaluate/{name}.parquet as they come."""
    prompt_file = Path(getattr(params.prompts, params.mode))
    prompt = Prompt.load(prompt_file, template_of(params.policy))
    probe = open_probe(questions, loaded)
    async with open_runtime(
        loaded,
        _journal_name(params),
        teacher=params.policy,
        limits=params.limits,
        wrap_policy=as_react if params.mode is Asking.REACT else None,
    ) as runtime:
        prompt = prompt.for_policy(runtime.run.encoder)
        tools = tuple(runtime.tools)
        tasks = (
            make_evaluation_task(question, params.mode, prompt, tools) for question in questions
        )
        has_tools = params.mode is not Asking.COT
        chosen_from = tools if has_tools and len(tools) > 1 else ()
        outcomes = await _collect(params, runtime, tasks, questions, probe, chosen_from)
    run = runtime.run
    search = loaded.section(SearchParams, "search")
    setting = Setting(
        name=params.name,
        model=run.encoder.name,
        model_fingerprint=fingerprint_model(params.model),
        mode=str(params.mode),
        split=params.split,
        questions=questions_hash(questions),
        prompt_hash=prompt.prompt_hash,
        search=run.search_fingerprint if has_tools else "",
        sampling=params.policy.sampling,
        limits=asdict(params.limits),
        prompt_file=prompt_file.as_posix(),
        searched=describe_search(search) if has_tools else None,
        search_price=params.search_price,
        tools=chosen_from,
    )
    result = summarise(setting, outcomes, num_resamples=params.num_resamples, seed=params.seed)
    seen = dict(runtime.probe.seen) if runtime.probe else {}
    return replace(result, costs=runtime.ledger.used.metrics(), probe=seen)


async def _collect(
    params: EvaluateParams,
    runtime: Runtime,
    tasks: Iterable[Task],
    questions: Sequence[Question],
    probe: KnowledgeProbe,
    tools: Sequence[str],
) -> list[Outcome]:
    """Roll out the tasks, write the graded rollouts and return what became of each question."""
    by_id = {question.question_id: question for question in questions}
    outcomes = []
    with (
        tables.TableWriter(ROLLOUTS / f"{params.name}.parquet", GradedTrajectory) as table,
        Progress(f"evaluate {params.name}", len(by_id), "questions") as bar,
    ):
        async with aclosing(runtime.roll_out_all(tasks, bar)) as rollouts:
            async for trajectory in rollouts:
                question = by_id[trajectory.question_id]
                row = grade_trajectory(trajectory, question)
                table.write(row)
                outcomes.append(read_outcome(row, question, probe, params.search_price, tools))
                bar.grade(is_correct=row.grade.exact_match)
    return outcomes


def main(arguments: Sequence[str]) -> str:
    """Evaluate one policy and return the summary line."""
    loaded = Params.load("evaluate", arguments)
    params = check(loaded.section(EvaluateParams))
    questions = choose_held_out(tables.read_table(QUESTIONS, Question), params)
    result = run_interruptible(evaluate(params, loaded, questions))
    path = write_result(result)
    failed = f"; {result.num_failed:,} FAILED and count as wrong" if result.num_failed else ""
    right = f"exact match {result.metrics['exact_match']} on {len(questions):,} questions"
    if params.search_price:
        price = f"{params.search_price:g} a search"
        right += f", utility {result.metrics['utility']} at a price of {price}"
    right += _summarise_calls(result)
    sets = _summarise_sets(result, params.num_questions)
    counts = {StopReason(name): count for name, count in result.stop_reasons.items()}
    return f"{path}: {right}{sets}{failed}; {shown_stop_reasons(counts)}"


def _summarise_calls(result: Result) -> str:
    """Say how often each tool was called, where there was more than one."""
    parts = []
    for tool in result.setting.tools:
        calls = result.metrics[calls_measure(tool)]
        assert calls is not None
        parts.append(f"{calls.value:.2f} of {tool}")
    return f", calls a question: {', '.join(parts)}" if parts else ""


def _summarise_sets(result: Result, num_questions: int) -> str:
    """Say how each of several sets went, and which of them have fewer questions than asked for."""
    if len(result.by_set) < 2:
        return ""
    parts = [f"mean over {len(result.by_set)} sets {result.mean_over_sets['exact_match']}"]
    for name, metrics in result.by_set.items():
        found = metrics["exact_match"]
        assert found is not None
        whole = ", all that it has" if found.num < num_questions else ""
        parts.append(f"{shown_set(name)} {found} ({found.num:,} questions{whole})")
    return f"; {', '.join(parts)}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
