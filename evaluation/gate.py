"""Measure whether a simulated search pays, and write the verdict without which rl1 does not start.

    coa gate                                # the model that rl1 starts from
    coa gate simulator.kind=recorded model=data/train/sft3 name=recorded

A policy that practises in a world where a search seldom shows the answer learns not to search. So
the model is asked some of rl1's own questions twice, sampled as in rl1: with the simulator, and
without any tool. Of the questions that it searched, it compares how often the observations held the
answer with how often it knew the answer itself. The prediction is a gain where searching wins.

Writes results/gate/{name}.json, which stage rl1 looks for (coa/student/verdict.py) and keeps as
gate.json beside its model.
"""

import asyncio
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

from coa.intervals import mean_interval, paired_difference
from coa.policy import BatchPolicy
from coa.policy.chat_templates import load_prompt
from coa.policy.local.model import LocalPolicy, LocalSettings, load_tokenizer
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.grading import grade_prediction
from coa.records.question import Question
from coa.records.ranking import seeded_rank
from coa.records.trajectory import Mode, Sampling, StepKind
from coa.rollout import loop as rollout
from coa.rollout.drivers import Environment, roll_out_states
from coa.rollout.loop import Limits, RolloutContext
from coa.rollout.simulated import observation_body
from coa.rollout.simulators.factory import Simulator, open_simulator
from coa.rollout.simulators.settings import SimulatorKind, SimulatorParams
from coa.rollout.tasks import make_task
from coa.rollout.toolbox import own_tools
from coa.search.tool import SearchTool
from coa.settings.params import Params
from coa.store.model_files import fingerprint_model
from coa.store.whole_files import write_file
from coa.student.knowledge import KnowledgeProbe, needed_answers, open_probe
from coa.student.results import file_name
from coa.student.sets import read_split
from coa.student.settings import TrainParams
from coa.student.verdict import FOLDER, GateReport, Prediction, world_settings
from coa.tools.settings import ToolsParams
from evaluation.fidelity import known_doubts

_NO_FINDING = frozenset({"yes", "no"})
"""Answers that no passage holds."""


@dataclass(frozen=True, slots=True)
class GateParams:
    """Which model is asked how many of rl1's questions, before rl1 starts."""

    model: str = ""
    """For the command alone: a folder; empty: the model that rl1 starts from."""
    name: str = ""
    """For the command alone: of the report; empty: the last part of `model`."""
    num_questions: int = 300
    """Train questions of rl1 that are asked; those that are answered by yes or no are left out."""
    seed: int = 0
    """Chooses questions and resamples."""


def choose(questions: Iterable[Question], params: GateParams) -> list[Question]:
    """Choose the questions that are asked, of those whose answer a passage can hold."""
    fitting = []
    for question in questions:
        answers = {answer.strip().lower() for answer in question.gold_answers}
        if not answers & _NO_FINDING:
            fitting.append(question)

    def rank(question: Question) -> str:
        return seeded_rank(question.question_id, params.seed, "gate")

    return sorted(fitting, key=rank)[: params.num_questions]


@dataclass(frozen=True, slots=True)
class Asked:
    """How the questions are asked."""

    prompt: Prompt
    limits: Limits
    sampling: Sampling
    tools: tuple[str, ...]


async def ask(
    questions: Sequence[Question],
    mode: Mode,
    asked: Asked,
    policy: BatchPolicy,
    environment: Simulator,
) -> list[GradedTrajectory]:
    """Roll out each question once, all together."""
    run = RolloutContext(policy, asked.sampling, asked.limits, environment.fingerprint)
    tasks = []
    for question in questions:
        given = (question.question_id, question.question, mode, 0)
        tasks.append(make_task(*given, asked.prompt, asked.tools))
    answer: Environment = environment
    states = roll_out_states(tasks, run, policy, answer, batch_size=max(1, len(tasks)))
    rows: list[GradedTrajectory] = []
    async for state in states:
        question = questions[len(rows)]
        rows.append(grade_trajectory(rollout.finish(state), question))
    return rows


def found_answers(row: GradedTrajectory, probe: KnowledgeProbe) -> list[float]:
    """Tell of each search of a rollout whether its observation held what was needed."""
    steps = row.trajectory.steps
    found = []
    for action in protocol.action_indices(steps):
        shown = steps[action + 1 : action + 2]
        if steps[action].tool != SearchTool.name or not shown:
            continue
        if shown[0].kind is StepKind.OBSERVATION:
            answers = needed_answers(probe, steps[: action + 1], row.gold_answers)
            body = observation_body(shown[0].text, SearchTool.name)
            found.append(float(bool(grade_prediction(body, answers).cover_exact_match)))
    return found


def worth_of_searching(row: GradedTrajectory, probe: KnowledgeProbe) -> float | None:
    """Return how far the searches of a rollout found what they were for; None without a search.

    Where it is known what each search was for, it is their mean; else it is whether any of them
    showed the answer, for which several hops may be needed.
    """
    found = found_answers(row, probe)
    if not found:
        return None
    if probe.last_needed(row.trajectory.steps) is None:
        return max(found)
    return sum(found) / len(found)


def compare(
    params: GateParams,
    model: str,
    simulator: str,
    world: SimulatorParams,
    searched: Sequence[GradedTrajectory],
    recalled: Sequence[GradedTrajectory],
    probe: KnowledgeProbe,
) -> GateReport:
    """Compare rollouts with the simulator and without any tool, question by question."""
    shown: list[float] = []
    known: list[float] = []
    num_searches = 0
    for row, closed in zip(searched, recalled, strict=True):
        worth = worth_of_searching(row, probe)
        if worth is not None:
            shown.append(worth)
            known.append(float(bool(closed.grade.exact_match)))
            num_searches += len(found_answers(row, probe))
    pays = paired_difference(shown, known, seed=params.seed)
    gains = pays is not None and pays.low > 0
    return GateReport(
        model=model,
        model_fingerprint=fingerprint_model(model),
        simulator=simulator,
        world=world_settings(world),
        num_questions=len(searched),
        num_searched=len(shown),
        num_searches=num_searches,
        answer_bearing=mean_interval(shown, seed=params.seed),
        closed_book=mean_interval(known, seed=params.seed),
        pays=pays,
        prediction=Prediction.GAIN if gains else Prediction.HARM,
    )


def measure(sections: Params, train: TrainParams, model: str) -> GateReport:
    """Ask a model rl1's questions with the simulator and without any tool.

    Raises:
        ConfigError: a setting is wrong, or there is no such model.
        InputError: the questions or the recorded searches are missing.
    """
    params = sections.section(GateParams, "gate")
    questions = choose(read_split(train.rl1.questions, "train", Question), params)
    probe = open_probe(questions, sections)
    world = sections.section(SimulatorParams, "simulator")
    simulate = open_simulator(world, max_tokens=train.rl1.max_observation_tokens)
    policy = LocalPolicy.load(LocalSettings(model, batch_size=train.rl1.batch_size))
    asked = _asked(sections, train, policy)
    simulator = simulate(policy)
    with asyncio.Runner() as loop:
        searched = loop.run(ask(questions, Mode.COA, asked, policy, simulator))
        recalled = loop.run(ask(questions, Mode.COT, asked, policy, simulator))
    return compare(params, model, simulator.fingerprint, world, searched, recalled, probe)


def _asked(sections: Params, train: TrainParams, policy: LocalPolicy) -> Asked:
    """Ask as rl1 does."""
    limits = train.limit_rollouts(sections.section(Limits, "rollout"))
    arguments = train.rl1.arguments
    sampling = Sampling(
        temperature=float(arguments.get("temperature", 1.0)),
        top_p=float(arguments.get("top_p", 1.0)),
        seed=train.seed,
    )
    prompt = load_prompt(train.prompt, train.chat_template, load_tokenizer(policy.name))
    tools = (SearchTool.name, *own_tools(sections.section(ToolsParams, "tools")))
    return Asked(prompt, limits, sampling, tools)


def main(arguments: Sequence[str]) -> str:
    """Measure one model with one simulator and return the summary line."""
    loaded = Params.load("gate", arguments)
    params = loaded.section(GateParams)
    train = loaded.section(TrainParams, "train")
    model = params.model or train.rl1.init
    path = FOLDER / f"{file_name(params.name, model, 'name')}.json"
    report = measure(loaded, train, model)
    write_file(path, json.dumps(asdict(report), indent=2) + "\n")
    world = loaded.section(SimulatorParams, "simulator")
    doubts: Sequence[str] = ()
    if world.kind is not SimulatorKind.RECORDED:
        doubts = known_doubts(model if world.kind is SimulatorKind.POLICY else world.model)
    warned = "".join(f"\nWARNING before rl1: {doubt}" for doubt in doubts)
    return f"{path}: {report.prediction}: {report}{warned}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
