"""Make rows with planted faults for tests of the doctor, and say which faults it finds in them."""

from collections.abc import Sequence
from typing import Any

from coa.doctor.examine import Doctor
from coa.doctor.findings import Examination, Fault
from coa.doctor.rows import Readers

Pieces = Sequence[tuple[str, bool]]
"""The pieces of a row, and whether each is trained."""
PROMPT = "Question: who wrote the book?\n<think>\n"
THOUGHT = "who wrote it <begin_search> the book </end_search>"
OBSERVATION = "\n<search_result> written by Ada </search_result>\n"
ANSWER = "So it was Ada.\n</think>\n\n\\boxed{Ada}"
END = "<|im_end|>"
CLEAN = ((PROMPT, False), (THOUGHT, True), (OBSERVATION, False), (ANSWER, True), (END, True))
"""The pieces of a right row, and whether each is trained."""
IGNORED = -100


def encode(tokenizer: Any, text: str) -> list[int]:
    """Encode a text by itself, end tokens by their names."""
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def piecewise(tokenizer: Any, pieces: Pieces) -> dict[str, list[int]]:
    """Encode pieces one by one, with labels where a piece is trained."""
    ids: list[int] = []
    labels: list[int] = []
    for text, is_trained in pieces:
        encoded = encode(tokenizer, text.replace(END, tokenizer.eos_token))
        ids += encoded
        labels += encoded if is_trained else [IGNORED] * len(encoded)
    return {"input_ids": ids, "labels": labels}


def changed(index: int, text: str | None = None, *, trained: bool) -> list[tuple[str, bool]]:
    """Return the pieces of the right row with one of them changed."""
    pieces = list(CLEAN)
    pieces[index] = (pieces[index][0] if text is None else text, trained)
    return pieces


def examine(tokenizer: Any, row: dict[str, Any], **settings: str) -> Examination:
    """Examine a row as the command does."""
    given = {"chat_template": "", "prompt_end": "", **settings}
    readers = Readers.of(tokenizer, **given)
    return Doctor.of(tokenizer).examine(readers.read("row", row))


def faults(tokenizer: Any, row: dict[str, Any], **settings: str) -> list[Fault]:
    """List the faults that the doctor finds in a row."""
    return [finding.fault for finding in examine(tokenizer, row, **settings).findings]


def string_search_row(tokenizer: Any, text: str, *, masks_to_end: bool) -> dict[str, list[int]]:
    """Mask a row as AutoCoA's released code does: the ids are searched for those of the tags.

    If the closing tag of an observation is not found, all after it is masked, or nothing.
    """
    ids = encode(tokenizer, text)
    trained = [True] * len(ids)
    prompt = len(encode(tokenizer, PROMPT))
    trained[:prompt] = [False] * prompt
    opening = encode(tokenizer, "<search_result>")
    closing = encode(tokenizer, "</search_result>")
    start = _find(ids, opening, 0)
    while start >= 0:
        end = _find(ids, closing, start)
        if end < 0 and not masks_to_end:
            break
        end = len(ids) if end < 0 else end + len(closing)
        trained[start:end] = [False] * (end - start)
        start = _find(ids, opening, end)
    labels = [token if flag else IGNORED for token, flag in zip(ids, trained, strict=True)]
    return {"input_ids": ids, "labels": labels}


def _find(ids: list[int], part: list[int], start: int) -> int:
    for position in range(start, len(ids) - len(part) + 1):
        if ids[position : position + len(part)] == part:
            return position
    return -1
