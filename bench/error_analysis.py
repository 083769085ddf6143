"""Prepare real trajectories for the error analysis, and compare its causes with other judgements.

    python -m bench.error_analysis DATA FOLDER       # then there: curate.analyse, curate.report
    python -m bench.error_analysis FOLDER sample=50 seed=1 [index=1] [without=FILE]
    python -m bench.error_analysis FOLDER judge=yes
    python -m bench.error_analysis FOLDER verdicts=FILE

DATA holds trajectories/*.jsonl of R1-Searcher and FireAct, questions.parquet (question,
gold_titles, type) and corpus_gold.parquet. Ingested questions get gold titles, and as many hops as
titles, where a question of the same normalised text has them; the others keep none. The second form
writes a sample, stratified by cause, to FOLDER/sample.md; FILE lists ids to leave out, those that
were read while the rules were written, and `index` takes the rows of one policy of each family (0
qwen and gpt35ft, 1 llama and llama2). The third compares the cause `graded_wrong` with the verdicts
of a language model, where the files record them. The fourth compares the causes with those that a
reader wrote to FILE.
"""

import csv
import itertools
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from coa.foreign.own_tags import to_own_tags
from coa.records.causes import Analysis, Cause
from coa.records.drops import Dropped
from coa.records.graded import GradedTrajectory, grade_trajectory
from coa.records.grading import normalise
from coa.records.question import Question
from coa.records.trajectory import StepKind
from coa.store import tables
from coa.store.files import ANALYSED, DROPPED, GRADED, QUESTIONS
from curate.filter import FilterParams, judge
from curate.reports.charts import wilson
from synth.ingest import ForeignFile, Ingested, IngestParams, Recorded, ingest

JUDGED = Path("recorded.parquet")
PARAMS = """
index: {{corpus: {corpus}, out: data/index, columns: {{}}, is_stemmed: true}}
analyse:
  {{reads_corpus: true, near_f1: 0.75, graded: data/grade.parquet, out: data/analyse.parquet}}
"""
FILES = (
    "r1searcher_hotpotqa_qwen",
    "r1searcher_hotpotqa_llama",
    "fireact_hotpotdev500_gpt35ft",
    "fireact_hotpotdev500_llama2_13b",
)


def with_gold_titles(data: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """Read gold titles and type by the normalised text of the question."""
    names = ["question", "gold_titles", "type"]
    columns = pl.read_parquet(data / "questions.parquet", columns=names)
    known = {}
    for text, titles, kind in columns.iter_rows():
        known[normalise(text)] = (tuple(titles or ()), kind or "")
    return known


def read_all(data: Path) -> tuple[list[Question], list[GradedTrajectory], list[Recorded]]:
    """Read the questions that have gold answers, and their trajectories, graded.

    Ids begin with the family of the file.
    """
    known = with_gold_titles(data)
    questions: dict[str, Question] = {}
    rows = []
    recorded = []
    for family in ("r1searcher", "fireact"):
        files = [name for name in FILES if name.startswith(family)]
        for file in files:
            for row in _ingested(data / f"trajectories/trajectories_{file}.jsonl"):
                question_id = f"{family}-{row.trajectory.question_id}"
                if row.question:
                    titles, kind = known.get(normalise(row.question.question), ((), ""))
                    question = replace(
                        row.question,
                        question_id=question_id,
                        gold_titles=titles,
                        question_type=kind,
                        num_hops=len(titles) or None,
                    )
                    questions.setdefault(question_id, question)
                index = FILES.index(file) % 2
                trajectory = replace(
                    to_own_tags(row.trajectory),
                    question_id=question_id,
                    index=index,
                    trajectory_id=f"{question_id}/{row.trajectory.mode}/{index}",
                )
                rows.append(grade_trajectory(trajectory, questions[question_id]))
                recorded.append(replace(row.recorded, trajectory_id=trajectory.trajectory_id))
    return list(questions.values()), rows, recorded


def _ingested(path: Path) -> Iterator[Ingested]:
    for row in ingest(IngestParams((ForeignFile(str(path), source="hotpotqa"),))):
        if isinstance(row, Ingested):
            yield row


def make_folder(data: Path, folder: Path) -> str:
    """Write what `curate.analyse` and `curate.report` read."""
    corpus = (data / "corpus_gold.parquet").resolve()
    settings = folder / "params.yaml"
    text = PARAMS.format(corpus=corpus)
    if settings.exists() and settings.read_text(encoding="utf-8") != text:
        sys.exit(f"{settings} is not of this command: name a folder of its own")
    questions, rows, recorded = read_all(data)
    tables.write_table(folder / QUESTIONS, Question, questions)
    tables.write_table(folder / GRADED, GradedTrajectory, rows)
    limits = FilterParams()
    verdicts = (judge(row, limits) for row in rows)
    dropped = (verdict for verdict in verdicts if verdict)
    tables.write_table(folder / DROPPED, Dropped, dropped)
    tables.write_table(folder / JUDGED, Recorded, recorded)
    settings.write_text(text, encoding="utf-8")
    titled = sum(bool(question.gold_titles) for question in questions)
    failed = sum(not row.grade.exact_match for row in rows)
    asked = f"{len(questions):,} questions ({titled} with gold titles)"
    return f"{folder}: {asked}, {failed:,} of {len(rows):,} failed"


def draw(
    folder: Path,
    count: int,
    seed: int,
    without: frozenset[str] = frozenset(),
    index: int | None = None,
) -> list[Analysis]:
    """Draw a sample of the failed rows, with one row of each cause in turn.

    So each cause has as many rows as its number allows. `index` takes one policy's rows alone.
    """
    by_cause: dict[str, list[Analysis]] = defaultdict(list)
    for row in tables.read_table(folder / ANALYSED, Analysis):
        is_wanted = index is None or row.index == index
        if row.cause and is_wanted and row.trajectory_id not in without:
            by_cause[row.cause].append(row)
    generator = random.Random(seed)
    pools = [generator.sample(rows, len(rows)) for _, rows in sorted(by_cause.items())]
    chosen = []
    for turn in itertools.zip_longest(*pools):
        chosen += [row for row in turn if row is not None]
    return chosen[:count]


def show(row: Analysis, graded: GradedTrajectory, number: int) -> str:
    """Write one row of the sample as a person reads it."""
    beside = ", ".join(finding.cause for finding in row.contributing)
    lines = [
        f"## {number}. {row.trajectory_id}  CAUSE {row.cause} step {row.step}",
        f"SAW {row.evidence}",
        f"BESIDE {beside} TITLES {row.needs_gold_titles}",
        f"Q {graded.trajectory.question}",
        f"GOLD {graded.gold_answers} GOT {graded.grade.prediction!r}",
    ]
    for i, step in enumerate(graded.trajectory.steps):
        text = step.text.strip()
        if step.kind is StepKind.OBSERVATION:
            text = text[:2500]
        lines.append(f"[{i} {step.kind}] {text}")
    return "\n".join([*lines, ""])


def against_judge(folder: Path) -> str:
    """Say how often the language model and the rules agree on what the grader got wrong."""
    verdicts = {}
    for recorded in tables.read_table(folder / JUDGED, Recorded):
        verdicts[recorded.trajectory_id] = recorded.judge
    pairs: Counter[tuple[bool, bool | None]] = Counter()
    for row in tables.read_table(folder / ANALYSED, Analysis):
        if row.cause:
            pairs[row.cause is Cause.GRADED_WRONG, verdicts.get(row.trajectory_id)] += 1
    both = pairs[True, True]
    blamed = both + pairs[True, False]
    accepted = both + pairs[False, True]
    return (
        f"of {blamed} blamed on the grader the judge accepts {both} "
        f"({both / max(blamed, 1):.1%}); of {accepted} that it accepts {both} are blamed on the "
        f"grader ({both / max(accepted, 1):.1%})"
    )


def against_reader(folder: Path, verdicts: Path) -> str:
    """Say how often a reader agrees with the causes, for each and for all that are decided."""
    read = {}
    with verdicts.open(encoding="utf-8", newline="") as file:
        for verdict in csv.DictReader(file):
            read[verdict["trajectory_id"]] = verdict["true_cause"]
    agreed: Counter[Cause] = Counter()
    total: Counter[Cause] = Counter()
    for row in tables.read_table(folder / ANALYSED, Analysis):
        if row.cause and row.trajectory_id in read:
            total[row.cause] += 1
            agreed[row.cause] += row.cause == read[row.trajectory_id]
    lines = []
    for cause in sorted(total):
        lines.append(f"{cause}: {agreed[cause]} of {total[cause]}")
    num_decided = total.total() - total[Cause.UNKNOWN]
    num_agreed = agreed.total() - agreed[Cause.UNKNOWN]
    low, high = wilson(num_agreed, num_decided)
    lines.append(f"decided: {num_agreed} of {num_decided}, 95% interval {low:.2f} to {high:.2f}")
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    """Make the folder, or write the sample."""
    settings = dict(item.split("=") for item in arguments if "=" in item)
    paths = [Path(item) for item in arguments if "=" not in item]
    if not settings:
        print(make_folder(*paths))
        return
    (folder,) = paths
    if "judge" in settings:
        print(against_judge(folder))
        return
    if "verdicts" in settings:
        print(against_reader(folder, Path(settings["verdicts"])))
        return
    read = ""
    if "without" in settings:
        read = Path(settings["without"]).read_text(encoding="utf-8")
    without = frozenset(re.split(r"[\s,]+", read))
    index = int(settings["index"]) if "index" in settings else None
    chosen = draw(folder, int(settings["sample"]), int(settings["seed"]), without, index)
    wanted = {row.trajectory_id for row in chosen}
    found = {}
    for graded in tables.read_table(folder / GRADED, GradedTrajectory):
        trajectory_id = graded.trajectory.trajectory_id
        if trajectory_id in wanted:
            found[trajectory_id] = graded
    shown = [show(row, found[row.trajectory_id], i) for i, row in enumerate(chosen, 1)]
    (folder / "sample.md").write_text("\n".join(shown), encoding="utf-8")
    print(f"{folder / 'sample.md'}: {len(chosen)} of the failed")


if __name__ == "__main__":
    main(sys.argv[1:])
