"""The cards of imported rows name their makers and licences, and no teacher of ours."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from coa.errors import ConfigError
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Mode, Sampling
from coa.settings.params import Params
from data_cards.cards import licences
from data_cards.cards.card import render
from data_cards.cards.licences import Source
from data_cards.catalogue import SetName
from data_cards.formats.published_rows import write_published
from data_cards.publishing.gate import Reason, check_sets
from data_cards.render import main
from data_cards.settings import PublishParams, RenderParams, settings_of_run
from tests.card_support import (
    TEACHER,
    card,
    cells,
    head,
    question,
    trajectory,
    write_run,
    write_settings,
)

pytest.importorskip("datasets")
pytestmark = pytest.mark.usefixtures("quiet_bars")
QUESTIONS = [question(i) for i in range(18)]
NOT_RECORDED = Sampling(temperature=-1.0, top_p=-1.0, seed=-1)


def imported(row: GradedTrajectory, **says: str) -> GradedTrajectory:
    """A row as `synth.ingest` leaves it."""
    values: dict[str, Any] = {"model": "qwen", "origin": "R1-Searcher", "license": "MIT", **says}
    made = replace(row.trajectory, sampling=NOT_RECORDED, search_fingerprint="wikipedia", **values)
    return replace(row, trajectory=made)


def write_imported(count: int, **says: str) -> None:
    """A run in which the first `count` of ten CoA rows were imported."""
    coa = [trajectory(row, Mode.COA, i % 4) for i, row in enumerate(QUESTIONS[:10])]
    rows = [imported(row, **says) for row in coa[:count]]
    cot = [trajectory(row, Mode.COT, 0) for row in QUESTIONS[:6]]
    write_run(QUESTIONS, rows + coa[count:], cot)
    write_settings()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_card_of_imported_rows_alone_names_their_maker_and_no_teacher(folder: Path) -> None:
    write_imported(10)
    main([])
    text = card("coa").text
    assert "wrote 10 of 10 rows** (`coa ingest`). They were published by `R1-Searcher`." in text
    assert cells(text, "| model of imported rows") == [["`qwen`", "`R1-Searcher`", "`MIT`", "10"]]
    assert TEACHER not in text
    assert "teacher" not in text.partition("## How it was made")[0].lower()
    assert "Questions were sampled" not in text
    assert "holds questions and gold answers only" not in text
    assert "What it cost" not in text
    assert ["sampling", "not recorded: imported", "10"] in cells(text, "| value")
    assert ["imported trajectories", "`R1-Searcher`", "`MIT`"] in (
        cells(text, "## Licences of the sources")
    )
    assert "`corpus`" not in text
    assert ["imported search results", "`wikipedia`", "**unknown**"] in (
        cells(text, "## Licences of the sources")
    )
    assert head("coa")["license"] == "unknown"


def test_a_card_of_both_counts_the_rows_of_each(folder: Path) -> None:
    write_imported(3, origin="")
    main([])
    text = card("coa").text
    assert "wrote 3 of 10 rows** (`coa ingest`). They were published by `qwen`." in text
    assert cells(text, "| model of imported rows") == [["`qwen`", "not stated", "`MIT`", "3"]]
    assert cells(text, "| teacher ") == [[f"`{TEACHER}`", "7", "100.0%"]]
    assert (
        "Questions were sampled with a prompt that offers the search tool; 3 of the set's" in text
    )
    assert "The teacher decided" not in text
    assert "Other people's models wrote 3 of 30 rows" in Path("data/render/README.md").read_text()
    assert "imported" not in card("cot").text


def test_the_settings_of_a_teacher_are_not_shown_where_none_wrote() -> None:
    sections = {"pipeline": {"trajectories": ["ingest"]}, "ingest": {}, "teacher": {}, "filter": {}}
    assert list(settings_of_run(sections)) == ["ingest", "filter"]
    sections["pipeline"] = {"trajectories": ["sample"]}
    assert list(settings_of_run(sections)) == ["teacher", "filter"]
    assert list(settings_of_run({"teacher": {}})) == ["teacher"]


def test_a_licence_in_the_settings_goes_before_that_of_the_rows() -> None:
    sources = [Source("questions", "q"), Source("imported", "maker", "MIT")]
    fields = licences.licence_fields(sources, {"q": "MIT"})
    assert fields == {"license": "mit"}
    fields = licences.licence_fields(sources, {"q": "MIT", "maker": "Apache-2.0"})
    assert fields == {"license": ["apache-2.0", "mit"]}
    with pytest.raises(ConfigError, match="the licence of 'maker' is not an SPDX id") as caught:
        licences.licence_fields([Source("imported", "maker", "see there")], {})
    assert caught.value.details["where"] == "ingest.files"


@pytest.mark.parametrize(
    ("licence", "refused"),
    [
        ("MIT", ""),
        ("", "the licence of R1-Searcher (imported trajectories)"),
        ("CC-BY-NC-ND-4.0", "cc-by-nc-nd-4.0 of R1-Searcher"),
    ],
)
def test_the_gate_knows_the_licence_of_imported_rows(
    folder: Path, licence: str, refused: str
) -> None:
    write_imported(10, license=licence)
    params = Params.load("render")
    published = folder / "published"
    write_published(SetName, published)
    rendered = render(params, params.section(RenderParams))
    cards = [one for one in rendered.sets if one.info.name == "coa"]
    known = {"microworld": "Apache-2.0", "wikipedia": "CC-BY-SA-4.0"}
    found = check_sets(cards, [], {}, PublishParams(), known, published)
    lines = [one.detail for one in found if one.reason is Reason.LICENCE]
    assert len(lines) == bool(refused)
    assert all(line.startswith(refused) for line in lines)
    assert Reason.SCRIPTED_TEACHER not in {one.reason for one in found}
