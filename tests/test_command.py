"""`coa COMMAND` starts a module by its name; its help is there at once and knows every setting."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from coa.__main__ import help_of, overview
from coa.errors import ConfigError
from coa.params import main as params_main
from coa.settings.commands import GROUPS, find_command
from coa.settings.help import sections_within
from coa.settings.params import Params
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
    root = found.section.partition(".")[0]
    assert not root or found.section in {it.name for it in sections_within(root)}


def test_every_module_with_a_command_line_is_a_command(root: Path) -> None:
    started = set()
    for package in ("coa", "synth", "curate", "annotate", "data_cards", "train"):
        for path in (root / package).rglob("*.py"):
            if "\n    run(main, sys.argv[1:])" in path.read_text(encoding="utf-8"):
                name = path.relative_to(root).with_suffix("").as_posix().replace("/", ".")
                started.add(name.removesuffix(".__main__"))
    assert started - {command.module for command in COMMANDS} == set()


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


def test_the_help_of_a_module_is_that_of_its_command(root: Path) -> None:
    for module, name in (("coa.view", "view"), ("coa.code_hashes", "code")):
        done = subprocess.run(
            [sys.executable, "-m", module, "--help"], cwd=root, capture_output=True, text=True
        )
        assert done.stdout == coa(root, name, "--help").stdout
        assert done.stdout.startswith(f"coa {name}: ")


def test_help_says_the_value_of_a_setting_and_who_chose_it(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conf").symlink_to(root / "conf")
    params_main(["conf/tiny.yaml"])
    text = Path("params.yaml").read_text().replace("num_cot: 60", "num_cot: 61")
    Path("params.yaml").write_text(text)
    shown = help_of(find_command("assemble"), ["num_coa=5"])
    assert "num_cot_a  (integer, 40 from conf/tiny.yaml, default 1500)" in shown
    assert "num_cot  (integer, 61 from params.yaml, default 1000)" in shown
    assert "num_coa  (integer, 5 from the command line, default 5000)" in shown
    assert "num_rl  (integer, 60 from conf/tiny.yaml, default 4608)" in shown
    assert "allows_fewer  (true or false, default false)" in shown
    assert "dvc exp run -S +SECTION.KEY=VALUE" in shown
    rollout = help_of(find_command("sample"), ["rollout"])
    assert "max_context_tokens  (integer, 1024 from conf/microworld.yaml, default 8192)" in rollout


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
