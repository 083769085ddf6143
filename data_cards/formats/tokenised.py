"""The sets of trajectories to token ids with labels, for LLaMA-Factory's `tokenized_path` and `load_from_disk`.

Each piece of text with one author is encoded by itself (`coa.tokens`), so no token has two authors.
Every row is proven: its labels, decoded, are what the policy wrote and nothing else. Rows that are
left out are named in a file.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from coa import tables
from coa.errors import ConfigError, InputError, MissingExtraError
from coa.graded import GradedTrajectory
from coa.prompts import Prompt
from coa.tokens import PieceEncoder, Tokenizer, tokenise
from coa.trajectory import Author
from data_cards.catalogue import HAS_TRAJECTORIES, SPLITS, local_path
from data_cards.formats.parquet_rows import write_rows

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
        raise InputError(
            "the labels are not the policy's text",
            where=row.trajectory.trajectory_id,
            expected=own[:80],
            got=learned[:80],
        )
    labels = [token if is_own else _IGNORED for token, is_own in zip(tokens.ids, mask, strict=True)]
    return {"input_ids": list(tokens.ids), "attention_mask": [1] * len(labels), "labels": labels}


class LeftOutReason(StrEnum):
    """Why a row is not among the token ids."""

    TOO_LONG = "too_long"
    """It has more than `export.max_tokens` tokens."""
    TEXT_CHANGED = "text_changed"
    """The tokenizer does not give its text back, so its labels could not be exact."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is not among the token ids."""

    row_id: str
    set: str
    split: str
    reason: LeftOutReason
    detail: str


def write_tokenised(
    folder: Path, tokenizer: Tokenizer, prompt: Prompt, max_tokens: int
) -> dict[str, int]:
    """Write tokenized/, one data set with two splits, and tokenized_left_out.jsonl.

    A validation split without rows is not written: the libraries that read the folder do not take
    an empty one. Returns rows by name.

    Raises:
        InputError: a set is missing or broken, a mask is wrong, or no train row is left.
        MissingExtraError: datasets is not installed.
    """
    try:
        from datasets import Dataset, DatasetDict
    except ImportError as error:
        raise MissingExtraError("datasets", "train") from error
    counts, splits = {}, {}
    left_out: list[LeftOut] = []
    with TemporaryDirectory() as temporary:
        for split in SPLITS:
            path = Path(temporary) / f"{split}.parquet"
            rows = _rows(split, tokenizer, prompt, max_tokens, left_out)
            count = write_rows(path, _SCHEMA, rows)
            counts[f"tokenized {split}"] = count
            if count:
                splits[split] = Dataset.from_parquet(str(path), cache_dir=temporary)
        if "train" not in splits:
            raise _none_left(left_out, max_tokens)
        DatasetDict(splits).save_to_disk(str(folder / "tokenized"))
    return counts | _write_left_out(folder / "tokenized_left_out.jsonl", left_out)


def _rows(
    split: str, tokenizer: Tokenizer, prompt: Prompt, max_tokens: int, left_out: list[LeftOut]
) -> Iterator[dict[str, list[int]]]:
    """The rows of a split; those that are left out are added to `left_out`."""
    encoder, end_id = PieceEncoder(tokenizer), getattr(tokenizer, "eos_token_id", None)
    prompt = prompt.for_policy(encoder)
    for name in HAS_TRAJECTORIES:
        for row in tables.read_table(local_path(name, split), GradedTrajectory):
            it = row.trajectory
            try:
                encoded = tokenised_row(row, prompt.fill(it.question), encoder, end_id)
            except ConfigError as error:
                detail = f"expected {error.details['expected']}, got {error.details['got']}"
                reason = LeftOutReason.TEXT_CHANGED
                left_out.append(LeftOut(it.trajectory_id, name, split, reason, detail))
                continue
            if len(encoded["labels"]) <= max_tokens:
                yield encoded
                continue
            detail, reason = f"{len(encoded['labels'])} tokens", LeftOutReason.TOO_LONG
            left_out.append(LeftOut(it.trajectory_id, name, split, reason, detail))


def _write_left_out(path: Path, left_out: Sequence[LeftOut]) -> dict[str, int]:
    """Write the rows that were left out, where there are any; returns how many for each reason."""
    if not left_out:
        return {}
    lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in left_out]
    path.write_text("".join(lines), encoding="utf-8")
    reasons = Counter(row.reason for row in left_out)
    return {f"left out as {reason} ({path.name})": count for reason, count in reasons.items()}


def _none_left(left_out: Sequence[LeftOut], max_tokens: int) -> InputError:
    train = [row for row in left_out if row.split == "train"]
    examples = "; ".join(f"{row.row_id}: {row.reason}, {row.detail}" for row in train[:3])
    return InputError(
        "no train row is left for tokenized_path",
        where=f"export.max_tokens = {max_tokens:,}, export.tokenizer",
        expected="at least one train row that fits and whose text the tokenizer gives back",
        got=f"{len(train):,} rows left out: {examples}" if train else "sets without train rows",
        fix="raise export.max_tokens, name a byte-level tokenizer, or leave export.tokenizer empty",
    )
