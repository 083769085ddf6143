"""Train one step of DPO with TRL on published pairs, which teach when to search.

    python examples/preferences_one_step.py me/coa Qwen/Qwen2.5-0.5B

It needs nothing of this project. Each side ends where its first search result would begin, so that
no text of the environment is learned. The paper's own loss for these pairs is another one
(`train/pair_trainer.py`).
"""

import sys

from datasets import load_dataset
from trl import DPOConfig, DPOTrainer


def main(repository: str, model: str) -> None:
    """Train one step and say what the loss was."""
    args = DPOConfig(
        output_dir="preferences_one_step",
        max_steps=1,
        per_device_train_batch_size=2,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        max_length=None,
        gradient_checkpointing=False,
        bf16=False,
    )
    pairs = load_dataset(repository, "cot_a", split="train")
    trainer = DPOTrainer(model=model, args=args, train_dataset=pairs)
    trainer.train()
    print(f"loss {trainer.state.log_history[0]['loss']:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
