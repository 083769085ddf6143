"""Find the bias of calls at which a model makes as many searches as another one.

    python -m train.equal_searches model=data/train/sft1 like=data/train/sft2

A model that searches more often may be right more often for that alone. Two models are compared
fairly where they search equally often: the bias is added to the logits of all tokens that begin a
call (`local.call_bias`), and is found by bisection on validation questions, asked greedily as
`train.evaluate` asks them. With it, ask the test questions:

    python -m train.evaluate model=data/train/sft1 evaluate.policy.local.call_bias=-0.8 ...

Calls are kept in the journal, so a second run asks nothing again. Writes the bias and the searches
of both models to results/equal_searches/{name}.json.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Protocol

import msgspec

from coa import tables
from coa.errors import ConfigError
from coa.files import QUESTIONS
from coa.interruption import run_interruptible
from coa.model_files import evaluation_journal
from coa.params import Params
from coa.question import Question
from coa.shard_files import Shard
from coa.shards import ShardRun
from coa.tools.search import SearchTool
from train.evaluate import EvaluateParams, check, evaluate
from train.held_out import choose_held_out
from train.outcomes import Result, calls_measure
from train.results import file_name, write_text

FOLDER = Path("results/equal_searches")
_STRONGEST = 8.0
"""A bias of so many nats makes nearly every decision the same."""
_PRECISION = 0.03
"""Biases so close to each other change hardly any decision."""


@dataclass(frozen=True, slots=True)
class EqualSearchesParams:
    """Which two models are to search equally often, and on what."""

    model: str = ""
    """The model that gets a bias: a folder or a name on the Hub."""
    like: str = ""
    """The model whose number of searches is to be met."""
    name: str = ""
    """Of the result; empty: the last part of `model`."""
    num_questions: int = 600
    """Validation questions that both are asked, of each set; 0 asks all."""


@dataclass(frozen=True, slots=True)
class EqualSearches:
    """The bias that was found, and what it does."""

    model: str
    like: str
    bias: float
    searches: float
    """Searches a question of `model` with this bias."""
    searches_before: float
    """Without a bias."""
    searches_of_other: float
    """Of `like`."""
    num_questions: int


class CountsSearches(Protocol):
    """Tells how often a model searches."""

    def searches(self, model: str, bias: float = 0.0) -> float:
        """Return the searches a question that the model makes with this bias."""
        ...


class Asker:
    """Asks a model the same questions with one bias after the other."""

    def __init__(self, loaded: Params, num_questions: int) -> None:
        self._loaded = loaded
        params = loaded.section(EvaluateParams, "evaluate")
        self._params = replace(params, split="validation", num_questions=num_questions)
        self._questions = choose_held_out(tables.read_table(QUESTIONS, Question), self._params)

    @property
    def num_questions(self) -> int:
        """Return how many questions are asked."""
        return len(self._questions)

    def searches(self, model: str, bias: float = 0.0) -> float:
        """Count the searches a question that the model makes with this bias."""
        local = replace(self._params.policy.local, call_bias=bias)
        policy = replace(self._params.policy, local=local)
        name = f"{Path(model).name}-bias{bias:+.2f}"
        params = check(replace(self._params, model=model, name=name, policy=policy))
        journal = evaluation_journal(params.name, params.model)
        work = ShardRun(Shard(), "evaluate", journal, self._loaded)
        result = run_interruptible(evaluate(params, self._loaded, self._questions, work))
        return count_searches(result)


def count_searches(result: Result) -> float:
    """Return the mean number of searches a question."""
    by_tool = result.metrics.get(calls_measure(SearchTool.name))
    found = by_tool or result.metrics["actions"]
    assert found is not None
    return found.value


def find_bias(asker: CountsSearches, model: str, target: float) -> float:
    """Bisect for the bias with which the model makes `target` searches a question.

    Raises:
        ConfigError: No bias within the limits does.
    """
    from scipy.optimize import bisect

    def surplus(bias: float) -> float:
        return asker.searches(model, round(bias, 2)) - target

    if surplus(0.0) == 0:
        return 0.0
    fewest, most = surplus(-_STRONGEST), surplus(_STRONGEST)
    if fewest > 0 or most < 0:
        raise ConfigError(
            "no bias makes the two models search equally often",
            where=model,
            expected=f"{target:.2f} searches a question",
            got=f"{fewest + target:.2f} to {most + target:.2f}",
        )
    return round(float(bisect(surplus, -_STRONGEST, _STRONGEST, xtol=_PRECISION)), 2)


def main(arguments: Sequence[str]) -> str:
    """Find the bias, write it and return the summary line."""
    loaded = Params.load("equal_searches", arguments)
    params = loaded.section(EqualSearchesParams)
    if not params.model or not params.like:
        raise ConfigError(
            "two models are needed", expected="model=data/train/sft1 like=data/train/sft2"
        )
    path = FOLDER / f"{file_name(params.name, params.model, 'name')}.json"
    asker = Asker(loaded, params.num_questions)
    target = asker.searches(params.like)
    before = asker.searches(params.model)
    bias = find_bias(asker, params.model, target)
    found = EqualSearches(
        model=params.model,
        like=params.like,
        bias=bias,
        searches=asker.searches(params.model, bias),
        searches_before=before,
        searches_of_other=target,
        num_questions=asker.num_questions,
    )
    write_text(path, msgspec.json.format(msgspec.json.encode(asdict(found))).decode() + "\n")
    return (
        f"{path}: with evaluate.policy.local.call_bias={bias:g} {found.searches:.2f} searches a "
        f"question ({before:.2f} before), {params.like} makes {target:.2f}"
    )


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
