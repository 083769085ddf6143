"""Real trajectories to a folder in which the error analysis runs, and what people and a judge say of its causes.

    python -m bench.error_analysis DATA FOLDER       # then there: curate.analyse, curate.report
    python -m bench.error_analysis FOLDER sample=50 seed=1 [without=FILE]
    python -m bench.error_analysis FOLDER judge=yes

DATA holds trajectories/*.jsonl of R1-Searcher and FireAct, questions.parquet (question,
gold_titles, type) and corpus_gold.parquet. Ingested questions get gold titles, and as many hops as
titles, where a question of the same normalised text has them; the others keep none. The second form
writes a sample, stratified by cause, to FOLDER/sample.md; FILE lists ids to leave out, those that
were read while the rules were written. The third compares the cause `graded_wrong` with the
verdicts of a language model, where the files record them.
"""

import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from coa import tables
from coa.causes import Analysis, Cause
from coa.drops import Dropped
from coa.files import DROPPED, GRADED, QUESTIONS
from coa.graded import GradedTrajectory, grade_trajectory
from coa.grading import normalise
from coa.own_tags import to_own_tags
from coa.question import Question
from coa.trajectory import StepKind
from curate.analyse import OUT
from curate.filter import FilterParams, judge
from synth.ingest import Ingested, IngestParams, Recorded, ingest

JUDGED = Path("recorded.parquet")
PARAMS = """
index: {{corpus: {corpus}, out: data/index, columns: {{}}, is_stemmed: true}}
analyse: {{reads_corpus: true, near_f1: 0.75}}
"""
FILES = (
    "r1searcher_hotpotqa_qwen",
    "r1searcher_hotpotqa_llama",
    "fireact_hotpotdev500_gpt35ft",
    "fireact_hotpotdev500_llama2_13b",
)


def with_gold_titles(data: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """Gold titles and type by the normalised text of the question."""
    columns = pl.read_parquet(
        data / "questions.parquet", columns=["question", "gold_titles", "type"]
    )
    return {
        normalise(text): (tuple(titles or ()), kind or "")
        for text, titles, kind in columns.iter_rows()
    }


def read_all(data: Path) -> tuple[list[Question], list[GradedTrajectory], list[Recorded]]:
    """The questions that have gold answers, and their trajectories, graded; ids begin with the family of the file."""
    known = with_gold_titles(data)
    questions: dict[str, Question] = {}
    rows, recorded = [], []
    for family in ("r1searcher", "fireact"):
        for file in (name for name in FILES if name.startswith(family)):
            for row in _ingested(data / f"trajectories/trajectories_{file}.jsonl"):
                question_id = f"{family}-{row.trajectory.question_id}"
                if row.question:
                    titles, kind = known.get(normalise(row.question.question), ((), ""))
                    questions.setdefault(
                        question_id,
                        replace(
                            row.question,
                            question_id=question_id,
                            gold_titles=titles,
                            question_type=kind,
                            num_hops=len(titles) or None,
                        ),
                    )
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
    return (
        row
        for row in ingest(IngestParams(str(path), source="hotpotqa"))
        if isinstance(row, Ingested)
    )


def make_folder(data: Path, folder: Path) -> str:
    """Write what `curate.analyse` and `curate.report` read."""
    corpus = (data / "corpus_gold.parquet").resolve()
    settings, text = folder / "params.yaml", PARAMS.format(corpus=corpus)
    if settings.exists() and settings.read_text(encoding="utf-8") != text:
        sys.exit(f"{settings} is not of this command: name a folder of its own")
    questions, rows, recorded = read_all(data)
    tables.write_table(folder / QUESTIONS, Question, questions)
    tables.write_table(folder / GRADED, GradedTrajectory, rows)
    limits = FilterParams()
    tables.write_table(
        folder / DROPPED, Dropped, filter(None, (judge(row, limits) for row in rows))
    )
    tables.write_table(folder / JUDGED, Recorded, recorded)
    settings.write_text(text, encoding="utf-8")
    titled = sum(bool(question.gold_titles) for question in questions)
    failed = sum(not row.grade.exact_match for row in rows)
    return f"{folder}: {len(questions):,} questions ({titled} with gold titles), {failed:,} of {len(rows):,} failed"


def draw(
    folder: Path, count: int, seed: int, without: frozenset[str] = frozenset()
) -> list[Analysis]:
    """A sample of the failed rows: causes in turn, so that each has as many as its number allows."""
    by_cause: dict[str, list[Analysis]] = defaultdict(list)
    for row in tables.read_table(folder / OUT, Analysis):
        if row.cause and row.trajectory_id not in without:
            by_cause[row.cause].append(row)
    generator = random.Random(seed)
    pools = [generator.sample(rows, len(rows)) for _, rows in sorted(by_cause.items())]
    turns = [rows[i] for i in range(max(map(len, pools))) for rows in pools if i < len(rows)]
    return turns[:count]


def show(row: Analysis, graded: GradedTrajectory, number: int) -> str:
    """One row of the sample as a person reads it."""
    steps = (
        f"[{i} {step.kind}] {step.text.strip() if step.kind is not StepKind.OBSERVATION else step.text.strip()[:2500]}"
        for i, step in enumerate(graded.trajectory.steps)
    )
    head = (
        f"## {number}. {row.trajectory_id}  CAUSE {row.cause} step {row.step}\nSAW {row.evidence}"
    )
    beside = ", ".join(finding.cause for finding in row.contributing)
    asked = f"Q {graded.trajectory.question}\nGOLD {graded.gold_answers} GOT {graded.grade.prediction!r}"
    return "\n".join([head, f"BESIDE {beside} TITLES {row.needs_gold_titles}", asked, *steps, ""])


def against_judge(folder: Path) -> str:
    """How often the language model accepts what the rules blame on the grader, and the other way round."""
    verdicts = {
        row.trajectory_id: row.judge for row in tables.read_table(folder / JUDGED, Recorded)
    }
    failed = (row for row in tables.read_table(folder / OUT, Analysis) if row.cause)
    pairs = Counter(
        (row.cause is Cause.GRADED_WRONG, verdicts.get(row.trajectory_id)) for row in failed
    )
    both, ours, theirs = pairs[True, True], pairs[True, False], pairs[False, True]
    return (
        f"of {both + ours} blamed on the grader the judge accepts {both} ({both / max(both + ours, 1):.1%}); "
        f"of {both + theirs} that it accepts {both} are blamed on the grader ({both / max(both + theirs, 1):.1%})"
    )


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
    read = Path(settings["without"]).read_text(encoding="utf-8") if "without" in settings else ""
    chosen = draw(folder, int(settings["sample"]), int(settings["seed"]), frozenset(read.split()))
    wanted = {row.trajectory_id for row in chosen}
    graded = tables.read_table(folder / GRADED, GradedTrajectory)
    found = {
        row.trajectory.trajectory_id: row
        for row in graded
        if row.trajectory.trajectory_id in wanted
    }
    shown = [show(row, found[row.trajectory_id], i) for i, row in enumerate(chosen, 1)]
    (folder / "sample.md").write_text("\n".join(shown), encoding="utf-8")
    print(f"{folder / 'sample.md'}: {len(chosen)} of the failed")


if __name__ == "__main__":
    main(sys.argv[1:])
