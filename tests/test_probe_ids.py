"""Token ids are looked at before a run relies on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coa.errors import ConfigError
from coa.policy import Completion, Request
from coa.policy.scripted import ScriptedPolicy
from coa.tokens import PieceEncoder
from tests.chat_support import MODEL
from tests.probe_support import probed

pytest.importorskip("torch")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    """A tokenizer in a folder, as a server's settings name it."""
    from coa.student.small import StudentSettings, new_student

    texts = ["Once upon a time there was an old man by the river, two dogs and a garden."]
    made = new_student(texts, StudentSettings(16, 1, 2, 32, 64), seed=1).tokenizer
    made.save_pretrained(tmp_path / "tokenizer")
    return made


class WithIds(ScriptedPolicy):
    """A script that reads and writes ids, some of them changed."""

    def __init__(self, tokenizer: Any, *, moved: int = 0) -> None:
        super().__init__(lambda request: "no", MODEL)
        self._encoder = PieceEncoder(tokenizer)
        self._moved = moved
        self.read: list[Sequence[int]] = []

    async def complete(self, request: Request) -> Completion:
        """Continue one request."""
        assert request.context_ids is not None
        self.read.append(request.context_ids)
        context = self._encoder.decode(request.context_ids)
        written = await super().complete(replace(request, context=context))
        ids = self._encoder.encode(written.text)
        return replace(written, ids=tuple(token + self._moved for token in ids))


def with_ids(folder: Path, **extra_body: object) -> dict[str, object]:
    asked = {"return_token_ids": True, **extra_body}
    return {"tokenizer": str(folder / "tokenizer"), "extra_body": asked}


def test_ids_that_are_those_of_the_text_are_seen_to_be(tmp_path: Path, tokenizer: Any) -> None:
    script = WithIds(tokenizer)
    seen = probed(tmp_path / "a.sqlite", server=with_ids(tmp_path), script=script).seen
    assert seen["token_ids"] == "returned, and they are those of the text"
    assert seen["continuation"] == "goes on from a beginning as if it had not been cut"
    assert len(script.read) == 6


def test_ids_of_another_tokenizer_are_an_error(tmp_path: Path, tokenizer: Any) -> None:
    script = WithIds(tokenizer, moved=1)
    with pytest.raises(ConfigError, match=r"not those of the text[\s\S]*server\.tokenizer"):
        probed(tmp_path / "a.sqlite", server=with_ids(tmp_path), script=script)


class WithoutIds(WithIds):
    """A script that reads ids and gives none."""

    async def complete(self, request: Request) -> Completion:
        """Continue one request."""
        return replace(await super().complete(request), ids=None)


def test_ids_that_do_not_come_are_an_error(tmp_path: Path, tokenizer: Any) -> None:
    with pytest.raises(ConfigError, match=r"returns no token ids[\s\S]*return_token_ids"):
        probed(tmp_path / "a.sqlite", server=with_ids(tmp_path), script=WithoutIds(tokenizer))
