"""Show what training learns of a row, token by token, as `coa doctor` computes it."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

from coa.doctor.examine import Doctor
from coa.doctor.findings import Examination
from coa.doctor.set_rows import SetReader, student_prompt
from coa.errors import ConfigError
from coa.policy.local.model import load_tokenizer
from coa.policy.prompts import Prompt
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.settings.params import Params
from coa.store.files import TRAINED


class Masks:
    """The doctor for one tokenizer, which is loaded when it is first needed."""

    def __init__(self, tokenizer: str, settings: Sequence[str] = ()) -> None:
        self._tokenizer = tokenizer
        self._settings = settings
        self._lock = Lock()

    @property
    def tokenizer(self) -> str:
        """Return the name of the tokenizer.

        Raises:
            ConfigError: None is named, and no model was trained here.
        """
        if self._tokenizer:
            return self._tokenizer
        for path in sorted(Path(TRAINED).glob("*/tokenizer.json")):
            return path.parent.as_posix()
        raise ConfigError(
            "there is no tokenizer to show masks with",
            where="view.tokenizer",
            expected=f"a folder or a name on the Hub; empty: a model in {TRAINED}/",
            fix="start it with tokenizer=Qwen/Qwen2.5-7B-Instruct, for example",
        )

    @cached_property
    def _loaded(self) -> Any:
        return load_tokenizer(self.tokenizer)

    @cached_property
    def _prompt(self) -> Prompt | None:
        return student_prompt(Params.load("view", self._settings), self._loaded)

    def examine(self, row: GradedTrajectory | PreferencePair) -> list[Examination]:
        """Examine a trajectory, or both sides of a pair: the chosen one first.

        Raises:
            ConfigError: There is no tokenizer, or the student's prompt cannot be used.
            MissingExtraError: transformers is not installed.
        """
        with self._lock:
            doctor = Doctor.of(self._loaded)
            reader = SetReader(self._loaded, doctor.encoder, self._prompt)
            if isinstance(row, PreferencePair):
                return [doctor.examine(side) for side in reader.read_pair(row)]
            return [doctor.examine(reader.read_trajectory(row))]
