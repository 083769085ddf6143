"""Train SFT stage 1, when to act, on pairs whose sides share a prefix and part at one point.

The loss is the contrastive one of AutoCoA (section 3):

    P(x|c) = mean of log pi over the policy's own tokens of x, after the shared prefix c
    L      = -log sigma(P(chosen|c) - P(rejected|c)) - alpha P(chosen|c)

The likelihood of whole trajectories can be trained beside it (`train.sft1.trajectories`). The loss
and the layout of the batches are in train/pair_trainer.py.

The log also tells how likely the decision of each side is. That of the side that acts is all text
from the point to the end of the tool's opening tag, its trigger; that of the other side is the
first clause that reasons on.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from transformers import TrainingArguments

from coa.errors import ConfigError
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PairKind, PreferencePair
from coa.records.trajectory import Step, StepKind
from coa.student.sets import read_split
from coa.student.settings import Sft1Params
from train.encode import DecisionExample, Encoder, PairExample, to_dataset
from train.pair_trainer import PairTrainer, collate
from train.stage import StageRun, fit

if TYPE_CHECKING:
    from datasets import Dataset

_SENTENCE_END = re.compile(r"[.!?][\"')\]]*(?=\s)")


def train(run: StageRun) -> None:
    """Run stage sft1."""
    settings = run.params.sft1
    student = run.load(settings.init)
    attention = student.model.config._attn_implementation
    if attention != "sdpa":
        raise ConfigError(
            "sft1 needs attention that takes a mask",
            where=settings.init,
            expected="sdpa",
            got=attention,
        )
    encoder = Encoder(
        student.tokenizer, run.prompt(student.tokenizer), run.params.max_context_tokens
    )
    pairs = _encode_pairs(encoder, settings, "train")
    validation = _encode_pairs(encoder, settings, "validation")
    trajectories = _encode_trajectories(encoder, settings) if settings.trajectories else None
    num_train = len(pairs) if trajectories is None else min(len(pairs), len(trajectories))
    run.report.note_rows(encoder.rows, num_train)
    with run.watched(student):
        trainer = PairTrainer(
            model=run.adapted(student.model),
            args=run.arguments(TrainingArguments, settings.arguments, remove_unused_columns=False),
            train_dataset=pairs,
            eval_dataset=validation or None,
            data_collator=partial(collate, pad_id=student.tokenizer.pad_token_id or 0),
            callbacks=run.callbacks,
            settings=settings,
            trajectories=trajectories,
        )
        fit(run, trainer, student, (settings.init, settings.pairs, *settings.trajectories))


def _encode_pairs(encoder: Encoder, settings: Sft1Params, split: str) -> "Dataset":
    rows = read_split(settings.pairs, split, PreferencePair)
    examples = (encode_pair(encoder, row) for row in rows)
    return to_dataset(examples, DecisionExample)


def encode_pair(encoder: Encoder, row: PreferencePair) -> DecisionExample | None:
    """Encode a pair with the lengths of its decision, for the log.

    Returns:
        None where the row is left out; the encoder counts why.
    """
    example = encoder.pair(row)
    if example is None:
        return None
    decision = find_decision(row)
    lengths = [0, 0] if decision is None else encoder.decision_lengths(example, *decision)
    acts = int(row.kind is PairKind.ACT_IS_BETTER)
    return DecisionExample(**example, decision_lengths=lengths, acts=acts)


def _encode_trajectories(encoder: Encoder, settings: Sft1Params) -> "Dataset":
    """Encode the training split of all folders of trajectories, in their order."""

    def examples() -> Iterator[PairExample | None]:
        for folder in settings.trajectories:
            for row in read_split(folder, "train", GradedTrajectory):
                yield encoder.likelihood(row)

    return to_dataset(examples(), PairExample)


class Decision(NamedTuple):
    """The texts in which the sides of a pair decide; each begins at the point."""

    chosen: str
    rejected: str


def find_decision(pair: PreferencePair) -> Decision | None:
    """Find the trigger of the side that acts, and the first clause of the other.

    Returns:
        None where the side that acts does not begin with a call of the pair's tool.
    """
    if pair.kind is PairKind.ACT_IS_BETTER:
        trigger = _trigger(pair.chosen, pair.tool)
        return None if trigger is None else Decision(trigger, _first_clause(pair.rejected))
    trigger = _trigger(pair.rejected, pair.tool)
    return None if trigger is None else Decision(_first_clause(pair.chosen), trigger)


def _trigger(side: Sequence[Step], tool: str) -> str | None:
    """Return the text of a side up to the end of its first opening tag; None where there is none.

    A thought may come first: the blank before the tag, or all of a chat model's turn.
    """
    tag = protocol.open_tag(tool)
    before = ""
    for step in side:
        if step.kind is StepKind.ACTION and step.text.startswith(tag):
            return before + tag
        if step.kind is not StepKind.THOUGHT:
            return None
        before += step.text
    return None


def _first_clause(side: Sequence[Step]) -> str:
    """Return the text of a side to the first end of a sentence, or of a step that is not blank."""
    before = ""
    for step in side:
        found = _SENTENCE_END.search(step.text) if step.kind is StepKind.THOUGHT else None
        if found is not None:
            return before + step.text[: found.end()]
        before += step.text
        if step.text.strip():
            break
    return before
