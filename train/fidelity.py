"""Measure how true a world model is: compare what it predicts with what the search returned.

    python -m train.fidelity model=data/train/sft3 rollouts=data/evaluate/sft3.parquet

Goes through the searches of held-out rollouts (train.evaluate wrote them): each time the model gets
the text up to the action, and the opening tag, and writes the observation itself, as in RL stage 1.
Writes results/fidelity/{name}.json. Where predictions do not bear the answers, RL on them teaches
not to search: `warnings` says so before stage rl1.
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
from coa.model_files import fingerprint_model
from coa.params import Params
from coa.policy import BatchPolicy, Completion, Finish, Request
from coa.policy.local.model import LocalPolicy, LocalSettings
from coa.progress import Progress
from coa.question import Question
from coa.tools.search import Numbering, SearchTool, result_form
from coa.trajectory import Author, Outcome, Step, StepKind, Trajectory
from train.intervals import Interval, mean_interval
from train.knowledge import KnowledgeProbe, open_probe
from train.results import file_name, read_json, write_text

FOLDER = Path("results/fidelity")
COMMAND = "python -m train.fidelity"
_LINE = re.compile(r"\S.*")
_ANSWERED = frozenset({Outcome.OK, Outcome.EMPTY})


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
    """What the real observation holds and a true prediction would hold.

    Empty where it does not hold the answer."""
    is_known: bool | None
    """Whether the fact that is searched is known from pre-training, where the world is known."""

    @property
    def real(self) -> Step:
        """Return the observation that the search returned."""
        return self.trajectory.steps[self.action + 1]


@dataclass(frozen=True, slots=True)
class Prediction:
    """A comparison of a predicted observation with the real one."""

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
    """The worth of a world model."""

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


def find_probes(rows: Iterable[GradedTrajectory], knowledge: KnowledgeProbe) -> Iterator[Probe]:
    """Yield the searches of the rollouts that the tool answered."""
    for row in rows:
        for action in protocol.action_indices(row.trajectory.steps):
            if _was_answered(row.trajectory.steps, action):
                yield _make_probe(row, action, knowledge)


def _was_answered(steps: Sequence[Step], action: int) -> bool:
    """Tell whether an observation that the tool returned stands after an action."""
    if action + 1 == len(steps):
        return False
    shown = steps[action + 1]
    return shown.kind is StepKind.OBSERVATION and shown.outcome in _ANSWERED


def _make_probe(row: GradedTrajectory, action: int, knowledge: KnowledgeProbe) -> Probe:
    steps = row.trajectory.steps
    fact = knowledge.last_needed(steps[: action + 1])
    answers = (fact.value,) if fact else row.gold_answers
    real = body(steps[action + 1].text, steps[action].tool or "")
    return Probe(
        trajectory=row.trajectory,
        action=action,
        answers=tuple(answer for answer in answers if _holds(real, answer)),
        is_known=fact.is_known if fact else None,
    )


def request_for(probe: Probe, policy: BatchPolicy, max_tokens: int) -> Request:
    """Ask to continue the rollout's text after the opening tag of the observation.

    The text is encoded piece by piece, as in a rollout.
    """
    steps = probe.trajectory.steps[: probe.action + 1]
    opening, closing = _tags(probe.real.tool or "")
    pieces = [
        *protocol.pieces(probe.trajectory.prompt, steps),
        protocol.Piece(opening.rstrip(), Author.ENVIRONMENT, StepKind.OBSERVATION),
    ]
    return Request(
        context="".join(piece.text for piece in pieces),
        stop=(closing.strip(),),
        max_tokens=max_tokens,
        temperature=0.0,
        top_p=1.0,
        seed=0,
        context_ids=_encode(pieces, policy),
    )


def _encode(pieces: Iterable[protocol.Piece], policy: BatchPolicy) -> tuple[int, ...] | None:
    """Return the ids of all pieces; None where the policy does not tell them."""
    ids: list[int] = []
    for piece in pieces:
        encoded = policy.encode(piece.text, is_prompt=piece.kind is None, author=piece.author)
        if encoded is None:
            return None
        ids.extend(encoded)
    return tuple(ids)


def compare(
    probe: Probe, completion: Completion, numbering: Numbering = Numbering.RESULT
) -> Prediction:
    """Compare a predicted observation with the real one."""
    tool = probe.real.tool or ""
    predicted = body(completion.text, tool)
    real = body(probe.real.text, tool)
    has_no_tags = protocol.neutralise(predicted) == predicted
    has_form = predicted == real or _has_form(predicted, tool, numbering)
    bears_answer = None
    if probe.answers:
        bears_answer = any(_holds(predicted, answer) for answer in probe.answers)
    return Prediction(
        is_well_formed=completion.finish is Finish.STOP and has_no_tags and has_form,
        f1=grade_prediction(predicted, (real,)).f1,
        bears_answer=bears_answer,
        is_known=probe.is_known,
    )


def _has_form(predicted: str, tool: str, numbering: Numbering) -> bool:
    """Tell whether each line looks as the tool writes it, and there is one."""
    form = result_form(numbering) if tool == SearchTool.name else _LINE
    lines = predicted.splitlines()
    return bool(lines) and all(form.fullmatch(line) for line in lines)


def body(observation: str, tool: str) -> str:
    """Return what stands between an observation's tags."""
    opening, closing = _tags(tool)
    text = observation.strip()
    return text.removeprefix(opening.strip()).removesuffix(closing.strip()).strip()


def _tags(tool: str) -> tuple[str, str]:
    """Return what stands before and after the body of a tool's observation."""
    opening, closing = protocol.observation_text(tool, "|").split("|")
    return opening, closing


def _holds(text: str, answer: str) -> bool:
    return grade_prediction(text, (answer,)).cover_exact_match


def report(params: FidelityParams, predictions: Sequence[Prediction]) -> Report:
    """Average the predictions and say what speaks against RL on them."""
    everything = _fidelity(params, predictions)
    known = [prediction for prediction in predictions if prediction.is_known]
    unknown = [prediction for prediction in predictions if prediction.is_known is False]
    return Report(
        model=params.model,
        model_fingerprint=fingerprint_model(params.model),
        rollouts=params.rollouts,
        num_observations=len(predictions),
        all=everything,
        known=_fidelity(params, known),
        unknown=_fidelity(params, unknown),
        warnings=tuple(_doubts(params, everything)),
    )


def _fidelity(params: FidelityParams, chosen: Sequence[Prediction]) -> Fidelity:
    def mean(values: Iterable[float | None]) -> Interval | None:
        applying = [float(value) for value in values if value is not None]
        return mean_interval(applying, num_resamples=params.num_resamples, seed=params.seed)

    return Fidelity(
        well_formed=mean(prediction.is_well_formed for prediction in chosen),
        f1=mean(prediction.f1 for prediction in chosen),
        answer_bearing=mean(prediction.bears_answer for prediction in chosen),
    )


_FIXES = {
    "well_formed": "train sft3 for longer",
    "answer_bearing": "harmless where train.rl1.rewards pays `recalled` and `acted` "
    "in place of answers",
}


def _doubts(params: FidelityParams, found: Fidelity) -> Iterator[str]:
    """Say which figures are below their limits, and what helps."""
    limits = {"well_formed": params.min_well_formed, "answer_bearing": params.min_answer_bearing}
    for name, least in limits.items():
        interval: Interval | None = getattr(found, name)
        if interval is None or interval.value < least:
            figure = name.replace("_", " ")
            shown = interval or "nothing to measure"
            yield f"{figure}: {shown}, below {least}; {_FIXES[name]}"


def gate(model: str) -> tuple[str, ...]:
    """Return what speaks against RL stage 1 from `model`.

    So does that its fidelity was not measured since it was trained.
    """
    path = FOLDER / f"{Path(model).name}.json"
    found = read_json(path, Report, command=COMMAND) if path.is_file() else None
    if found is None or found.model_fingerprint != fingerprint_model(model):
        return (f"the fidelity of {model} was not measured: {COMMAND} model={model}",)
    return found.warnings


def _predict(
    params: FidelityParams, probes: Sequence[Probe], numbering: Numbering
) -> list[Prediction]:
    """Let the model write each observation, and compare it with the real one."""
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
    """Measure one world model and return the summary line."""
    loaded = Params.load("fidelity", arguments)
    params = loaded.section(FidelityParams)
    path = FOLDER / f"{file_name(params.name, params.model, 'name')}.json"
    knowledge = open_probe(tables.read_table(QUESTIONS, Question), loaded)
    rows = tables.read_table(Path(params.rollouts), GradedTrajectory)
    probes = list(islice(find_probes(rows, knowledge), params.num_observations))
    # A student that never searches is a finding, no wrong setting: the report says so.
    numbering = loaded.section(SearchParams, "search").observation.numbering
    found = report(params, _predict(params, probes, numbering) if probes else [])
    write_text(path, json.dumps(asdict(found), indent=2) + "\n")
    doubts = "".join(f"\nWARNING before rl1: {warning}" for warning in found.warnings)
    answers = f"answer-bearing {found.all.answer_bearing}"
    form = f"well-formed {found.all.well_formed}"
    return f"{path}: {answers}, {form}{doubts}"


if __name__ == "__main__":
    from coa.cli import run as run_command

    run_command(main, sys.argv[1:])
