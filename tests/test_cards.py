"""Compare the cards with the files, settings and licences that they are about."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from markdown_it import MarkdownIt

from coa.errors import ConfigError, InputError
from coa.records.graded import GradedTrajectory
from coa.records.pairs import PreferencePair
from coa.records.question import Question
from coa.records.trajectory import Author, Mode
from coa.settings.params import Params, write_profile
from coa.store import tables
from data_cards.cards.front_matter import size_category
from data_cards.catalogue import SPLITS, SetName, local_path, published_path
from data_cards.formats.published_rows import published_file, write_published
from data_cards.render import OUT, main
from data_cards.settings import RenderParams
from synth.questions import QuestionParams
from tests.card_support import (
    HOSTILE,
    TEACHER,
    card,
    cells,
    head,
    plain_run,
    question,
    steps,
    trajectory,
    write_rows,
    write_run,
    write_settings,
)

datasets = pytest.importorskip("datasets")
metadata = pytest.importorskip("datasets.utils.metadata")
pytestmark = pytest.mark.usefixtures("quiet_bars")


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run whose cards are rendered; for tests that change nothing."""
    folder = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        plain_run()
        main([])
    return folder


@pytest.fixture
def rendered(finished_run: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The finished run as the current folder."""
    monkeypatch.chdir(finished_run)
    return finished_run


def structure(text: str) -> list[str]:
    """Headings, tables and raw HTML of a card, in order, with the texts of the headings."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    shown = []
    for i, token in enumerate(tokens):
        inner = [
            child
            for child in token.children or ()
            if child.type in ("html_inline", "image", "link_open")
        ]
        if token.type == "heading_open":
            shown.append(tokens[i + 1].content)
        elif token.type in ("html_block", "table_open", "fence"):
            shown.append(token.content if token.type == "html_block" else token.type)
        shown += [child.type for child in inner]
    return shown


@pytest.mark.parametrize("name", SetName)
def test_the_hub_reads_the_metadata_back(rendered: Path, name: SetName) -> None:
    data = head(name)
    assert (data["language"], data["size_categories"]) == (["en"], ["n<1K"])
    assert set(data["task_categories"]) <= {"text-generation", "question-answering"}
    assert {"synthetic", "arxiv:2503.06580"} <= set(data["tags"])
    configs = metadata.MetadataConfigs.from_dataset_card_data(card(name).data)
    assert configs[name]["data_files"] == [
        {"split": split, "path": f"data/{name}/{split}.parquet"}
        for split in ("train", "validation")
    ]


def test_the_front_page_declares_all_sets_and_lists_their_sizes(rendered: Path) -> None:
    data, text = head(""), card("").text
    assert [config["config_name"] for config in data["configs"]] == ["cot_a", "coa", "cot", "rl"]
    rows = {row[0].split("]")[0].strip("["): row[2:] for row in cells(text, "# A title")}
    assert rows == {"cot_a": ["8", "1"], "coa": ["9", "1"], "cot": ["5", "1"], "rl": ["4", "1"]}
    # The validation row of `cot` is a train row of `coa`, and so on: this run was not split by
    # question.
    splits = [
        {
            row["question_id"] if "question_id" in row else row["trajectory"]["question_id"]
            for name in SetName
            for row in pl.read_parquet(local_path(name, split)).to_dicts()
        }
        for split in ("train", "validation")
    ]
    assert f"**{len(splits[0] & splits[1])} questions are in the train split" in text


def test_every_count_on_the_card_of_trajectories_is_that_of_the_files(rendered: Path) -> None:
    text = card("coa").text
    rows = [
        row
        for split in ("train", "validation")
        for row in tables.read_table(local_path(SetName.COA, split), GradedTrajectory)
    ]
    hops = {str(n): str(sum(row.num_hops == n for row in rows)) for n in (1, 2)}
    assert {row[0]: row[3] for row in cells(text, "By number of facts")} == hops
    searches = {str(n): str(sum(row.trajectory.num_actions == n for row in rows)) for n in range(4)}
    assert {row[0]: row[3] for row in cells(text, "By number of searches")} == searches
    words = [
        sum(len(step.text.split()) for step in row.trajectory.steps if step.author is Author.POLICY)
        for row in rows
    ]
    lengths = {row[0]: row[1:] for row in cells(text, "Lengths, both splits")}
    assert lengths["policy, words"][0] == str(min(words))
    assert lengths["policy, words"][2] == f"{sum(words) / len(words):.1f}"
    assert lengths["policy, words"][4] == str(max(words))


def test_the_funnels_count_what_was_dropped_and_forked_and_sampled(rendered: Path) -> None:
    coa = {row[0]: row[1:] for row in cells(card("coa").text, "## Yield")}
    assert coa["**trajectories**"] == ["19", "100.0%"]
    assert coa["left out: wrong"] == ["7", "36.8%"]
    assert coa["**good enough for this set**"] == ["10", "52.6%"]
    points = {row[0]: row[1] for row in cells(card("cot_a").text, "## Yield")}
    assert (points["**points**"], points["left out: same outcome"], points["**in this set**"]) == (
        "92",
        "80",
        "9",
    )
    asked = {row[0]: row[1] for row in cells(card("rl").text, "## Yield")}
    assert (asked["**train questions**"], asked["left out: sampled for trajectories"]) == (
        "18",
        "12",
    )


def test_pairs_are_counted_by_kind_with_the_value_of_acting(rendered: Path) -> None:
    rows = {row[0]: row[1:] for row in cells(card("cot_a").text, "By kind of pair")}
    assert rows == {
        "`act_is_better`": ["5", "1", "+1.00", "3.0"],
        "`think_is_better`": ["3", "0", "-1.00", "3.0"],
    }


def test_a_licence_that_nobody_stated_is_said_to_be_unknown(rendered: Path) -> None:
    assert head("coa")["license"] == "unknown"
    assert ["search results", "`corpus`", "**unknown**"] in cells(card("coa").text, "## Licences")
    assert head("rl")["license"] == "apache-2.0"


def test_addresses_and_names_of_keys_stay_private(rendered: Path) -> None:
    text = card("coa").text
    assert "secret.host" not in text
    assert "SECRET_KEY" not in text
    assert "num_coa: 9" in text


def hostile_question(number: int, text: str) -> Question:
    return question(number, text, question_type=text, source=text)


@pytest.mark.parametrize(
    "text", [HOSTILE, HOSTILE * 10_000, "`" * 1_000 + "</details>\n\n# x\n\n---\n\n"]
)
def test_hostile_text_changes_nothing_of_the_structure(
    finished_run: Path, card_run: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    with monkeypatch.context() as there:
        there.chdir(finished_run)
        expected = {name: structure(card(name).text) for name in ("", *SetName)}
    questions = [hostile_question(i, text) for i in range(18)]
    thought = steps(1, text.replace("\\boxed", ""))
    coa = [
        trajectory(row, Mode.COA, 1, question=text, steps=thought, model=f"scripted/{text}")
        for row in questions[:4]
    ]
    write_run(questions, coa, [trajectory(row, Mode.COT, 0, prompt=text) for row in questions[:4]])
    main([])
    found = {name: structure(card(name).text) for name in ("", *SetName)}
    assert found == expected
    assert head("coa")["license"] == "unknown"
    assert len(card("coa").text) < 100_000


def test_the_whole_example_stands_on_the_card(rendered: Path) -> None:
    text = card("coa").text
    rows = {
        row.trajectory.trajectory_id: row
        for row in tables.read_table(local_path(SetName.COA, "train"), GradedTrajectory)
    }
    sizes = sorted(
        (sum(len(step.text) for step in row.trajectory.steps), key) for key, row in rows.items()
    )
    _, middle = sizes[len(sizes) // 2]
    assert f"The train row of median length, `{middle}`" in text
    blocks = [
        token.content for token in MarkdownIt("commonmark").parse(text) if token.type == "fence"
    ]
    shown = next(block for block in blocks if block.startswith("scaffold: prompt"))
    steps_of_it = rows[middle].trajectory.steps
    assert shown.count("policy: ") == sum(step.author is Author.POLICY for step in steps_of_it)
    assert all(" ".join(step.text.split()) in " ".join(shown.split()) for step in steps_of_it)


def test_the_front_page_shows_a_row_and_its_pictures_are_there(rendered: Path) -> None:
    front = (rendered / "data/render/README.md").read_text()
    _, _, after = front.partition("## One row\n")
    assert "policy: answer" in after
    for picture in re.findall(r"!\[[^]]*\]\(([^)]*)\)", front):
        assert (rendered / "data/render" / picture).is_file()


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


@pytest.mark.parametrize(
    ("path", "harm", "message"),
    [
        ("data/assemble/coa/train.parquet", remove, "missing"),
        ("data/assemble/coa/train.parquet", lose_a_column, "lacks the column 'trajectory'"),
        ("data/assemble/coa/train.parquet", empty, "is empty"),
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


OPEN_MODEL = "Qwen/Qwen3-8B"


def set_forker(name: str, *, teacher: str = TEACHER) -> None:
    """Say in every pair who wrote its two sides."""
    for split in SPLITS:
        path = local_path(SetName.COT_A, split)
        pairs = list(tables.read_table(path, PreferencePair))
        path.unlink()
        changed = [replace(pair, model=teacher, fork_model=name) for pair in pairs]
        tables.write_table(path, PreferencePair, changed)


def test_the_card_names_the_model_that_wrote_the_forks_with_its_licence(card_run: Path) -> None:
    main([])
    assert "forking model" not in card("cot_a").text
    set_forker(OPEN_MODEL, teacher="deepseek-reasoner")
    main([])
    text = card("cot_a").text
    written = cells(text, "| teacher or forking model")
    assert [row[0] for row in written] == [f"`{OPEN_MODEL}`", "`deepseek-reasoner`"]
    licences = cells(text, "## Licences")
    assert ["the forks' text", f"`{OPEN_MODEL}`", "**unknown**"] in licences
    assert ["the teacher's text", "`deepseek-reasoner`", "**unknown**"] in licences


def test_the_card_says_where_turns_were_forked_and_shows_the_forks_prompt(card_run: Path) -> None:
    write_rows("data/branch/points.parquet", [{"outcome": "paired", "way": "forced call"}] * 9)
    settings = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    own = {"policy": {"policy": "completions"}, "prompts": {"coa": "forks.txt"}}
    Path("params.yaml").write_text(yaml.safe_dump({**settings, "branch": own}), encoding="utf-8")
    Path("forks.txt").write_text("For the forks: {question}", encoding="utf-8")
    main([])
    text = card("cot_a").text
    assert "A chat model forked some of them, turn by turn." in text
    assert "For the forks: {question}" in text
    assert "For the forks" not in card("coa").text


@pytest.mark.parametrize("name", ["", TEACHER])
def test_files_without_the_column_and_forks_of_the_teacher_read_the_same(
    card_run: Path, name: str
) -> None:
    set_forker(name)
    main([])
    (row,) = cells(card("cot_a").text, "| teacher")
    assert row[0] == f"`{TEACHER}`"
