"""Run the blocks of the documents that are marked so, each beside what its mark names."""

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import polars
import pytest
from omegaconf import DictConfig, OmegaConf

from coa.microworld.factory import MicroworldParams, scripted_teacher
from coa.search.app import Serving
from coa.search.embedded import EmbeddedSearch
from coa.settings.params import Params
from tests.docs_support import (
    PAGES,
    ROOT,
    Block,
    Command,
    missing_lines,
    read_blocks,
    read_commands,
)
from tests.doubles.model_server import Personality, serve
from tests.project_support import environment, finish, make_project

BLOCKS = [block for page in PAGES for block in read_blocks(page)]
SERVER = "localhost:8000"
MODEL = "Qwen/Qwen2.5-7B-Instruct"
STARTED = ("coa init ", "vllm serve ", "make review")
"""Beginnings of commands in whose place a test has made or started something."""


def with_mark(mark: str) -> list[Any]:
    found = [pytest.param(block, id=block.place) for block in BLOCKS if block.mark == mark]
    assert found, f"no page has a block marked {mark!r}"
    return found


def run_command(folder: Path, block: Block, command: Command, **variables: str) -> str:
    """Run one command of a block; return what is wrong with its end or with what it prints."""
    shell = ["bash", "-o", "pipefail", "-c", re.sub(r"^curl ", "curl -sS --fail ", command.typed)]
    if block.kind == "python":
        shell = [sys.executable, "-c", command.typed]
    done = subprocess.run(
        shell,
        cwd=folder,
        env={**environment(), **variables},
        capture_output=True,
        text=True,
        timeout=600,
    )
    missing = missing_lines(command.printed, done.stdout)
    if not done.returncode and not missing:
        return ""
    told = f"{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return f"{block.place}: {command.typed}\nstatus {done.returncode}, missing {missing}\n{told}"


def run(
    folder: Path, block: Block, instead: Mapping[str, str] | None = None, **variables: str
) -> str:
    """Run the commands of a block one after the other, with other words for some of its words.

    Returns:
        What is wrong with the first command that fails; empty where none does.
    """
    for command in read_commands(block):
        typed = command.typed
        for word, other in (instead or {}).items():
            typed = typed.replace(word, other)
        if not typed.startswith(STARTED):
            wrong = run_command(folder, block, command._replace(typed=typed), **variables)
            if wrong:
                return wrong
    return ""


def commit(folder: Path) -> None:
    finish(folder, "git", "add", "--all")
    finish(folder, "git", "commit", "--quiet", "-m", "a run")


@pytest.fixture
def project(finished_project: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, for a block may change what is there."""
    return Path(shutil.copytree(finished_project, tmp_path / "project", symlinks=True))


@pytest.mark.long
@pytest.mark.parametrize("block", with_mark("run"))
def test_a_block_runs_as_it_is_printed(project: Path, block: Block) -> None:
    assert run(project, block) == ""


@pytest.mark.long
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_calls_to_the_server_of_the_page_on_search_are_answered(
    finished_project: Path, served_search: Any
) -> None:
    engine = EmbeddedSearch.open(finished_project / "data/index")
    blocks = [block for block in BLOCKS if block.mark == "run: server"]
    assert len(blocks) == 2
    with served_search(engine, Serving()) as served:
        for block in blocks:
            assert run(finished_project, block, {SERVER: served.url.removeprefix("http://")}) == ""


@pytest.mark.long
@pytest.mark.parametrize("block", with_mark("run: hub"))
def test_a_block_runs_beside_a_hub_on_this_machine(
    project: Path, block: Block, tmp_path: Path
) -> None:
    from tests.publish_support import TOKEN, Hub

    commit(project)
    hub = Hub(tmp_path)
    try:
        allowed = {"repository=me/my-coa": "repository=me/my-coa allow=scripted_teacher"}
        assert run(project, block, allowed, **hub.variables, HF_TOKEN=TOKEN) == ""
    finally:
        hub.close()


@pytest.mark.long
@pytest.mark.skipif("COA_REAL_DATA" not in os.environ, reason="needs a real tokenizer")
@pytest.mark.parametrize("block", with_mark("run: tokenizer"))
def test_a_block_runs_with_a_tokenizer_from_a_folder(project: Path, block: Block) -> None:
    tokenizer = f"{os.environ['COA_REAL_DATA']}/tokenizer_qwen2"
    assert run(project, block, {MODEL: tokenizer}) == ""


@pytest.mark.network
@pytest.mark.parametrize("block", with_mark("run: tokenizer"))
def test_a_block_runs_with_the_tokenizer_that_it_names(project: Path, block: Block) -> None:
    assert run(project, block, HF_HUB_OFFLINE="0") == ""


def write_own_files(tiny: Path, folder: Path) -> DictConfig:
    """Write what the README asks of readers: a profile with its lines, questions and passages.

    The questions and passages are the invented world's, in HotpotQA's columns and in the README's
    own; the served teacher knows them.
    """
    (lines,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    # Fewer rollouts and forks than a reader's.
    assert "{num_questions: 300}" in lines
    lines = lines.replace("{num_questions: 300}", "{num_questions: 120}")
    lines += "branch: {max_parents: {act_is_better: 10, think_is_better: 20}}\n"
    (folder / "mine.yaml").write_text(lines)
    raw = folder / "data/raw"
    raw.mkdir()
    shutil.copy2(tiny / "data/microworld/corpus.parquet", raw / "passages.parquet")
    asked = polars.read_parquet(tiny / "data/microworld/questions.parquet").select(
        "question",
        "split",
        id="question_id",
        answer=polars.col("gold_answers").list.first(),
        type=polars.lit("bridge"),
        supporting_facts=polars.struct(title="gold_titles"),
    )
    asked.filter(split="train").write_parquet(raw / "train.parquet")
    asked.filter(split="test").select("id", "question", "answer").write_ndjson(raw / "test.jsonl")
    mine: DictConfig = OmegaConf.create(lines)
    return mine


@pytest.fixture
def served_teacher(finished_project: Path) -> Iterator[dict[str, str]]:
    """Address and model of the scripted teacher behind a server with DeepSeek's manners.

    It answers chat, and in vLLM's place raw completions.
    """
    params = Params.load("microworld", path=finished_project / "params.yaml")
    teacher = scripted_teacher(params.section(MicroworldParams))
    started, stopped, addresses = threading.Event(), threading.Event(), list[str]()

    async def run_server() -> None:
        async with serve(teacher, personality=Personality.DEEPSEEK) as base_url:
            addresses.append(base_url)
            started.set()
            await asyncio.to_thread(stopped.wait)

    thread = threading.Thread(target=asyncio.run, args=(run_server(),))
    thread.start()
    assert started.wait(60)
    yield {"base_url": addresses[0], "model": teacher.name}
    stopped.set()
    thread.join()


def write_teacher(served: dict[str, str], folder: Path) -> None:
    """Copy the profile of a chat teacher as the README says, and edit it."""
    text = (folder / "conf/chat_teacher.yaml").read_text()
    chat = served["base_url"].replace("/v1", "/beta")
    text = text.replace("https://api.deepseek.com/beta", chat)
    text = text.replace("deepseek-reasoner", served["model"])
    (folder / "teacher.yaml").write_text(text)


def block_with_teacher(page: str) -> Block:
    """Return the block of a page that runs beside a teacher behind a server."""
    (block,) = (it for it in BLOCKS if it.mark == "run: teacher" and it.place.startswith(page))
    return block


@pytest.mark.slow
def test_the_block_of_the_readme_runs_on_questions_of_ones_own_with_a_teacher_behind_a_server(
    finished_project: Path, served_teacher: dict[str, str], tmp_path: Path
) -> None:
    folder = make_project(tmp_path / "project")
    finish(folder, "git", "init", "--quiet")
    write_own_files(finished_project, folder)
    write_teacher(served_teacher, folder)
    assert run(folder, block_with_teacher("README.md"), DEEPSEEK_API_KEY="one") == ""
    assert json.loads((folder / "metrics/assemble.json").read_text())["coa"]["train"] > 20


@pytest.mark.long
def test_the_block_on_scaling_runs_on_questions_of_ones_own_with_a_teacher_behind_a_server(
    finished_project: Path, served_teacher: dict[str, str], tmp_path: Path
) -> None:
    folder = make_project(tmp_path / "project")
    finish(folder, "git", "init", "--quiet")
    mine = write_own_files(finished_project, folder)
    # The page on scaling runs the profile alone, which has the same files here.
    served = OmegaConf.create({"teacher": {"server": served_teacher}})
    alone = OmegaConf.merge(OmegaConf.load(folder / "conf/hotpotqa.yaml"), mine, served)
    OmegaConf.save(alone, folder / "conf/hotpotqa.yaml")
    assert run(folder, block_with_teacher("docs/scaling.md")) == ""
    assert json.loads((folder / "metrics/assemble.json").read_text())["coa"]["train"] > 20


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("block", with_mark("run: reviewers"))
def test_a_block_runs_beside_argilla_where_two_people_answer(
    project: Path, block: Block, review_server: Any
) -> None:
    from tests.review_support import review_all

    before = (project / "data/render/README.md").read_bytes()
    server = review_server(project, "annotators=[anna,ben]").start()
    try:
        for command in read_commands(block):
            if " pull" in command.typed.replace("-", " "):
                review_all(server)
            if not command.typed.startswith(STARTED):
                assert run_command(project, block, command) == ""
    finally:
        server.stop()
    assert (project / "data/render/README.md").read_bytes() != before


@pytest.fixture(scope="module")
def trained_project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The finished run with its training, committed as a reader has it after a demo."""
    folder = tmp_path_factory.mktemp("trained") / "project"
    shutil.copytree(finished_project, folder, symlinks=True)
    finish(folder, "dvc", "repro")
    shutil.copytree(Path(__file__).parent, folder / "tests", ignore=shutil.ignore_patterns("data"))
    commit(folder)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("block", with_mark("long"))
def test_a_long_block_runs_as_it_is_printed(trained_project: Path, block: Block) -> None:
    assert run(trained_project, block) == ""


@pytest.mark.long
def test_the_page_of_plots_shows_pictures_that_lie_beside_it(trained_project: Path) -> None:
    page = Path(finish(trained_project, "dvc", "plots", "show").strip().removeprefix("file://"))
    shown = re.findall(r'src="(.*?)"', page.read_text())
    assert all((page.parent / name).read_bytes().startswith(b"\x89PNG") for name in shown)
    assert [name for name in shown if "curves" in name and "rl2" in name]
    assert [name for name in shown if "results_table" in name]


@pytest.mark.long
def test_the_demo_ends_with_what_there_is_to_open(trained_project: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(trained_project, tmp_path / "demo", symlinks=True))
    for path in map(ROOT.joinpath, ("Makefile", "pyproject.toml")):
        shutil.copy2(path, folder)
    # The environment of the tests stands in for the one that the command makes.
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    installed = f"{sys.prefix}/.installed-{version}-train"
    quiet = ("--no-print-directory", f"--assume-old={installed}")
    told = finish(folder, "make", "demo", f"VENV={sys.prefix}", *quiet)
    assert told.startswith("The demo takes about")
    _, _, table = told.partition("questions of ")
    assert max(map(len, table.splitlines())) <= 100
    named = set(re.findall(r"\b(?:reports|results|data)/[\w./-]*\w", told))
    assert {"reports/errors.html", "reports/training.html"} <= named
    assert [name for name in named if not (folder / name).exists()] == []


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sets of the default profile."""
    folder = make_project(tmp_path_factory.mktemp("default") / "project")
    finish(folder, sys.executable, "-m", "coa.params", "conf/microworld.yaml")
    finish(folder, "git", "init", "--quiet")
    finish(folder, "dvc", "repro", "assemble")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("block", with_mark("long: default run"))
def test_a_block_runs_after_the_default_run(default_run: Path, block: Block) -> None:
    assert run(default_run, block) == ""


@pytest.fixture(scope="module")
def default_world(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The passages of the default profile, and its index."""
    folder = tmp_path_factory.mktemp("world")
    for name in ("coa", "synth", "conf", "pipeline"):
        (folder / name).symlink_to(root / name)
    for command in (
        "coa.params conf/microworld.yaml",
        "synth.microworld",
        "coa.search.index",
    ):
        finish(folder, sys.executable, "-m", *command.split())
    return folder


@pytest.mark.long
@pytest.mark.parametrize("block", with_mark("run: default world"))
def test_a_block_runs_in_the_default_world(default_world: Path, block: Block) -> None:
    assert run(default_world, block) == ""


@pytest.mark.long
def test_the_question_of_the_page_makes_the_teacher_search(root: Path, default_world: Path) -> None:
    page = (root / "docs/daily_use.md").read_text()
    question = re.findall(r'coa ask (".*?")\n', page)[0]
    printed = finish(default_world, "bash", "-c", f"python -m coa.ask {question}")
    assert "<search_result>" in printed
    assert re.search(r"answer: \w.* [1-9]\d* actions", printed), printed
