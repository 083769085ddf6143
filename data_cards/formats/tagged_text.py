"""Write trajectories as text in the tags of other projects, and questions as AutoCoA released them.

- AutoCoA's own SFT files: one response for a question, in the tags that we share with it. Its
  LLaMA-Factory masks a result from the tokens of its opening tag to those of its closing tag with
  two line breaks, so each result ends in exactly two (arXiv 2503.06580, its data processor).
- Search-R1: its tags of thinking are ours; the others are `<search>`, `<information>` and
  `<answer>` (arXiv 2503.09516).

The trained segments of a row are the same as ours: what the policy wrote.
"""

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from coa import protocol
from coa.grading import boxed_answer
from coa.question import Question
from coa.trajectory import Step, StepKind
from data_cards.catalogue import SPLITS, SetName
from data_cards.formats.left_out import LeftOut, LeftOutReason, write_left_out
from data_cards.formats.row_files import write_lines
from data_cards.formats.sharegpt import describe
from data_cards.formats.source import Source
from data_cards.formats.split_files import write_splits
from data_cards.formats.turns import Turn, turns_of

ANSWER_SEPARATOR = "<ans_split>"
"""The text between the accepted answers of a row of AutoCoA."""
_SEARCH = "search"
_SEARCH_R1_TAG = re.compile(r"<(?=/?(?:think|search|information|answer)>)", re.IGNORECASE)
_MESSAGE = pa.struct([("role", pa.string()), ("content", pa.string())])
_REWARD_MODEL = pa.struct([("style", pa.string()), ("ground_truth", pa.string())])
_EXTRA_INFO = pa.struct(
    [
        ("split", pa.string()),
        ("index", pa.int64()),
        ("id", pa.string()),
        ("question", pa.string()),
    ]
)
_AUTOCOA_RL = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(_MESSAGE)),
        ("ability", pa.string()),
        ("reward_model", _REWARD_MODEL),
        ("extra_info", _EXTRA_INFO),
    ]
)


class Segment(NamedTuple):
    """A stretch of a response with one author."""

    text: str
    is_trained: bool


def write_autocoa_sft(folder: Path, source: Source) -> dict[str, int]:
    """Write one response for each trajectory, for AutoCoA's LLaMA-Factory."""
    counts = {}
    for name in source.with_trajectories:
        for split in SPLITS:
            file = f"{name}_{split}"
            rows = _autocoa_rows(source, name, split)
            num_rows = write_lines(folder / f"{file}.jsonl", rows)
            counts[f"autocoa/{file}"] = num_rows
            if num_rows:
                describe(folder, file)
    return counts


def _autocoa_rows(source: Source, name: SetName, split: str) -> Iterator[dict[str, Any]]:
    for trajectory in source.trajectories(name, split):
        turns = [
            {"from": "human", "value": source.asked(trajectory.question)},
            {"from": "gpt", "value": autocoa_response(trajectory.steps)},
        ]
        yield {"id": trajectory.trajectory_id, "conversations": turns}


def autocoa_response(steps: Sequence[Step]) -> str:
    """Return the text after the question, in which AutoCoA's mask finds every result."""
    text = protocol.THINK_OPEN + "\n"
    is_after_result = False
    for step in steps:
        if step.kind is StepKind.OBSERVATION:
            text += f"\n\n{step.text.strip()}\n\n"
            is_after_result = True
            continue
        own = step.text.lstrip() if is_after_result else step.text
        text += own
        is_after_result = is_after_result and not own
    return text


def write_autocoa_rl(folder: Path, source: Source) -> dict[str, int]:
    """Write the questions in the columns of AutoCoA's release, with its separator of answers."""
    if SetName.RL not in source.names:
        return {}
    return write_splits(folder, "rl_", _AUTOCOA_RL, partial(_autocoa_questions, source))


def _autocoa_questions(source: Source, split: str) -> Iterator[dict[str, Any]]:
    for index, question in enumerate(source.questions(split)):
        yield autocoa_question(question, source.asked(question.question), split, index)


def autocoa_question(question: Question, prompt: str, split: str, index: int) -> dict[str, Any]:
    """Make AutoCoA's row of a question; its reward splits the answers at `<ans_split>`."""
    answers = ANSWER_SEPARATOR.join(question.gold_answers)
    return {
        "data_source": question.source or "unknown",
        "prompt": [{"role": "user", "content": prompt}],
        "ability": "fact-reasoning",
        "reward_model": {"style": "rule", "ground_truth": answers},
        "extra_info": {
            "split": split,
            "index": index,
            "id": question.question_id,
            "question": question.question,
        },
    }


def write_search_r1(folder: Path, source: Source) -> dict[str, int]:
    """Write trajectories in Search-R1's tags, with segments that say what is trained.

    A row that calls another tool than the search has no form there. It is named in left_out.jsonl.
    """
    counts = {}
    left_out: list[LeftOut] = []
    for name in source.with_trajectories:
        for split in SPLITS:
            path = folder / f"{name}_{split}.jsonl"
            rows = _search_r1_rows(source, name, split, left_out)
            counts[f"search_r1/{name}_{split}"] = write_lines(path, rows)
    counts.update(write_left_out(folder / "left_out.jsonl", left_out))
    return counts


def _search_r1_rows(
    source: Source, name: SetName, split: str, left_out: list[LeftOut]
) -> Iterator[dict[str, Any]]:
    for trajectory in source.trajectories(name, split):
        row_id = trajectory.trajectory_id
        tools = {step.tool for step in trajectory.steps if step.kind is StepKind.ACTION}
        others = sorted(tool or "" for tool in tools - {_SEARCH})
        if others:
            reason = LeftOutReason.OTHER_TOOL
            left_out.append(LeftOut(row_id, name, split, reason, ", ".join(others)))
            continue
        segments = search_r1_segments(trajectory.steps)
        yield {
            "id": row_id,
            "prompt": break_search_r1_tags(source.asked(trajectory.question)),
            "response": "".join(segment.text for segment in segments),
            "segments": [segment._asdict() for segment in segments],
        }


def search_r1_segments(steps: Sequence[Step]) -> list[Segment]:
    """Render a trajectory in Search-R1's tags, cut where the author changes."""
    segments = []
    own = ""
    for turn in turns_of(steps):
        own += _search_r1_own(turn, steps)
        if turn.result is None:
            continue
        segments.append(Segment(own, True))
        body = break_search_r1_tags(turn.result)
        segments.append(Segment(f"\n\n<information>{body}</information>\n\n", False))
        own = ""
    segments.append(Segment(own, True))
    return segments


def _search_r1_own(turn: Turn, steps: Sequence[Step]) -> str:
    """Write what the policy wrote in a turn."""
    thought = break_search_r1_tags(turn.thought.strip())
    text = f"{protocol.THINK_OPEN}{thought}{protocol.THINK_CLOSE}\n" if thought else ""
    if turn.call is not None:
        query = break_search_r1_tags(turn.call.argument or "")
        return f"{text}<search> {query} </search>"
    answer = boxed_answer(protocol.answer_text(steps)) or turn.answer
    return f"{text}<answer> {break_search_r1_tags(answer)} </answer>"


def break_search_r1_tags(text: str) -> str:
    """Make Search-R1's tags in a text harmless: their `<` becomes `‹`."""  # noqa: RUF002
    return _SEARCH_R1_TAG.sub("‹", text)  # noqa: RUF001
