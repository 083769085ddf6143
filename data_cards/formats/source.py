"""Give the writers of formats what they write: the chosen sets, the prompts and the tokenizer."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.tokens import Tokenizer
from coa.records.trajectory import Trajectory
from data_cards.catalogue import HAS_TRAJECTORIES, SetName
from data_cards.formats.published_rows import read_records

Row = Mapping[str, Any]


class Table(NamedTuple):
    """The rows of a set in a format."""

    rows: Callable[[str], Iterator[Row]]
    """Reads the rows of a split.

    Raises:
        InputError: the file of the set is missing or broken.
    """
    schema: pa.Schema | None = None
    """The columns of a parquet file; None where rows are written as JSON lines."""


@dataclass(frozen=True, slots=True)
class Source:
    """The sets of one export, and how a question is asked in it."""

    names: Sequence[SetName]
    """The chosen sets."""
    prompt: Prompt
    """The prompt inside a chat template, up to where the policy's text begins."""
    plain_prompt: Prompt
    """The prompt without a chat template, for formats in which the trainer's own one holds."""
    tokenizer: Tokenizer | None = None
    """None where the settings name none."""
    max_tokens: int = 0
    """The tokens that a row of token ids may have."""

    @property
    def with_trajectories(self) -> list[SetName]:
        """The chosen sets whose rows are trajectories."""
        return [name for name in self.names if name in HAS_TRAJECTORIES]

    def trajectories(self, name: SetName, split: str) -> Iterator[Trajectory]:
        """Read the trajectories of a split."""
        for row in read_records(name, split):
            yield row.trajectory

    def asked(self, question: str) -> str:
        """Fill the plain prompt, without the opening of the thinking, which is the model's here."""
        filled = self.plain_prompt.fill(question)
        return filled.removesuffix(protocol.THINK_OPEN + "\n").strip()
