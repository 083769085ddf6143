"""Set the sizes of what is measured: of a real run, and of a rehearsal on a CPU."""

from dataclasses import dataclass
from typing import Any

from coa.student.small import StudentSettings


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the models and the data are, and how long each stage trains."""

    profiles: tuple[str, ...]
    """Profiles of the data, the later ones over the earlier."""
    student: StudentSettings
    """The student that goes through all stages."""
    steps: dict[str, int]
    """Steps of each stage of the student's chain."""
    batch: dict[str, Any]
    """Trainer's settings of the student's likelihood stages."""
    num_questions: int
    """Test questions that each stage's model is asked."""
    large: dict[str, int]
    """The shape of the large model, which has random weights."""
    large_steps: int
    """Steps of each stage of the large model."""
    large_batch: int
    """Rows in a step of the large model."""


REAL = Sizes(
    profiles=("conf/microworld.yaml",),
    # 150 million weights with a vocabulary of some thousand words.
    student=StudentSettings(
        hidden_size=1024,
        num_layers=12,
        num_heads=16,
        intermediate_size=2816,
        initializer_range=0.03,
    ),
    steps={"pretrain": 1200, "sft1": 60, "sft2": 300, "sft3": 300, "rl1": 8, "rl2": 8},
    batch={"per_device_train_batch_size": 32, "gradient_accumulation_steps": 1},
    num_questions=500,
    # Qwen2.5-7B's.
    large={
        "hidden_size": 3584,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "intermediate_size": 18944,
        "vocab_size": 152_064,
    },
    large_steps=4,
    large_batch=4,
)
REHEARSAL = Sizes(
    profiles=("conf/tiny.yaml",),
    student=StudentSettings(
        hidden_size=32, num_layers=1, num_heads=2, intermediate_size=64, max_context_tokens=256
    ),
    steps={"pretrain": 3, "sft1": 2, "sft2": 2, "sft3": 2, "rl1": 1, "rl2": 1},
    batch={},
    num_questions=4,
    large={
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "intermediate_size": 64,
        "vocab_size": 4_200,
    },
    large_steps=1,
    large_batch=2,
)
