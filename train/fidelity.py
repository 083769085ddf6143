"""How true a world model is: what it predicts for a query against what the search returned.

    python -m train.fidelity model=data/train/sft3 rollouts=data/evaluate/sft3.parquet

Goes through the searches of held-out rollouts (train.evaluate wrote them): each time the model gets the text up to the
action, and the opening tag, and writes the observation itself, as in RL stage 1. Writes results/fidelity/{name}.json.
Where predictions do not bear the answers, RL on them teaches not to search: `warnings` says so before stage rl1.
"""

import json
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from coa import protocol, tables
from coa.factory import SearchParams
from coa.files import QUESTIONS
from coa.graded import GradedTrajectory
from coa.grading import grade_prediction
from coa.microworld.factory import MicroworldParams
from coa.microworld.questions import SOURCE
from coa.microworld.world import World, make_world
from coa.model_files import fingerprint_model
from coa.params import Params
from coa.policy import BatchPolicy, Completion, Finish, Request
from coa.policy.local import LocalPolicy, LocalSettings
from coa.progress import Progress
from coa.question import Question
from coa.tools.search import Numbering, SearchTool, result_form
from coa.trajectory import Author, Outcome, Step, StepKind, Trajectory
from train.intervals import Interval, mean_interval
from train.knowledge import fact_before
from train.results import file_name, read_json, write_text

FOLDER = Path("results/fidelity")
COMMAND = "python -m train.fidelity"
_LINE = re.compile(r"\S.*")
_SHOWN = frozenset({Outcome.OK, Outcome.EMPTY})


@dataclass(frozen=True, slots=True)
class FidelityParams:
    """Which world model is asked about which searches, and when to warn."""

    model: str = "data/train/sft3"
    """A folder, or a name on the Hub."""
    name: str = ""
    """Of the report; empty: the last part of `model`."""
    rollouts: str = "data/evaluate/sft3.parquet"
    """Rollouts with real searches on held-out questions."""
    num_observations: int = 1000
    """The first so many observations of the rollouts."""
    max_observation_tokens: int = 64
    """Where a prediction that is not closed is cut; as in train.rl1."""
    batch_size: int = 64
    """Requests that go through the model together."""
    seed: int = 0
    """Of the bootstrap; predictions are greedy."""
    num_resamples: int = 2000
    """Of the bootstrap."""
    min_well_formed: float = 0.95
    """Below it the gate warns."""
    min_answer_bearing: float = 0.5
    """Below it the gate warns; over all observations that held the answer in reality."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One search of a held-out rollout."""

    trajectory: Trajectory
    action: int
    """Position of the action among the steps; its observation stands right after it."""
    answers: tuple[str, ...]
    """What the real observation holds and a true prediction would hold; empty where it does not hold the answer."""
    is_known: bool | None
    """Whether the fact that is searched is known from pre-training, where the world is known."""

    @property
    def real(self) -> Step:
        """The observation that the search returned."""
        return self.trajectory.steps[self.action + 1]


@dataclass(frozen=True, slots=True)
class Prediction:
    """How a predicted observation compares with the real one."""

    is_well_formed: bool
    """Closed, without other tags, and for a search each line numbered as the search does it."""
    f1: float
    """Of its words against the real ones."""
    bears_answer: bool | None
    """Whether it holds the answer; None where the real one does not."""
    is_known: bool | None


@dataclass(frozen=True, slots=True)
class Fidelity:
    """The means over some of the observations."""

    well_formed: Interval | None
    f1: Interval | None
    answer_bearing: Interval | None


@dataclass(frozen=True, slots=True)
class Report:
    """What a world model is worth."""

    model: str
    model_fingerprint: str
    rollouts: str
    num_observations: int
    all: Fidelity
    known: Fidelity
    """On searches for facts known from pre-training."""
    unknown: Fidelity
    warnings: tuple[str, ...]
    """What speaks against RL stage 1 with this model."""


def find_probes(
    rows: Iterable[GradedTrajectory], questions: dict[str, Question], world: World | None
) -> Iterator[Probe]:
    """The searches of the rollouts that the tool answered."""
    for row in rows:
        steps = row.trajectory.steps
        for action in protocol.action_indices(steps):
            shown = steps[action + 1] if action + 1 < len(steps) else None
            if shown is not None and shown.kind is StepKind.OBSERVATION and shown.outcome in _SHOWN:
                yield _probe(
                    row,
                    action,
                    world if questions[row.trajectory.question_id].source == SOURCE else None,
                )


def _probe(row: GradedTrajectory, action: int, world: World | None) -> Probe:
    steps = row.trajectory.steps
    fact = fact_before(world, steps[: action + 1]) if world is not None else None
    answers = (fact.value,) if fact else row.gold_answers
    held = tuple(
        answer
        for answer in answers
        if _holds(body(steps[action + 1].text, steps[action].tool or ""), answer)
    )
    return Probe(
        row.trajectory, action, held, world.is_known(fact) if world is not None and fact else None
    )


def request_for(probe: Probe, policy: BatchPolicy, max_tokens: int) -> Request:
    """Continue the rollout's text after the opening tag of the observation; ids piece by piece, as in a rollout."""
    steps = probe.trajectory.steps[: probe.action + 1]
    opening, closing = protocol.observation_text(probe.real.tool or "", "|").split("|")
    pieces = [
        *protocol.pieces(probe.trajectory.prompt, steps),
        protocol.Piece(opening.rstrip(), Author.ENVIRONMENT, StepKind.OBSERVATION),
    ]
    encoded = [
        policy.encode(piece.text, is_prompt=piece.kind is None, author=piece.author)
        for piece in pieces
    ]
    ids = tuple(token for part in encoded if part is not None for token in part)
    return Request(
        context="".join(piece.text for piece in pieces),
        stop=(closing.strip(),),
        max_tokens=max_tokens,
        temperature=0.0,
        top_p=1.0,
        seed=0,
        context_ids=None if None in encoded else ids,
    )


def compare(
    probe: Probe, completion: Completion, numbering: Numbering = Numbering.RESULT
) -> Prediction:
    """A predicted observation against the real one."""
    tool = probe.real.tool or ""
    predicted, real = body(completion.text, tool), body(probe.real.text, tool)
    lines = predicted.splitlines()
    form = result_form(numbering) if tool == SearchTool.name else _LINE
    has_form = predicted == real or (bool(lines) and all(form.fullmatch(line) for line in lines))
    return Prediction(
        is_well_formed=completion.finish is Finish.STOP
        and protocol.neutralise(predicted) == predicted
        and has_form,
        f1=grade_prediction(predicted, (real,)).f1,
        bears_answer=any(_holds(predicted, answer) for answer in probe.answers)
        if probe.answers
        else None,
        is_known=probe.is_known,
    )


def body(observation: str, tool: str) -> str:
    """What stands between an observation's tags."""
    opening, closing = (tag.strip() for tag in protocol.observation_text(tool, "|").split("|"))
    return observation.strip().removeprefix(opening).removesuffix(closing).strip()


def _holds(text: str, answer: str) -> bool:
    return grade_prediction(text, (answer,)).cover_exact_match


def report(params: FidelityParams, predictions: Sequence[Prediction]) -> Report:
    """Average the predictions and say what speaks against RL on them."""

    def fidelity(chosen: Sequence[Prediction]) -> Fidelity:
        def mean(values: Iterable[float | None]) -> Interval | None:
            applying = [float(value) for value in values if value is not None]
            return mean_interval(applying, num_resamples=params.num_resamples, seed=params.seed)

        return Fidelity(
            mean(one.is_well_formed for one in chosen),
            mean(one.f1 for one in chosen),
            mean(one.bears_answer for one in chosen),
        )

    everything = fidelity(predictions)
    return Report(
        model=params.model,
        model_fingerprint=fingerprint_model(params.model),
        rollouts=params.rollouts,
        num_observations=len(predictions),
        all=everything,
        known=fidelity([one for one in predictions if one.is_known]),
        unknown=fidelity([one for one in predictions if one.is_known is False]),
        warnings=tuple(_doubts(params, everything)),
    )


_FIXES = {
    "well_formed": "train sft3 for longer",
    "answer_bearing": "harmless where train.rl1.rewards pays `recalled` and `acted` in place of answers",
}


def _doubts(params: FidelityParams, found: Fidelity) -> Iterator[str]:
    limits = {"well_formed": params.min_well_formed, "answer_bearing": params.min_answer_bearing}
    for name, least in limits.items():
        interval: Interval | None = getattr(found, name)
        if interval is None or interval.value < least:
            yield f"{name.replace('_', ' ')}: {interval or 'nothing to measure'}, below {least}; {_FIXES[name]}"


def gate(model: str) -> tuple[str, ...]:
    """What speaks against RL stage 1 from `model`; also where its fidelity was not measured since it was trained."""
    path = FOLDER / f"{Path(model).name}.json"
    found = read_json(path, Report, command=COMMAND) if path.is_file() else None
    if found is None or found.model_fingerprint != fingerprint_model(model):
        return (f"the fidelity of {model} was not measured: {COMMAND} model={model}",)
    return found.warnings


def _predict(
    params: FidelityParams, probes: Sequence[Probe], numbering: Numbering
) -> list[Prediction]:
    policy = LocalPolicy.load(LocalSettings(params.model, batch_size=params.batch_size))
    predictions = []
    with Progress("fidelity", len(probes), "observations") as bar:
        for start in range(0, len(probes), params.batch_size):
            batch = probes[start : start + params.batch_size]
            requests = [
                request_for(probe, policy, params.max_observation_tokens) for probe in batch
            ]
            completions = policy.complete_batch(requests)
            for probe, completion in zip(batch, completions, strict=True):
                predictions.append(compare(probe, completion, numbering))
            bar.add(len(batch))
    return predictions


def main(arguments: Sequence[str]) -> str:
    """Measure one world model; the summary line is returned."""
    loaded = Params.load("fidelity", arguments)
    params = loaded.section(FidelityParams)
    path = FOLDER / f"{file_name(params.name, params.model, 'name')}.json"
    questions = {
        question.question_id: question for question in tables.read_table(QUESTIONS, Question)
    }
    is_microworld = any(question.source == SOURCE for question in questions.values())
    world = (
        make_world(loaded.section(MicroworldParams, "microworld").world) if is_microworld else None
    )
    rows = tables.read_table(Path(params.rollouts), GradedTrajectory)
    probes = list(islice(find_probes(rows, questions, world), params.num_observations))
    # A student that never searches is a finding, no wrong setting: the report says so.
    numbering = loaded.section(SearchParams, "search").observation.numbering
    found = report(params, _predict(params, probes, numbering) if probes else [])
    write_text(path, json.dumps(asdict(found), indent=2) + "\n")
    doubts = "".join(f"\nWARNING before rl1: {warning}" for warning in found.warnings)
    return f"{path}: answer-bearing {found.all.answer_bearing}, well-formed {found.all.well_formed}{doubts}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
