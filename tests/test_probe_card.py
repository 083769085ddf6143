"""What a teacher's server was seen to do stands in the metrics and on the card."""

import json
from pathlib import Path

import pytest

from coa.errors import InputError
from data_cards.cards.figures import read_figures
from data_cards.catalogue import SetName
from data_cards.render import main as render
from tests.card_support import card, cells, plain_run

pytestmark = pytest.mark.usefixtures("quiet_bars")

SEEN = {
    "reasoning": "not shown (accepted: no_reasoning)",
    "tool_calls": "one could not be read: <b>*x*</b> | [a](http://b)",
    "seeds": "not sent",
}


def figures(**section: object) -> None:
    Path("metrics").mkdir(exist_ok=True)
    Path("metrics/sample_coa.json").write_text(json.dumps({"trajectories": 10, **section}))


@pytest.fixture(autouse=True)
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    plain_run()


def test_the_card_lists_what_was_seen_and_names_what_was_accepted() -> None:
    figures(probe=SEEN, waived=["no_reasoning", "summary"])
    render([])
    text = card("coa").text
    assert "accepted by name** (`teacher.chat.waives`): `no_reasoning`, `summary`." in text
    rows = cells(text, "Before the first question, the teacher")
    assert [row[0] for row in rows] == ["reasoning", "tool calls", "seeds"]
    assert rows[0][1] == SEEN["reasoning"]
    assert "<b>" not in text and "http://b" not in text
    assert "what a run relies on" not in card("cot").text


def test_a_set_whose_teacher_is_behind_no_server_has_no_such_table() -> None:
    figures()
    render([])
    assert "relies on" not in card("coa").text
    assert "teacher.chat.waives" not in card("coa").text


def test_figures_that_cannot_be_read_are_an_error() -> None:
    figures(probe=["not", "a", "mapping"])
    with pytest.raises(InputError, match=r"sample_coa\.json"):
        read_figures(SetName.COA)
