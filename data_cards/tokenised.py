"""The sets of trajectories to token ids with labels, for LLaMA-Factory's `tokenized_path` and `load_from_disk`.

Each piece of text with one author is encoded by itself (`coa.tokens`), so no token has two authors. Every row is
proven: its labels, decoded, are what the policy wrote and nothing else.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from coa import tables
from coa.errors import InputError, MissingExtraError
from coa.graded import GradedTrajectory
from coa.prompts import Prompt
from coa.tokens import PieceEncoder, Tokenizer, tokenise
from coa.trajectory import Author
from data_cards.catalogue import HAS_TRAJECTORIES, SPLITS, local_path
from data_cards.parquet_rows import write_rows

_IGNORED = -100
_SCHEMA = pa.schema(
    [(name, pa.list_(pa.int32())) for name in ("input_ids", "attention_mask", "labels")]
)


def tokenised_row(
    row: GradedTrajectory, prompt: str, encoder: PieceEncoder, end_id: int | None
) -> dict[str, list[int]]:
    """A trajectory with labels that train the policy's text alone.

    Raises:
        InputError: the labels, decoded, are not exactly what the policy wrote.
    """
    steps = row.trajectory.steps
    tokens = tokenise(prompt, steps, encoder, end_id=end_id)
    mask = tokens.loss_mask
    own = "".join(step.text for step in steps if step.author is Author.POLICY)
    trained = [token for token, is_own in zip(tokens.ids, mask, strict=True) if is_own]
    learned = encoder.decode(trained[: len(trained) - (end_id is not None)])
    if learned != own:
        raise InputError("the labels are not the policy's text", where=row.trajectory.trajectory_id, expected=own[:80],
                         got=learned[:80])  # fmt: skip
    labels = [token if is_own else _IGNORED for token, is_own in zip(tokens.ids, mask, strict=True)]
    return {"input_ids": list(tokens.ids), "attention_mask": [1] * len(labels), "labels": labels}


def write_tokenised(
    folder: Path, tokenizer: Tokenizer, prompt: Prompt, max_tokens: int
) -> dict[str, int]:
    """Write the sets as one data set with two splits; longer rows are left out. Returns rows by split.

    Raises:
        ConfigError: the tokenizer does not give a text back.
        InputError: a set is missing or broken, or a mask is wrong.
        MissingExtraError: datasets is not installed.
    """
    try:
        from datasets import Dataset, DatasetDict
    except ImportError as error:
        raise MissingExtraError("datasets", "train") from error
    counts, splits = {}, {}
    with TemporaryDirectory() as temporary:
        for split in SPLITS:
            path = Path(temporary) / f"{split}.parquet"
            counts[f"tokenized {split}"] = write_rows(
                path, _SCHEMA, _rows(split, tokenizer, prompt, max_tokens)
            )
            splits[split] = Dataset.from_parquet(str(path), cache_dir=temporary)
        DatasetDict(splits).save_to_disk(str(folder))
    return counts


def _rows(
    split: str, tokenizer: Tokenizer, prompt: Prompt, max_tokens: int
) -> Iterator[dict[str, list[int]]]:
    encoder, end_id = PieceEncoder(tokenizer), getattr(tokenizer, "eos_token_id", None)
    prompt = prompt.for_policy(encoder)
    for name in HAS_TRAJECTORIES:
        for row in tables.read_table(local_path(name, split), GradedTrajectory):
            encoded = tokenised_row(row, prompt.fill(row.trajectory.question), encoder, end_id)
            if len(encoded["labels"]) <= max_tokens:
                yield encoded
