"""Encode rows of the sets as token ids with labels: who wrote what decides what is trained.

A label is the id itself where it is trained and -100 elsewhere. Nothing is cut: a row that does not
fit the context, or whose text the tokenizer does not give back, is left out and counted.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, get_type_hints

import pyarrow as pa

from coa.policy.prompts import Prompt
from coa.records.graded import GradedTrajectory
from coa.records.tokens import PieceEncoder, TextLostError, Tokenised, tokenise
from coa.records.trajectory import Step, StepKind

if TYPE_CHECKING:
    from datasets import Dataset

    from coa.records.pairs import PreferencePair

IGNORED = -100
"""The label of a token that is not trained (PyTorch's cross entropy)."""
_ROWS_PER_BATCH = 1000

Item = TypeVar("Item")


class Example(TypedDict):
    """One sequence for SFT stages 2 and 3."""

    input_ids: list[int]
    labels: list[int]


class PairExample(TypedDict):
    """One pair for SFT stage 1: the sides follow the shared prefix."""

    prompt_ids: list[int]
    """The prompt and the shared prefix."""
    chosen_ids: list[int]
    chosen_mask: list[int]
    """1 at the policy's own tokens."""
    rejected_ids: list[int]
    rejected_mask: list[int]


class DecisionExample(PairExample):
    """One pair with what is known of its decision."""

    decision_lengths: list[int]
    """The policy's first tokens of the chosen and the rejected side, in which they decide; 0, 0
    where no side begins with a call of the pair's tool."""
    acts: int
    """1 where the chosen side is the one that acts."""


@dataclass(slots=True)
class RowTally:
    """The fate of the rows that a stage read."""

    counts: Counter[str] = field(default_factory=Counter)
    """Rows `kept`, and rows left out: `too_long`, `nothing_trained`, `text_lost`."""
    lost: dict[str, TextLostError] = field(default_factory=dict)
    """Why the tokenizer cannot hold a row's text, by the row's id."""
    lengths: list[int] = field(default_factory=list)
    """Tokens of each row whose text is not lost."""
    shortest_too_long: int = 0
    """Tokens of the shortest row that is too long; 0 where none is."""

    def keeps(self, length: int, max_tokens: int, *, is_trained: bool = True) -> bool:
        """Count a row, and tell whether it is kept."""
        self.lengths.append(length)
        reason = "kept" if is_trained else "nothing_trained"
        if length > max_tokens:
            reason = "too_long"
            self.shortest_too_long = min(length, self.shortest_too_long or length)
        self.counts[reason] += 1
        return reason == "kept"

    def shown_lengths(self) -> str:
        """Say how long the rows are; empty where nothing is known of it."""
        if not self.lengths:
            return ""
        median = round(statistics.median(self.lengths))
        return f"rows have {median:,} tokens in the median, {max(self.lengths):,} at most"

    def lose(self, row_id: str, error: TextLostError) -> None:
        """Count a row whose text the tokenizer does not give back."""
        self.counts["text_lost"] += 1
        self.lost[row_id] = error


class Encoder:
    """An encoder of rows for one tokenizer and prompt, which counts what it leaves out."""

    def __init__(self, tokenizer: Any, prompt: Prompt, max_tokens: int) -> None:
        self._encoder = PieceEncoder(tokenizer)
        self._end_id: int = tokenizer.eos_token_id
        self._prompt = prompt
        self._max_tokens = max_tokens
        self.rows = RowTally()

    def trajectory(self, row: GradedTrajectory, *, trains_world: bool) -> Example | None:
        """Encode a trajectory under the student's prompt, ended by the end-of-turn token.

        None is returned where the row is left out.
        """
        prompt = self._prompt.fill(row.trajectory.question)
        steps = row.trajectory.steps
        try:
            tokens = tokenise(prompt, steps, self._encoder, end_id=self._end_of(steps))
        except TextLostError as error:
            self.rows.lose(row.trajectory.trajectory_id, error)
            return None
        mask = tokens.world_mask if trains_world else tokens.loss_mask
        if not self.rows.keeps(len(tokens.ids), self._max_tokens, is_trained=any(mask)):
            return None
        labels = list(tokens.ids)
        for position, is_trained in enumerate(mask):
            if not is_trained:
                labels[position] = IGNORED
        return Example(input_ids=list(tokens.ids), labels=labels)

    def likelihood(self, row: GradedTrajectory) -> PairExample | None:
        """Encode a trajectory as stage 2 does, as a pair's chosen side without a rejected one.

        None is returned where the row is left out.
        """
        example = self.trajectory(row, trains_world=False)
        if example is None:
            return None
        # Nothing predicts a sequence's first token, so it is never trained.
        return PairExample(
            prompt_ids=example["input_ids"][:1],
            chosen_ids=example["input_ids"][1:],
            chosen_mask=[int(label != IGNORED) for label in example["labels"][1:]],
            rejected_ids=[],
            rejected_mask=[],
        )

    def decision_lengths(self, pair: PairExample, chosen: str, rejected: str) -> list[int]:
        """Count the tokens of a pair's decisions: the fewest whose text holds each decision."""
        return [
            self._num_tokens(pair["chosen_ids"], chosen),
            self._num_tokens(pair["rejected_ids"], rejected),
        ]

    def _num_tokens(self, ids: list[int], text: str) -> int:
        """Return the smallest number of first ids whose text begins with `text`."""
        for number in range(len(ids)):
            if self._encoder.decode(ids[:number]).startswith(text):
                return number
        return len(ids)

    def pair(self, row: "PreferencePair") -> PairExample | None:
        """Encode both sides of a pair; a side that ends in an action has no end-of-turn token.

        Returns:
            None where the row is left out.
        """
        prompt = self._prompt.fill(row.question)
        try:
            start = len(tokenise(prompt, row.prefix, self._encoder).ids)
            chosen = self._side(prompt, row.prefix, row.chosen)
            rejected = self._side(prompt, row.prefix, row.rejected)
        except TextLostError as error:
            self.rows.lose(row.pair_id, error)
            return None
        chosen_mask = [int(flag) for flag in chosen.loss_mask[start:]]
        rejected_mask = [int(flag) for flag in rejected.loss_mask[start:]]
        is_trained = any(chosen_mask) and any(rejected_mask)
        longest = max(len(chosen.ids), len(rejected.ids))
        if not self.rows.keeps(longest, self._max_tokens, is_trained=is_trained):
            return None
        return PairExample(
            prompt_ids=list(chosen.ids[:start]),
            chosen_ids=list(chosen.ids[start:]),
            chosen_mask=chosen_mask,
            rejected_ids=list(rejected.ids[start:]),
            rejected_mask=rejected_mask,
        )

    def _side(self, prompt: str, prefix: tuple[Step, ...], side: tuple[Step, ...]) -> Tokenised:
        end_id = self._end_of(side)
        return tokenise(prompt, side, self._encoder, prefix=prefix, end_id=end_id)

    def _end_of(self, steps: tuple[Step, ...]) -> int | None:
        return self._end_id if steps and steps[-1].kind is StepKind.ANSWER else None


def in_chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield lists of `size` items; the last one may be shorter."""
    rest = iter(items)
    chunk = list(islice(rest, size))
    while chunk:
        yield chunk
        chunk = list(islice(rest, size))


def to_dataset(examples: Iterable[Mapping[str, Any] | None], kind: type[Any]) -> "Dataset":
    """Make a data set of `datasets` from the examples that are not None.

    A list of whole numbers takes four bytes of memory for each.
    """
    from datasets import Dataset

    types = {list[int]: pa.list_(pa.int32()), int: pa.int32(), float: pa.float64()}
    columns = get_type_hints(kind).items()
    schema = pa.schema([(name, types[annotation]) for name, annotation in columns])
    kept = (example for example in examples if example is not None)
    batches = [schema.empty_table()]
    for chunk in in_chunks(kept, _ROWS_PER_BATCH):
        batches.append(pa.Table.from_pylist(chunk, schema=schema))
    return Dataset(pa.concat_tables(batches))
