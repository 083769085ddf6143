"""`coa COMMAND` starts a module by its name; its help is there at once and knows every setting."""

import re
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

from coa.__main__ import help_of, overview
from coa.commands import GROUPS, find_command
from coa.errors import ConfigError
from coa.params import Params
from coa.settings_help import read_reference, settings_of
from coa.view.settings import ViewParams

COMMANDS = [command for group in GROUPS.values() for command in group]


def coa(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "coa", *arguments], cwd=root, capture_output=True, text=True
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_is_a_module_that_runs_and_a_section_that_exists(command: object) -> None:
    found = find_command(command.name)  # type: ignore[attr-defined]
    assert find_spec(found.module) is not None
    assert "\n" not in found.about
    reference = read_reference()
    assert not found.section or settings_of(reference, found.section)


def test_the_page_shows_what_a_misspelt_setting_is_met_with(root: Path) -> None:
    page = (root / "docs/command.md").read_text(encoding="utf-8")
    ((typed, printed),) = re.findall(r"```\n\$ coa (.*)\n(error: [^`]*)```", page)
    assert coa(root, *typed.split()).stderr == printed


def test_every_module_with_a_command_line_is_a_command(root: Path) -> None:
    started = set()
    for package in ("coa", "synth", "curate", "annotate", "data_cards", "train"):
        for path in (root / package).rglob("*.py"):
            if "\n    run(main, sys.argv[1:])" in path.read_text(encoding="utf-8"):
                name = path.relative_to(root).with_suffix("").as_posix().replace("/", ".")
                started.add(name.removesuffix(".__main__"))
    assert started - {command.module for command in COMMANDS} == set()


def test_help_is_there_within_a_second_and_loads_no_stage(root: Path) -> None:
    code = """
import atexit, sys
import coa.__main__ as it
heavy = ("synth", "polars", "torch", "omegaconf")
atexit.register(lambda: print([name for name in heavy if name in sys.modules]))
sys.argv = ["coa", "sample", "--help"]
it.main()
"""
    started = time.process_time()
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert time.process_time() - started < 1
    assert done.stdout.endswith("[]\n"), done.stdout + done.stderr


def test_a_reader_who_has_seen_enough_of_the_help_gets_no_traceback(root: Path) -> None:
    command = f"{sys.executable} -m coa --help | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=root, capture_output=True, text=True)
    assert done.stdout.startswith("Usage: coa")
    assert done.stderr == ""


def test_the_overview_names_every_command_within_100_columns() -> None:
    text = overview()
    for command in COMMANDS:
        assert f"\n  {command.name} " in text
    assert max(map(len, text.splitlines())) <= 100


def test_the_help_of_a_command_lists_every_setting_with_type_default_and_meaning() -> None:
    text = help_of(find_command("view"), [])
    for name in ViewParams.__dataclass_fields__:
        assert f"\n  {name}  (" in text
    assert "port  (integer, default 8050)\n      The port that it listens on" in text
    assert "One of cot, coa." in help_of(find_command("sample"), [])
    assert "learning_rate" in help_of(find_command("train"), ["sft2"])


def test_a_misspelt_command_section_or_key_is_met_with_the_right_one(root: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean sample"):
        find_command("smaple")
    with pytest.raises(ConfigError, match="did you mean teacher"):
        help_of(find_command("sample"), ["techer"])
    with pytest.raises(ConfigError, match="did you mean num_questions") as found:
        Params.load("sample", ["num_question=3"])
    assert found.value.details["where"] == "the command line"


def test_a_stage_is_named_without_its_key() -> None:
    assert find_command("train").given(["sft2", "name=x"]) == ["stage=sft2", "name=x"]
    assert find_command("train").given(["stage=sft2"]) == ["stage=sft2"]
    assert find_command("show").given(["q1/coa/0"]) == ["q1/coa/0"]


def test_a_command_runs_as_its_module_does(root: Path) -> None:
    done = coa(root, "train", "sft9")
    assert done.returncode == 1
    assert "expected: one of pretrain, rft, rl1, rl2, sft1, sft2, sft3" in done.stderr
    assert "Traceback" not in done.stderr
    assert coa(root).stdout == coa(root, "--help").stdout == overview() + "\n"
