"""Compare the cards with the files they are about, whatever the texts hold.

Every number is counted again here.
"""

import re
from pathlib import Path

import polars as pl
import pytest
from markdown_it import MarkdownIt

from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.records.trajectory import Author, Mode
from coa.store import tables
from data_cards.catalogue import SetName, local_path
from data_cards.render import main
from tests.card_support import (
    HOSTILE,
    card,
    cells,
    head,
    plain_run,
    question,
    steps,
    trajectory,
    write_run,
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
