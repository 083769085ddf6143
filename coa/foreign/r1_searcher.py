"""Read R1-Searcher's evaluation: rows with the trajectory, a gold answer and GPT-4o's verdict."""

from collections.abc import Mapping
from typing import Any

from coa.foreign.record import (
    UNKNOWN_SAMPLING,
    ForeignRow,
    Format,
    gold_answers,
    identifier,
    optional_text,
    question_text,
)
from coa.foreign.tag_families import R1_SEARCHER
from coa.foreign.tagged_text import read_tagged_text
from coa.trajectory import Mode

_WIKIPEDIA = "unknown: R1-Searcher's retriever, five Wikipedia passages"


def read_r1_searcher_row(values: Mapping[str, Any]) -> ForeignRow:
    """Read a row of its evaluation; the prompt is not in the released files."""
    verdict = str(values.get("gpt4o_output")).strip().lower()
    return ForeignRow(
        format=Format.R1_SEARCHER,
        question_id=identifier(values.get("id")),
        question=question_text(values.get("question")),
        gold_answers=gold_answers(values.get("answer")),
        prompt="",
        steps=read_tagged_text(values["gen_text_store"], R1_SEARCHER),
        mode=Mode.COA,
        sampling=UNKNOWN_SAMPLING,
        search_fingerprint=_WIKIPEDIA,
        prediction=optional_text(values.get("pred_ans")),
        judge={"true": True, "false": False}.get(verdict),
    )
