"""Every file of the paper's suite from a local Hub, through the real `datasets`, to one table."""

import importlib.util
import io
import os
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
import uvicorn
from ruamel.yaml import YAML

from coa.errors import ConfigError
from coa.records.question import Question, evaluation_set
from coa.settings.params import write_profile
from coa.store import tables
from synth.fetch import SUITES, FetchParams, Suite, source_of, suite_files
from synth.question_formats import QuestionFormat
from synth.questions import main as read_all
from tests.hub.server import create_app
from tests.hub.store import Store

ROOT = Path(__file__).parent.parent
needs_datasets = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="needs the extra `train`"
)
HOP: dict[str, Any] = {
    "id": "hop",
    "answer": "Ann",
    "type": "bridge",
    "supporting_facts": {"title": ["B"], "sent_id": [0]},
}
PARTS: dict[str, Any] = {
    "answer_aliases": ["A. Ann"],
    "answerable": True,
    "paragraphs": [{"idx": 0, "title": "B", "is_supporting": True}],
    "question_decomposition": [{"paragraph_support_idx": 0}],
}
ROWS: dict[QuestionFormat, dict[str, Any]] = {
    QuestionFormat.HOTPOTQA: HOP,
    QuestionFormat.TWO_WIKI: {**HOP, "id": "two"},
    QuestionFormat.MUSIQUE: {"id": "2hop__1_2", "answer": "Ann", **PARTS},
    QuestionFormat.NQ: {"answer": ["Ann"]},
    QuestionFormat.TRIVIAQA: {"question_id": "tc_1", "answer": {"value": "Ann", "aliases": ["A"]}},
    QuestionFormat.BAMBOOGLE: {"Answer": "Ann"},
}
"""The smallest row of each data set, without its question."""


def published(dataset: QuestionFormat, split: str) -> bytes:
    """Three rows of a split as the Hub has them."""
    rows = []
    for i in range(3):
        row = dict(ROWS[dataset])
        column = "Question" if dataset is QuestionFormat.BAMBOOGLE else "question"
        row[column] = f"Who is {dataset} {split} {i}?"
        for name in ("id", "question_id"):
            if name in row:
                row[name] = f"{row[name]}_{split}_{i}"
        rows.append(row)
    buffer = io.BytesIO()
    pl.DataFrame(rows).write_parquet(buffer)
    return buffer.getvalue()


def fill(store: Store, *, without: str = "", only: str = "") -> None:
    """Upload the repositories of the suite, each in the configuration that is read."""
    files: dict[str, dict[str, bytes]] = {}
    configs: dict[str, str] = {}
    for file in SUITES[Suite.PAPER]:
        source = source_of(file)
        content = published(file.dataset, file.split)
        files.setdefault(source.repo, {})[f"{file.split}.parquet"] = content
        configs[source.repo] = source.config or "default"
    for repo, contents in files.items():
        if repo == without or only not in ("", repo):
            continue
        splits = [
            {"split": name.removesuffix(".parquet"), "path": name} for name in sorted(contents)
        ]
        config = [{"config_name": configs[repo], "data_files": splits}]
        head = io.StringIO()
        YAML().dump({"configs": config}, head)
        contents["README.md"] = f"---\n{head.getvalue()}---\n".encode()
        stored = {name: store.regular_file(content) for name, content in contents.items()}
        store.commit(store.create("dataset", repo, private=False), "data", stored)


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a local Hub from a thread; gives its address."""
    app = create_app(folder, owner="me", token="hf_of_this_test")
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False))
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)


def run(
    folder: Path, url: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command with a cache of its own."""
    write_profile(ROOT / "conf/paper.yaml", folder / "params.yaml", ROOT / "conf/microworld.yaml")
    variables = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(folder / "hub_cache"),
        "HF_ENDPOINT": url,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        **environment,
    }
    command = [sys.executable, "-m", "synth.fetch", *arguments]
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


@needs_datasets
def test_the_suite_of_the_paper_is_downloaded_read_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(Store(tmp_path / "hub"))
    with serving(tmp_path / "hub") as url:
        done = run(tmp_path, url, "suite=paper")
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "7 files are there, 0 of them were there before"
        outs = [tmp_path / file.out for file in SUITES[Suite.PAPER]]
        written = {out: out.stat().st_mtime_ns for out in outs}
        assert sorted((tmp_path / "data/raw").iterdir()) == sorted(outs)

        again = run(tmp_path, url, "suite=paper")
    assert again.stdout.strip() == "7 files are there, 7 of them were there before"
    assert again.stderr.count("there already: kept") == 7
    assert {out: out.stat().st_mtime_ns for out in outs} == written

    monkeypatch.chdir(tmp_path)
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("num_validation: 500", "num_validation: 1"))
    read_all([])
    questions = tables.read_table(Path("data/questions.parquet"), Question)
    assert Counter(evaluation_set(question) for question in questions) == {
        "hotpotqa train": 2,
        "hotpotqa validation": 1,
        "hotpotqa test": 3,
        "nq test": 3,
        "triviaqa test": 3,
        "2wikimultihopqa test": 3,
        "musique test": 3,
        "bamboogle test": 3,
    }


@pytest.mark.slow
@needs_datasets
@pytest.mark.long
def test_a_file_of_another_revision_or_length_or_a_broken_one_is_downloaded_again(
    tmp_path: Path,
) -> None:
    store = Store(tmp_path / "hub")
    fill(store)
    arguments = ("dataset=nq", "split=validation", "out=q.parquet")
    with serving(tmp_path / "hub") as url:
        assert "there already" not in run(tmp_path, url, *arguments).stdout
        assert run(tmp_path, url, *arguments).stdout.strip().endswith("there already: kept")
        shorter = run(tmp_path, url, *arguments, "num_questions=2").stdout
        assert "2 rows" in shorter
        assert "there already" not in shorter
        (tmp_path / "q.parquet").write_bytes(b"PAR1 broken off")
        assert "3 rows" in run(tmp_path, url, *arguments).stdout

    repository = store.find("dataset", "google-research-datasets/nq_open")
    assert repository is not None
    more = {"more.txt": store.regular_file(b"a new commit")}
    commit = store.commit(repository, "more", {**repository.head.files, **more})
    with serving(tmp_path / "hub") as url:
        assert "there already" not in run(tmp_path, url, *arguments).stdout
    metadata = pq.read_schema(tmp_path / "q.parquet").metadata
    assert metadata[b"coa.revision"] == commit.oid.encode()


@needs_datasets
def test_a_file_that_fails_is_named_and_the_same_command_goes_on(tmp_path: Path) -> None:
    store = Store(tmp_path / "hub")
    fill(store, without="dgslibisey/MuSiQue")
    with serving(tmp_path / "hub") as url:
        done = run(tmp_path, url, "suite=paper")
    assert done.returncode == 1
    assert "1 of 7 files were not downloaded" in done.stderr
    assert "data/raw/musique_validation.parquet: there is no such data set" in done.stderr
    assert "run the same command again" in done.stderr
    assert len(list((tmp_path / "data/raw").iterdir())) == 6

    fill(store, only="dgslibisey/MuSiQue")
    with serving(tmp_path / "hub") as url:
        done = run(tmp_path, url, "suite=paper")
    assert done.stdout.strip() == "7 files are there, 6 of them were there before", done.stderr


def test_somebody_elses_file_ends_the_command_and_stays(tmp_path: Path) -> None:
    theirs = tmp_path / "data/raw/hotpotqa_train.parquet"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("notes")
    done = run(tmp_path, "http://127.0.0.1:9", "suite=paper", HF_HUB_OFFLINE="1")
    assert "hotpotqa_train.parquet is in the way" in done.stderr
    assert theirs.read_text() == "notes"


@pytest.mark.parametrize("name", ["repository", "config", "revision"])
def test_what_belongs_to_one_data_set_is_refused_beside_a_suite(name: str) -> None:
    params = FetchParams(QuestionFormat.NQ, "train", "q.parquet", suite=Suite.PAPER)
    with pytest.raises(ConfigError, match=f"fetch.{name} has no meaning"):
        suite_files(replace(params, **{name: "x"}))
    limited = suite_files(replace(params, num_questions=5))
    assert {file.num_questions for file in limited} == {5}


def test_the_profile_of_the_paper_reads_exactly_the_files_of_its_suite() -> None:
    profile = YAML(typ="safe").load((ROOT / "conf/paper.yaml").read_text())
    entries = profile["questions"]["files"]
    assert {entry["path"]: entry["format"] for entry in entries} == {
        file.out: str(file.dataset) for file in SUITES[Suite.PAPER]
    }
