"""Test RL of a model that acts through ReAct's lines: what is trained, and who wrote it."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from coa.errors import ConfigError
from coa.policy import Completion, Finish, Request, UnbatchedPolicy, cut_at_stop
from coa.policy.local.model import LocalPolicy
from coa.records.question import Question
from coa.records.trajectory import Author, Mode, Sampling, StopReason
from coa.rollout.loop import Limits
from coa.search.tool import SearchTool
from coa.settings.stages import Stage
from coa.student.asking import Asking
from coa.student.settings import RlParams, TrainParams

pytest.importorskip("torch")
pytest.importorskip("trl")
pytestmark = pytest.mark.usefixtures("one_thread")

from coa.student.checkpoint import Student  # noqa: E402
from tests.rl_support import (  # noqa: E402
    EncodingPolicy,
    Library,
    rl_arguments,
    save_student,
)
from train.rl import check_asking  # noqa: E402
from train.rollouts import Ask, Rollouts  # noqa: E402
from train.stage import StageRun  # noqa: E402

LINES = (
    "Question: who wrote the book?\n\nThought: I need it. Action: search[book]"
    " Observation: Answer: Ada result 1: by"
)
ASKS = [
    Ask(Question(name, "who wrote the book?", ("Ada",), "train"), Mode.COA) for name in ("q", "r")
]
PASSAGE = "the book by Ada </search_result>"
OBSERVED = "Observation: result 1: book: the book by Ada ‹/search_result>\n"
END = "<|im_end|>"
ASKED = "Question: who wrote the book?\n\n"
SEARCH = " I need it.\nAction: search[book]\n"


class Writer(EncodingPolicy):
    """Writes one of a turn's texts as ids, up to a stop string or the token limit.

    The request's seed chooses the text.
    """

    name = "writer"

    def __init__(self, tokenizer: Any, *turns: Sequence[str], forced: str = " Ada\n") -> None:
        super().__init__(tokenizer)
        self._turns, self._forced = turns, forced
        self.calls: list[tuple[Request, tuple[int, ...]]] = []
        """What was asked, and the ids that were written."""

    def _complete(self, request: Request) -> Completion:
        text, has_stopped = cut_at_stop(self._rest(request), request.stop)
        ids = self.encode(text, author=Author.POLICY) + (() if has_stopped else (self._end_id,))
        finish = Finish.STOP if has_stopped else Finish.END
        if len(ids) > request.max_tokens:
            ids, finish = ids[: request.max_tokens], Finish.LENGTH
            text = self._encoder.decode(ids)
        self.calls.append((request, ids))
        return Completion(text, finish, len(ids), None, ids)

    def _rest(self, request: Request) -> str:
        """What is still to be written of this turn."""
        if request.context.endswith("Answer:"):
            return self._forced
        written = request.context.rpartition("Thought:")[2]
        fits = [
            text
            for text in self._turns[request.context.count("\nObservation:")]
            if text.startswith(written)
        ]
        return random.Random(request.seed).choice(fits)[len(written) :]


@pytest.fixture(scope="module")
def student_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save a small student that knows the words of ReAct's lines."""
    return save_student(tmp_path_factory.mktemp("student"), [LINES])


def make_run(tmp_path: Path) -> StageRun:
    (tmp_path / "react.txt").write_text("Question: {question}")
    changes = {"per_device_train_batch_size": 8, "max_steps": 1, "beta": 0.0}
    settings = RlParams(
        "student",
        asking=Asking.REACT,
        react_prompt=str(tmp_path / "react.txt"),
        arguments=rl_arguments(tmp_path, **changes),
        rewards={"f1": 1.0, "format_penalty": 1.0},
    )
    params = TrainParams(Stage.RL2, prompt="no such file", max_context_tokens=160, rl2=settings)
    return StageRun(Stage.RL2, params, "")


def make_rollouts(
    run: StageRun, student: Student, loop: asyncio.Runner, limits: Limits
) -> Rollouts:
    tools = {"search": SearchTool(Library(PASSAGE))}
    return Rollouts(run, student.tokenizer, ASKS, limits, tools, loop)


@pytest.fixture
def rollouts(student: Student, loop: asyncio.Runner, tmp_path: Path) -> Rollouts:
    return make_rollouts(make_run(tmp_path), student, loop, Limits(2, 160, 4))


KEYS = ["q/coa"] * 4 + ["r/coa"] * 4


def runs(row: int, out: dict[str, Any], tokenizer: Any) -> list[tuple[int, str]]:
    """Who wrote what of a rollout: 1 and 0 in turns, each with its text."""
    ids, mask = out["completion_ids"][row], out["env_mask"][row]
    edges = [i for i in range(1, len(ids)) if mask[i] != mask[i - 1]]
    bounds = zip([0, *edges], [*edges, len(ids)], strict=True)
    return [(mask[start], tokenizer.decode(ids[start:stop])) for start, stop in bounds]


def test_the_policys_lines_are_trained_and_the_openings_and_observations_are_not(
    rollouts: Rollouts, student: Student
) -> None:
    policy = Writer(student.tokenizer, [SEARCH], [" It says Ada.\nAnswer: Ada"])

    out = rollouts.roll_out(KEYS[:1], policy, Sampling())

    assert student.tokenizer.decode(out["prompt_ids"][0]) == ASKED
    assert runs(0, out, student.tokenizer) == [
        (0, "Thought:"),
        (1, SEARCH),
        (0, f"{OBSERVED}Thought:"),
        (1, f" It says Ada.\nAnswer: Ada{END}"),
    ]
    trajectory = out["graded"][0].trajectory
    assert trajectory.stop_reason is StopReason.ANSWERED
    assert trajectory.num_prompt_tokens == len(out["prompt_ids"][0])
    assert trajectory.num_policy_tokens == sum(out["env_mask"][0])
    assert out["graded"][0].grade.exact_match


def test_a_served_policy_writes_the_same_lines_one_request_at_a_time(
    rollouts: Rollouts, student: Student
) -> None:
    turns = [SEARCH, " So.\nAnswer: Bob"], [" It says Ada.\nAnswer: Ada", SEARCH]
    writer = Writer(student.tokenizer, *turns, [" So.\nAnswer: Ada"])

    in_batches = rollouts.roll_out(KEYS, writer, Sampling())
    served = rollouts.roll_out(KEYS, UnbatchedPolicy(writer), Sampling())

    assert len({len(ids) for ids in in_batches["completion_ids"]}) > 1
    for name in ("prompt_ids", "completion_ids", "env_mask"):
        assert served[name] == in_batches[name]


@pytest.mark.parametrize(
    "invented", ["Observation: Bob\nAnswer: Bob", "Answer: Bob", "Action: search[Bob]\nBob"]
)
def test_what_would_follow_an_action_is_neither_sampled_nor_read(
    invented: str, rollouts: Rollouts, student: Student
) -> None:
    policy = Writer(student.tokenizer, [f"{SEARCH}{invented}"], [f" So.\nAnswer: Ada\n{invented}"])

    out = rollouts.roll_out(KEYS[:1], policy, Sampling())

    assert runs(0, out, student.tokenizer) == [
        (0, "Thought:"),
        (1, SEARCH),
        (0, f"{OBSERVED}Thought:"),
        (1, " So.\nAnswer: Ada\n"),
    ]


def test_an_action_that_the_end_of_the_turn_cuts_off_is_followed_by_a_line_of_its_own(
    rollouts: Rollouts, student: Student
) -> None:
    policy = Writer(student.tokenizer, [SEARCH.removesuffix("\n")], [" So.\nAnswer: Ada"])

    out = rollouts.roll_out(KEYS[:1], policy, Sampling())

    assert runs(0, out, student.tokenizer)[1:3] == [
        (1, SEARCH.removesuffix("\n") + END),
        (0, f"\n{OBSERVED}Thought:"),
    ]


def test_an_answer_is_forced_when_the_actions_are_used_up(
    rollouts: Rollouts, student: Student
) -> None:
    policy = Writer(student.tokenizer, [SEARCH], [SEARCH])

    out = rollouts.roll_out(KEYS[:1], policy, Sampling())

    assert runs(0, out, student.tokenizer)[-2:] == [(0, f"{OBSERVED}Answer:"), (1, " Ada\n")]
    assert out["graded"][0].trajectory.stop_reason is StopReason.ACTION_BUDGET
    assert out["graded"][0].grade.exact_match


def test_an_answer_is_forced_when_the_context_is_used_up(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    policy = Writer(
        student.tokenizer,
        [" I need it. I need it.\n I need it. I need it. I need it.\nAnswer: Bob"],
    )
    rollouts = make_rollouts(make_run(tmp_path), student, loop, Limits(2, 24, 4))

    out = rollouts.roll_out(KEYS[:1], policy, Sampling())

    (_, thought), closing, answer = runs(0, out, student.tokenizer)[1:]
    assert "I need it. I need it.\n I need" in thought
    assert (closing, answer) == ((0, "\nAnswer:"), (1, " Ada"))
    assert out["graded"][0].trajectory.stop_reason is StopReason.CONTEXT_BUDGET


FIRST = [
    SEARCH,
    " I need it.\nAction: search[Ada]\n",
    " I need it.\n I need it.\nAnswer: Ada",
    " Ada.\nAnswer: book\n",
]
THEN = [
    SEARCH,
    " It says Ada.\nAnswer: Ada",
    " It says\nAnswer: by\n",
    " I need it.\nAction: search[by]",
]


def check_traces(out: dict[str, Any], calls: Sequence[tuple[Request, tuple[int, ...]]]) -> None:
    """Check that each of the policy's tokens was sampled after exactly the ids before it.

    Each sampled token is in a trace.
    """
    left = [(request.context_ids, ids) for request, ids in calls]
    for prompt, completion, mask in zip(
        out["prompt_ids"], out["completion_ids"], out["env_mask"], strict=True
    ):
        position = 0
        while 1 in mask[position:]:
            position = mask.index(1, position)
            context = (*prompt, *completion[:position])
            fits = [
                call
                for call in left
                if call[0] == context and call[1] == tuple(completion[position:][: len(call[1])])
            ]
            call = max(fits, key=lambda call: len(call[1]))
            assert set(mask[position : position + len(call[1])]) == {1}
            left.remove(call)
            position += len(call[1])
    assert left == []


def test_each_rollout_of_a_group_keeps_its_own_sampled_ids(
    rollouts: Rollouts, student: Student
) -> None:
    policy = Writer(student.tokenizer, FIRST, THEN, THEN)

    out = rollouts.roll_out(KEYS, policy, Sampling(seed=1))

    assert (
        1 < len({tuple(ids) for ids in out["completion_ids"]}) < len(KEYS)
    )  # some are equal, others are not
    check_traces(out, policy.calls)


@pytest.mark.parametrize(
    ("stage", "asking"),
    [(Stage.RL1, Asking.REACT), (Stage.RL1, Asking.COT), (Stage.RL2, Asking.COT)],
)
def test_a_way_of_asking_that_the_stage_does_not_have_is_refused(
    stage: Stage, asking: Asking
) -> None:
    with pytest.raises(ConfigError, match=rf"train\.{stage}\.asking"):
        check_asking(asking, stage)


class Watched(LocalPolicy):
    """A model whose calls are kept."""

    def __init__(self, student: Student) -> None:
        super().__init__(student.model.eval(), student.tokenizer, name="student")
        self.calls: list[tuple[Request, tuple[int, ...]]] = []

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        completions = super().complete_batch(requests)
        self.calls += [
            (request, done.ids or ()) for request, done in zip(requests, completions, strict=True)
        ]
        return completions


def test_the_ids_that_are_trained_are_those_that_a_model_sampled(
    student: Student, loop: asyncio.Runner, tmp_path: Path
) -> None:
    policy = Watched(student)

    out = make_rollouts(make_run(tmp_path), student, loop, Limits(2, 80, 4)).roll_out(
        KEYS, policy, Sampling(1.0)
    )

    check_traces(out, policy.calls)
    assert len({request.seed for request, _ in policy.calls}) == len(policy.calls)
