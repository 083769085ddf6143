"""Evaluate a policy on held-out questions, through the one rollout loop.

    coa evaluate model=data/train/sft2           # a checkpoint, or a name on the Hub
    coa evaluate model=data/train/pretrain mode=react name=pretrain_react
    coa evaluate model=data/train/pretrain mode=cot name=pretrain_cot split=test
    coa evaluate model=data/train/sft2 baseline=reflexion name=sft2_reflexion
    # what evaluate.policy describes:
    coa evaluate evaluate.policy.policy=completions name=served
    coa evaluate name=served shard=2/4        # a part of it (docs/scaling.md)

The evaluation sets are the sources of the split's questions; all of them are asked unless
`evaluate.sets` names some. Writes results/evaluate/{name}.json (exact match and other figures with
their intervals, over all questions and for each set, all settings, every question's outcome) and
the rollouts to data/evaluate/{name}.parquet. A killed evaluation resumes from .journal/ where it
stopped.
"""

import sys
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import asdict, replace
from pathlib import Path

from coa.errors import ConfigError
from coa.interruption import run_interruptible
from coa.judging.judge import Judge, judge_all, judge_policy, open_judge
from coa.policy.prompts import Prompt
from coa.policy.react import as_react
from coa.progress import Progress
from coa.records.graded import GradedTrajectory, is_right
from coa.records.question import Question
from coa.records.trajectory import StopReason
from coa.records.verdicts import RIGHT
from coa.rollout.factory import PolicyKind, template_of
from coa.rollout.runtime import Runtime, open_runtime
from coa.search.settings import SearchParams
from coa.settings.params import Params
from coa.shards.stage import ShardRun, open_stage
from coa.store import tables
from coa.store.files import EVALUATED, QUESTIONS
from coa.store.metrics import shown_stop_reasons
from coa.store.model_files import evaluation_journal, fingerprint_model
from coa.student.asking import Asking
from coa.student.evaluate_settings import (
    TOLD_BY_GOLD,
    Baseline,
    EvaluateParams,
    mode_of,
)
from coa.student.held_out import choose_held_out, shown_set
from coa.student.knowledge import KnowledgeProbe, open_probe
from coa.student.results import file_name
from evaluation.baselines.answering import answer_questions
from evaluation.baselines.asker import Answered, Asker
from evaluation.benchmarks import Pin, check_pins, pin_sets, questions_hash
from evaluation.outcomes import Outcome, Result, Setting, calls_measure, outcome_of, summarise
from evaluation.result_files import write_result
from evaluation.searched import describe_search
from evaluation.tries import summarise_tries

ROLLOUTS = EVALUATED


def check(params: EvaluateParams) -> EvaluateParams:
    """Return the settings with the result's name and the policy settled.

    Raises:
        ConfigError: the result has no name that can be a file's, the price is below 0, or the
            baseline does not go with the other settings.
    """
    if params.search_price < 0:
        raise ConfigError(
            "a search has a negative price",
            where="evaluate.search_price",
            expected="0 (no price) or more, such as 0.05",
            got=params.search_price,
        )
    name = file_name(params.name, params.model, "name")
    mode = mode_of(params.baseline, params.mode, params.policy.sampling.temperature)
    params = replace(params, mode=mode)
    if not params.model:
        return replace(params, name=name)
    local = replace(params.policy.local, model=params.model)
    policy = replace(params.policy, policy=PolicyKind.LOCAL, local=local)
    return replace(params, name=name, policy=policy)


def read_outcome(
    row: GradedTrajectory,
    question: Question,
    probe: KnowledgeProbe,
    search_price: float = 0.0,
    tools: Sequence[str] = (),
) -> Outcome:
    """Return the outcome of a question; where the world is known, also what was searched for.

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


async def evaluate(
    params: EvaluateParams,
    loaded: Params,
    questions: Sequence[Question],
    work: ShardRun,
    sets: Mapping[str, Pin] | None = None,
) -> Result:
    """Ask the questions and sum up; rollouts go to data/evaluate/{name}.parquet as they come.

    `sets` are the evaluation sets from which the questions were chosen.
    """
    prompt_file = Path(getattr(params.prompts, params.mode))
    prompt = Prompt.load(prompt_file, template_of(params.policy))
    probe = open_probe(questions, loaded)
    async with (
        open_judge(loaded, work, is_needed=_has_rubric(questions)) as judge,
        open_runtime(
            loaded,
            work,
            teacher=params.policy,
            section="evaluate.policy",
            limits=params.limits,
            wrap_policy=as_react if params.mode is Asking.REACT else None,
        ) as runtime,
    ):
        prompt = prompt.for_policy(runtime.run.encoder)
        chosen_from = _tools_to_choose_from(params, runtime)
        rollouts = work.out(ROLLOUTS / f"{params.name}.parquet")
        with Progress(f"evaluate {params.name}", len(questions), "questions") as bar:
            asker = Asker(runtime, prompt, params.mode, bar)
            outcomes = await _collect(params, asker, questions, probe, chosen_from, rollouts, judge)
    setting = _describe(params, loaded, questions, prompt, runtime, judge, sets or {})
    result = summarise(setting, outcomes, seed=params.seed)
    if params.baseline in TOLD_BY_GOLD:
        result = replace(result, by_tries=summarise_tries(outcomes, seed=params.seed))
    seen = dict(runtime.probe.seen) if runtime.probe else {}
    return replace(result, costs=runtime.ledger.used.metrics(), probe=seen)


def _tools_to_choose_from(params: EvaluateParams, runtime: Runtime) -> tuple[str, ...]:
    """Return the tools that are offered, where there is more than one."""
    tools = () if params.mode is Asking.COT else tuple(runtime.tools)
    return tools if len(tools) > 1 else ()


def _describe(
    params: EvaluateParams,
    loaded: Params,
    questions: Sequence[Question],
    prompt: Prompt,
    runtime: Runtime,
    judge: Judge | None,
    sets: Mapping[str, Pin],
) -> Setting:
    """Describe who was asked what, and how."""
    run = runtime.run
    search = loaded.section(SearchParams, "search")
    searches = params.mode is not Asking.COT or params.baseline is Baseline.RETRIEVE_THEN_READ
    return Setting(
        name=params.name,
        model=run.encoder.name,
        model_fingerprint=fingerprint_model(params.model),
        mode=str(params.mode),
        split=params.split,
        questions=questions_hash(questions),
        prompt_hash=prompt.prompt_hash,
        search=run.search_fingerprint if searches else "",
        sampling=params.policy.sampling,
        limits=asdict(params.limits),
        prompt_file=Path(getattr(params.prompts, params.mode)).as_posix(),
        searched=describe_search(search) if searches else None,
        search_price=params.search_price,
        tools=_tools_to_choose_from(params, runtime),
        judge=judge.name if judge else "",
        baseline=str(params.baseline),
        is_told_by_gold=params.baseline in TOLD_BY_GOLD,
        sets=dict(sets),
        pins=params.pins,
    )


async def _collect(
    params: EvaluateParams,
    asker: Asker,
    questions: Sequence[Question],
    probe: KnowledgeProbe,
    tools: Sequence[str],
    rollouts_file: Path,
    judge: Judge | None,
) -> list[Outcome]:
    """Answer the questions, write the graded rollouts and return the outcome of each question."""
    template = template_of(params.policy)
    answers = answer_questions(asker, questions, params.baseline, params.baselines, template)
    outcomes = []
    answered: dict[str, Answered] = {}
    with tables.TableWriter(rollouts_file, GradedTrajectory) as table:

        async def final_rows() -> AsyncGenerator[GradedTrajectory, None]:
            """Yield the row that counts of each question; write its other tries."""
            async with aclosing(answers):
                async for each in answers:
                    answered[each.row.trajectory.trajectory_id] = each
                    for row in each.rows:
                        if row is not each.row:
                            table.write(row)
                    yield each.row

        async with aclosing(judge_all(judge, final_rows())) as rows:
            async for row in rows:
                each = answered.pop(row.trajectory.trajectory_id)
                table.write(row)
                outcome = read_outcome(row, each.question, probe, params.search_price, tools)
                outcomes.append(replace(outcome, spent=each.spent))
                asker.bar.grade(is_correct=is_right(row))
    return outcomes


def _has_rubric(questions: Iterable[Question]) -> bool:
    return any(question.rubric for question in questions)


def main(arguments: Sequence[str]) -> str:
    """Evaluate one policy, or do a shard of it, and return the summary line."""
    work = open_stage("evaluation.evaluate", arguments)
    loaded = work.params
    params = check(loaded.section(EvaluateParams))
    journal = evaluation_journal(params.name, params.model)
    work.launch(journal, params.policy, judge_policy(loaded))
    held_out = list(tables.read_table(QUESTIONS, Question))
    sets = pin_sets(held_out, params.split)
    if params.pins:
        check_pins(sets, Path(params.pins), params.sets)
    all_questions = choose_held_out(held_out, params)
    questions = list(work.choose(all_questions))
    if not questions:
        raise ConfigError(
            f"{work.shard} has no question",
            where="shards.num_shards",
            expected=f"at most {len(all_questions):,} shards",
        )
    asked = {name: sets[name] for name in params.sets or sets}
    result = run_interruptible(evaluate(params, loaded, questions, work, asked))
    if work.is_part:
        return work.finish(f"{len(questions):,} questions")
    path = write_result(result)
    failed = f"; {result.num_failed:,} FAILED and count as wrong" if result.num_failed else ""
    right = f"exact match {result.metrics['exact_match']} on {len(questions):,} questions"
    right += _summarise_judge(result)
    if params.search_price:
        price = f"{params.search_price:g} a search"
        right += f", utility {result.metrics['utility']} at a price of {price}"
    right += _summarise_calls(result)
    by_set = _summarise_sets(result, params.num_questions)
    counts = {StopReason(name): count for name, count in result.stop_reasons.items()}
    return work.finish(f"{path}: {right}{by_set}{failed}; {shown_stop_reasons(counts)}")


def _summarise_judge(result: Result) -> str:
    """Say what the judge found, and how often it did not tell; nothing without one."""
    if not result.setting.judge:
        return ""
    shown = f", right by the judge {result.metrics['judged_right']}"
    silent = [row for row in result.rows() if row.judged and RIGHT[row.judged] is None]
    if silent:
        shown += f", where {len(silent):,} answers were NOT JUDGED and count as wrong"
    num_open = sum(row.exact_match is None for row in result.rows())
    return shown + (f"; {num_open:,} questions have no accepted answer" if num_open else "")


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
        asked = metrics["actions"]
        assert asked is not None
        found = metrics["exact_match"] or f"right by the judge {metrics.get('judged_right')}"
        whole = ", all that it has" if asked.num < num_questions else ""
        parts.append(f"{shown_set(name)} {found} ({asked.num:,} questions{whole})")
    return f"; {', '.join(parts)}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
