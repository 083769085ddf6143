"""Messages name the setting that is meant, and nothing is paid before they come."""

import errno
import os
from pathlib import Path

import pytest

from coa.errors import CoaError, ConfigError, InputError, writing_error
from coa.microworld.factory import MicroworldParams
from coa.policy.local.model import load_tokenizer
from coa.policy.server_settings import ServerSettings
from coa.records.question import Question
from coa.rollout.factory import PolicyKind, TeacherParams, open_policy
from coa.settings.params import Params
from coa.store import tables
from data_cards import publish
from data_cards.export import ExportParams
from evaluation import evaluate

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


def test_a_part_of_a_formats_name_is_answered_with_the_formats() -> None:
    with pytest.raises(ConfigError, match="did you mean trl_messages or trl_completion"):
        Params.load("export", ["format=trl"]).section(ExportParams)


def test_an_evaluation_without_a_model_says_so() -> None:
    with pytest.raises(ConfigError, match="neither a model nor a name is given"):
        evaluate.main([])


def test_a_bad_repository_is_told_where_it_was_written() -> None:
    with pytest.raises(ConfigError, match=r"where: publish\.repository"):
        publish.main(["repository=my-coa"])


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


def test_a_tokenizer_that_is_nowhere_ends_in_one_message(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CoaError, match="cannot load the tokenizer"):
        load_tokenizer("nobody/has-this-tokenizer-0")
    assert capfd.readouterr().err.count("Retrying") == 0


def test_settings_of_a_server_that_is_not_asked_are_told(
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = ServerSettings(model="mine")
    open_policy(TeacherParams(policy=PolicyKind.MICROWORLD, server=asked), MicroworldParams())
    assert "teacher.server is not used" in capsys.readouterr().err
    open_policy(TeacherParams(policy=PolicyKind.MICROWORLD), MicroworldParams())
    assert capsys.readouterr().err == ""
