"""Read the released files: every character is kept, and our grades agree with theirs."""

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from coa.foreign.frames import prediction
from coa.foreign.own_tags import to_own_tags
from coa.foreign.record import Format
from coa.records import protocol
from coa.records.grading import grade, grade_prediction
from coa.records.trajectory import Author, StepKind
from synth.ingest import DroppedLine, Ingested, ingest
from tests.ingest_support import ingest_params

REAL = Path(os.environ.get("COA_REAL_DATA", "")) / "trajectories"
needs_real_data = pytest.mark.skipif(
    "COA_REAL_DATA" not in os.environ,
    reason="COA_REAL_DATA does not name the folder of real trajectories",
)
FILES = {
    "r1searcher_hotpotqa_qwen": (500, {}),
    "r1searcher_hotpotqa_llama": (500, {}),
    "fireact_hotpotdev500_gpt35ft": (457, {"text_after_action": 8}),
    "fireact_hotpotdev500_llama2_13b": (494, {"no_answer": 4, "text_after_action": 1}),
    "fireact_finetune_hotpotqa_multimethod": (734, {}),
    "autoact_hotpot_train": (
        668,
        {"no_action": 106, "text_after_action": 41, "no_answer": 5, "empty_turn": 1},
    ),
}


def foreign_text(values: dict[str, Any]) -> str:
    if isinstance(values.get("traj"), list):
        return "".join(message["content"] for message in values["traj"])
    if "output" in values:
        return str(values["instruction"] + values["output"])
    return str(values.get("traj") or values.get("gen_text_store") or values["prompt"])


@needs_real_data
@pytest.mark.parametrize("name", FILES)
def test_real_rows_keep_every_character_and_read_back_from_our_tags(name: str) -> None:
    path = REAL / f"trajectories_{name}.jsonl"
    lines = path.read_bytes().splitlines()
    reasons: Counter[str] = Counter()
    num_read = 0
    # Some of AutoAct's rows quote tags, so their format is named.
    form = Format.REFLEXION if name.startswith("autoact") else Format.AUTO
    for line, row in zip(lines, ingest(ingest_params(str(path), format=form)), strict=True):
        if isinstance(row, DroppedLine):
            reasons[row.reason] += 1
            continue
        num_read += 1
        trajectory = row.trajectory
        text = foreign_text(json.loads(line))
        assert trajectory.prompt + protocol.render(trajectory.steps) == text
        by_author = Counter({Author.SCAFFOLD: len(trajectory.prompt)})
        for step in trajectory.steps:
            by_author[step.author] += len(step.text)
        assert by_author.total() == len(text)
        own = to_own_tags(trajectory)
        read_back = protocol.parse(protocol.render(own.steps))
        assert [(s.kind, s.author, s.text) for s in read_back] == [
            (s.kind, s.author, s.text) for s in own.steps
        ]
        assert protocol.stray_tags(own.steps) == []
        if row.question:
            plain = grade_prediction(prediction(trajectory.steps), row.question.gold_answers)
            boxed = grade(protocol.answer_text(own.steps), row.question.gold_answers)
            assert (plain.verdict, plain.f1) == (boxed.verdict, boxed.f1)
    assert (num_read, dict(reasons)) == FILES[name]


@needs_real_data
@pytest.mark.parametrize("name", ["r1searcher_hotpotqa_qwen", "r1searcher_hotpotqa_llama"])
def test_every_real_document_of_r1_searcher_has_its_title(name: str) -> None:
    num_documents = num_titles = 0
    for row in ingest(ingest_params(str(REAL / f"trajectories_{name}.jsonl"))):
        assert isinstance(row, Ingested)
        for step in row.trajectory.steps:
            if step.kind is StepKind.OBSERVATION:
                num_documents += len(re.findall(r"^\(\d+\)", step.text, re.MULTILINE))
                num_titles += len(step.passages)
    assert num_documents == num_titles > 5000


@needs_real_data
def test_real_rows_give_the_scaffold_the_sentences_of_its_runtime() -> None:
    path = REAL / "trajectories_fireact_finetune_hotpotqa_multimethod.jsonl"
    sentences: Counter[tuple[Author, str]] = Counter()
    for row in ingest(ingest_params(str(path))):
        assert isinstance(row, Ingested)
        for step in row.trajectory.steps:
            found = re.match(
                "Thought: Now that I haven't solved the task within (.) steps", step.text
            )
            if found:
                sentences[step.author, found[1]] += 1
    assert sentences == {(Author.SCAFFOLD, "5"): 47, (Author.SCAFFOLD, "9"): 15}
