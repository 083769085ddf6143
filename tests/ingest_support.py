"""Write foreign rows and read them, for the tests of ingesting."""

import json
from pathlib import Path
from typing import Any

from coa.settings.params import write_profile
from synth.ingest import DroppedLine, ForeignFile, Ingested, IngestParams, ingest

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
PROFILE = """
pipeline: {trajectories: [ingest]}
questions: {files: [{path: data/ingest/questions.parquet}]}
"""


def ingest_params(path: Path | str, max_row_bytes: int = 4_000_000, **entry: Any) -> IngestParams:
    """Settings for one file or pattern."""
    return IngestParams((ForeignFile(str(path), **entry),), max_row_bytes)


def make_folder(folder: Path, root: Path) -> None:
    """Write the settings and prompts that `synth.ingest` reads."""
    (folder / "profile.yaml").write_text(PROFILE)
    base = root / "conf/microworld.yaml"
    write_profile(folder / "profile.yaml", folder / "params.yaml", base)
    prompts = folder / "synth/prompts"
    prompts.mkdir(parents=True)
    for mode in ("cot", "coa"):
        name = f"{mode}.txt"
        (prompts / name).write_bytes((root / "synth/prompts" / name).read_bytes())


def write(path: Path, *rows: Any) -> Path:
    path.write_bytes(
        b"".join(
            (row if isinstance(row, bytes) else json.dumps(row).encode()) + b"\n" for row in rows
        )
    )
    return path


def read(tmp_path: Path, *rows: Any, **params: Any) -> list[Ingested | DroppedLine]:
    return list(ingest(ingest_params(write(tmp_path / "model-x.jsonl", *rows), **params)))


def without(row: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != name}
