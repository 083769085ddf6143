"""Hold what tests of training share: a project with tiny sets, and settings of one plain step."""

import json
from pathlib import Path
from typing import Any

import msgspec

from coa.microworld.pretraining import PretrainingDocument
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Author, Outcome, Step, StepKind
from coa.search import Passage
from coa.store import tables
from coa.student.settings import TrainParams
from tests.sample_records import make_graded, make_pair, make_trajectory

PAIRS, SET = "data/assemble/cot_a", "data/assemble/coa"

STEPS = (
    *protocol.parse_policy("I need it. <begin_search> Ada's book </end_search>"),
    protocol.observation("search", "Ada wrote it.", Outcome.OK),
    *protocol.parse_policy("It says Ada.\n</think>\n\n\\boxed{Ada}"),
)
ONE_STEP = {
    "report_to": "none",
    "use_cpu": True,
    "max_steps": 1,
    "logging_steps": 1,
    "disable_tqdm": True,
    "max_grad_norm": 0.0,
    "learning_rate": 1.0,
    "optim": "sgd",
    "lr_scheduler_type": "constant",
    "save_strategy": "no",
}
"""One step of plain gradient descent with rate 1, which leaves the gradient in the weights."""


def trajectory(i: int) -> GradedTrajectory:
    question = f"Who wrote {'the ' * (i % 3)}book {i}?"
    return make_graded(Question(f"q{i}", question, ("Ada",), "train", "bridge", 1), STEPS)


def pair(i: int) -> PreferencePair:
    wrong = protocol.parse_policy(f"Maybe Bob {i}.\n</think>\n\n\\boxed{{Bob}}")
    prefix = (Step(StepKind.THOUGHT, Author.POLICY, "I need it. "),)
    parent = make_trajectory(Question(f"q{i}", f"Who wrote book {i}?", ("Ada",), "train"), STEPS)
    sides = {"chosen_id": "c", "rejected_id": "r"}
    return make_pair(parent, STEPS[1:], wrong, point=11, prefix=prefix, **sides)


def write_project(root: Path) -> None:
    """Write tiny sets and settings into the current folder."""
    params: dict[str, Any] = msgspec.to_builtins(TrainParams())
    few = {"per_device_train_batch_size": 2, "max_steps": 3, "use_cpu": True, "logging_steps": 1}
    params |= {"prompt": str(root / "train/prompts/question.txt"), "max_context_tokens": 96}
    params["pretrain"] |= {
        "documents": "documents.parquet",
        "corpus": "corpus.parquet",
        "arguments": {"learning_rate": 0.01, **few},
        "student": {
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 2,
            "intermediate_size": 48,
            "max_context_tokens": 128,
            "initializer_range": 0.088,
            "tools": ["search"],
            "joins_space": False,
        },
    }
    params["sft1"] |= {"arguments": few}
    for stage in ("sft2", "sft3"):
        params[stage] |= {"trajectories": [SET], "arguments": few}
    Path("params.yaml").write_text(json.dumps({"train": params}))
    documents = [
        PretrainingDocument(("Ada wrote ", f"book {i}."), (False, True)) for i in range(40)
    ]
    tables.write_table(Path("documents.parquet"), PretrainingDocument, documents)
    tables.write_table(Path("corpus.parquet"), Passage, [Passage("p", "Ada", "Ada wrote it.")])
    for split, count in (("train", 20), ("validation", 3)):
        tables.write_table(
            Path(SET, f"{split}.parquet"), GradedTrajectory, map(trajectory, range(count))
        )
        tables.write_table(Path(PAIRS, f"{split}.parquet"), PreferencePair, map(pair, range(count)))
