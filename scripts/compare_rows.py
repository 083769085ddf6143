"""Compare the rows that one teacher wrote in tags and over chat, step by step.

    python -m scripts.compare_rows data/in_tags data/sample

Both folders hold the tables of the same run (`synth.sample`, temperature 0): the first over raw
completions, the second over chat with the manners of vLLM. What the policy wrote itself must be the
same in every row. The command names each way in which rows may differ all the same, and fails on
any other, or where no row of a mode answers.
"""

import sys
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path

from coa.errors import ConfigError, InputError
from coa.records import protocol
from coa.records.trajectory import Mode, Step, StepKind, StopReason, Trajectory
from coa.store import tables
from coa.store.metrics import rate

_FORCED_OPENING = protocol.ANSWER_MARKER.rpartition("\n")[2]
"""How the message of a forced answer begins: in tags that is part of the scaffold's marker."""


class Likeness(StrEnum):
    """How the two rows of a question are alike."""

    IDENTICAL = "identical"
    """Same texts, same end."""
    TRANSCRIBED = "same words, our tags"
    """The policy wrote the same. Over chat its stray tags are broken, and the blanks around a query
    are ours."""
    STRAY_END = "same words, ended by a stray tag"
    """The policy wrote a call's closing tag without its opening. That is malformed in tags, and
    plain text in a message."""
    DIFFERENT = "different"
    """The policy did not write the same."""


def written(step: Step) -> str:
    """Return what the policy wrote itself in a step, without the tags that we may have made."""
    if step.kind is StepKind.ACTION:
        return f"{step.tool} {step.argument}"
    if step.kind is StepKind.ANSWER and step.transcribed is not None:
        return step.transcribed.removeprefix(_FORCED_OPENING)
    if step.kind is StepKind.ANSWER:
        return step.text.removeprefix(protocol.THINK_CLOSE)
    return step.text if step.transcribed is None else step.transcribed


def compare(in_tags: Trajectory, over_chat: Trajectory) -> Likeness:
    """Compare the rows of one question."""
    own = [written(step) for step in in_tags.steps]
    if own != [written(step) for step in over_chat.steps]:
        return Likeness.DIFFERENT
    if in_tags.stop_reason is not over_chat.stop_reason:
        is_stray = in_tags.stop_reason is StopReason.MALFORMED
        return Likeness.STRAY_END if is_stray else Likeness.DIFFERENT
    texts = [step.text for step in in_tags.steps]
    if texts == [step.text for step in over_chat.steps]:
        return Likeness.IDENTICAL
    return Likeness.TRANSCRIBED


def compare_mode(first: Path, second: Path, mode: Mode) -> str:
    """Compare the tables of one mode and say what was found.

    Raises:
        InputError: A row differs, a row is missing, or no row answers.
    """
    in_tags = list(tables.read_table(first / f"{mode}.parquet", Trajectory))
    over_chat = list(tables.read_table(second / f"{mode}.parquet", Trajectory))
    ids = [row.trajectory_id for row in in_tags]
    if ids != [row.trajectory_id for row in over_chat]:
        raise InputError(f"{first} and {second} hold the rows of other questions")
    found: Counter[Likeness] = Counter()
    for one, other in zip(in_tags, over_chat, strict=True):
        likeness = compare(one, other)
        if likeness is Likeness.DIFFERENT:
            raise InputError(
                f"the teacher wrote something else over chat in {one.trajectory_id}",
                expected=f"{one.stop_reason}: {protocol.render(one.steps)!r}",
                got=f"{other.stop_reason}: {protocol.render(other.steps)!r}",
            )
        found[likeness] += 1
    shares = [_answered_share(rows) for rows in (in_tags, over_chat)]
    if min(shares) == 0:
        raise InputError(f"no row of {mode} answers", where=f"{first}, {second}")
    counts = ", ".join(f"{found[likeness]} {likeness}" for likeness in Likeness if found[likeness])
    answered = f"answered: {shares[0]:.1%} in tags, {shares[1]:.1%} over chat"
    return f"{mode}: {len(ids)} rows: {counts}; {answered}"


def _answered_share(rows: Sequence[Trajectory]) -> float:
    """Return the share of rows that can be read to their end: the policy answered by itself."""
    num_answered = sum(row.stop_reason is StopReason.ANSWERED for row in rows)
    return rate(num_answered, len(rows))


def main(arguments: Sequence[str]) -> str:
    """Compare both modes and return the summary, a line for each."""
    if len(arguments) != 2:
        raise ConfigError(
            "cannot read the arguments", expected="two folders: in tags, over chat", got=arguments
        )
    first, second = map(Path, arguments)
    return "\n".join(compare_mode(first, second, mode) for mode in Mode)


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
