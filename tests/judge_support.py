"""Answers to judge, with questions and the settings of a judge, for the tests of judging."""

from pathlib import Path

from coa.judging.judge import JudgeParams
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.question import Criterion, Question
from coa.rollout.factory import PolicyKind, TeacherParams
from tests.sample_records import make_graded

ROOT = Path(__file__).parent.parent
QUESTION = Question("q", "In which city is the Louvre?", ("Paris", "Paris, France"), "train")
OPEN = Question(
    "o",
    "Why does one mask observations?",
    (),
    "train",
    rubric=(
        Criterion("the policy did not write them", 3.0),
        Criterion("the search may change", 1.0),
    ),
)
PROMPTS = JudgeParams(
    policy=TeacherParams(policy=PolicyKind.CHAT, chat_template="{prompt}", concurrency=4),
    prompt=str(ROOT / "coa/judging/prompts/simpleqa.txt"),
    rubric_prompt=str(ROOT / "coa/judging/prompts/criterion.txt"),
)


def answered(answer: str, question: Question = QUESTION) -> GradedTrajectory:
    text = f"I know it.</think> \\boxed{{{answer}}}"
    return make_graded(question, protocol.parse_policy(text))
