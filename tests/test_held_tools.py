"""Test the tools of a training: its searches are recorded where the settings say so."""

import asyncio
from pathlib import Path

import pytest

from coa.settings.params import Params
from coa.settings.stages import Stage
from coa.store.journal import JournalReader

pytest.importorskip("torch")
pytest.importorskip("trl")

from coa.student.held_tools import HeldTools
from tests.rl_support import write_project


@pytest.fixture
def sections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The settings, in a folder with an index."""
    monkeypatch.chdir(tmp_path)
    write_project(tmp_path, Stage.RL2, tmp_path)
    return Params.load("train")


@pytest.fixture
def recording(sections: Params) -> Params:
    """The settings with a recording of searches."""
    return sections.override(
        ["search.recording.mode=record", "search.recording.path=data/searches.sqlite"]
    )


def search(sections: Params, query: str, part: str = "") -> None:
    """Search once, as a training holds its tools."""
    with asyncio.Runner() as loop, HeldTools(loop, sections, part) as tools:
        loop.run(tools["search"].call(query))


def recorded() -> dict[str, int]:
    """Count the searches in each recording."""
    counts = {}
    for path in sorted(Path("data").glob("*.sqlite")):
        with JournalReader(path) as recording:
            counts[path.name] = len(list(recording.calls()))
    return counts


def test_a_search_is_recorded_once(recording: Params) -> None:
    for query in ("book", "Ada", "book"):
        search(recording, query)
    assert recorded() == {"searches.sqlite": 2}


def test_nothing_is_recorded_unless_it_is_wanted(sections: Params) -> None:
    search(sections, "book")
    assert recorded() == {}


def test_holders_at_the_same_time_have_recordings_of_their_own(
    recording: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    with asyncio.Runner() as loop, HeldTools(loop, recording) as tools:
        loop.run(tools["search"].call("book"))
        search(recording, "book", "watched")
        monkeypatch.setenv("RANK", "1")  # as torchrun does in the second process
        search(recording, "book")
    assert recorded() == {
        "searches-1.sqlite": 1,
        "searches-watched.sqlite": 1,
        "searches.sqlite": 1,
    }
