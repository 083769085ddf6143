"""Ask a simulator for the observations of held-out searches, and compare them with the real ones.

`coa fidelity` sums the comparisons up.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from coa.policy import Completion, Encoder, Finish, Turns
from coa.progress import Progress
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.grading import grade_prediction
from coa.records.trajectory import Outcome, Sampling, Step, StepKind, Trajectory
from coa.rollout.loop import Limits, RolloutContext, State, Task
from coa.rollout.simulated import observation_body
from coa.rollout.simulators.factory import Simulator
from coa.search.tool import Numbering, SearchTool, result_form
from coa.store.pending import Call
from coa.student.knowledge import KnowledgeProbe, needed_answers

_LINE = re.compile(r"\S.*")
_ANSWERED = frozenset({Outcome.OK, Outcome.EMPTY})


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


def find_probes(rows: Iterable[GradedTrajectory], knowledge: KnowledgeProbe) -> Iterator[Probe]:
    """Yield the searches of the rollouts that the tool answered."""
    for row in rows:
        for action in protocol.action_indices(row.trajectory.steps):
            shown = row.trajectory.steps[action + 1 : action + 2]
            if shown and shown[0].kind is StepKind.OBSERVATION and shown[0].outcome in _ANSWERED:
                yield _make_probe(row, action, knowledge)


def _make_probe(row: GradedTrajectory, action: int, knowledge: KnowledgeProbe) -> Probe:
    steps = row.trajectory.steps
    fact = knowledge.last_needed(steps[: action + 1])
    answers = needed_answers(knowledge, steps[: action + 1], row.gold_answers)
    real = observation_body(steps[action + 1].text, steps[action].tool or "")
    return Probe(
        trajectory=row.trajectory,
        action=action,
        answers=tuple(answer for answer in answers if _holds(real, answer)),
        is_known=fact.is_known if fact else None,
    )


def waiting(probe: Probe, encoder: Encoder, seed: int = 0) -> State:
    """Return the rollout as it waited for its observation, to be simulated greedily."""
    trajectory = probe.trajectory
    steps = trajectory.steps[: probe.action + 1]
    call = steps[-1]
    tool = call.tool or ""
    task = Task(
        trajectory_id=trajectory.trajectory_id,
        question_id=trajectory.question_id,
        mode=trajectory.mode,
        index=trajectory.index,
        question=trajectory.question,
        prompt=trajectory.prompt,
        prompt_hash=trajectory.prompt_hash,
        tools=(tool,),
    )
    return State(
        task=task,
        run=RolloutContext(encoder, Sampling(temperature=0.0, seed=seed), Limits()),
        context=trajectory.prompt + protocol.render(steps),
        steps=steps,
        pending=Call(tool, call.argument or ""),
        turns=Turns((tool,), ()),
        num_context_tokens=0,
        num_calls=probe.action,
    )


def compare(
    probe: Probe, completion: Completion, numbering: Numbering = Numbering.RESULT
) -> Prediction:
    """Compare a predicted observation with the real one."""
    tool = probe.real.tool or ""
    predicted = observation_body(completion.text, tool)
    real = observation_body(probe.real.text, tool)
    has_no_tags = protocol.neutralise(predicted) == predicted
    form = result_form(numbering) if tool == SearchTool.name else _LINE
    lines = predicted.splitlines()
    has_form = bool(lines) and all(form.fullmatch(line) for line in lines)
    bears_answer = None
    if probe.answers:
        bears_answer = any(_holds(predicted, answer) for answer in probe.answers)
    return Prediction(
        is_well_formed=completion.finish is Finish.STOP
        and has_no_tags
        and (has_form or predicted == real),
        f1=grade_prediction(predicted, (real,)).f1 or 0.0,
        bears_answer=bears_answer,
        is_known=probe.is_known,
    )


def _holds(text: str, answer: str) -> bool:
    return bool(grade_prediction(text, (answer,)).cover_exact_match)


async def predict(
    simulator: Simulator,
    encoder: Encoder,
    probes: Sequence[Probe],
    numbering: Numbering,
    *,
    batch_size: int = 64,
    seed: int = 0,
) -> list[Prediction]:
    """Let the simulator write each observation, and compare it with the real one."""
    predictions = []
    with Progress("fidelity", len(probes), "observations") as bar:
        for start in range(0, len(probes), batch_size):
            batch = probes[start : start + batch_size]
            states = [waiting(probe, encoder, seed) for probe in batch]
            replies = await simulator(states)
            whole = simulator.last_whole
            for probe, reply, is_whole in zip(batch, replies, whole, strict=True):
                finish = Finish.STOP if is_whole else Finish.LENGTH
                completion = Completion(reply.text, finish, 0)
                predictions.append(compare(probe, completion, numbering))
            bar.add(len(batch))
    return predictions
