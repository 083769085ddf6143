"""`coa init` makes a project beside the tool, in which `dvc repro` runs and updates are noticed."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from coa.code_hashes import write_code
from coa.errors import ConfigError
from coa.init import main, make_project
from coa.params import main as write_settings
from tests.project_support import environment, stages_run
from tests.project_support import make_project as copy_tool

SHIPPED = ("synth/prompts/", "train/prompts/", "coa/judging/prompts/")


def git(folder: Path, *arguments: str) -> str:
    command = ("git", "-c", "user.name=test", "-c", "user.email=test@example.org", *arguments)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


def stages_of(folder: Path) -> dict[str, object]:
    stages: dict[str, object] = YAML(typ="safe").load(folder / "dvc.yaml")["stages"]
    return stages


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that lies in no repository."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


@pytest.fixture
def project(outside: Path) -> Path:
    make_project(Path("mine"))
    return outside / "mine"


def test_a_project_has_settings_examples_git_and_dvc_and_nothing_of_the_tools(
    project: Path,
) -> None:
    assert {path.name for path in project.iterdir()} == {
        *(".git", ".dvc", ".dvcignore", ".gitignore", "README.md"),
        *("params.yaml", "dvc.yaml", "mine.yaml", "data"),
    }
    assert len((project / "README.md").read_text().splitlines()) == 6
    assert "sample" in stages_of(project)
    assert not any(path in (project / "dvc.yaml").read_text() for path in SHIPPED)


def test_the_tools_prompts_are_in_the_code_of_stages_and_a_prompt_of_the_projects_is_a_dependency(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    write_code()
    assert "  synth/prompts/coa.txt\n" in Path(".code/sample").read_text()
    Path("synth/prompts").mkdir(parents=True)
    Path("synth/prompts/coa.txt").write_text("{question}")
    write_settings(["mine.yaml"])
    write_code()
    assert "  synth/prompts/coa.txt\n" not in Path(".code/sample").read_text()
    assert "        - synth/prompts/coa.txt\n" in Path("dvc.yaml").read_text()


def test_a_project_is_not_made_twice_and_nothing_that_is_there_is_overwritten(
    project: Path, outside: Path
) -> None:
    with pytest.raises(ConfigError, match="mine is a project already") as refused:
        make_project(Path("mine"))
    assert "coa params" in refused.value.details["what to do"]
    (outside / "notes.md").write_text("mine")
    with pytest.raises(ConfigError, match="is not empty") as refused:
        make_project(outside)
    assert refused.value.details["got"] == "mine, notes.md"
    other = outside / "other"
    other.mkdir()
    (other / "README.md").write_text("another one's")
    with pytest.raises(ConfigError, match="is not empty"):
        make_project(other)
    assert [path.name for path in other.iterdir()] == ["README.md"]


def test_an_interrupted_init_is_completed_by_the_same_command(project: Path) -> None:
    (project / "params.yaml").unlink()
    (project / "dvc.yaml").unlink()
    (project / "README.md").unlink()
    reviews = project / "data/reviews.parquet"
    before = reviews.stat().st_mtime_ns
    make_project(Path("mine"))
    assert (project / "params.yaml").is_file()
    assert (project / "README.md").is_file()
    assert reviews.stat().st_mtime_ns == before


def test_profiles_of_the_users_are_copied_and_shipped_ones_are_named(outside: Path) -> None:
    Path("profiles").mkdir()
    launch = "accelerate launch --config_file conf/accelerate/ddp.yaml -m"
    Path("profiles/few.yaml").write_text(
        f"sample: {{num_questions: 9}}\ntrain: {{launch: {launch}}}"
    )
    told = main(["project", "conf/tiny.yaml", str(outside / "profiles/few.yaml")])
    assert told == "project is a project of your own; next: cd project && dvc repro"
    project = outside / "project"
    assert "num_questions: 9" in (project / "params.yaml").read_text()
    assert "conf/tiny.yaml few.yaml`" in (project / "params.yaml").read_text()
    assert (project / "few.yaml").is_file()
    assert not (project / "conf/tiny.yaml").exists()
    assert (project / "conf/accelerate/ddp.yaml").is_file(), "which accelerate reads there"
    with pytest.raises(ConfigError, match=r"there is no profile conf/tny\.yaml"):
        main(["another", "conf/tny.yaml"])
    assert not (outside / "another").exists()


def test_the_demo_has_a_repository_of_its_own_where_the_one_around_it_ignores_it(
    outside: Path,
) -> None:
    git(outside, "init", "--quiet")
    Path(".gitignore").write_text("build/\n")
    git(outside, "add", ".")
    git(outside, "commit", "--quiet", "-m", "all")
    command = [sys.executable, "-m", "coa", "init", "--demo", "build/demo"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    assert "next: cd build/demo && dvc repro" in done.stdout
    assert (outside / "build/demo/.git").is_dir()
    assert "rl2" in stages_of(outside / "build/demo")
    assert git(outside, "status", "--porcelain") == ""


def test_a_project_within_a_repository_belongs_to_that(outside: Path) -> None:
    git(outside, "init", "--quiet")
    make_project(Path("part"))
    assert not (outside / "part/.git").exists()
    assert (outside / "part/.dvc/config").is_file()
    assert "part/params.yaml" in git(outside, "status", "--porcelain", "--untracked-files=all")


@pytest.mark.parametrize("arguments", [[], ["demo=true"], ["demo=true", "a", "conf/tiny.yaml"]])
def test_a_command_without_a_folder_says_what_it_needs(arguments: list[str]) -> None:
    with pytest.raises(ConfigError, match="name the folder"):
        main(arguments)


class Beside:
    """A project and the copy of the tool that it lies beside."""

    def __init__(self, tool: Path, folder: Path) -> None:
        self.tool = tool
        self.folder = folder
        self.variables = {**environment(), "PYTHONPATH": str(tool)}

    def start(self, *command: str, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**self.variables, **variables},
            text=True,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *command: str, **variables: str) -> str:
        process = self.start(*command, **variables)
        output, _ = process.communicate()
        assert process.returncode == 0, output[-3000:]
        return output

    def commit(self) -> None:
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "-m", "a run")

    def stale(self) -> set[str]:
        """The stages that DVC calls stale."""
        self.run("dvc", "repro", "--quiet", "code")
        status = json.loads(self.run("dvc", "status", "--json"))
        return {name for name, why in status.items() if why != ["always changed"]}


@pytest.mark.long
def test_a_strangers_project_runs_is_killed_resumes_publishes_and_follows_the_tool(
    outside: Path,
) -> None:
    from tests.publish_support import TOKEN, Hub

    tool = copy_tool(outside / "tool")
    folder = outside / "stranger"
    made = Beside(tool, outside).run(
        sys.executable, "-m", "coa", "init", "stranger", "conf/tiny.yaml"
    )
    assert "stranger is a project of your own" in made
    project = Beside(tool, folder)
    project.run("dvc", "repro", "questions", "index")
    project.commit()

    running = project.start("dvc", "repro", "report", "render")
    while not (folder / ".journal/sample-cot.sqlite").exists():
        assert running.poll() is None
        time.sleep(0.05)
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    git(folder, "checkout", "dvc.lock")
    (folder / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    project.run("dvc", "repro", "report", "render")
    assert not project.stale() & {"questions", "index", "sample@cot", "sample@coa", "render"}
    project.commit()

    hub = Hub(outside)
    try:
        publish = (
            "data_cards.publish",
            "repository=me/mine",
            "dry_run=true",
            "allow=scripted_teacher",
        )
        told = project.run(sys.executable, "-m", *publish, **hub.variables, HF_TOKEN=TOKEN)
    finally:
        hub.close()
    assert "nothing was sent" in told

    before = project.stale()
    grade = tool / "curate/grade.py"
    text = grade.read_text().replace(
        "        yield row\n", "        yield replace(row, num_hops=1)\n"
    )
    grade.write_text(text.replace("import dataclass, field", "import dataclass, field, replace"))
    assert project.stale() - before == {"grade"}
    ran = stages_run(project.run("dvc", "repro", "report", "render"))
    assert {"grade", "analyse", "filter", "branch", "assemble", "render"} <= {*ran}
    assert not {"questions", "index", "sample@coa"} & {*ran}
    assert project.stale() == before
