"""Make the model that a chain starts from: train a small one, or fetch another maker's.

The small one is trained from scratch on data/microworld/pretraining.parquet: it learns the known
facts, how to read passages, and to hedge on what it does not know. Where `train.pretrain.base`
names a model, that one is fetched instead (train/base.py).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from coa.microworld.pretraining import PretrainingDocument
from coa.policy.prompts import Prompt
from coa.search import Passage
from coa.store import tables
from coa.student.checkpoint import Student
from coa.student.small import new_student, start_unseen_tokens
from train.base import check_window, fetch_base, read_window
from train.encode import IGNORED, Example, RowTally, in_chunks, to_dataset
from train.sft import make_trainer
from train.stage import StageRun, fit

if TYPE_CHECKING:
    from datasets import Dataset

_HELD_OUT = 400
"""Documents for the validation loss, but at most a tenth of all."""
_DOCUMENTS_PER_CALL = 1000


def train(run: StageRun) -> None:
    """Run stage pretrain."""
    settings = run.params.pretrain
    if settings.base:
        _fetch(run)
        return
    student = new_student(_texts(run), settings.student, run.params.seed)
    splits, is_seen = _splits(run, student)
    optimizer = None
    if settings.muon_learning_rate:
        optimizer = MuonWithAdamW(
            student.model,
            muon_learning_rate=settings.muon_learning_rate,
            learning_rate=settings.arguments.get("learning_rate", 1e-2),
        )
    trainer = make_trainer(run, student, splits, settings.arguments, optimizer=optimizer)
    inputs = (settings.documents, settings.corpus)
    fit(run, trainer, student, inputs, finish=lambda: start_unseen_tokens(student, is_seen))


def _fetch(run: StageRun) -> None:
    """Bring the base to the stage's folder, if it reads as far as rows may be long."""
    settings = run.params.pretrain
    out = run.workspace.out
    # Weights are many gigabytes: a folder here is looked at before they are copied.
    check_window(settings.base, read_window(Path(settings.base)), run.params.max_context_tokens)
    origin = fetch_base(settings.base, settings.revision, out, has_weights=not run.params.dry_run)
    check_window(settings.base, read_window(out), run.params.max_context_tokens)
    run.report.write_fetched(origin)


class MuonWithAdamW(torch.optim.Optimizer):
    """Muon for the matrices inside the layers and AdamW for everything else.

    Both are one optimiser that a Trainer can drive: their groups are one list, so that one schedule
    scales both learning rates. A small model learns to read from a fraction of the tokens that
    AdamW alone needs.
    """

    def __init__(
        self, model: nn.Module, *, muon_learning_rate: float, learning_rate: float
    ) -> None:
        inner: list[nn.Parameter] = []
        rest: list[nn.Parameter] = []
        for name, parameter in model.named_parameters():
            is_token_matrix = "embed" in name or "lm_head" in name
            if parameter.dim() == 2 and not is_token_matrix:
                inner.append(parameter)
            else:
                rest.append(parameter)
        self._parts: tuple[torch.optim.Optimizer, ...] = (
            torch.optim.Muon(inner, lr=muon_learning_rate, weight_decay=0.0),
            torch.optim.AdamW(rest, lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
        )
        super().__init__([{"params": [*inner, *rest]}], {})
        self._share_groups()

    def _share_groups(self) -> None:
        self.param_groups = []
        for part in self._parts:
            self.param_groups += part.param_groups

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Take one step of each."""
        for part in self._parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """Return both states."""
        return {"parts": [part.state_dict() for part in self._parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take both states up again."""
        for part, state in zip(self._parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share_groups()


def _splits(run: StageRun, student: Student) -> tuple[dict[str, "Dataset"], set[int]]:
    """Encode the documents, the last few of them for validation.

    Returns:
        The sequences by split, and the ids of all tokens that occur in them.
    """
    rows = RowTally()
    seen: set[int] = set()

    def fitting() -> Iterator[Example]:
        for example in _examples(Path(run.params.pretrain.documents), student.tokenizer):
            if rows.keeps(len(example["input_ids"]), run.params.max_context_tokens):
                seen.update(example["input_ids"])
                yield example

    documents = to_dataset(fitting(), Example)
    start = len(documents) - min(_HELD_OUT, len(documents) // 10)
    run.report.note_rows(rows, start)
    splits = {
        "train": documents.select(range(start)),
        "validation": documents.select(range(start, len(documents))),
    }
    return splits, seen


def _texts(run: StageRun) -> Iterator[str]:
    """Yield all texts whose words the tokenizer is to know."""
    settings = run.params.pretrain
    yield Prompt.load(Path(run.params.prompt), "{prompt}").fill("")
    for document in tables.read_table(Path(settings.documents), PretrainingDocument):
        yield "".join(document.texts)
    for passage in tables.read_table(Path(settings.corpus), Passage):
        yield f"{passage.title} {passage.text}"


def _examples(documents: Path, tokenizer: Any) -> Iterator[Example]:
    """Yield the documents with their end-of-turn token, tokenised many at a time."""
    rows = tables.read_table(documents, PretrainingDocument)
    for chunk in in_chunks(rows, _DOCUMENTS_PER_CALL):
        texts: list[str] = []
        for document in chunk:
            texts.extend(document.texts)
        encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False)
        pieces = iter(encoded["input_ids"])
        for document in chunk:
            yield _example(document, pieces, tokenizer.eos_token_id)


def _example(document: PretrainingDocument, pieces: Iterator[list[int]], end_id: int) -> Example:
    """Join the ids of a document's pieces, which are the next of `pieces`."""
    ids: list[int] = []
    labels: list[int] = []
    for is_trained in document.is_trained:
        piece = next(pieces)
        ids += piece
        labels += piece if is_trained else [IGNORED] * len(piece)
    return Example(input_ids=[*ids, end_id], labels=[*labels, end_id])
