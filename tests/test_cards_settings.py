"""Render cards of changed runs and settings, of missing files, and of licences."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from coa.errors import ConfigError, InputError
from coa.records.graded import GradedTrajectory
from coa.records.trajectory import Mode
from coa.settings.params import Params, write_profile
from coa.store import tables
from data_cards.cards.front_matter import size_category
from data_cards.catalogue import SetName, local_path, published_path
from data_cards.formats.published_rows import published_file, write_published
from data_cards.render import OUT, main
from data_cards.settings import RenderParams
from synth.questions import QuestionParams
from tests.card_support import (
    TEACHER,
    card,
    cells,
    head,
    plain_run,
    question,
    trajectory,
    write_rows,
    write_run,
    write_settings,
)

datasets = pytest.importorskip("datasets")
metadata = pytest.importorskip("datasets.utils.metadata")
pytestmark = pytest.mark.usefixtures("quiet_bars")
ROOT = Path(__file__).parent.parent
PNG = b"\x89PNG\r\n\x1a\n not read by anyone here"


@pytest.mark.parametrize("front", [True, False], ids=["all sets", "one set"])
def test_the_cards_with_the_files_beside_them_are_a_repository_that_loads(
    rendered_run: Path, front: bool
) -> None:
    published = rendered_run / "published"
    write_published(SetName, published)
    for name in SetName:
        repository = OUT if front else OUT / name
        for split in ("train", "validation"):
            target = repository / published_path(name, split)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(published_file(name, split, published).read_bytes())
        loaded = datasets.load_dataset(
            str(repository.resolve()), str(name), cache_dir=str(rendered_run / "cache")
        )
        assert {split: loaded[split].num_rows for split in loaded} == {
            split: tables.count_rows(local_path(name, split)) for split in ("train", "validation")
        }


def test_same_files_give_the_same_bytes(card_run: Path) -> None:
    def read() -> dict[str, bytes]:
        return {
            path.as_posix(): path.read_bytes() for path in sorted(OUT.rglob("*")) if path.is_file()
        }

    main([])
    first = read()
    main([])
    assert read() == first
    assert len(first) == 5


def test_a_scripted_teacher_is_named_and_a_real_one_too(card_run: Path) -> None:
    main([])
    assert "No language model wrote this text** (`teacher=scripted`)" in card("coa").text
    assert f"`{TEACHER}`" in card("coa").text
    assert "scripted-teacher" in head("coa")["tags"]
    rows = [trajectory(question(i), Mode.COA, 1, model="Qwen/Qwen2.5-7B") for i in range(4)]
    write_run([question(i) for i in range(18)], rows, [trajectory(question(1), Mode.COT, 0)] * 2)
    main([])
    assert "teacher=scripted" not in card("coa").text
    assert "`Qwen/Qwen2.5-7B`" in card("coa").text
    assert ["the teacher's text", "`Qwen/Qwen2.5-7B`", "**unknown**"] in cells(
        card("coa").text, "## Licences"
    )
    assert "No language model wrote a part" in card("").text


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"microworld": "Apache-2.0", "corpus": "CC-BY-SA-4.0"}, ["apache-2.0", "cc-by-sa-4.0"]),
        ({"microworld": "MIT", "corpus": "MIT"}, "mit"),
        ({"microworld": "GPL-3.0-only", "corpus": "GPL-3.0-or-later"}, "gpl-3.0"),
        ({"microworld": "Beerware", "corpus": "Beerware"}, "other"),
    ],
)
def test_stated_licences_become_the_hubs_names(
    card_run: Path, stated: dict[str, str], expected: object
) -> None:
    write_settings(licenses=stated)
    main([])
    assert head("coa")["license"] == expected


@pytest.mark.parametrize("profile", ["real", "hotpotqa_scripted"])
def test_a_profile_states_the_licence_of_every_source_that_it_may_train_on(
    profile: str, tmp_path: Path
) -> None:
    settings = tmp_path / "params.yaml"
    write_profile(ROOT / f"conf/{profile}.yaml", settings, ROOT / "conf/microworld.yaml")
    params = Params.load("render", [], settings)
    sources = {"corpus"}
    for file in params.section(QuestionParams, "questions").files:
        if file.split != "test":
            sources.update(file.keeps)
    assert sources <= params.section(RenderParams).licenses.keys()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"title": "two\nlines"}, "render.title"),
        ({"title": ""}, "render.title"),
        ({"repository": "no-owner"}, "render.repository"),
        ({"languages": ["English"]}, "render.languages"),
        ({"licenses": {"x": "```"}}, "render.licenses"),
    ],
)
def test_a_setting_that_cannot_stand_in_a_card_is_named(
    card_run: Path, settings: dict[str, Any], named: str
) -> None:
    write_settings(**settings)
    with pytest.raises(ConfigError, match=re.escape(named)):
        main([])


def test_a_run_with_an_analysis_a_screen_and_pictures_shows_them(card_run: Path) -> None:
    main([])
    without = card("coa").text
    assert "not screened" in without
    assert "## Why trajectories failed" not in without
    causes = ["bad_query"] * 3 + ["unknown"] * 4 + [None]
    write_rows("data/analyse.parquet", ({"mode": "coa", "cause": cause} for cause in causes))
    excluded = [("q-001/coa/0", "trajectory"), ("q-001/cot/0", "trajectory"), ("q-017", "question")]
    write_rows(
        "data/screen/excluded.parquet",
        ({"row_id": row, "what": what, "reason": "near_duplicate"} for row, what in excluded),
    )
    Path("reports/pictures").mkdir(parents=True)
    for name in ("funnel", "causes", "quadrants", "actions"):
        Path(f"reports/pictures/{name}.png").write_bytes(PNG)
    main([])
    assert {row[0]: row[1] for row in cells(card("coa").text, "## Why trajectories")} == {
        "unknown": "4",
        "bad query": "3",
    }
    for name, picture in (("coa", "actions"), ("cot_a", "quadrants")):
        assert f"(pictures/{picture}.png)" in card(name).text
        assert (OUT / name / "pictures" / f"{picture}.png").read_bytes() == PNG
    for name in ("coa", "cot", "rl"):
        assert ["left out: screen: near duplicate", "1"] in [
            row[:2] for row in cells(card(name).text, "## Yield")
        ]
    assert "not screened" not in card("coa").text
    assert all(
        (OUT / "coa" / path).is_file()
        for path in re.findall(r"\((pictures/.*?)\)", card("coa").text)
    )


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run whose cards are rendered."""
    folder = tmp_path_factory.mktemp("cards") / "run"
    folder.mkdir()
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        plain_run()
        main([])
    return folder


@pytest.fixture
def rendered_run(finished_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy of the finished run the current folder."""
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    monkeypatch.chdir(folder)
    return folder


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    tables.write_table(path, GradedTrajectory, [])


def lose_a_column(path: Path) -> None:
    frame = pl.read_parquet(path)
    frame.drop(frame.columns[0]).write_parquet(path)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


@pytest.mark.parametrize(
    ("path", "harm", "message"),
    [
        ("data/assemble/coa/train.parquet", remove, "missing"),
        ("data/assemble/coa/train.parquet", lose_a_column, "lacks the column 'trajectory'"),
        ("data/assemble/coa/train.parquet", truncate, "cannot read"),
        ("data/assemble/coa/train.parquet", empty, "is empty"),
        ("data/filter/dropped.parquet", remove, "missing"),
        ("data/filter/dropped.parquet", lose_a_column, "lacks the column 'reason'"),
        ("data/questions.parquet", lose_a_column, "lacks the column 'question_id'"),
        ("data/branch/points.parquet", remove, "missing"),
    ],
)
def test_a_file_that_is_missing_or_broken_is_named_and_old_cards_stay(
    rendered_run: Path, path: str, harm: Callable[[Path], None], message: str
) -> None:
    harm(Path(path))
    with pytest.raises(InputError, match=message) as caught:
        main([])
    assert Path(path).name in str(caught.value)
    assert card("coa").text


@pytest.mark.parametrize(
    ("rows", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1_000, "1K<n<10K"), (10**12, "n>1T"), (5_200, "1K<n<10K")],
)
def test_sizes_have_the_hubs_names(rows: int, category: str) -> None:
    assert size_category(rows) == category


def test_a_published_set_is_loaded_by_its_name(card_run: Path) -> None:
    write_settings(repository="owner/name")
    main([])
    assert 'load_dataset("owner/name", "coa")' in card("coa").text
    assert "not published yet" not in card("coa").text
