"""Write trajectories as token ids with labels, for `tokenized_path` and `load_from_disk`.

LLaMA-Factory reads them by `tokenized_path`. Each piece of text with one author is encoded by
itself (`coa.tokens`), so no token has two authors. Every row is proven: its labels, decoded, are
what the policy wrote and nothing else. Rows that are left out are named in a file.
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
from data_cards.catalogue import HAS_TRAJECTORIES, SPLITS, SetName, local_path
from data_cards.formats.parquet_rows import write_rows

_IGNORED = -100
_SCHEMA = pa.schema(
    [(name, pa.list_(pa.int32())) for name in ("input_ids", "attention_mask", "labels")]
)


def tokenised_row(
    row: GradedTrajectory, prompt: str, encoder: PieceEncoder, end_id: int | None
) -> dict[str, list[int]]:
    """Encode a trajectory, with labels that train the policy's text alone.

    Raises:
        InputError: the labels, decoded, are not exactly what the policy wrote.
    """
    steps = row.trajectory.steps
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
            where=row.trajectory.trajectory_id,
            expected=own[:80],
            got=learned[:80],
        )
    return {"input_ids": list(tokens.ids), "attention_mask": [1] * len(labels), "labels": labels}


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


def write_tokenised(
    folder: Path,
    names: Sequence[SetName],
    tokenizer: Tokenizer,
    prompt: Prompt,
    max_tokens: int,
) -> dict[str, int]:
    """Write tokenized/, one data set with two splits, and tokenized_left_out.jsonl.

    Of the sets only those with trajectories are written. A validation split without rows is not
    written: the libraries that read the folder do not take an empty one.

    Returns:
        The number of rows written to each split, and of those left out for each reason.

    Raises:
        InputError: a set is missing or broken, a mask is wrong, or no train row is left.
        MissingExtraError: datasets is not installed.
    """
    try:
        from datasets import Dataset, DatasetDict
    except ImportError as error:
        raise MissingExtraError("datasets", "train") from error
    counts: dict[str, int] = {}
    splits = {}
    left_out: list[LeftOut] = []
    with TemporaryDirectory() as temporary:
        for split in SPLITS:
            path = Path(temporary) / f"{split}.parquet"
            rows = _rows(names, split, tokenizer, prompt, max_tokens, left_out)
            count = write_rows(path, _SCHEMA, rows)
            counts[f"tokenized {split}"] = count
            if count:
                splits[split] = Dataset.from_parquet(str(path), cache_dir=temporary)
        if "train" not in splits:
            raise _none_left(left_out, max_tokens)
        DatasetDict(splits).save_to_disk(str(folder / "tokenized"))
    counts.update(_write_left_out(folder / "tokenized_left_out.jsonl", left_out))
    return counts


def _rows(
    names: Sequence[SetName],
    split: str,
    tokenizer: Tokenizer,
    prompt: Prompt,
    max_tokens: int,
    left_out: list[LeftOut],
) -> Iterator[dict[str, list[int]]]:
    """Yield the rows of a split; add those that are left out to `left_out`."""
    encoder = PieceEncoder(tokenizer)
    end_id = getattr(tokenizer, "eos_token_id", None)
    prompt = prompt.for_policy(encoder)
    for name in names:
        if name not in HAS_TRAJECTORIES:
            continue
        for row in tables.read_table(local_path(name, split), GradedTrajectory):
            row_id = row.trajectory.trajectory_id
            asked = prompt.fill(row.trajectory.question)
            try:
                encoded = tokenised_row(row, asked, encoder, end_id)
            except ConfigError as error:
                reason = LeftOutReason.TEXT_CHANGED
                detail = f"expected {error.details['expected']}, got {error.details['got']}"
                left_out.append(LeftOut(row_id, name, split, reason, detail))
                continue
            num_tokens = len(encoded["labels"])
            if num_tokens > max_tokens:
                reason = LeftOutReason.TOO_LONG
                left_out.append(LeftOut(row_id, name, split, reason, f"{num_tokens} tokens"))
                continue
            yield encoded


def _write_left_out(path: Path, left_out: Sequence[LeftOut]) -> dict[str, int]:
    """Write the rows that were left out, if any; return how many there are for each reason."""
    if not left_out:
        return {}
    lines = [json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in left_out]
    path.write_text("".join(lines), encoding="utf-8")
    num_by_reason = Counter(row.reason for row in left_out)
    return {f"left out as {reason} ({path.name})": num for reason, num in num_by_reason.items()}


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
