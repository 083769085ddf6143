"""Write trajectories as token ids with labels, for `tokenized_path` and `load_from_disk`.

LLaMA-Factory reads them by `tokenized_path`, TRL by `load_from_disk`. Each piece of text with one
author is encoded by itself (`coa.records.tokens`), so no token has two authors. Every row is
proven: its labels, decoded, are what the policy wrote and nothing else. Rows that are left out are
named in a file.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow as pa

from coa.errors import ConfigError, InputError, MissingExtraError
from coa.records.tokens import PieceEncoder, Tokenizer, tokenise
from coa.records.trajectory import Author, Trajectory
from data_cards.catalogue import SPLITS
from data_cards.formats.published_rows import write_rows
from data_cards.formats.source import Source

_IGNORED = -100
_SCHEMA = pa.schema(
    [(name, pa.list_(pa.int32())) for name in ("input_ids", "attention_mask", "labels")]
)
LEFT_OUT = "tokenized_left_out.jsonl"


class LeftOutReason(StrEnum):
    """A reason why a row is not among the token ids."""

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


def tokenised_row(
    trajectory: Trajectory, prompt: str, encoder: PieceEncoder, end_id: int | None
) -> dict[str, list[int]]:
    """Encode a trajectory, with labels that train the policy's text alone.

    Raises:
        InputError: the labels, decoded, are not exactly what the policy wrote.
    """
    steps = trajectory.steps
    tokens = tokenise(prompt, steps, encoder, end_id=end_id)
    trained = []
    labels = []
    for token, is_own in zip(tokens.ids, tokens.loss_mask, strict=True):
        if is_own:
            trained.append(token)
        labels.append(token if is_own else _IGNORED)
    own = "".join(step.text for step in steps if step.author is Author.POLICY)
    num_text_tokens = len(trained)
    if end_id is not None:
        num_text_tokens -= 1
    learned = encoder.decode(trained[:num_text_tokens])
    if learned != own:
        raise InputError(
            "the labels are not the policy's text",
            where=trajectory.trajectory_id,
            expected=own[:80],
            got=learned[:80],
        )
    return {"input_ids": list(tokens.ids), "attention_mask": [1] * len(labels), "labels": labels}


def write_tokenised(folder: Path, source: Source) -> dict[str, int]:
    """Write tokenized/, one data set with two splits, and tokenized_left_out.jsonl.

    Of the sets only those with trajectories are written. A validation split without rows is not
    written: the libraries that read the folder do not take an empty one.

    Returns:
        The number of rows written to each split, and of those left out for each reason.

    Raises:
        InputError: a set is missing or broken, a mask is wrong, or no train row is left.
        ConfigError: no tokenizer is named.
        MissingExtraError: datasets is not installed.
    """
    if source.tokenizer is None:
        raise ConfigError(
            "token ids need a tokenizer",
            where="export.tokenizer",
            expected="a folder or a name on the Hub",
            got="nothing",
        )
    try:
        from datasets import Dataset, DatasetDict, disable_progress_bars
    except ImportError as error:
        raise MissingExtraError("datasets", "train") from error
    if not sys.stderr.isatty():
        disable_progress_bars()
    counts: dict[str, int] = {}
    splits = {}
    left_out: list[LeftOut] = []
    with TemporaryDirectory() as temporary:
        for split in SPLITS:
            path = Path(temporary) / f"{split}.parquet"
            rows = _rows(source, source.tokenizer, split, left_out)
            count = write_rows(path, _SCHEMA, rows)
            counts[f"{folder.name}/tokenized/{split}"] = count
            if count:
                splits[split] = Dataset.from_parquet(str(path), cache_dir=temporary)
        if "train" not in splits:
            train = [row for row in left_out if row.split == "train"]
            examples = "; ".join(f"{row.row_id}: {row.reason}, {row.detail}" for row in train[:3])
            got = f"{len(train):,} rows left out: {examples}"
            raise InputError(
                "no train row is left for tokenized_path",
                where=f"export.max_tokens = {source.max_tokens:,}, export.tokenizer",
                expected="at least one train row that fits and whose text the tokenizer gives back",
                got=got if train else "sets without train rows",
                fix="raise export.max_tokens, name a byte-level tokenizer, or leave "
                "export.tokenizer empty",
            )
        DatasetDict(splits).save_to_disk(str(folder / "tokenized"))
    if left_out:
        lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in left_out]
        (folder / LEFT_OUT).write_text("".join(lines), encoding="utf-8")
    for reason, num_rows in Counter(row.reason for row in left_out).items():
        counts[f"left out as {reason} ({LEFT_OUT})"] = num_rows
    return counts


def _rows(
    source: Source, tokenizer: Tokenizer, split: str, left_out: list[LeftOut]
) -> Iterator[dict[str, list[int]]]:
    """Yield the rows of a split; add those that are left out to `left_out`."""
    encoder = PieceEncoder(tokenizer)
    end_id = getattr(tokenizer, "eos_token_id", None)
    prompt = source.prompt.for_policy(encoder)
    for name in source.with_trajectories:
        for trajectory in source.trajectories(name, split):
            row_id = trajectory.trajectory_id
            asked = prompt.fill(trajectory.question)
            try:
                encoded = tokenised_row(trajectory, asked, encoder, end_id)
            except ConfigError as error:
                reason = LeftOutReason.TEXT_CHANGED
                detail = f"expected {error.details['expected']}, got {error.details['got']}"
                left_out.append(LeftOut(row_id, name, split, reason, detail))
                continue
            num_tokens = len(encoded["labels"])
            if num_tokens > source.max_tokens:
                reason = LeftOutReason.TOO_LONG
                left_out.append(LeftOut(row_id, name, split, reason, f"{num_tokens} tokens"))
                continue
            yield encoded
