"""Write the rollouts of an evaluation as BrowseComp-Plus's run files, for its own grader.

    python -m evaluation.run_files name=sft2

Reads data/evaluate/{name}.parquet; writes data/run_files/{name}/run_{query_id}.json, one for each
question: its status, the documents that its searches showed, calls and answer in order. A baseline
with several rollouts of a question has the last one written. Its grader then reads the folder:
`python scripts_evaluation/evaluate_run.py --input_dir data/run_files/sft2`. The ids of the passages
must be the benchmark's document ids (`index.columns`).
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from coa.records.graded import GradedTrajectory
from coa.records.protocol import THINK_CLOSE, answer_text
from coa.records.trajectory import FAILED_STOPS, FORCED_STOPS, StepKind, StopReason, Trajectory
from coa.settings.params import Params
from coa.store import tables
from coa.store.files import DATA, EVALUATED
from coa.store.output_folder import OwnFolder, replace_folder
from coa.student.evaluate_settings import EvaluateParams
from coa.student.results import write_text
from evaluation.evaluate import check

OUT = DATA / "run_files"
_ABOUT = "about.json"
_OWN = OwnFolder("python -m evaluation.run_files", _ABOUT, r"about\.json|run_[^/]+\.json")
_COMPLETED = FORCED_STOPS | {StopReason.ANSWERED}


def to_run(trajectory: Trajectory) -> dict[str, Any]:
    """Return a rollout in the form of a run file."""
    calls = Counter(step.tool for step in trajectory.steps if step.kind is StepKind.ACTION)
    shown: dict[str, None] = {}  # a set that keeps the order
    for step in trajectory.steps:
        shown.update(dict.fromkeys(step.passages))
    return {
        "metadata": {"model": trajectory.model, "search": trajectory.search_fingerprint},
        "query_id": trajectory.question_id,
        "tool_call_counts": dict(calls),
        "status": _status(trajectory.stop_reason),
        "retrieved_docids": list(shown),
        "result": list(_entries(trajectory)),
    }


def _status(reason: StopReason) -> str:
    if reason in _COMPLETED:
        return "completed"
    return "failed" if reason in FAILED_STOPS else "incomplete"


def _entries(trajectory: Trajectory) -> Iterator[dict[str, Any]]:
    """Yield thoughts, calls with what they returned, and the answer, in order."""
    steps = trajectory.steps
    for position, step in enumerate(steps):
        if step.kind is StepKind.THOUGHT:
            yield _entry("reasoning", [step.text])
        elif step.kind is StepKind.ACTION:
            following = steps[position + 1 : position + 2]
            is_answered = bool(following) and following[0].kind is StepKind.OBSERVATION
            output = following[0].text if is_answered else None
            yield _entry("tool_call", output, step.tool, json.dumps({"query": step.argument}))
    answer = answer_text(steps).replace(THINK_CLOSE, "").strip()
    if answer:
        yield _entry("output_text", answer)


def _entry(
    kind: str, output: Any, tool_name: str | None = None, arguments: str | None = None
) -> dict[str, Any]:
    return {"type": kind, "tool_name": tool_name, "arguments": arguments, "output": output}


def main(arguments: Sequence[str]) -> str:
    """Write the run files and return the summary line."""
    params = check(Params.load("evaluate", arguments).section(EvaluateParams))
    folder = OUT / params.name
    source = EVALUATED / f"{params.name}.parquet"
    written: dict[str, str] = {}
    with replace_folder(folder, _OWN) as made:
        for row in tables.read_table(source, GradedTrajectory):
            run = to_run(row.trajectory)
            # A question's id is a text from outside: it must not lead out of the folder.
            path = made / f"run_{quote(row.trajectory.question_id, safe='')}.json"
            write_text(path, json.dumps(run, indent=2, ensure_ascii=False) + "\n")
            written[row.trajectory.question_id] = run["status"]
        about = {"rollouts": source.as_posix(), "num_questions": len(written)}
        write_text(made / _ABOUT, json.dumps(about, indent=2) + "\n")
    counts = Counter(written.values())
    shown = ", ".join(f"{count:,} {status}" for status, count in counts.most_common())
    return f"{folder}: {len(written):,} run files ({shown})"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
