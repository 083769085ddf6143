"""Train one step of SFT with TRL on published trajectories, on the policy's own text alone.

    python examples/sft_one_step.py me/coa Qwen/Qwen2.5-0.5B

It needs nothing of this project.
"""

import sys

from datasets import Dataset, load_dataset
from transformers import AutoTokenizer
from trl import SFTConfig, SFTTrainer

IGNORED = -100


def encode(row: dict, tokenizer) -> dict:
    """Encode prompt and steps, and label the policy's tokens, which are learned.

    Each piece is encoded by itself, so that no token has two authors.
    """
    trajectory = row["trajectory"]
    pieces = [("scaffold", trajectory["prompt"])]
    for step in trajectory["steps"]:
        pieces.append((step["author"], step["text"]))
    ids = []
    labels = []
    for author, text in pieces:
        # In a search result the name of a special token is only text.
        is_text = author == "environment"
        piece = tokenizer(text, add_special_tokens=False, split_special_tokens=is_text)["input_ids"]
        ids += piece
        labels += piece if author == "policy" else [IGNORED] * len(piece)
    end = tokenizer.eos_token_id
    return {"input_ids": [*ids, end], "labels": [*labels, end]}


def main(repository: str, model: str) -> None:
    """Train one step and say what the loss was."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = load_dataset(repository, "coa", split="train").select(range(8))
    dataset = Dataset.from_list([encode(row, tokenizer) for row in rows])
    args = SFTConfig(
        output_dir="sft_one_step",
        max_steps=1,
        per_device_train_batch_size=4,
        logging_steps=1,
        report_to="none",
        save_strategy="no",
        max_length=None,
        gradient_checkpointing=False,
        bf16=False,
    )
    trainer = SFTTrainer(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)
    trainer.train()
    print(f"loss {trainer.state.log_history[0]['loss']:.4f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
