"""Examine real rows of every kind: a thousand right ones are clean, no planted fault escapes."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest

from coa.doctor.examine import Doctor
from coa.doctor.findings import Fault, MaskedRow
from coa.doctor.rows import Readers
from coa.foreign.files import read_foreign_file
from coa.foreign.own_tags import to_own_tags
from coa.foreign.record import ForeignRow
from coa.foreign.rows import read_foreign_row
from coa.records.protocol import render
from coa.records.question import Question
from coa.records.tokens import PieceEncoder, tokenise
from coa.records.trajectory import Author, Step, StepKind
from coa.records.unreadable import UnreadableError
from data_cards.formats.tokenised import tokenised_row
from tests.doctor_support import IGNORED
from tests.sample_records import make_graded, make_trajectory
from tests.tokenizers_support import load

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif("COA_REAL_DATA" not in os.environ, reason="needs real trajectories"),
]
REAL = Path(os.environ.get("COA_REAL_DATA", ""))
R1_SEARCHER = ("r1searcher_hotpotqa_qwen", "r1searcher_hotpotqa_llama")
QUESTION = Question("q", "who?", ("Ada",), "", "", "train", None)
NUM_ROWS = 1000
NUM_PLANTED = 100


@cache
def real_rows() -> list[ForeignRow]:
    """Read a thousand rows of R1-Searcher, all of which can be read."""
    rows = []
    for name in R1_SEARCHER:
        path = REAL / "trajectories" / f"trajectories_{name}.jsonl"
        for found in read_foreign_file(path, 10**7):
            assert not isinstance(found.values, UnreadableError)
            rows.append(read_foreign_row(found.values))
    return rows[:NUM_ROWS]


def own_steps(row: ForeignRow) -> tuple[Step, ...]:
    return to_own_tags(make_trajectory(QUESTION, row.steps)).steps


def readers(chat_template: str = "") -> Readers:
    tokenizer, _ = load("qwen2")
    return Readers.of(tokenizer, chat_template=chat_template, prompt_end="")


def found_in(rows: Iterator[MaskedRow]) -> tuple[int, Counter[Fault]]:
    """Return how many rows there are, and the faults in them."""
    tokenizer, _ = load("qwen2")
    doctor = Doctor.of(tokenizer)
    num_rows = 0
    found: Counter[Fault] = Counter()
    for row in rows:
        num_rows += 1
        found.update({finding.fault for finding in doctor.examine(row).findings})
    return num_rows, found


def labelled(prompt: str, steps: Sequence[Step], encoder: PieceEncoder) -> dict[str, list[int]]:
    """Encode a row as training does."""
    tokenizer, _ = load("qwen2")
    ends = steps[-1].kind is StepKind.ANSWER
    tokens = tokenise(prompt, steps, encoder, end_id=tokenizer.eos_token_id if ends else None)
    labels = []
    for token, is_trained in zip(tokens.ids, tokens.loss_mask, strict=True):
        labels.append(token if is_trained else IGNORED)
    return {"input_ids": list(tokens.ids), "labels": labels}


def test_a_thousand_rows_of_our_own_sets_are_clean() -> None:
    graded = []
    for row in real_rows():
        prompt = f"{row.question}\n\n<think>\n"
        graded.append(make_graded(QUESTION, own_steps(row), prompt=prompt))
    read = readers().of_sets.read_trajectory
    assert found_in(read(row) for row in graded) == (NUM_ROWS, {})


def test_a_thousand_rows_as_the_export_writes_token_ids_are_clean() -> None:
    tokenizer, encoder = load("qwen2")
    read = readers().of_finished.read
    rows = []
    for row in real_rows():
        graded = make_graded(QUESTION, own_steps(row))
        prompt = f"Question: {row.question}\n\n<think>\n"
        rows.append(tokenised_row(graded.trajectory, prompt, encoder, tokenizer.eos_token_id))
    assert found_in(read("row", row) for row in rows) == (NUM_ROWS, {})


def as_messages(row: ForeignRow) -> list[dict[str, str]]:
    """Write a row as messages: what the policy wrote between two observations is one of them."""
    messages = [{"role": "user", "content": row.question}]
    for step in own_steps(row):
        role = "tool" if step.author is Author.ENVIRONMENT else "assistant"
        if messages[-1]["role"] == role:
            messages[-1]["content"] += step.text
        else:
            messages.append({"role": role, "content": step.text})
    return messages


def test_a_thousand_chats_are_clean_under_a_right_template() -> None:
    template = (REAL / "tokenizer_qwen2/qwen2_5_training.jinja").read_text(encoding="utf-8")
    read = readers(template).read
    rows = [{"messages": as_messages(row)} for row in real_rows()]
    assert found_in(read("row", row) for row in rows) == (NUM_ROWS, {})


Row = dict[str, list[int]]


def shifted(row: Row) -> Row:
    return {**row, "labels": [*row["labels"][1:], IGNORED]}


def moved_mask(row: Row) -> Row:
    flags = [int(label != IGNORED) for label in row["labels"]]
    return {"input_ids": row["input_ids"], "loss_mask": [0, *flags[:-1]]}


def cut(row: Row) -> Row:
    half = len(row["labels"]) // 2
    return {"input_ids": row["input_ids"][:half], "labels": row["labels"][:half]}


def without_end(row: Row) -> Row:
    return {"input_ids": row["input_ids"][:-1], "labels": row["labels"][:-1]}


def all_trained(row: Row) -> Row:
    return {"input_ids": row["input_ids"], "labels": row["input_ids"]}


def whole_text(row: Row) -> Row:
    """Encode the row's text as a whole, and train all of it but the prompt."""
    tokenizer, _ = load("qwen2")
    text = tokenizer.decode(row["input_ids"])
    ids = tokenizer(text)["input_ids"]
    start = len(tokenizer(text[: text.index("<think>") + 8])["input_ids"])
    return {"input_ids": ids, "labels": [IGNORED] * start + ids[start:]}


PLANTED: dict[Callable[[Row], Row], Fault] = {
    shifted: Fault.MASK_SHIFTED,
    moved_mask: Fault.MASK_SHIFTED,
    cut: Fault.CUT_OFF,
    without_end: Fault.END_MISSING,
    all_trained: Fault.PROMPT_TRAINED,
    whole_text: Fault.OBSERVATION_TRAINED,
}


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_a_fault_that_is_planted_in_real_rows_is_found_in_every_one(
    plant: Callable[[Row], Row],
) -> None:
    _, encoder = load("qwen2")
    read = readers().of_finished.read
    rows = []
    for row in real_rows()[:NUM_PLANTED]:
        steps = own_steps(row)
        if len(render(steps)) < 8000 and any(step.tool for step in steps):
            rows.append(plant(labelled(f"{row.question}\n\n<think>\n", steps, encoder)))
    num_rows, found = found_in(read("row", row) for row in rows)
    assert num_rows > NUM_PLANTED / 2
    assert found[PLANTED[plant]] == num_rows
