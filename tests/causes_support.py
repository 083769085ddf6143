"""Write trajectories in a small world of passages and explain them, for the tests of causes."""

from coa.records import protocol
from coa.records.causes import Finding
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.records.trajectory import Mode, Outcome, Step, StepKind, StopReason
from coa.search import Passage
from curate.diagnosis.gold import Corpus, gold_passages
from curate.diagnosis.rules import Context, diagnose
from tests.sample_records import make_graded

BRIDGE = Question(
    "q",
    "Where was the director of the film Night Train born?",
    ("Riga",),
    "train",
    num_hops=2,
    gold_titles=("Night Train (1959 film)", "Ada Novak"),
)
PASSAGES = (
    Passage(
        "film", "Night Train (1959 film)", "Night Train is a 1959 thriller directed by Ada Novak."
    ),
    Passage("person", "Ada Novak", "Ada Novak was born in Riga in 1920."),
    Passage("dust", "Red Dust", "Red Dust is a 1932 drama."),
)
TEXTS = {passage.id: f"{passage.title}: {passage.text}" for passage in PASSAGES} | {
    "other": "Otto: Otto lives in Oslo."
}
CORPUS = gold_passages(PASSAGES, [passage.title for passage in PASSAGES])


def turn(thought: str, query: str, *shown: str) -> tuple[Step, ...]:
    written = f"{thought} {protocol.open_tag('search')} {query} {protocol.close_tag('search')}"
    body = "\n".join(TEXTS[name] for name in shown)
    return (
        *protocol.parse_policy(written),
        protocol.observation("search", body, Outcome.OK, shown),
    )


def end(thought: str, answer: str) -> tuple[Step, ...]:
    return protocol.parse_policy(f"{thought}\n{protocol.THINK_CLOSE} \\boxed{{{answer}}}")


def row(
    *steps: Step,
    question: Question = BRIDGE,
    mode: Mode = Mode.COA,
    stop: StopReason = StopReason.ANSWERED,
) -> GradedTrajectory:
    error = "time-out" if stop is StopReason.TOOL_ERROR else ""
    num_actions = sum(step.kind is StepKind.ACTION for step in steps)
    return make_graded(
        question, steps, mode, stop_reason=stop, num_actions=num_actions, error=error
    )


def explain(
    given_row: GradedTrajectory, question: Question = BRIDGE, corpus: Corpus = CORPUS
) -> tuple[Finding, ...]:
    return diagnose(given_row, question, Context(corpus))
