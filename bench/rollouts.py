"""Tokens a second of rollouts with a model in this process: one by one, and in batches with and without finished rows.

    python -m bench.rollouts

Requests are the policy's turns of the default profile's trajectories (`dvc repro` first): each
turn's context, and as many tokens as the turn has, so the lengths are spread as those of a trained
policy. An untrained student of that profile, one thread. Target: batches of 64 or more well above
one by one.
"""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch

from bench.student import cpu_seconds, interleaved, spread, trajectories, untrained_student
from coa import protocol
from coa.policy import Request
from coa.policy.local import LocalPolicy
from train.checkpoint import Student
from train.encode import IGNORED, Example

NUM_REPEATS = 3
SIZES = (64, 128)
NUM_ALONE = 8
STOP = (protocol.close_tag("search"),)


class KeepingPolicy(LocalPolicy):
    """Carries every row to the end of its batch."""

    _can_drop_rows = False


def turns(examples: Iterable[Example]) -> Iterator[Request]:
    """A request for every turn that the policy wrote."""
    for example in examples:
        ids, is_own = example["input_ids"], [label != IGNORED for label in example["labels"]]
        starts = [i for i in range(1, len(ids)) if is_own[i] and not is_own[i - 1]]
        for start in starts:
            length = (*is_own, False).index(False, start) - start
            yield Request("", STOP, length, 0.7, 1.0, seed=start, context_ids=tuple(ids[:start]))


def measure(student: Student, requests: Sequence[Request], size: int) -> dict[str, float]:
    """Tokens a CPU second, by way."""
    kinds = {
        "one by one": (LocalPolicy, 1),
        "rows kept": (KeepingPolicy, size),
        "rows dropped": (LocalPolicy, size),
    }
    policies = {
        name: kind(student.model, student.tokenizer, name="student", batch_size=width)
        for name, (kind, width) in kinds.items()
    }
    given = {
        name: requests[:: size // NUM_ALONE] if name == "one by one" else requests
        for name in policies
    }
    num_tokens = {
        name: sum(item.num_tokens for item in policy.complete_batch(given[name]))
        for name, policy in policies.items()
    }
    assert num_tokens["rows kept"] == num_tokens["rows dropped"]
    works = {
        name: lambda name=name: cpu_seconds(lambda: policies[name].complete_batch(given[name]))
        for name in policies
    }
    return {
        name: num_tokens[name] / seconds
        for name, seconds in interleaved(works, NUM_REPEATS).items()
    }


def main() -> None:
    """Print the table."""
    torch.set_num_threads(1)
    student, params = untrained_student()
    student.model.eval()
    requests = list(islice(turns(trajectories(student, params)), max(SIZES)))
    lengths = [request.max_tokens for request in requests]
    print(
        f"tokens a turn: mean {statistics.mean(lengths):.0f}; median, ninth decile, longest: {spread(lengths)}"
    )
    print(
        f"{'rows':>5}{'one by one':>12}{'rows kept':>11}{'rows dropped':>14}{'/ one by one':>14}{'/ kept':>8}"
    )
    for size in SIZES:
        alone, kept, dropped = measure(student, requests[:size], size).values()
        print(
            f"{size:5}{alone:12,.0f}{kept:11,.0f}{dropped:14,.0f}{dropped / alone:14.1f}{dropped / kept:8.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
