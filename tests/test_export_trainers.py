"""The loaders of LLaMA-Factory and verl read our exports and learn the policy's text alone.

They are run where COA_TRAINERS_PYTHON names a Python that has them (`make test-trainers`).
"""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

import pytest

from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.trajectory import Author, Step, StepKind
from coa.store import tables
from data_cards.catalogue import SetName, local_path
from data_cards.export import main
from tests.export_support import END, save_chat_model

PYTHON = os.environ.get("COA_TRAINERS_PYTHON", "")
pytestmark = [
    pytest.mark.trainers,
    pytest.mark.skipif(not PYTHON, reason="COA_TRAINERS_PYTHON names no Python with trainers"),
    pytest.mark.usefixtures("quiet_bars"),
]
FORMATS = "llamafactory,llamafactory_calls,verl_rl,verl_sft"
LLAMAFACTORY = """
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer
from llamafactory.hparams import get_train_args
found = {}
stages = {"coa_train": "sft", "coa_calls_train": "sft", "cot_a_train": "rm", "": "sft"}
for name, stage in stages.items():
    chosen = {"dataset_dir": "llamafactory", "dataset": name or "coa_train"}
    if not name:
        chosen["tokenized_path"] = "llamafactory/tokenized"
    settings = get_train_args({
        "model_name_or_path": model, "template": "qwen", "cutoff_len": 16384, "stage": stage,
        "do_train": True, "finetuning_type": "full", "output_dir": "unused", "report_to": "none",
        "overwrite_cache": True,
        **chosen,
    })
    template = get_template_and_fix_tokenizer(tokenizer, settings[1])
    rows = get_dataset(template, *settings[:3], stage=stage, tokenizer=tokenizer)["train_dataset"]
    columns = ["labels"] if stage == "sft" else ["chosen_labels", "rejected_labels"]
    found[name] = [[learned(row[column]) for column in columns] for row in rows]
"""
VERL = """
from omegaconf import OmegaConf
from verl.utils.dataset.multiturn_sft_dataset import MultiTurnSFTDataset
from verl.utils.dataset.rl_dataset import RLHFDataset
settings = {"max_length": 16384, "pad_mode": "no_padding", "truncation": "error"}
rows = MultiTurnSFTDataset("verl/sft/coa_train.parquet", tokenizer, OmegaConf.create(settings))
sft = []
for row in map(rows.__getitem__, range(len(rows))):
    pairs = zip(row["input_ids"].tolist(), row["loss_mask"].tolist())
    sft.append(tokenizer.decode([token for token, is_learned in pairs if is_learned]))
settings = {"max_prompt_length": 1024, "filter_overlong_prompts": False, "cache_dir": "unused"}
rows = RLHFDataset("verl/train.parquet", tokenizer, OmegaConf.create(settings))
found = {"sft": sft, "rl": [row["raw_prompt"] for row in map(rows.__getitem__, range(len(rows)))]}
"""
PROGRAM = """
import json, sys
from transformers import AutoTokenizer
model = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(model)
def learned(labels):
    return tokenizer.decode([label for label in labels if label != -100])
{code}
print("FOUND" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def exported(
    small_run: Path, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Export a small run beside a tiny chat model; the run is the current folder."""
    folder = tmp_path_factory.mktemp("trainers")
    save_chat_model(folder / "model", "qwen2_5")
    with pytest.MonkeyPatch.context() as context:
        context.chdir(small_run)
        prompt = f"prompt={root / 'train/prompts/question.txt'}"
        out = f"out={folder / 'out'}"
        main([f"format=[{FORMATS}]", out, prompt, f"tokenizer={folder / 'model'}"])
        yield folder


def load(exported: Path, code: str) -> Any:
    """Run a trainer's own loader in its own Python, in the folder of the export."""
    known = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [PYTHON, "-c", PROGRAM.replace("{code}", code), str(exported / "model")],
        cwd=exported / "out",
        env={**known, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.rpartition("FOUND")[2])


def graded() -> list[GradedTrajectory]:
    return list(tables.read_table(local_path(SetName.COA, "train"), GradedTrajectory))


def letters(text: str) -> str:
    return "".join(text.replace(END, "").split())


def own(row: GradedTrajectory) -> str:
    steps = row.trajectory.steps
    return "".join(step.text for step in steps if step.author is Author.POLICY)


def beginning(steps: Sequence[Step]) -> str:
    """Join what the policy wrote before the first search result."""
    shown = takewhile(lambda step: step.kind is not StepKind.OBSERVATION, steps)
    return "".join(step.text for step in shown)


def as_calls(row: GradedTrajectory) -> str:
    """Write what the policy wrote as Qwen2.5's template has it, without blanks."""
    text = ""
    for step in row.trajectory.steps:
        if step.kind is StepKind.THOUGHT:
            text += f"<think>{step.text}</think>"
        elif step.kind is StepKind.ACTION:
            arguments = json.dumps({"query": step.argument})
            call = f'{{"name": "search", "arguments": {arguments}}}'
            text += f"<tool_call>{call}</tool_call>"
        elif step.kind is StepKind.ANSWER:
            text += step.text.removeprefix(protocol.THINK_CLOSE)
    return letters(text)


def test_llama_factory_learns_the_policys_text_alone(exported: Path) -> None:
    found = load(exported, LLAMAFACTORY)
    rows = graded()
    for (learned,), row in zip(found["coa_train"], rows, strict=True):
        assert letters(learned) == letters(protocol.THINK_OPEN + own(row))
    for (learned,), row in zip(found["coa_calls_train"], rows, strict=True):
        assert letters(learned) == as_calls(row)
    for (learned,), row in islice(zip(found[""], rows, strict=False), len(rows)):
        assert learned == own(row) + END
    pairs = tables.read_table(local_path(SetName.COT_A, "train"), PreferencePair)
    for (chosen, rejected), pair in zip(found["cot_a_train"], pairs, strict=True):
        for learned, steps in ((chosen, pair.chosen), (rejected, pair.rejected)):
            assert "_result>" not in learned
            assert letters(learned).endswith(letters(beginning(steps)))


def test_verl_learns_the_policys_text_alone_and_asks_the_questions(exported: Path) -> None:
    found = load(exported, VERL)
    for learned, row in zip(found["sft"], graded(), strict=True):
        assert letters(learned) == as_calls(row)
    assert all(prompt[0]["content"].startswith("Question: ") for prompt in found["rl"])
