"""Give the writers of formats what they write: the chosen sets, the prompts and the tokenizer."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from coa import protocol, tables
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.prompts import Prompt
from coa.question import Question
from coa.tokens import Tokenizer
from coa.trajectory import Trajectory
from data_cards.catalogue import HAS_TRAJECTORIES, SPLITS, SetName, local_path
from data_cards.formats.messages import CallForm, call_form, chat_messages


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
        """Read the trajectories of a split.

        Raises:
            InputError: the file is missing or broken.
        """
        for row in tables.read_table(local_path(name, split), GradedTrajectory):
            yield row.trajectory

    def pairs(self, split: str) -> Iterator[PreferencePair]:
        """Read the pairs of a split.

        Raises:
            InputError: the file is missing or broken.
        """
        yield from tables.read_table(local_path(SetName.COT_A, split), PreferencePair)

    def questions(self, split: str) -> Iterator[Question]:
        """Read the questions for reinforcement learning of a split.

        Raises:
            InputError: the file is missing or broken.
        """
        yield from tables.read_table(local_path(SetName.RL, split), Question)

    def call_form(self, name: SetName) -> CallForm:
        """Find how the calls of a set are written, from the rows of both splits.

        Raises:
            InputError: a file is missing or broken.
        """
        return call_form(
            trajectory.steps for split in SPLITS for trajectory in self.trajectories(name, split)
        )

    def message_rows(
        self, name: SetName, split: str, form: CallForm, tools: Any
    ) -> Iterator[dict[str, Any]]:
        """Yield the trajectories of a split as chat messages.

        Args:
            name: The set.
            split: The split.
            form: How calls are written.
            tools: The value of the column `tools`; None where there is no such column.

        Raises:
            InputError: the file is missing or broken.
        """
        for trajectory in self.trajectories(name, split):
            asked = self.asked(trajectory.question)
            row: dict[str, Any] = {"id": trajectory.trajectory_id}
            row["messages"] = chat_messages(asked, trajectory.steps, form)
            if tools is not None:
                row["tools"] = tools
            yield row

    def asked(self, question: str) -> str:
        """Fill the plain prompt, without the opening of the thinking, which is the model's here."""
        filled = self.plain_prompt.fill(question)
        return filled.removesuffix(protocol.THINK_OPEN + "\n").strip()
