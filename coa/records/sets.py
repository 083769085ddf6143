"""Define how large the training sets are: the section `assemble` of params.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import msgspec

_Size = Annotated[int, msgspec.Meta(ge=0)]


@dataclass(frozen=True, slots=True)
class AssembleParams:
    """How large the sets are; a set of size 0 is not built."""

    num_cot_a: _Size = 1_500
    """Pairs of the train split. 0: no pairs are made, and nothing reads those of an earlier run."""
    num_coa: _Size = 5_000
    """CoA trajectories of the train split. 0: the set is not built."""
    num_cot: _Size = 1_000
    """CoT trajectories of the train split. 0: the set is not built."""
    num_rl: _Size = 4_608
    """Questions for reinforcement learning in the train split. 0: the set is not built."""
    allows_fewer: bool = False
    """Build a set as large as it can be where it has fewer rows than asked for, and leave out one
    that would have no train row. Otherwise both are errors."""
    validation_share: float = 0.04
    """Share of the train questions whose rows go to the validation split instead, the same
    questions in every set. A set's validation split is this share of its size, as far as the rows
    reach."""
    seed: int = 0
    """Chooses the rows and the questions of the validation split."""

    @property
    def makes_pairs(self) -> bool:
        """Whether trajectories are forked, so that there are pairs."""
        return self.num_cot_a > 0

    @property
    def sizes(self) -> Mapping[str, int]:
        """The train rows that each set is asked for, by its name."""
        return {
            "cot_a": self.num_cot_a,
            "coa": self.num_coa,
            "cot": self.num_cot,
            "rl": self.num_rl,
        }
