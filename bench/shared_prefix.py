"""Count how many questions have two real trajectories that share a prefix, by source.

    python -m bench.shared_prefix DATA

DATA holds trajectories/*.jsonl of R1-Searcher, FireAct and AutoAct. Every two trajectories of a
question are compared (`curate.forks.parting`), whatever their outcomes; where they part is counted
once a question, for the two with the longest shared prefix. Outcomes differ where one is right and
the other wrong, by exact match or, where the file names no gold answer, by its own verdict.
"""

import itertools
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from coa.foreign.own_tags import to_own_tags
from coa.records.comparisons import Parting
from coa.records.grading import grade, normalise
from coa.records.protocol import answer_text
from coa.records.trajectory import Trajectory
from curate.forks.parting import part
from synth.ingest import ForeignFile, Ingested, IngestParams, ingest

SOURCES = {
    "R1-Searcher, two models": ("r1searcher_hotpotqa_qwen", "r1searcher_hotpotqa_llama"),
    "FireAct, two models": ("fireact_hotpotdev500_gpt35ft", "fireact_hotpotdev500_llama2_13b"),
    "FireAct, one model, three prompts": ("fireact_finetune_hotpotqa_multimethod",),
    "AutoAct, repeated questions": ("autoact_hotpot_train",),
}


class Row(NamedTuple):
    """A trajectory and whether it is right, where that is known."""

    trajectory: Trajectory
    is_right: bool | None


def read_rows(path: Path) -> Iterator[Row]:
    """Read the rows of a file, in our tags."""
    for row in ingest(IngestParams((ForeignFile(str(path), source="hotpotqa"),))):
        if isinstance(row, Ingested):
            trajectory = to_own_tags(row.trajectory)
            gold = row.recorded.gold_answers
            is_right = row.recorded.exact_match
            if gold:
                is_right = grade(answer_text(trajectory.steps), gold).exact_match
            yield Row(trajectory, is_right)


def describe(questions: Sequence[Sequence[Row]]) -> str:
    """Say where the trajectories of questions part that have two at least."""
    longest: Counter[Parting] = Counter()
    of_other_outcome: Counter[Parting] = Counter()
    for rows in questions:
        found = []
        differing = []
        for one, other in itertools.combinations(rows, 2):
            pair = part(one.trajectory, other.trajectory)
            rank = (pair.parting is not Parting.NOTHING_SHARED, len(pair.prefix), pair.point)
            found.append((rank, pair.parting))
            if {one.is_right, other.is_right} == {True, False}:
                differing.append((rank, pair.parting))
        longest[max(found)[1]] += 1
        if differing:
            of_other_outcome[max(differing)[1]] += 1
    return f"{_shown(longest)}; of other outcome {_shown(of_other_outcome)}"


def _shown(count: Counter[Parting]) -> str:
    total = count.total()
    shared = total - count[Parting.NOTHING_SHARED]
    kinds = ", ".join(f"{count[kind]} {kind}" for kind in Parting if count[kind])
    return f"{shared} of {total} questions share a prefix ({kinds})"


def main(arguments: Sequence[str]) -> None:
    """Print a line for each source."""
    folder = Path(arguments[0]) / "trajectories"
    for name, files in SOURCES.items():
        questions: defaultdict[str, list[Row]] = defaultdict(list)
        for file in files:
            for row in read_rows(folder / f"trajectories_{file}.jsonl"):
                questions[normalise(row.trajectory.question)].append(row)
        print(f"{name}: {describe([rows for rows in questions.values() if len(rows) > 1])}")


if __name__ == "__main__":
    main(sys.argv[1:])
