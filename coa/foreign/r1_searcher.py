"""Read R1-Searcher's trajectories: rows of its evaluation, and their text.

A call is a query in its tags. The observation is the documents with the blanks around them. The
thinking ends as ours does, and the answer has a tag of its own.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from coa import protocol
from coa.foreign.frames import ANSWER_CLOSE, ANSWER_OPEN, DOCUMENTS_CLOSE, DOCUMENTS_OPEN
from coa.foreign.record import (
    UNKNOWN_SAMPLING,
    ForeignRow,
    Format,
    gold_answers,
    identifier,
    optional_text,
    question_text,
)
from coa.foreign.step_makers import action_step, answer_step, observation_step, thought_steps
from coa.foreign.unreadable import UnreadableError, UnreadableReason
from coa.trajectory import Mode, Step

_QUERY, _QUERY_CLOSE = "<|begin_of_query|>", "<|end_of_query|>"
_PARTNERS = {_QUERY: _QUERY_CLOSE, DOCUMENTS_OPEN: DOCUMENTS_CLOSE, ANSWER_OPEN: ANSWER_CLOSE}
_TAGS = (*_PARTNERS, *_PARTNERS.values(), protocol.THINK_CLOSE)
_TAG = re.compile("|".join(re.escape(tag) for tag in _TAGS))
_DOCUMENT = re.compile(
    r"""
    ^\(\d+\)[ \t]*
    (?:
        (?P<quote>"?)Title:[ \t]*(?P<labelled>.*?)[ \t]*Text:  # quoted as in a table of CSV, or not
        | (?!"?Title:)(?P<bare>.{1,300}?)(?:[ ]{3,}|\t)  # a title, three blanks, the text
    )
    """,
    re.MULTILINE | re.VERBOSE,
)
"""The head of a document, in the three layouts of R1-Searcher's corpora."""
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
        steps=read_r1_searcher(values["gen_text_store"]),
        mode=Mode.COA,
        sampling=UNKNOWN_SAMPLING,
        search_fingerprint=_WIKIPEDIA,
        prediction=optional_text(values.get("pred_ans")),
        judge={"true": True, "false": False}.get(verdict),
    )


def read_r1_searcher(text: str) -> tuple[Step, ...]:
    """Read an R1-Searcher trajectory into steps; joined, they give `text` again.

    Raises:
        UnreadableError: A tag is unclosed, nested or out of place, or there is no answer.
    """
    steps: list[Step] = []
    start = 0
    tags = _TAG.finditer(text)
    for tag in tags:
        if tag[0] not in (_QUERY, ANSWER_OPEN, protocol.THINK_CLOSE):
            raise UnreadableError(UnreadableReason.MISPLACED_TAG, tag.start(), tag[0])
        steps += thought_steps(text[start : tag.start()])
        if tag[0] != _QUERY:
            return (*steps, _answer(text, tag, tags))
        action, observation = _call(text, tag, tags)
        steps += [action, observation]
        start = tag.start() + len(action.text) + len(observation.text)
    raise UnreadableError(UnreadableReason.NO_ANSWER, len(text))


def _call(text: str, tag: re.Match[str], tags: Iterator[re.Match[str]]) -> tuple[Step, Step]:
    """Read the call that begins at `tag` and its observation."""
    query_end = _partner(tag, tags)
    argument = text[tag.end() : query_end.start()].strip()
    if not argument:
        raise UnreadableError(UnreadableReason.EMPTY_TURN, tag.start(), "an empty query")
    documents = next(tags, None)
    if documents is None or documents[0] != DOCUMENTS_OPEN:
        raise UnreadableError(UnreadableReason.NO_OBSERVATION, query_end.end())
    if text[query_end.end() : documents.start()].strip():
        raise UnreadableError(UnreadableReason.NO_OBSERVATION, query_end.end())
    end = _partner(documents, tags).end()
    # Up to two line breaks after the documents belong to the template.
    after = text[end : end + 2]
    end += len(after) - len(after.lstrip("\n"))
    seen = text[query_end.end() : end]
    action = action_step(text[tag.start() : query_end.end()], "search", argument)
    return action, observation_step(seen, "search", tuple(_titles(seen)))


def _titles(documents: str) -> Iterator[str]:
    """Find the titles of the documents shown."""
    for head in _DOCUMENT.finditer(documents):
        title = head["labelled"] or head["bare"] or ""
        if head["quote"]:
            title = title.replace('""', '"')
        if title.strip():
            yield title.strip()


def _partner(tag: re.Match[str], tags: Iterator[re.Match[str]]) -> re.Match[str]:
    """Return the next tag, which must close `tag`."""
    closing = next(tags, None)
    if closing is None:
        raise UnreadableError(UnreadableReason.UNCLOSED_TAG, tag.start(), tag[0])
    if closing[0] != _PARTNERS[tag[0]]:
        raise UnreadableError(
            UnreadableReason.NESTED_TAG, closing.start(), f"{closing[0]} inside {tag[0]}"
        )
    return closing


def _answer(text: str, tag: re.Match[str], tags: Iterator[re.Match[str]]) -> Step:
    """Read the answer, which begins with `tag`: its own tag or the end of the thinking."""
    opening: re.Match[str] | None = tag
    if tag[0] == protocol.THINK_CLOSE:
        opening = next(tags, None)
    if opening is None:
        raise UnreadableError(UnreadableReason.NO_ANSWER, len(text))
    if opening[0] != ANSWER_OPEN:
        raise UnreadableError(UnreadableReason.MISPLACED_TAG, opening.start(), opening[0])
    closing = _partner(opening, tags)
    if not text[opening.end() : closing.start()].strip():
        raise UnreadableError(UnreadableReason.NO_ANSWER, opening.start())
    extra = next(tags, None)
    if extra is not None:
        raise UnreadableError(UnreadableReason.MISPLACED_TAG, extra.start(), extra[0])
    return answer_step(text[tag.start() :])
