"""Parts of your own for a run: a rule, a grader, readers, a tool and a policy.

Put such a module into the folder of your project, and name its functions in a profile as
`module:name`, as own_parts.yaml does. A module that changes makes its stages stale.
"""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from coa.records.graded import GradedTrajectory


def is_hasty(row: GradedTrajectory) -> str | None:
    """Drop a trajectory whose answer comes without a word of thought."""
    thoughts = [step.text for step in row.trajectory.steps if step.kind == "thought"]
    words = sum(len(text.split()) for text in thoughts)
    return f"{words} words of thought" if words < 5 else None


def same_letters(answer: str, accepted: tuple[str, ...]) -> bool:
    """Take an answer for right that has the letters of an accepted one, whatever its spaces."""

    def letters(text: str) -> str:
        return "".join(sign for sign in text.casefold() if sign.isalpha())

    return letters(answer) in {letters(one) for one in accepted}


def read_notes(path: Path) -> Iterator[dict[str, Any]]:
    """Read passages from a text file: paragraphs, whose first lines are their titles."""
    for number, paragraph in enumerate(path.read_text(encoding="utf-8").split("\n\n")):
        title, _, text = paragraph.strip().partition("\n")
        yield {"id": f"{path.stem}-{number}", "title": title, "text": text}


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Read trajectories from a CSV file as chats, one of the formats of `ingest`."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            asked = {"role": "user", "content": row["asked"]}
            said = {"role": "assistant", "content": f"<think>{row['thought']}</think>{row['said']}"}
            yield {"question": row["asked"], "answer": row["gold"], "messages": [asked, said]}


def count_letters(text: str) -> str:
    """Count the letters of a word."""
    return str(sum(sign.isalpha() for sign in text))


def always_paris(context: str) -> str:
    """Continue the text so far."""
    return "I know it.\n</think>\n\n\\boxed{Paris}"
