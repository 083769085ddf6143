"""Train SFT stage 1, when to act, on pairs whose sides share a prefix and part at one point.

The loss is the contrastive one of AutoCoA (section 3):

    P(x|c) = mean of log pi over the policy's own tokens of x, after the shared prefix c
    L      = -log sigma(P(chosen|c) - P(rejected|c)) - alpha P(chosen|c)

The likelihood of whole trajectories can be trained beside it (`train.sft1.trajectories`).
"""

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from transformers import TrainingArguments

from coa.errors import ConfigError
from coa.graded import GradedTrajectory
from coa.pairs import PairKind, PreferencePair
from coa.student.sets import read_split
from coa.student.settings import Sft1Params
from train.decisions import check_settings, find_decision
from train.encode import DecisionExample, Encoder, PairExample, to_dataset
from train.fitting import fit
from train.pair_batches import collate
from train.pair_trainer import PairTrainer
from train.stage import StageRun
from train.watching import Monitor, watched

if TYPE_CHECKING:
    from datasets import Dataset


def train(run: StageRun) -> None:
    """Run stage sft1."""
    settings = run.params.sft1
    check_settings(settings)
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
    with watched(run, student):
        run.callbacks.append(Monitor(run.params.monitors))
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
    lengths = [0, 0] if decision is None else encoder.decision_lengths(example, decision)
    acts = int(row.kind is PairKind.ACT_IS_BETTER)
    return DecisionExample(**example, decision_lengths=lengths, acts=acts)


def _encode_trajectories(encoder: Encoder, settings: Sft1Params) -> "Dataset":
    """Encode the training split of all folders of trajectories, in their order."""

    def examples() -> Iterator[PairExample | None]:
        for folder in settings.trajectories:
            for row in read_split(folder, "train", GradedTrajectory):
                yield encoder.likelihood(row)

    return to_dataset(examples(), PairExample)
