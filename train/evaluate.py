"""Evaluate a policy on held-out questions, through the one rollout loop.

    python -m train.evaluate model=data/train/sft2           # a checkpoint, or a name on the Hub
    python -m train.evaluate model=data/train/pretrain mode=react name=pretrain_react
    python -m train.evaluate model=data/train/pretrain mode=cot name=pretrain_cot split=test
    # what evaluate.policy describes:
    python -m train.evaluate evaluate.policy.policy=completions name=served

Writes results/evaluate/{name}.json (exact match and other figures with their intervals,
fingerprints, every question's outcome) and the rollouts to data/evaluate/{name}.parquet. A killed
evaluation goes on from .journal/ where it stopped.
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
from coa.factory import PolicyKind, TeacherParams
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
from train.knowledge import Knowledge, is_about_microworld, open_knowledge
from train.outcomes import Outcome, Result, Setting, outcome_of, summarise, write_result
from train.results import file_name

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
    num_questions: int = 0
    """Of the split, chosen by `seed`; 0 asks all."""
    seed: int = 0
    """Chooses questions and resamples."""
    num_resamples: int = 2000
    """Of the bootstrap."""
    prompts: AskingPrompts = field(default_factory=AskingPrompts)
    policy: TeacherParams = field(default_factory=TeacherParams)
    """As in the section `teacher`; with a `model`, `policy.local` says how it is loaded."""
    limits: Limits = field(default_factory=Limits)
    """As in the section `rollout`."""


def check(params: EvaluateParams) -> EvaluateParams:
    """Return the settings with the result's name and the policy settled.

    Raises:
        ConfigError: the result has no name that can be a file's.
    """
    name = file_name(params.name, params.model, "name")
    if not params.model:
        return replace(params, name=name)
    local = replace(params.policy.local, model=params.model)
    policy = replace(params.policy, policy=PolicyKind.LOCAL, local=local)
    return replace(params, name=name, policy=policy)


def choose_held_out(questions: Iterable[Question], params: EvaluateParams) -> list[Question]:
    """Choose the questions that are asked, sorted by id.

    The choice follows from the seed and the ids alone.

    Raises:
        ConfigError: the split is train's, or has fewer questions than asked for.
    """
    by_split: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_split[question.split].append(question)
    found = by_split[params.split]
    if params.split == "train" or len(found) < max(params.num_questions, 1):
        sizes = {split: len(part) for split, part in by_split.items()}
        shown = [f"{size:,} {split}" for split, size in sorted(sizes.items()) if size]
        raise ConfigError(
            f"the split {params.split!r} cannot be evaluated on",
            where=QUESTIONS,
            expected=f"{params.num_questions or 'any'} questions, none of them for training",
            got=f"questions: {', '.join(shown) or 'none'}",
            fix=_advice(params.split, sizes),
        )

    def draw(question: Question) -> bytes:
        return hashlib.sha256(f"{params.seed}/{question.question_id}".encode()).digest()

    found.sort(key=draw)
    chosen = found[: params.num_questions or None]
    return sorted(chosen, key=lambda question: question.question_id)


def _advice(split: str, sizes: Mapping[str, int]) -> str:
    """Say which setting asks for no more than there is."""
    if split != "train" and sizes[split]:
        return f"set num_questions={sizes[split]} or fewer; 0 asks all {sizes[split]:,}"
    others = [f"split={name}" for name in ("validation", "test") if sizes.get(name)]
    if others:
        return f"set {' or '.join(others)}"
    return (
        "bring questions of the split validation or test (questions.split), for the measure alone"
    )


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


def read_outcome(row: GradedTrajectory, question: Question, knowledge: Knowledge | None) -> Outcome:
    """Say what became of a question; where the world is known, also what was searched for."""
    if knowledge is None or not is_about_microworld(question):
        return outcome_of(row, None, ())
    decisions = list(knowledge.decisions(row.trajectory.steps))
    return outcome_of(row, knowledge.needs_no_search(question), decisions)


def _journal_name(params: EvaluateParams) -> str:
    """Name the journal, with the model's fingerprint: once trained again, it replies otherwise."""
    parts = ("evaluate", params.name, fingerprint_model(params.model))
    return "-".join(part for part in parts if part)


async def evaluate(params: EvaluateParams, loaded: Params, questions: Sequence[Question]) -> Result:
    """Ask the questions and sum up; rollouts go to data/evaluate/{name}.parquet as they come."""
    prompt = Prompt.load(Path(getattr(params.prompts, params.mode)), params.policy.chat_template)
    knowledge = _knowledge_for(questions, loaded)
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
        outcomes = await _collect(params.name, runtime, tasks, questions, knowledge)
    run = runtime.run
    setting = Setting(
        name=params.name,
        model=run.encoder.name,
        model_fingerprint=fingerprint_model(params.model),
        mode=str(params.mode),
        split=params.split,
        questions=questions_hash(questions),
        prompt_hash=prompt.prompt_hash,
        search="" if params.mode is Asking.COT else run.search_fingerprint,
        sampling=params.policy.sampling,
        limits=asdict(params.limits),
    )
    return summarise(setting, outcomes, num_resamples=params.num_resamples, seed=params.seed)


def _knowledge_for(questions: Iterable[Question], loaded: Params) -> Knowledge | None:
    """Open what is known of the microworld, where a question is about it."""
    if any(is_about_microworld(question) for question in questions):
        return open_knowledge(loaded)
    return None


async def _collect(
    name: str,
    runtime: Runtime,
    tasks: Iterable[Task],
    questions: Sequence[Question],
    knowledge: Knowledge | None,
) -> list[Outcome]:
    """Roll out the tasks, write the graded rollouts and return what became of each question."""
    by_id = {question.question_id: question for question in questions}
    outcomes = []
    with (
        tables.TableWriter(ROLLOUTS / f"{name}.parquet", GradedTrajectory) as table,
        Progress(f"evaluate {name}", len(by_id), "questions") as bar,
    ):
        async with aclosing(runtime.roll_out_all(tasks, bar)) as rollouts:
            async for trajectory in rollouts:
                question = by_id[trajectory.question_id]
                row = grade_trajectory(trajectory, question)
                table.write(row)
                outcomes.append(read_outcome(row, question, knowledge))
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
    counts = {StopReason(name): count for name, count in result.stop_reasons.items()}
    return f"{path}: {right}{failed}; {shown_stop_reasons(counts)}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
