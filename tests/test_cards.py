"""Compare the cards with the files they are about, whatever the texts hold.

Every number is counted again here.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard
from markdown_it import MarkdownIt

from coa import protocol, tables
from coa.errors import ConfigError, InputError
from coa.graded import GradedTrajectory, grade_trajectory
from coa.pairs import PairKind, PreferencePair
from coa.question import Question
from coa.trajectory import Author, Mode, Outcome, Sampling, Step, StepKind, StopReason, Trajectory
from data_cards.cards.front_matter import size_category
from data_cards.catalogue import SetName, local_path, published_path
from data_cards.render import OUT, main

datasets = pytest.importorskip("datasets")
metadata = pytest.importorskip("datasets.utils.metadata")

TEACHER = "scripted/microworld-12345678"
HOSTILE = (
    "```\n---\nlicense: mit\n---\n# Owned\n<script>x</script> {{ title }} {% raw %} | a | "
    "\x00 \u202e ![x](http://evil)"
)
PNG = b"\x89PNG\r\n\x1a\n not read by anyone here"


def question(
    number: int, text: str = "Who leads Villa Pellin?", split: str = "train", **others: Any
) -> Question:
    kind = "chain" if number % 3 else "comparison"
    fields: dict[str, Any] = {
        "question_type": kind,
        "num_hops": 1 + number % 2,
        "source": "microworld",
        **others,
    }
    return Question(f"q-{number:03}", text, ("Felix Brandt",), split, **fields)


def steps(num_actions: int, thought: str = "I need the leader. ") -> tuple[Step, ...]:
    turn = (
        *protocol.parse_policy(
            f"{thought}{protocol.open_tag('search')} leader {protocol.close_tag('search')}"
        ),
        protocol.observation("search", "The leader is Felix Brandt.", Outcome.OK, ("p-1",)),
    )
    return (
        *turn * num_actions,
        *protocol.parse_policy("It says so.\n</think>\n\n\\boxed{Felix Brandt}"),
    )


def trajectory(asked: Question, mode: Mode, num_actions: int, **others: Any) -> GradedTrajectory:
    made = Trajectory(
        f"{asked.question_id}/{mode}/0",
        asked.question_id,
        mode,
        0,
        asked.question,
        "Question: ?\n<think>\n",
        steps(num_actions),
        StopReason.ANSWERED,
        TEACHER,
        Sampling(),
        "0123456789abcdef",
        "tantivy:abc/top2" if mode is Mode.COA else "",
        5,
        10 + num_actions,
        7 * num_actions,
        1 + num_actions,
        num_actions,
    )
    return grade_trajectory(replace(made, **others), asked)


def pair(asked: Question, kind: PairKind) -> PreferencePair:
    acting, thinking = steps(1, " "), steps(0)
    chosen, rejected = (acting, thinking) if kind is PairKind.ACT_IS_BETTER else (thinking, acting)
    right = int(kind is PairKind.ACT_IS_BETTER)
    parent = f"{asked.question_id}/cot/0"
    return PreferencePair(
        f"{parent}/19",
        asked.question_id,
        parent,
        kind,
        19,
        asked.question,
        "Question: ?\n<think>\n",
        (Step(StepKind.THOUGHT, Author.POLICY, "I need the leader."),),
        chosen,
        rejected,
        f"{parent}/19/act/0",
        parent,
        2,
        2 * right,
        1,
        1 - right,
        TEACHER,
        "tantivy:abc/top2",
    )


def write_rows(path: str | Path, rows: Iterable[dict[str, Any]]) -> None:
    """A file of another stage, of which only some columns are read."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(list(rows)).write_parquet(path)


def write_run(
    questions: list[Question], coa: list[GradedTrajectory], cot: list[GradedTrajectory]
) -> None:
    """Write the files of a run: the last row of every set is its validation split."""
    pairs = [pair(row, list(PairKind)[i % 3 == 0]) for i, row in enumerate(questions[:9])]
    rl = [row for row in questions if row.split == "train"][-5:]
    rows: dict[SetName, tuple[type, list[Any]]] = {
        SetName.COT_A: (PreferencePair, pairs),
        SetName.COA: (GradedTrajectory, coa),
        SetName.COT: (GradedTrajectory, cot),
        SetName.RL: (Question, rl),
    }
    for name, (record, found) in rows.items():
        tables.write_table(local_path(name, "train"), record, found[:-1])
        tables.write_table(local_path(name, "validation"), record, found[-1:])
    tables.write_table(Path("data/questions.parquet"), Question, questions)
    kept = [{"trajectory": {"mode": str(row.trajectory.mode)}} for row in (*coa, *cot)]
    write_rows("data/filter/kept.parquet", kept)
    dropped = [("wrong", "coa")] * 7 + [("no_answer", "coa")] * 2 + [("wrong", "cot")] * 40
    write_rows(
        "data/filter/dropped.parquet",
        ({"reason": reason, "row": {"trajectory": {"mode": mode}}} for reason, mode in dropped),
    )
    write_rows(
        "data/grade.parquet",
        ({"trajectory": {"question_id": row.question_id}} for row in questions[:12]),
    )
    outcomes = ["paired"] * 9 + ["same_outcome"] * 80 + ["unsound"] * 3
    write_rows("data/branch/points.parquet", ({"outcome": outcome} for outcome in outcomes))
    write_rows("data/branch/pairs.parquet", ({"kind": str(row.kind)} for row in pairs))


def write_settings(**render: Any) -> None:
    """params.yaml and prompts."""
    section = {
        "title": "A title",
        "repository": "",
        "languages": ["en"],
        "licenses": {"microworld": "Apache-2.0"},
    }
    server = {"base_url": "http://secret.host:8000/v1", "api_key_env": "SECRET_KEY", "model": "m"}
    params = {
        "prompts": {"cot": "cot.txt", "coa": "coa.txt"},
        "assemble": {"num_coa": 9, "note": HOSTILE.replace("\x00", "")},
        "teacher": {"chat_template": "{prompt}\n", "server": server},
        "render": {**section, **render},
    }
    Path("params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    for mode in Mode:
        Path(f"{mode}.txt").write_text("Question: {question}", encoding="utf-8")


def plain_run() -> None:
    questions = [question(i) for i in range(18)] + [
        question(90 + i, split="test") for i in range(4)
    ]
    coa = [trajectory(row, Mode.COA, i % 4) for i, row in enumerate(questions[:10])]
    cot = [trajectory(row, Mode.COT, 0) for row in questions[:6]]
    write_run(questions, coa, cot)
    write_settings()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of a small run, which is the current one."""
    monkeypatch.chdir(tmp_path)
    plain_run()
    return tmp_path


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


def card(name: str) -> DatasetCard:
    return DatasetCard((OUT / name / "README.md").read_text(encoding="utf-8"))


def head(name: str) -> dict[str, Any]:
    """The metadata of a card, as the Hub's own class reads it."""
    return dict(card(name).data.to_dict())  # type: ignore[no-untyped-call]


def cells(text: str, heading: str) -> list[list[str]]:
    """The rows of the first table after `heading`, without its head."""
    lines = iter(text[text.index(heading) :].split("\n"))
    table = takewhile(
        lambda line: line.startswith("|"), dropwhile(lambda line: not line.startswith("|"), lines)
    )
    return [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in list(table)[2:]]


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


@pytest.mark.parametrize("name", SetName)
def test_declared_features_and_sizes_are_those_that_the_library_finds(
    rendered: Path, name: SetName
) -> None:
    declared = datasets.DatasetInfo._from_yaml_dict(head(name)["dataset_info"])
    files = {split: str(local_path(name, split)) for split in ("train", "validation")}
    loaded = datasets.load_dataset("parquet", data_files=files, cache_dir=str(rendered / "cache"))
    assert declared.features == loaded["train"].features
    assert declared.features == datasets.Features.from_arrow_schema(pq.read_schema(files["train"]))
    assert {split: info.num_examples for split, info in declared.splits.items()} == {
        split: loaded[split].num_rows for split in files
    }


@pytest.mark.parametrize("front", [True, False], ids=["all sets", "one set"])
def test_the_cards_with_the_files_beside_them_are_a_repository_that_loads(
    run: Path, front: bool
) -> None:
    main([])
    for name in SetName:
        repository = OUT if front else OUT / name
        for split in ("train", "validation"):
            target = repository / published_path(name, split)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(local_path(name, split).read_bytes())
        loaded = datasets.load_dataset(
            str(repository.resolve()), str(name), cache_dir=str(run / "cache")
        )
        assert {split: loaded[split].num_rows for split in loaded} == {
            split: tables.count_rows(local_path(name, split)) for split in ("train", "validation")
        }


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


def test_the_characters_that_are_trained_are_those_of_the_policy(rendered: Path) -> None:
    rows = list(tables.read_table(local_path(SetName.COA, "train"), GradedTrajectory))
    rows += tables.read_table(local_path(SetName.COA, "validation"), GradedTrajectory)
    every = [(step.author, len(step.text)) for row in rows for step in row.trajectory.steps]
    own = sum(n for author, n in every if author is Author.POLICY)
    world = sum(n for author, n in every if author is Author.ENVIRONMENT)
    total = sum(n for _, n in every) + sum(len(row.trajectory.prompt) for row in rows)
    found = {
        row[0]: (row[1], int(row[2].replace(",", "")), row[4])
        for row in cells(card("coa").text, "## Who wrote")
    }
    assert found["thoughts, actions, answers"] == ("policy", own, "SFT stages 2 and 3")
    assert (
        found["search results"][1] + found["tags around search results, failed calls"][1] == world
    )
    assert sum(count for _, count, _ in found.values()) == total


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


def test_same_files_give_the_same_bytes(run: Path) -> None:
    def read() -> dict[str, bytes]:
        return {
            path.as_posix(): path.read_bytes() for path in sorted(OUT.rglob("*")) if path.is_file()
        }

    main([])
    first = read()
    main([])
    assert read() == first
    assert len(first) == 5


def test_a_scripted_teacher_is_named_and_a_real_one_too(run: Path) -> None:
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


def test_a_licence_that_nobody_stated_is_said_to_be_unknown(rendered: Path) -> None:
    assert head("coa")["license"] == "unknown"
    assert ["search results", "`corpus`", "**unknown**"] in cells(card("coa").text, "## Licences")
    assert head("rl")["license"] == "apache-2.0"


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
    run: Path, stated: dict[str, str], expected: object
) -> None:
    write_settings(licenses=stated)
    main([])
    assert head("coa")["license"] == expected


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
    run: Path, settings: dict[str, Any], named: str
) -> None:
    write_settings(**settings)
    with pytest.raises(ConfigError, match=re.escape(named)):
        main([])


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
    finished_run: Path, run: Path, monkeypatch: pytest.MonkeyPatch, text: str
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


def test_a_run_with_an_analysis_a_screen_and_pictures_shows_them(run: Path) -> None:
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


def test_the_whole_example_stands_on_the_card(rendered: Path) -> None:
    text = card("coa").text
    blocks = [
        token.content for token in MarkdownIt("commonmark").parse(text) if token.type == "fence"
    ]
    others = json.loads(next(block for block in blocks if block.startswith('{\n  "trajectory"')))
    rows = {
        row.trajectory.trajectory_id: row
        for row in tables.read_table(local_path(SetName.COA, "train"), GradedTrajectory)
    }
    row = rows[others["trajectory"]["trajectory_id"]]
    shown = next(block for block in blocks if block.startswith("scaffold: prompt"))
    assert shown.count("policy: ") == sum(
        step.author is Author.POLICY for step in row.trajectory.steps
    )
    assert all(
        " ".join(step.text.split()) in " ".join(shown.split()) for step in row.trajectory.steps
    )
    sizes = sorted(
        (sum(len(step.text) for step in r.trajectory.steps), key) for key, r in rows.items()
    )
    assert sizes[len(sizes) // 2][1] == row.trajectory.trajectory_id


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
    run: Path, path: str, harm: Callable[[Path], None], message: str
) -> None:
    main([])
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


def test_a_published_set_is_loaded_by_its_name(run: Path) -> None:
    write_settings(repository="owner/name")
    main([])
    assert 'load_dataset("owner/name", "coa")' in card("coa").text
    assert "not published yet" not in card("coa").text


@pytest.fixture(autouse=True)
def quiet_bars() -> Iterator[None]:
    """No bars of the library among the dots of the tests."""
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()
