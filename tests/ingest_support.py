"""Write foreign rows and read them, for the tests of ingesting."""

import json
from pathlib import Path
from typing import Any

from synth.ingest import DroppedLine, Ingested, IngestParams, ingest

R1_TEXT = (
    "I look. <|begin_of_query|> q <|end_of_query|>\n\n<|begin_of_documents|>\n"
    "(1)Title: T Text: x\n<|end_of_documents|>\n\nOk.</think>\n\n<answer>Paris</answer>"
)
R1 = {
    "question": "Where?",
    "answer": "Paris",
    "pred_ans": "Paris",
    "gen_text_store": R1_TEXT,
    "gpt4o_output": "True",
}
REACT_TEXT = (
    "Thought: a\nAction: search[b]\nObservation: c\nThought: d\nAction: finish[Paris]\n"
    "Observation: Episode finished, reward = True\n"
)
SCORES = {
    "idx": "7",
    "em": True,
    "f1": 1.0,
    "gt": "paris",
    "pred": "paris",
    "reward": True,
    "prompt": [],
}
CHAT = {
    **SCORES,
    "traj": [
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": "Thought: a\nAction: finish[Paris]"},
        {"role": "user", "content": "Observation: Episode finished, reward = True"},
    ],
}
TEXT = {
    **SCORES,
    "idx": "8",
    "traj": f"Below.\n\n### Instruction:\nWhat?\n\n### Response:\n{REACT_TEXT}",
}
TRAINING = {"instruction": "Which?", "input": "", "output": REACT_TEXT}
ALL = [R1, CHAT, TEXT, TRAINING]
PARAMS = (
    "ingest: {path: '', format: auto, model: '', split: test, source: '', max_row_bytes: 4000000}"
)


def write(path: Path, *rows: Any) -> Path:
    path.write_bytes(
        b"".join(
            (row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows
        )
    )
    return path


def read(tmp_path: Path, *rows: Any, **params: Any) -> list[Ingested | DroppedLine]:
    return list(ingest(IngestParams(str(write(tmp_path / "model-x.jsonl", *rows)), **params)))


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}
