"""A probe tells people what it asked."""

from pathlib import Path

import pytest

from coa.policy import Turns
from coa.policy.chat.families import FamilyName
from coa.policy.chat.policy import ChatSettings
from tests.doubles.model_server import Personality
from tests.probe_support import like, probed


@pytest.mark.parametrize(("tools", "told"), [((), "1 question, "), (("search",), "3 questions, ")])
def test_a_probe_says_how_many_questions_it_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], tools: tuple[str, ...], told: str
) -> None:
    chat = ChatSettings(family=FamilyName.DEEPSEEK)
    asked = like(turns=Turns(tools, ()))
    probed(tmp_path / "x.sqlite", chat=chat, personality=Personality.DEEPSEEK, asked=asked)
    assert f"asked the server what this run relies on ({told}" in capsys.readouterr().err
