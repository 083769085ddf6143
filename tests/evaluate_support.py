"""Make a small world and results of models, for the tests of evaluation."""

from dataclasses import replace

from coa.records.trajectory import Sampling, StopReason
from evaluation.outcomes import Outcome, Result, Setting, summarise
from evaluation.table import TableParams

TABLE = TableParams(rows={"b": "second", "a": "first"}, compares=(("a", "b"),))


def outcome(question_id: str, exact_match: bool, **changes: object) -> Outcome:
    row = Outcome(
        question_id,
        exact_match,
        exact_match,
        float(exact_match),
        1,
        2,
        False,
        0,
        0,
        1,
        1,
        False,
        StopReason.ANSWERED,
    )
    return replace(row, **changes)  # type: ignore[arg-type]


def result(name: str, right: list[bool], **changes: str) -> Result:
    setting = Setting(name, "m", "", "coa", "test", "hash", "p", "bm25/top2", Sampling(), {})
    rows = [outcome(f"q{i:03}", correct) for i, correct in enumerate(right)]
    return summarise(replace(setting, **changes), rows, num_resamples=200, seed=0)  # type: ignore[arg-type]
