"""Compare the rules with the truth: what the scripted teacher did is known to these tests alone.

`python -m pytest tests/test_analyse.py -s` shows the table of precision and recall. Causes that the
teacher never or seldom brings about (a confident error, a slip of the conclusion, a forged
observation, ...) are made from its rollouts by changing the one thing that the cause is about.
"""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from coa import protocol, tables
from coa.causes import CONTRIBUTING_ONLY, Analysis, Cause
from coa.drivers import roll_out_batched
from coa.errors import InputError
from coa.graded import GradedTrajectory, grade_trajectory
from coa.microworld.decisions import FORMAT_SLIPS, TeacherDecision, TeacherEvent
from coa.microworld.phrases import PhraseKind, Utterance, read_back
from coa.microworld.plans import Plan
from coa.microworld.questions import make_questions, plan_question
from coa.microworld.relations import read_value
from coa.microworld.teacher import Teacher
from coa.microworld.world import Group, World, WorldSettings, make_world
from coa.policy.scripted import ScriptedPolicy
from coa.prompts import Prompt
from coa.question import Question
from coa.rollout import Limits, RolloutContext, Task
from coa.search import Passage
from coa.search.embedded import EmbeddedSearch
from coa.tools.search import ObservationSettings, SearchTool
from coa.trajectory import (
    FORCED_STOPS,
    Author,
    Mode,
    Sampling,
    Step,
    StepKind,
    StopReason,
    Trajectory,
    trajectory_id,
)
from curate import analyse
from curate.analyse import analyse_all
from curate.diagnosis.gold import Corpus, gold_passages
from curate.diagnosis.queries import asking_words
from curate.diagnosis.rules import Context

NUM_QUESTIONS = {Mode.COT: 500, Mode.COA: 2_600}
PROMPTS = Path(__file__).parent.parent / "synth" / "prompts"
VALUES = (PhraseKind.RECALL, PhraseKind.GUESS, PhraseKind.READ)
LEAST, LEAST_CASES = 0.9, 30
"""Precision and recall of every cause, and cases of each that make a figure."""


class Truth(NamedTuple):
    """What really went wrong."""

    cause: Cause
    step: int | None = None
    """Where the wrong value is stated."""


class Sampled(NamedTuple):
    """Rollouts of both modes with the truth about the failed ones."""

    world: World
    questions: dict[str, Question]
    corpus: Corpus
    rows: list[GradedTrajectory]
    truth: dict[str, Truth]

    def context(self) -> Context:
        return Context(
            self.corpus, asking_words(question.question for question in self.questions.values())
        )


@pytest.fixture(scope="module")
def sampled() -> Sampled:
    world = make_world(WorldSettings())
    asked = make_questions(world, Group.TRAIN, 22_000, seed=1)[: max(NUM_QUESTIONS.values())]
    plans = {question.question_id: plan_question(world, question) for question in asked}
    rows: list[GradedTrajectory] = []
    truth: dict[str, Truth] = {}
    for mode, number in NUM_QUESTIONS.items():
        events: dict[str, list[TeacherEvent]] = defaultdict(list)
        for question, trajectory in zip(
            asked, _roll_out(world, plans, asked[:number], mode, 10, events), strict=False
        ):
            rows.append(grade_trajectory(trajectory, question))
            found = _truth(trajectory, plans[question.question_id], events[question.question_id])
            truth[trajectory.trajectory_id] = found
    # With one search each most run out of them.
    for question, trajectory in zip(
        asked, _roll_out(world, plans, asked[:300], Mode.COA, 1, {}), strict=False
    ):
        if trajectory.stop_reason in FORCED_STOPS:
            renamed = replace(trajectory, trajectory_id=f"{trajectory.trajectory_id}/short")
            rows.append(grade_trajectory(renamed, question))
            truth[renamed.trajectory_id] = Truth(Cause.BUDGET)
    titles = {title for question in asked for title in question.gold_titles}
    questions = {question.question_id: question for question in asked}
    return Sampled(world, questions, gold_passages(world.passages(), titles), rows, truth)


def _roll_out(
    world: World,
    plans: dict[str, Plan],
    asked: list[Question],
    mode: Mode,
    max_actions: int,
    events: dict[str, list[TeacherEvent]],
) -> list[Trajectory]:
    teacher = Teacher(
        world,
        plans.values(),
        on_event=lambda event: events.setdefault(event.question_id, []).append(event),
    )
    tool = SearchTool(
        EmbeddedSearch.in_memory(world.passages()), ObservationSettings(top_k=2, shows_titles=False)
    )
    policy = ScriptedPolicy(teacher.write)
    prompt = Prompt.load(PROMPTS / f"{mode}.txt", "{prompt}\n\n")
    offered, forbidden = (("search",), ()) if mode is Mode.COA else ((), ("search",))
    tasks = [
        Task(
            trajectory_id(q.question_id, mode, 0),
            q.question_id,
            mode,
            0,
            q.question,
            prompt.fill(q.question),
            prompt.prompt_hash,
            offered,
            forbidden,
        )
        for q in asked
    ]
    run = RolloutContext(policy, Sampling(), Limits(max_actions, 1024, 32), tool.fingerprint)

    async def collect() -> list[Trajectory]:
        return [
            done
            async for done in roll_out_batched(tasks, run, policy, {"search": tool}, batch_size=64)
        ]

    return asyncio.run(collect())


def _truth(trajectory: Trajectory, plan: Plan, events: list[TeacherEvent]) -> Truth:
    """The first fact whose value is not the plan's, and what the teacher decided there."""
    if trajectory.stop_reason in FORCED_STOPS:
        return Truth(Cause.BUDGET)
    if FORMAT_SLIPS & {event.what for event in events}:
        return Truth(Cause.FORMAT)
    for hop, (fact, (step, said, seen)) in enumerate(
        zip(plan.facts, _values(trajectory), strict=True)
    ):
        if said.text == fact.value:
            continue
        here = [event.what for event in events if event.hop == hop]
        if said.said is PhraseKind.READ:
            was_shown = bool(read_value(seen, fact.entity, fact.relation))
            return Truth(Cause.EVIDENCE_IGNORED if was_shown else Cause.DISTRACTOR_FOLLOWED, step)
        if TeacherDecision.SEARCHED in here:
            return Truth(Cause.RETRIEVAL_MISS if _had_good_query(here) else Cause.BAD_QUERY)
        return Truth(
            Cause.NEVER_SEARCHED if trajectory.mode is Mode.COA else Cause.KNOWLEDGE_GAP, step
        )
    return Truth(Cause.REASONING_SLIP)


def _values(trajectory: Trajectory) -> Iterator[tuple[int, Utterance, str]]:
    """The values that were stated, each with its step and the observation seen last."""
    seen = ""
    for i, step in enumerate(trajectory.steps):
        if step.kind is StepKind.OBSERVATION:
            seen = step.text
        elif step.kind is StepKind.THOUGHT:
            yield from ((i, said, seen) for said in read_back(step.text) if said.said in VALUES)


def _had_good_query(decisions: list[TeacherDecision]) -> bool:
    """Whether any query was good; a repeated one is as good as the one before."""
    is_good = [
        beside is not TeacherDecision.POOR_QUERY
        for what, beside in zip(decisions, [*decisions[1:], None], strict=True)
        if what is TeacherDecision.SEARCHED and beside is not TeacherDecision.REPEATED
    ]
    return any(is_good)


# One thing changed: causes that the teacher seldom brings about


def _changed(
    row: GradedTrajectory, name: str, steps: Iterable[Step], stop_reason: StopReason | None = None
) -> GradedTrajectory:
    """A row with other steps under an id of its own, graded anew against the same answers."""
    trajectory = replace(
        row.trajectory,
        trajectory_id=f"{row.trajectory.trajectory_id}/{name}",
        steps=tuple(steps),
        stop_reason=stop_reason or row.trajectory.stop_reason,
    )
    return grade_trajectory(
        trajectory, Question("", "", row.gold_answers, "train", row.question_type, row.num_hops)
    )


def _confident(row: GradedTrajectory, _: Sampled) -> GradedTrajectory:
    """The same guesses, stated as knowledge."""
    return _changed(
        row, "confident", (_rewritten(step, "Maybe ", "I recall ") for step in row.trajectory.steps)
    )


def _concluding_wrongly(row: GradedTrajectory, sampled: Sampled) -> GradedTrajectory:
    """The same right facts, another answer."""
    question = sampled.questions[row.trajectory.question_id]
    right = row.grade.prediction or ""
    others = [title for title in (*question.gold_titles, "Nobody Else") if title != right]
    wrong = {"yes": "no", "no": "yes"}.get(right, others[0])
    steps = (
        _rewritten(step, f"answer is {right}", f"answer is {wrong}")
        for step in row.trajectory.steps
    )
    return _changed(
        row, "slip", (_rewritten(step, f"{{{right}}}", f"{{{wrong}}}") for step in steps)
    )


def _forging(row: GradedTrajectory, _: Sampled) -> GradedTrajectory:
    """A search result that the policy wrote itself."""
    first, *rest = row.trajectory.steps
    return _changed(row, "forged", [replace(first, text=first.text + FORGED), *rest])


def _cut_off(row: GradedTrajectory, _: Sampled) -> GradedTrajectory:
    """The answer without its end."""
    *before, answer = row.trajectory.steps
    cut = [*before, replace(answer, text=answer.text.rstrip().removesuffix("}"))]
    return _changed(row, "cut", cut, stop_reason=StopReason.TRUNCATED)


def _without_alias(row: GradedTrajectory, _: Sampled) -> GradedTrajectory:
    """Graded without the accepted answer that it equals."""
    strict = replace(row, gold_answers=row.gold_answers[1:])
    return _changed(strict, "strict", row.trajectory.steps)


def _after_failure(row: GradedTrajectory, _: Sampled) -> GradedTrajectory:
    return _changed(row, "failed", row.trajectory.steps[:2], stop_reason=StopReason.TOOL_ERROR)


def _rewritten(step: Step, old: str, new: str) -> Step:
    return replace(step, text=step.text.replace(old, new)) if step.author is Author.POLICY else step


FORGED = protocol.observation_text("search", "result 1: Nobody knows.")
MADE: dict[Cause, Callable[[GradedTrajectory, Sampled], GradedTrajectory]] = {
    Cause.FALSE_RECALL: _confident,
    Cause.REASONING_SLIP: _concluding_wrongly,
    Cause.FORGED_OBSERVATION: _forging,
    Cause.TRUNCATED: _cut_off,
    Cause.GRADED_WRONG: _without_alias,
    Cause.TOOL_FAILURE: _after_failure,
}


def _fits(cause: Cause, row: GradedTrajectory, truth: Cause) -> bool:
    """Whether a row can be changed so that `cause` is what went wrong in it."""
    if cause is Cause.FALSE_RECALL:
        return (
            truth is Cause.KNOWLEDGE_GAP
            and row.trajectory.mode is Mode.COT
            and not row.grade.exact_match
        )
    if cause is Cause.REASONING_SLIP:
        return truth is Cause.REASONING_SLIP and row.grade.exact_match
    if cause is Cause.GRADED_WRONG:
        return row.grade.matched_alias == 0 and len(row.gold_answers) > 1
    return row.trajectory.num_actions > 0 and row.trajectory.stop_reason is StopReason.ANSWERED


def _made(cause: Cause, sampled: Sampled) -> list[GradedTrajectory]:
    fitting = (
        row
        for row in sampled.rows
        if _fits(cause, row, sampled.truth[row.trajectory.trajectory_id].cause)
    )
    made = (MADE[cause](row, sampled) for _, row in zip(range(300), fitting, strict=False))
    return [row for row in made if not row.grade.exact_match]


# The rules against the truth


def _analyse(
    sampled: Sampled, rows: Iterable[GradedTrajectory], context: Context | None = None
) -> list[Analysis]:
    return list(analyse_all(rows, sampled.questions, context or sampled.context()))


def _table(pairs: list[tuple[Cause, Cause | None]]) -> dict[Cause, tuple[int, float, float]]:
    """Number, precision and recall of each cause; pairs are the true one and the one found."""
    counts = Counter(pairs)
    table = {}
    for cause in Cause:
        hits = counts[cause, cause]
        num_true = sum(n for (true, _), n in counts.items() if true is cause)
        num_found = sum(n for (_, found), n in counts.items() if found is cause)
        if num_true or num_found:
            table[cause] = (num_true, hits / max(num_found, 1), hits / max(num_true, 1))
    lines = (
        f"| `{cause}` | {n:,} | {precision:.3f} | {recall:.3f} |"
        for cause, (n, precision, recall) in table.items()
    )
    print("", "| cause | cases | precision | recall |", "|---|---|---|---|", *lines, sep="\n")
    return table


def test_every_cause_is_found_where_it_is_the_true_one_and_nowhere_else(sampled: Sampled) -> None:
    rows = [row for row in sampled.rows if not row.grade.exact_match]
    truth = {
        row.trajectory.trajectory_id: sampled.truth[row.trajectory.trajectory_id].cause
        for row in rows
    }
    for cause in MADE:
        made = _made(cause, sampled)
        rows += made
        truth |= {row.trajectory.trajectory_id: cause for row in made}
    table = _table([(truth[row.trajectory_id], row.cause) for row in _analyse(sampled, rows)])
    assert table.pop(Cause.UNKNOWN, (0, 0.0, 0.0))[0] == 0
    assert table.keys() == set(Cause) - CONTRIBUTING_ONLY - {Cause.UNKNOWN}
    assert all(number >= LEAST_CASES for number, _, _ in table.values())
    assert all(min(precision, recall) >= LEAST for _, precision, recall in table.values())


def test_hardly_a_cause_is_unknown_where_the_titles_and_the_corpus_are_there(
    sampled: Sampled,
) -> None:
    failed = [row for row in _analyse(sampled, sampled.rows) if row.cause]
    assert sum(row.cause is Cause.UNKNOWN for row in failed) / len(failed) < 0.01


def test_the_blamed_step_is_where_the_wrong_value_is_stated(sampled: Sampled) -> None:
    rows = _analyse(sampled, sampled.rows)
    truth = ((row, sampled.truth[row.trajectory_id]) for row in rows if row.cause)
    agreeing = [
        row.step == true.step
        for row, true in truth
        if true.step is not None and row.cause is true.cause
    ]
    assert sum(agreeing) / len(agreeing) > 0.98


@pytest.mark.parametrize("cause", sorted(CONTRIBUTING_ONLY))
def test_a_search_that_is_made_again_is_found_beside_the_cause(
    sampled: Sampled, cause: Cause
) -> None:
    acting = [row for row in sampled.rows if row.trajectory.num_actions == 1][:500]
    clean = [
        row
        for row, found in zip(acting, _analyse(sampled, acting), strict=True)
        if not found.contributing
    ]
    twice = [
        _changed(row, cause, _searching_again(row, " please" * (cause is Cause.NEEDLESS_SEARCH)))
        for row in clean
    ]
    found = [
        {finding.cause for finding in row.contributing} & CONTRIBUTING_ONLY
        for row in _analyse(sampled, twice)
    ]
    assert len(found) > 200
    assert all(causes == {cause} for causes in found)


def _searching_again(row: GradedTrajectory, more: str) -> Iterator[Step]:
    steps = row.trajectory.steps
    for i, step in enumerate(steps):
        yield step
        if step.kind is StepKind.OBSERVATION:
            yield replace(steps[i - 1], argument=f"{steps[i - 1].argument}{more}")
            yield step


def test_without_gold_titles_little_is_decided_and_hardly_anything_wrongly(
    sampled: Sampled,
) -> None:
    blind = {
        name: replace(question, gold_titles=()) for name, question in sampled.questions.items()
    }
    untitled = sampled._replace(questions=blind, corpus=Corpus())
    found = [row for row in _analyse(untitled, sampled.rows) if row.cause]
    decided = [row for row in found if row.cause is not Cause.UNKNOWN]
    agreeing = [row.cause is sampled.truth[row.trajectory_id].cause for row in decided]
    assert len(decided) < len(found)
    assert not any(row.needs_gold_titles for row in decided)
    assert sum(agreeing) / len(agreeing) > LEAST


def test_without_the_corpus_the_text_of_the_observations_decides(sampled: Sampled) -> None:
    found = [row for row in _analyse(sampled._replace(corpus=Corpus()), sampled.rows) if row.cause]
    decided = [row for row in found if row.cause is not Cause.UNKNOWN]
    agreeing = [row.cause is sampled.truth[row.trajectory_id].cause for row in decided]
    assert len(decided) > len(found) / 2
    assert sum(agreeing) / len(agreeing) > LEAST


# The command

PARAMS = """
index: {corpus: corpus.parquet, out: data/index, columns: {}, is_stemmed: true}
analyse: {reads_corpus: true, near_f1: 0.75}
"""


@pytest.fixture
def run_folder(tmp_path: Path, sampled: Sampled, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the command reads, from a part of the rollouts."""
    rows = sampled.rows[:50] + sampled.rows[NUM_QUESTIONS[Mode.COT] :][:100]
    monkeypatch.chdir(tmp_path)
    tables.write_table(Path("corpus.parquet"), Passage, sampled.world.passages())
    tables.write_table(analyse.QUESTIONS, Question, sampled.questions.values())
    tables.write_table(analyse.GRADED, GradedTrajectory, rows)
    Path("params.yaml").write_text(PARAMS, encoding="utf-8")
    return tmp_path


def test_the_command_writes_a_row_for_every_graded_trajectory(run_folder: Path) -> None:
    summary = analyse.main([])
    rows = list(tables.read_table(analyse.OUT, Analysis))
    graded = list(tables.read_table(analyse.GRADED, GradedTrajectory))
    metrics = json.loads((run_folder / "metrics/analyse.json").read_text(encoding="utf-8"))
    failed = sum(row.cause is not None for row in rows)
    assert [row.trajectory_id for row in rows] == [row.trajectory.trajectory_id for row in graded]
    assert all(
        (row.cause is None) is one.grade.exact_match for row, one in zip(rows, graded, strict=True)
    )
    assert sum(sum(of_mode["causes"].values()) for of_mode in metrics.values()) == failed
    assert summary.startswith("data/analyse.parquet: ")


def test_the_corpus_is_not_read_where_the_setting_says_so(run_folder: Path) -> None:
    Path("corpus.parquet").unlink()
    analyse.main(["reads_corpus=false"])
    with pytest.raises(InputError, match=r"corpus\.parquet is missing"):
        analyse.main([])


def test_a_question_that_is_missing_is_named(run_folder: Path) -> None:
    tables.write_table(analyse.QUESTIONS, Question, [])
    with pytest.raises(InputError, match=r"is not in data/questions\.parquet"):
        analyse.main([])


@pytest.mark.parametrize("name", ["grade", "gold_answers"])
def test_a_missing_column_of_the_graded_table_is_named(run_folder: Path, name: str) -> None:
    table = pq.read_table(analyse.GRADED)
    pq.write_table(
        table.drop_columns([name]).replace_schema_metadata(table.schema.metadata), analyse.GRADED
    )
    with pytest.raises(InputError, match=name):
        analyse.main([])


def _broken_rows(row: GradedTrajectory) -> Iterator[GradedTrajectory]:
    """Yield rows as they should not be.

    Their tags are unclosed or nested, their turns are empty, hold null bytes or ten megabytes, or
    they have no steps.
    """
    open_call = protocol.open_tag("search")
    for i, text in enumerate(
        (open_call, f"{open_call} {open_call}", FORGED * 2, "", "\0", "(Ab. " * 2_000_000)
    ):
        thought = Step(StepKind.THOUGHT, Author.POLICY, text)
        yield _changed(row, f"broken{i}", (thought, *row.trajectory.steps))
    yield _changed(row, "empty", ())
    yield _changed(row, "answerless", row.trajectory.steps[:-1], stop_reason=StopReason.NO_ANSWER)


def test_broken_rows_get_a_cause_each(run_folder: Path, sampled: Sampled) -> None:
    wrong = next(
        row for row in sampled.rows if not row.grade.exact_match and row.trajectory.num_actions
    )
    rows = list(_broken_rows(wrong))
    tables.write_table(analyse.GRADED, GradedTrajectory, rows)
    analyse.main([])
    found = list(tables.read_table(analyse.OUT, Analysis))
    assert all(row.cause for row in found)
    assert [found[i].cause for i in (2, -2, -1)] == [
        Cause.FORGED_OBSERVATION,
        Cause.FORMAT,
        Cause.FORMAT,
    ]
    assert all(len(row.evidence) < 1_000 for row in found)
