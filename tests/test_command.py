"""`coa COMMAND` starts a module by its name; its help is there at once and knows every setting."""

import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from coa.__main__ import help_of, overview
from coa.errors import ConfigError
from coa.params import main as params_main
from coa.settings.commands import all_commands, read_command, refuse_flags
from coa.settings.help import sections_within
from coa.settings.params import Params
from coa.view.settings import ViewParams

COMMANDS = all_commands()


def help_on(typed: str) -> str:
    """The help that `coa TYPED --help` prints."""
    return help_of(*read_command(typed.split()))


def coa(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "coa", *arguments], cwd=root, capture_output=True, text=True
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_a_module_that_runs_and_a_section_that_exists(command: object) -> None:
    found, others = read_command(command.name.split())  # type: ignore[attr-defined]
    assert (found, others) == (command, [])
    assert find_spec(found.module) is not None
    assert "\n" not in found.about
    root = found.section.partition(".")[0]
    assert not root or found.section in {it.name for it in sections_within(root)}


@pytest.mark.parametrize("name", ["sample", "train"])
def test_help_takes_less_than_a_second_and_loads_no_model(root: Path, name: str) -> None:
    code = f"""
import atexit, sys, time
import coa.__main__ as it
heavy = [name for name in ("torch", "transformers", "trl", "dvc", "argilla")]
atexit.register(lambda: print(time.process_time() < 2, [n for n in heavy if n in sys.modules]))
sys.argv = ["coa", "{name}", "--help"]
it.main()
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.stdout.endswith("True []\n"), done.stdout + done.stderr


def test_help_says_the_value_of_a_setting_and_who_chose_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conf").symlink_to(root / "conf")
    params_main(["conf/tiny.yaml"])
    text = Path("params.yaml").read_text().replace("num_cot: 60", "num_cot: 61")
    Path("params.yaml").write_text(text)
    shown = help_on("assemble num_coa=5")
    assert "num_cot_a  (integer, 40 from conf/tiny.yaml, default 1500)" in shown
    assert "num_cot  (integer, 61 from params.yaml, default 1000)" in shown
    assert "num_coa  (integer, 5 from the command line, default 5000)" in shown
    assert "num_rl  (integer, 60 from conf/tiny.yaml, default 4608)" in shown
    assert "allows_fewer  (true or false, default false)" in shown
    assert "dvc exp run -S +SECTION.KEY=VALUE" in shown
    rollout = help_on("sample rollout")
    assert "max_context_tokens  (integer, 1024 from conf/microworld.yaml, default 8192)" in rollout


def test_the_short_help_fits_a_screen_and_the_long_one_names_every_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    everyday, every = overview(), overview(shows_all=True)
    assert len(everyday.splitlines()) < 50
    for command in COMMANDS:
        assert f"\n  {command.name} " in every
        assert (f"\n  {command.name} " in everyday) == command.daily
    assert max(map(len, every.splitlines())) <= 80
    words = " ".join(every.split())
    assert all(command.about in words for command in COMMANDS)


@pytest.mark.parametrize(
    ("typed", "works"),
    [
        ("view --port 8099", "coa view port=8099"),
        ("view --port=8099 coa", "coa view port=8099 coa"),
        ("train sft2 --dry-run", "coa train sft2 dry_run=true"),
        ("sample --num-question 3", "coa sample num_questions=3"),
        ("sample --teacher.policy chat", "coa sample teacher.policy=chat"),
        ("review push --num-items 20", "coa review push num_items=20"),
        ("publish --no-private", "coa publish private=false"),
        ("grade --no-keeps", "`coa grade --help` lists the settings"),
        ("view -p 8099", "`coa view --help` lists the settings"),
    ],
)
def test_a_flag_is_refused_with_the_spelling_that_works(typed: str, works: str) -> None:
    command, arguments = read_command(typed.split())
    with pytest.raises(ConfigError, match="there is no flag -") as found:
        refuse_flags(command, arguments)
    assert found.value.details["what to do"] == works


def test_a_module_refuses_a_flag_as_its_command_does(root: Path) -> None:
    line = [sys.executable, "-m", "train.run", "stage=sft2", "--dry-run"]
    done = subprocess.run(line, cwd=root, capture_output=True, text=True)
    assert done.returncode == 1
    assert "what to do: coa train stage=sft2 dry_run=true" in done.stderr


def test_the_version_is_that_of_the_package(root: Path) -> None:
    assert coa(root, "--version").stdout == f"coa {version('coa-toolkit')}\n"


def test_the_help_of_a_command_lists_every_setting_with_type_default_and_meaning() -> None:
    text = help_on("view")
    for name in ViewParams.__dataclass_fields__:
        assert f"\n  {name}  (" in text
    assert "port  (integer, default 8050)\n      The port that it listens on" in text
    assert "One of cot, coa." in help_on("sample")
    assert "learning_rate" in help_on("train sft2")


def test_a_misspelt_command_section_or_key_is_met_with_the_right_one(root: Path) -> None:
    for typed, meant in (
        ("smaple", "sample"),
        ("review psuh", "review push"),
        ("reveiw push", "review push"),
        ("review-push", "review push"),
        ("index", "search index"),
        ("serve", "search serve or review serve"),
    ):
        with pytest.raises(ConfigError, match=f"did you mean {meant}\\?"):
            read_command(typed.split())
    with pytest.raises(ConfigError, match="did you mean teacher"):
        help_on("sample techer")
    with pytest.raises(ConfigError, match=r"did you mean sft[123]"):
        help_on("train sft9")
    with pytest.raises(ConfigError, match="did you mean num_questions") as found:
        Params.load("sample", ["num_question=3"])
    assert found.value.details["where"] == "the command line"


def test_a_command_runs_as_its_module_does(root: Path) -> None:
    done = coa(root, "train", "sft9")
    assert done.returncode == 1
    assert "expected: one of pretrain, rft, rl1, rl2, sft1, sft2, sft3" in done.stderr
    assert "Traceback" not in done.stderr
    assert coa(root).stdout == coa(root, "--help").stdout == overview() + "\n"


def test_a_reader_who_has_seen_enough_of_the_help_gets_no_traceback(root: Path) -> None:
    command = f"{sys.executable} -m coa --help | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True)
    assert done.stdout.startswith("Usage: coa")
    assert done.stderr == ""
