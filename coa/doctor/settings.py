"""Define what the doctor is asked: the section `doctor` of params.yaml."""

from dataclasses import dataclass
from typing import Annotated

import msgspec


@dataclass(frozen=True, slots=True)
class DoctorParams:
    """What to examine, and with which tokenizer."""

    set: str = ""
    """An assembled set (`coa`), a file or a pattern of files, or a folder that `datasets` saved."""
    tokenizer: str = ""
    """A folder or a name on the Hub: the tokenizer of the model that is to be trained."""
    chat_template: str = ""
    """A file with the chat template for rows of messages; empty: the tokenizer's own."""
    prompt_end: str = ""
    """What the prompts of finished rows end with, such as `### Response:`; empty: the chat
    template's marks, or the opening of our thinking, show it."""
    max_tokens: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Rows with more tokens count as cut off; 0 sets no limit."""
    max_rows: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Rows to examine; 0 for all."""
    show: str = ""
    """The id of the row to show in colour; empty: the first with a finding, or the first row."""
    json: str = ""
    """A file for the findings as JSON; empty: none is written."""
