"""What the teacher and the search did for a set, in all and for each row that was good enough: a table of its card.

Counted is what a fresh run pays: calls and tokens of every rollout that could have entered the set, the dropped ones
included. A retry, a cached prefix and a price are the provider's affair and not known here.
"""

import polars as pl

from coa.files import FORKS, GRADED
from data_cards.cards.safe_markdown import Markdown, table
from data_cards.catalogue import SetName
from data_cards.facts import collect, scan

_COLUMNS = {
    "calls of the teacher": "num_calls",
    "tokens that it wrote": "num_policy_tokens",
    "tokens of prompts and search results, each counted once": "read",
    "searches": "searches",
}


def costs(name: SetName, num_kept: int) -> Markdown | str:
    """The costs of a set; empty for questions, which cost nothing, and where the rollouts are not here.

    Args:
        name: The set.
        num_kept: Rows that were good enough for it.

    Raises:
        InputError: a file is broken or lacks a column.
    """
    path = FORKS if name is SetName.COT_A else GRADED
    if name is SetName.RL or not path.exists() or not num_kept:
        return ""
    rollout = pl.col("trajectory").struct
    rows = scan(path, ["trajectory"])
    if "num_calls" not in {field.name for field in rows.collect_schema()["trajectory"].fields}:  # type: ignore[attr-defined]
        return ""
    if name is not SetName.COT_A:
        rows = rows.filter(rollout.field("mode") == str(name))
    answered = (
        rollout.field("steps")
        .list.eval(pl.element().struct.field("kind") == "observation")
        .list.sum()
    )
    totals = collect(
        rows.select(
            pl.len().alias("rollouts"),
            rollout.field("num_calls").sum().alias("num_calls"),
            rollout.field("num_policy_tokens").sum().alias("num_policy_tokens"),
            (rollout.field("num_prompt_tokens") + rollout.field("num_environment_tokens"))
            .sum()
            .alias("read"),
            answered.sum().alias("searches"),
        )
    ).row(0, named=True)
    shown = {"rollouts": "rollouts", **_COLUMNS}
    if name is SetName.COT_A:
        del shown["searches"]  # a fork's steps hold those of its prefix, which its parent paid for
    cells = [
        (
            Markdown(what),
            int(totals[column] or 0),
            Markdown(f"{(totals[column] or 0) / num_kept:,.1f}"),
        )
        for what, column in shown.items()
    ]
    return table(("", "in all", "for each row good enough"), cells)
