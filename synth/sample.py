"""Sample trajectories: the teacher writes n rollouts for each question, with or without search.

    coa sample mode=cot      # reasoning only
    coa sample mode=coa      # search at knowledge gaps, real results inserted
    coa sample mode=coa shard=2/4        # a part of it (docs/scaling.md)

Writes data/sample/{mode}.parquet (or to another folder: `out=`), sorted by question. Every finished
call is recorded in .journal/sample-{mode}.sqlite, so a killed run continues where it stopped and
pays for nothing twice. (AutoCoA, section 3: data synthesis.)
"""

import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from coa.ask import styled
from coa.errors import ConfigError
from coa.interruption import run_interruptible
from coa.policy.prompts import Prompt, PromptParams
from coa.progress import Progress
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.question import Question
from coa.records.ranking import seeded_rank
from coa.records.trajectory import Author, Mode, Step, StopReason, Trajectory
from coa.rollout.factory import TeacherParams, template_of
from coa.rollout.loop import Task
from coa.rollout.runtime import open_runtime
from coa.rollout.tasks import make_task
from coa.settings.outputs import check_folder, journal_name, metrics_name
from coa.settings.params import Params
from coa.shards.files import Shard
from coa.shards.stage import ShardRun, open_stage
from coa.store import tables
from coa.store.files import QUESTIONS, SAMPLED
from coa.store.metrics import rate, shown_stop_reasons, stop_reason_counts, write_metrics
from coa.terminal import printable

_MAX_PREVIEWED = 160
"""Characters of a result in a preview."""


class Assignment(StrEnum):
    """A way to assign questions to the modes."""

    DISJOINT = "disjoint"
    """Each mode gets one half, as in the paper."""
    SAME = "same"
    """Both modes get all questions, so that they can be compared question by question."""


@dataclass(frozen=True, slots=True)
class SampleParams:
    """Settings of the sampling of trajectories."""

    mode: Mode = Mode.COA
    """`cot` forbids the tool, `coa` offers it. `dvc.yaml` gives both on the command line."""
    assignment: Assignment = Assignment.DISJOINT
    """Which questions each mode gets."""
    num_questions: int = 20_000
    """Train questions used for both modes together; the others are left for reinforcement learning.
    Those that an evaluation set contains too (`also_in`) are never used."""
    num_rollouts: int = 1
    """Rollouts for each question and mode: the group size."""
    seed: int = 0
    """Chooses the questions."""
    out: str = SAMPLED.as_posix()
    """The folder under data/ for the trajectories; journal and metrics are named after it."""
    preview: int = 0
    """Roll out this many questions, show them in the terminal with results cut short and write no
    table, before a long run; their calls are kept. 0: all of them."""


def choose_questions(
    questions: Sequence[Question], params: SampleParams, mode: Mode
) -> list[Question]:
    """Choose the train questions that `mode` samples, sorted by id.

    The choice follows from the seed and the ids alone.

    Raises:
        ConfigError: there are fewer train questions than asked for, without those that an
            evaluation set contains too.
    """
    train = [
        question for question in questions if question.split == "train" and not question.also_in
    ]
    if len(train) < params.num_questions:
        num_held = count_held_elsewhere(questions)
        held = f", {num_held:,} more are also in an evaluation set" if num_held else ""
        raise ConfigError(
            "there are too few train questions",
            expected=f"sample.num_questions = {params.num_questions:,}",
            got=f"{len(train):,} in {QUESTIONS}{held}",
            fix="lower sample.num_questions or bring more questions",
        )
    if params.num_questions < 0:
        raise ConfigError(
            "a number of questions cannot be negative",
            where="sample.num_questions",
            expected=f"0 to {len(train):,}",
            got=params.num_questions,
            fix="write the number of train questions that both modes share",
        )
    train.sort(key=lambda question: seeded_rank(question.question_id, params.seed, purpose=""))
    chosen = train[: params.num_questions]
    if params.assignment is Assignment.DISJOINT:
        modes = list(Mode)
        chosen = chosen[modes.index(mode) :: len(modes)]
    return sorted(chosen, key=lambda question: question.question_id)


def count_held_elsewhere(questions: Iterable[Question]) -> int:
    """Count the train questions that an evaluation set contains too; they are never sampled."""
    return sum(question.split == "train" and bool(question.also_in) for question in questions)


def make_tasks(
    questions: Sequence[Question],
    mode: Mode,
    num_rollouts: int,
    prompt: Prompt,
    tools: Sequence[str] = ("search",),
) -> Iterator[Task]:
    """Make the tasks of one mode."""
    for question in questions:
        for index in range(num_rollouts):
            yield make_task(question.question_id, question.question, mode, index, prompt, tools)


@dataclass(slots=True)
class Totals:
    """The totals of a run."""

    model: str = ""
    """The model that wrote the trajectories."""
    trajectories: int = 0
    correct: int = 0
    actions: int = 0
    policy_tokens: int = 0
    calls: int = 0
    stop_reasons: Counter[StopReason] = field(default_factory=Counter)
    costs: Mapping[str, float | None] = field(default_factory=dict)
    """What the rows cost, whenever it was paid."""
    server: Mapping[str, object] = field(default_factory=dict)
    """What the teacher's server was seen to do, as metrics."""

    def add(self, trajectory: Trajectory, *, is_correct: bool | None) -> None:
        """Count one trajectory; whether an open-ended one is right is not known yet."""
        self.model = trajectory.model
        self.trajectories += 1
        self.correct += bool(is_correct)
        self.actions += trajectory.num_actions
        self.policy_tokens += trajectory.num_policy_tokens
        self.calls += trajectory.num_calls
        self.stop_reasons[trajectory.stop_reason] += 1


async def sample(
    questions: Sequence[Question],
    prompt: Prompt,
    params: Params,
    table: tables.TableWriter,
    work: ShardRun,
) -> tuple[Totals, str]:
    """Roll out the questions and write the trajectories as they come.

    Returns:
        The totals, and a summary of what was taken from the journal.
    """
    by_id = {question.question_id: question for question in questions}
    settings = params.section(SampleParams)
    title = metrics_name(settings.out, settings.mode).replace("_", " ")
    num_tasks = len(questions) * settings.num_rollouts
    totals = Totals()
    async with open_runtime(params, work) as runtime:
        tasks = make_tasks(
            questions,
            settings.mode,
            settings.num_rollouts,
            prompt.for_policy(runtime.run.encoder),
            tuple(runtime.tools),
        )
        with Progress(title, num_tasks, "trajectories") as bar:
            async with aclosing(runtime.roll_out_all(tasks, bar)) as rollouts:
                async for trajectory in rollouts:
                    table.write(trajectory)
                    graded = grade_trajectory(trajectory, by_id[trajectory.question_id])
                    is_correct = graded.grade.exact_match
                    totals.add(trajectory, is_correct=is_correct)
                    bar.grade(is_correct=is_correct)
        totals.costs = runtime.ledger.used.metrics()
        totals.server = runtime.server_metrics
        return totals, runtime.journal_summary


def show_preview(rows: Iterable[GradedTrajectory]) -> None:
    """Print trajectories with their grade, each step in its author's colour and results cut."""
    console = Console()
    for row in rows:
        it = row.trajectory
        console.rule(Text(printable(it.trajectory_id)))
        console.print(Text(printable(it.question)), style="bold")
        for step in it.steps:
            console.print(styled(_shortened(step)), end="", soft_wrap=True)
        judged = str(row.grade.verdict)
        if row.gold_answers and not row.grade.exact_match:
            judged += f", accepted: {' | '.join(row.gold_answers)}"
        console.print(Text(printable(f"\n[{it.stop_reason}; {judged}]")))


def _shortened(step: Step) -> Step:
    """Cut what the environment wrote, which is the most of a trajectory and the least to judge."""
    num_left = len(step.text) - _MAX_PREVIEWED
    if step.author is not Author.ENVIRONMENT or num_left <= 0:
        return step
    return replace(step, text=f"{step.text[:_MAX_PREVIEWED]} ... {num_left:,} more characters\n")


def preview(questions: Sequence[Question], prompt: Prompt, work: ShardRun, journal: str) -> str:
    """Roll out the first questions, show them, and return the summary line."""
    params = work.params
    settings = params.section(SampleParams)
    work = replace(work, shard=Shard(), journal_name=journal)
    with TemporaryDirectory() as folder:
        out = Path(folder) / "preview.parquet"
        first = questions[: settings.preview]
        with tables.TableWriter(out, Trajectory) as table:
            totals, saved = run_interruptible(sample(first, prompt, params, table, work))
        by_id = {question.question_id: question for question in first}
        rows = tables.read_table(out, Trajectory)
        show_preview(grade_trajectory(row, by_id[row.question_id]) for row in rows)
    num_all = len(questions) * settings.num_rollouts
    return (
        f"preview: {totals.trajectories:,} of {num_all:,} trajectories, "
        f"{rate(totals.correct, totals.trajectories):.1%} correct; {saved}"
    )


def main(arguments: Sequence[str]) -> str:
    """Sample one mode, or a shard of it, and return the summary line."""
    work = open_stage("synth.sample", arguments)
    params = work.params
    settings = params.section(SampleParams)
    teacher = params.section(TeacherParams, "teacher")
    check_folder(settings.out, "synth.sample")
    name = metrics_name(settings.out, settings.mode)
    files = params.section(PromptParams, "prompts")
    prompt_file = files.cot if settings.mode is Mode.COT else files.coa
    prompt = Prompt.load(Path(prompt_file), template_of(teacher))
    known = list(tables.read_table(QUESTIONS, Question))
    all_questions = choose_questions(known, settings, settings.mode)
    journal = journal_name(settings.out, settings.mode)
    if settings.preview:
        return preview(all_questions, prompt, work, journal)
    work.launch(journal, teacher)
    questions = list(work.choose(all_questions))
    out = work.out(Path(settings.out) / f"{settings.mode}.parquet")
    with tables.TableWriter(out, Trajectory) as table:
        totals, saved = run_interruptible(sample(questions, prompt, params, table, work))
    share = rate(totals.correct, totals.trajectories)
    ended = shown_stop_reasons(totals.stop_reasons)
    shown = f"{out}: {totals.trajectories:,} trajectories, {share:.1%} correct; {ended}; {saved}"
    if work.is_part:
        return work.finish(shown)
    write_metrics(
        name,
        {
            "model": totals.model,
            "questions_held_elsewhere": count_held_elsewhere(known),
            "trajectories": totals.trajectories,
            "correct_rate": share,
            "actions_per_trajectory": rate(totals.actions, totals.trajectories),
            "policy_tokens": totals.policy_tokens,
            "policy_calls": totals.calls,
            "stop_reasons": stop_reason_counts(totals.stop_reasons),
            "costs": totals.costs,
            **totals.server,
        },
    )
    return work.finish(shown)


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
