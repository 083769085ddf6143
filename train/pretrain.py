"""Make the model that a chain starts from: train a small one, or fetch another maker's.

The small one is trained from nothing on data/microworld/pretraining.parquet: it learns the known
facts, how to read passages, and to hedge on what it does not know. Where `train.pretrain.base`
names a model, that one is fetched instead (train/base.py).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from coa import tables
from coa.microworld.pretraining import PretrainingDocument
from coa.prompts import Prompt
from coa.search import Passage
from coa.student.checkpoint import Student
from coa.student.small import new_student, start_unseen_tokens
from train.base import fetch_base
from train.base_files import check_window, read_window
from train.encode import IGNORED, Example, RowTally, in_chunks, to_dataset
from train.fitting import fit
from train.muon import MuonWithAdamW
from train.sft_trainer import make_trainer
from train.stage import StageRun

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
    optimizer = MuonWithAdamW(
        student.model,
        muon_learning_rate=settings.muon_learning_rate,
        learning_rate=settings.arguments.get("learning_rate", 1e-2),
    )
    trainer = make_trainer(
        run, student, splits, settings.arguments, optimizer=optimizer, kind=_plain_trainer()
    )
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


def _plain_trainer() -> type[Any]:
    """Return TRL's trainer with the model's own loss.

    TRL's also counts entropy and right tokens, which takes a seventh of so small a step.
    """
    from transformers import Trainer
    from trl.trainer.sft_trainer import SFTTrainer

    return type("PlainTrainer", (SFTTrainer,), {"compute_loss": Trainer.compute_loss})


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
