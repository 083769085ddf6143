"""Measure tokens a second of rollouts with a model in this process.

Turns run one by one, and in batches that keep or drop finished rows. Then whole rollouts run in
batches, where one in a hundred rambles: its turn is fifty times as long as another's rollout.

    python -m bench.rollouts

Requests are the policy's turns of the default profile's trajectories (`dvc repro` first): each
turn's context, and as many tokens as the turn has, so the lengths are spread as those of a trained
policy. An untrained student of that profile, one thread. Targets: batches of 64 or more well above
one by one; with `max_turn_tokens`, rambling rollouts that cost next to nothing.
"""

import asyncio
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice

import torch

from bench.loop import InstantSearch
from bench.student import trajectories, untrained_student
from bench.timing import cpu_seconds, interleaved, spread
from coa.policy import Completion, Finish, Request
from coa.policy.local.model import LocalPolicy
from coa.records import protocol
from coa.records.trajectory import Mode, Sampling
from coa.rollout.drivers import roll_out_batched
from coa.rollout.loop import Limits, RolloutContext, Task
from coa.student.checkpoint import Student
from train.encode import IGNORED, Example

NUM_REPEATS = 3
SIZES = (64, 128)
NUM_ALONE = 8
STOP = (protocol.close_tag("search"),)

NUM_ROLLOUTS = 200
RAMBLING_EVERY = 100
ROLLOUT_BATCH = 64
TURN_TOKENS = 22
"""Tokens of an ordinary turn, as the mean of the default profile's; a rollout has two turns."""
RAMBLING_TOKENS = 50 * 2 * TURN_TOKENS
LIMITED_TURN = 4 * TURN_TOKENS
RAMBLING = "It rambles."


class KeepingPolicy(LocalPolicy):
    """Policy that carries every row to the end of its batch."""

    _can_drop_rows = False


def turns(examples: Iterable[Example]) -> Iterator[Request]:
    """Make a request for every turn that the policy wrote."""
    for example in examples:
        ids = example["input_ids"]
        is_own = [label != IGNORED for label in example["labels"]]
        starts = [i for i in range(1, len(ids)) if is_own[i] and not is_own[i - 1]]
        for start in starts:
            length = (*is_own, False).index(False, start) - start
            yield Request("", STOP, length, 0.7, 1.0, seed=start, context_ids=tuple(ids[:start]))


def measure(student: Student, requests: Sequence[Request], size: int) -> dict[str, float]:
    """Return tokens a CPU second, by way."""
    some = requests[:: size // NUM_ALONE]
    ways = {
        "one by one": (LocalPolicy, 1, some),
        "rows kept": (KeepingPolicy, size, requests),
        "rows dropped": (LocalPolicy, size, requests),
    }
    num_tokens: dict[str, int] = {}
    works: dict[str, Callable[[], float]] = {}
    for name, (kind, width, given) in ways.items():
        policy = kind(student.model, student.tokenizer, name="student", batch_size=width)
        num_tokens[name] = sum(item.num_tokens for item in policy.complete_batch(given))
        works[name] = partial(cpu_seconds, partial(policy.complete_batch, given))
    assert num_tokens["rows kept"] == num_tokens["rows dropped"]
    medians = interleaved(works, NUM_REPEATS)
    return {name: num_tokens[name] / seconds for name, seconds in medians.items()}


class PlannedPolicy(LocalPolicy):
    """Policy whose turns have the planned lengths: one search, then the answer.

    The model samples every token of them, and does not end by chance or at its window.
    """

    def __init__(self, student: Student) -> None:
        super().__init__(student.model, student.tokenizer, name="planned")
        self._end_ids = frozenset()
        self._window = None

    def complete_batch(self, requests: Sequence[Request]) -> list[Completion]:
        """Write turns of the planned lengths, or of the requests' limits where these are lower."""
        asked = []
        for request in requests:
            max_tokens = min(_planned_tokens(request), request.max_tokens)
            asked.append(replace(request, stop=(), max_tokens=max_tokens))
        completions = super().complete_batch(asked)
        return [_ended(request, done) for request, done in zip(requests, completions, strict=True)]


def _planned_tokens(request: Request) -> int:
    return RAMBLING_TOKENS if RAMBLING in request.context else TURN_TOKENS


def _ended(request: Request, done: Completion) -> Completion:
    """Replace the text, which means nothing, by the end of the turn that was planned."""
    if done.num_tokens < _planned_tokens(request):
        return replace(done, text="so", finish=Finish.LENGTH)
    if RAMBLING in request.context or STOP[0] in request.context:
        return replace(done, text="</think> \\boxed{1}", finish=Finish.END)
    return replace(done, text=f"{protocol.open_tag('search')} who {STOP[0]}", finish=Finish.STOP)


def rollout_tasks(rambling_every: int) -> Iterator[Task]:
    """Make the tasks; 0 means that none rambles."""
    for number in range(NUM_ROLLOUTS):
        rambles = rambling_every and number % rambling_every == rambling_every // 2
        prompt = f"Question: who? {RAMBLING if rambles else ''}\n<think>\n"
        name = f"q{number}"
        yield Task(f"{name}/coa/0", name, Mode.COA, 0, "Who?", prompt, "hash", ("search",))


def roll_out(policy: LocalPolicy, rambling_every: int, max_turn_tokens: int) -> None:
    """Roll out all tasks."""
    limits = Limits(max_turn_tokens=max_turn_tokens)
    run = RolloutContext(policy, Sampling(), limits, InstantSearch.fingerprint)
    tools = {"search": InstantSearch()}

    async def exhaust() -> None:
        tasks = rollout_tasks(rambling_every)
        async for _ in roll_out_batched(tasks, run, policy, tools, batch_size=ROLLOUT_BATCH):
            pass

    asyncio.run(exhaust())


def print_rambling(student: Student) -> None:
    """Print what rambling rollouts cost, without and with a limit on turns."""
    policy = PlannedPolicy(student)
    ways = {
        "none rambles": (0, 0),
        "1 in 100, no limit": (RAMBLING_EVERY, 0),
        f"1 in 100, limit {LIMITED_TURN}": (RAMBLING_EVERY, LIMITED_TURN),
    }
    works: dict[str, Callable[[], float]] = {}
    for name, (rambling_every, max_turn_tokens) in ways.items():
        rolled = partial(roll_out, policy, rambling_every, max_turn_tokens)
        works[name] = partial(cpu_seconds, rolled)
    seconds = interleaved(works, NUM_REPEATS)
    slowest = seconds["1 in 100, no limit"]
    print(f"{'':22}{'rollouts / s':>12}{'/ no limit':>12}")
    for name, taken in seconds.items():
        print(f"{name:22}{NUM_ROLLOUTS / taken:12.1f}{slowest / taken:12.2f}")


def main() -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    student, params = untrained_student()
    student.model.eval()
    requests = list(islice(turns(trajectories(student, params)), max(SIZES)))
    lengths = [request.max_tokens for request in requests]
    mean = statistics.mean(lengths)
    print(f"tokens a turn: mean {mean:.0f}; median, ninth decile, longest: {spread(lengths)}")
    speeds = f"{'one by one':>12}{'rows kept':>11}{'rows dropped':>14}"
    print(f"{'rows':>5}{speeds}{'/ one by one':>14}{'/ kept':>8}")
    for size in SIZES:
        alone, kept, dropped = measure(student, requests[:size], size).values()
        print(
            f"{size:5}{alone:12,.0f}{kept:11,.0f}{dropped:14,.0f}"
            f"{dropped / alone:14.1f}{dropped / kept:8.2f}",
            flush=True,
        )
    print_rambling(student)


if __name__ == "__main__":
    main()
