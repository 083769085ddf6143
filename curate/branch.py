"""Make preference pairs: fork graded trajectories and keep the forks that change the outcome.

    coa branch
    coa branch shard=2/4        # a part of it (docs/scaling.md)

Reads data/grade.parquet, right and wrong rows alike, and data/analyse.parquet where points are
chosen by blame. A trajectory that acted is forked before an action, one that only reasoned at the
end of a thought; the teacher writes the forks, or the policy of `branch.policy`. With `branch.arms:
other` it takes the arm that the trajectory did not take, and a pair is kept when exactly one of the
two is right, so both kinds of the paper come out (AutoCoA, section 3). With `both` it takes both
arms until it is clear what acting is worth there (`curate/forks/arms.py`).
Writes data/branch/pairs.parquet, forks.parquet (every continuation, graded) and points.parquet
(the outcome of every point); `graded=` and `out=` name other files.
"""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from coa.errors import ConfigError
from coa.interruption import run_interruptible
from coa.judging.judge import judge_policy, open_judge
from coa.policy.chat.record import Unforkable
from coa.policy.prompts import Prompt
from coa.records.graded import GradedTrajectory, RightBy
from coa.records.pairs import Arm, PairKind, PreferencePair
from coa.rollout.forks import (
    ArmChoice,
    BranchParams,
    family_of,
    forking_policy,
    load_prompts,
    require_budget,
    require_forks,
)
from coa.rollout.points import Point
from coa.rollout.runtime import JOURNALS, open_runtime
from coa.settings.outputs import check_folder, check_inputs, journal_name, metrics_name
from coa.settings.params import Params
from coa.shards.stage import ShardRun, open_stage
from coa.store import tables
from coa.store.metrics import shown_stop_reasons, write_metrics
from coa.store.spool import Spool
from curate.forks.arms import try_arms
from curate.forks.choice import Fork, Refused, choose_parents, find_forks, shown_refused
from curate.forks.point_scores import open_point_scores
from curate.forks.results import ResultWriter
from curate.forks.tasks import ForkRun


async def branch(
    forks: Iterable[Fork], params: Params, results: ResultWriter, work: ShardRun
) -> str:
    """Roll out every fork's continuations and settle it as soon as they are there.

    The forks are written to a spool first: so their number is known, and those whose continuations
    are still to come take no memory.

    Returns:
        What the run's journal saved.
    """
    settings = params.section(BranchParams)
    prompts = load_prompts(params)
    tools_in_question: set[str] = set()
    with Spool(Fork, JOURNALS) as spool:
        for number, fork in enumerate(forks):
            spool.put(number, fork)
            tools_in_question.add(fork.tool)
        policy = forking_policy(params)
        section = "branch.policy" if settings.policy else "teacher"
        judges_all = settings.right_by is RightBy.JUDGE
        async with (
            open_judge(params, work, is_needed=judges_all) as judge,
            open_runtime(params, work, teacher=policy, section=section) as runtime,
        ):
            missing = sorted(tools_in_question - set(runtime.tools))
            if missing:
                raise ConfigError(
                    f"forks need tools that this run does not offer: {', '.join(missing)}",
                    where="the section tools, or branch.tool_cues",
                    expected=f"among {', '.join(sorted(runtime.tools))}",
                    fix="offer them as the trajectories were sampled, or take them out of "
                    "branch.tool_cues",
                )
            encoded_prompts: dict[Arm, Prompt] = {}
            for arm, prompt in prompts.items():
                encoded_prompts[arm] = prompt.for_policy(runtime.run.encoder)
            tools = tuple(runtime.tools)
            run = ForkRun(encoded_prompts, tools, family_of(policy), judge, judges_all)
            title = metrics_name(settings.out).replace("_", " ")
            await try_arms(spool, settings, run, runtime, results, title)
            results.totals.costs = runtime.ledger.used.metrics()
            results.totals.server = runtime.server_metrics
            return runtime.journal_summary


def main(arguments: Sequence[str]) -> str:
    """Fork, continue and pair, or do a shard of it; return the summary line."""
    work = open_stage("curate.branch", arguments)
    params = work.params
    settings = params.section(BranchParams)
    check_folder(settings.out, "curate.branch")
    check_inputs(params, f"{settings.out}/pairs.parquet", "graded", "analysed")
    graded = Path(settings.graded)
    policy = forking_policy(params)
    work.launch(journal_name(settings.out), policy, judge_policy(params))
    folder = work.folder if work.is_part else Path(settings.out)
    name = metrics_name(settings.out)  # refuses a bad `out` before anything is written
    require_budget(settings)
    require_forks(policy, settings.arms)
    family = family_of(policy)
    analysed = Path(settings.analysed)
    parents = choose_parents(graded, settings, analysed)
    refused = Refused()
    scores = open_point_scores(params, analysed, parents)
    forks = find_forks(graded, parents, settings, family, refused, scores)
    with (
        tables.TableWriter(folder / "pairs.parquet", PreferencePair) as pairs,
        tables.TableWriter(folder / "forks.parquet", GradedTrajectory) as continuations,
        tables.TableWriter(folder / "points.parquet", Point) as points,
    ):
        results = ResultWriter(pairs, continuations, points)
        saved = run_interruptible(branch(work.choose(forks), params, results, work))
    totals = results.totals
    ended = shown_stop_reasons(totals.stop_reasons)
    if work.is_part:
        shown = f"{points.num_rows:,} points, {pairs.num_rows:,} pairs"
        return work.finish(f"{folder}: {shown}; {ended}; {saved}")
    metrics: dict[str, object] = {"parents": len(parents), "points": points.num_rows}
    metrics |= totals.metrics()
    if settings.arms is ArmChoice.BOTH:
        metrics |= totals.worth_metrics()
    if family is not None:
        metrics["unforkable"] = {str(reason): refused[reason] for reason in Unforkable}
    metrics |= totals.endings()
    write_metrics(name, metrics)
    if not points.num_rows:
        why = "no trajectory was chosen as a parent"
        if parents:
            why = f"none of {len(parents):,} parents has a point to fork"
        return work.finish(f"{folder}: no pairs, because {why}")
    kinds = ", ".join(f"{totals.counts[kind]:,} {kind}" for kind in PairKind)
    found = f"{pairs.num_rows:,} pairs of {points.num_rows:,} points ({kinds})"
    if refused:
        found += f"; {shown_refused(refused)}"
    return work.finish(f"{folder}: {found}; {ended}; {saved}")


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
