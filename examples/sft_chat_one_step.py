"""Train one step of SFT with TRL on published trajectories, as chat messages with tool calls.

    python examples/sft_chat_one_step.py me/coa Qwen/Qwen2.5-0.5B-Instruct

It needs nothing of this project, and the model needs a chat template. `sft_one_step.py` trains on
the text in the tags of this project instead.
"""

import sys

from datasets import load_dataset
from trl import SFTConfig, SFTTrainer


def main(repository: str, model: str) -> None:
    """Train one step and say what the loss was."""
    args = SFTConfig(
        output_dir="sft_chat_one_step",
        assistant_only_loss=True,  # without it, search results are learned, too
        max_length=None,  # by default TRL cuts off what is longer than 1,024 tokens
        max_steps=1,
        per_device_train_batch_size=4,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        gradient_checkpointing=False,
        bf16=False,
    )
    trajectories = load_dataset(repository, split="train")
    trainer = SFTTrainer(model=model, args=args, train_dataset=trajectories)
    trainer.train()
    print(f"loss {trainer.state.log_history[0]['loss']:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
