"""Define how the files of a run are shown: the section `view` of params.yaml."""

from dataclasses import dataclass
from typing import Annotated

import msgspec


@dataclass(frozen=True, slots=True)
class ViewParams:
    """How `coa view` shows files in the browser. It listens on this machine alone."""

    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8050
    """The port that it listens on; 0 takes any free one."""
    tokenizer: str = ""
    """A folder or a name on the Hub, for the masks; empty: that of a model in data/train/."""
