"""Messages name the setting that is meant, and nothing is paid before they come."""

import errno
import os
from pathlib import Path

import pytest

from coa.errors import ConfigError, InputError, writing_error
from coa.microworld.factory import MicroworldParams
from coa.policy.server_settings import ServerSettings
from coa.records.question import Question
from coa.rollout.factory import PolicyKind, TeacherParams, open_policy
from coa.settings.params import Params
from coa.store import tables

pytestmark = pytest.mark.usefixtures("linked_run")


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        ("vllm", "completions"),
        ("SGLang", "completions"),
        ("openai", "chat"),
        ("hf", "local"),
        ("scripted", "gold"),
        ("complet", "completions"),
    ],
)
def test_a_policy_under_another_name_is_answered_with_ours(value: str, hint: str) -> None:
    with pytest.raises(ConfigError, match=rf"did you mean [\w ]*{hint}"):
        Params.load("teacher", [f"policy={value}"]).section(TeacherParams)


def test_a_full_disk_is_answered_with_one_piece_of_advice() -> None:
    for error in (
        OSError(28, "No space left on device"),
        OSError("Error writing bytes to file. Detail: [errno 28] No space left on device"),
    ):
        text = str(writing_error(Path("data/x"), error))
        assert "free some space" in text
        assert "writable" not in text


def test_a_file_that_may_not_be_read_is_not_called_truncated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "q.parquet"
    tables.write_table(path, Question, [])

    def refuse(*_: object, **__: object) -> None:
        # What the system says to who is not root.
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(tables.pq, "ParquetFile", refuse)
    with pytest.raises(InputError, match="make it readable"):
        tables.open_parquet(path)


def test_settings_of_a_server_that_is_not_asked_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ServerSettings(model="mine")
    open_policy(TeacherParams(policy=PolicyKind.MICROWORLD, server=asked), MicroworldParams())
    assert "teacher.server is not used" in capsys.readouterr().err
    open_policy(TeacherParams(policy=PolicyKind.MICROWORLD), MicroworldParams())
    assert capsys.readouterr().err == ""
