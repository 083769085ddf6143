"""Write the microworld's files: questions, passages, and the texts for pre-training a student.

    python -m synth.microworld

Writes data/microworld/questions.parquet, corpus.parquet and pretraining.parquet. The teacher needs
none of them: it is made from the same settings (coa/microworld/).
"""

import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from coa.microworld.factory import MicroworldParams
from coa.microworld.pretraining import QUESTION, PretrainingDocument, pretraining_documents
from coa.microworld.questions import make_questions
from coa.microworld.world import Group, World, make_world
from coa.policy.prompts import Prompt, PromptParams
from coa.records.question import Question
from coa.search import Passage
from coa.settings.params import Params
from coa.store import tables
from coa.store.metrics import write_metrics

OUT = Path("data/microworld")


def documents(world: World, params: MicroworldParams, prompt: str) -> Iterator[PretrainingDocument]:
    """Yield the first `num_documents` documents of the endless stream."""
    stream = pretraining_documents(world, params.seed, params.notation_share, prompt)
    for pieces in itertools.islice(stream, params.num_documents):
        yield PretrainingDocument(
            texts=tuple(piece.text for piece in pieces),
            is_trained=tuple(piece.is_trained for piece in pieces),
        )


def questions(world: World, params: MicroworldParams) -> Iterator[Question]:
    """Yield the questions of all three splits."""
    counts = {
        Group.TRAIN: params.num_train,
        Group.VALIDATION: params.num_validation,
        Group.TEST: params.num_test,
    }
    for split, count in counts.items():
        yield from make_questions(world, split, count, params.seed)


def main(arguments: Sequence[str]) -> str:
    """Write the world's files and return the summary line."""
    sections = Params.load("microworld", arguments)
    params = sections.section(MicroworldParams)
    # The base meets the prompt of no action alone: that of the tool shows its tags.
    asked = Prompt.load(Path(sections.section(PromptParams, "prompts").cot), "{prompt}").fill("")
    prompt = asked.partition(QUESTION.partition("{}")[0])[0]
    world = make_world(params.world)
    num_questions = tables.write_table(
        OUT / "questions.parquet", Question, questions(world, params)
    )
    num_passages = tables.write_table(OUT / "corpus.parquet", Passage, world.passages())
    num_documents = tables.write_table(
        OUT / "pretraining.parquet", PretrainingDocument, documents(world, params, prompt)
    )
    counts = {
        "facts": len(world.facts),
        "passages": num_passages,
        "questions": num_questions,
        "pretraining_documents": num_documents,
    }
    write_metrics("microworld", counts)
    shown = [f"{count:,} {name}" for name, count in counts.items()]
    return f"{OUT}: {', '.join(shown)}"


if __name__ == "__main__":
    from coa.cli import run

    run(main, sys.argv[1:])
