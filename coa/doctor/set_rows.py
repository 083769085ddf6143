"""Read the rows of this project's sets as training encodes them."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from coa.doctor.findings import Fault, Finding, MaskedRow, author_spans
from coa.doctor.recorded_authors import mask_fault
from coa.doctor.tags import forged_observations
from coa.policy.chat_templates import load_prompt
from coa.policy.prompts import Prompt
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.tokens import PieceEncoder, TextLostError, Tokenizer, tokenise
from coa.records.trajectory import Step, StepKind
from coa.settings.params import Params


def student_prompt(sections: Params, tokenizer: Any) -> Prompt | None:
    """Load the prompt that training puts in place of the teacher's: `train.prompt`.

    Returns:
        None where neither `train.chat_template` nor the tokenizer has a chat template: nothing can
        be trained with them.

    Raises:
        ConfigError: the prompt file cannot be used.
    """
    settings = sections.values()["train"]
    template = settings["chat_template"]
    if not template and not getattr(tokenizer, "chat_template", None):
        return None
    return load_prompt(settings["prompt"], template, tokenizer)


class SetReader(NamedTuple):
    """A reader of rows whose authors are recorded, for one tokenizer."""

    tokenizer: Tokenizer
    encoder: PieceEncoder
    prompt: Prompt | None = None
    """The student's; None: rows keep the prompt that they were sampled with."""

    def read_trajectory(self, row: GradedTrajectory) -> MaskedRow:
        """Encode a trajectory of a set."""
        it = row.trajectory
        noticed = _contradictions(row) + forged_observations(it.steps)
        if not it.steps or it.steps[-1].kind is not StepKind.ANSWER:
            noticed.append(Finding(Fault.CUT_OFF, detail=f"it ended as {it.stop_reason}"))
        prompt = self._prompt_for(it.question, it.prompt)
        return self._encoded(it.trajectory_id, prompt, (), it.steps, noticed)

    def read_pair(self, row: PreferencePair) -> Iterator[MaskedRow]:
        """Encode both sides of a pair; the prefix before them is not trained."""
        noticed = _contradictions(row)
        prompt = self._prompt_for(row.question, row.prompt)
        for name, side in (("chosen", row.chosen), ("rejected", row.rejected)):
            forged = forged_observations(side)
            row_id = f"{row.pair_id} {name}"
            found = noticed + forged
            yield self._encoded(row_id, prompt, row.prefix, side, found)

    def _prompt_for(self, question: str, sampled_with: str) -> str:
        return self.prompt.fill(question) if self.prompt else sampled_with

    def _encoded(
        self,
        row_id: str,
        prompt: str,
        prefix: Sequence[Step],
        steps: Sequence[Step],
        noticed: Sequence[Finding],
    ) -> MaskedRow:
        """Encode steps after a prompt and a prefix, with the end token where they answer."""
        answers = bool(steps) and steps[-1].kind is StepKind.ANSWER
        end_id = getattr(self.tokenizer, "eos_token_id", None) if answers else None
        try:
            tokens = tokenise(prompt, steps, self.encoder, prefix=prefix, end_id=end_id)
        except TextLostError as error:
            detail = f"{error.details['where']}: {error.details['expected']}"
            lost = Finding(Fault.TEXT_CHANGED, detail=f"{detail} became {error.details['got']}")
            return MaskedRow(row_id, (), (), (), (*noticed, lost), has_mask=False)
        num_before = sum(tokens.lengths[: len(protocol.pieces(prompt, prefix))])
        trained = (False,) * num_before + tokens.loss_mask[num_before:]
        spans = author_spans(prompt, (*prefix, *steps))
        for number in range(1, len(prefix) + 1):
            spans[number] = spans[number]._replace(author=None)
        return MaskedRow(
            row_id,
            tokens.ids,
            trained,
            tuple(spans),
            tuple(noticed),
            has_end=answers,
            in_own_tags=True,
        )


def _contradictions(row: GradedTrajectory | PreferencePair) -> list[Finding]:
    fault = mask_fault(row)
    return [Finding(Fault.AUTHORS_CONTRADICT, detail=fault)] if fault else []
