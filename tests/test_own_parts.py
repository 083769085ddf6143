"""Parts that a user wrote are named in a profile as `module:name`, and loaded when used."""

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from coa.errors import ConfigError
from coa.microworld.factory import MicroworldParams
from coa.policy.prompts import Prompt
from coa.records.question import Question
from coa.records.trajectory import Mode, Outcome, Trajectory
from coa.rollout.drivers import roll_out
from coa.rollout.factory import PolicyKind, TeacherParams, open_policy
from coa.rollout.loop import Limits, RolloutContext
from coa.rollout.tasks import make_task
from coa.rollout.toolbox import open_library, own_tools
from coa.search.settings import EngineKind, SearchParams
from coa.settings.own_parts import load_part
from coa.settings.params import Params, write_profile
from coa.student.settings import TrainParams
from coa.tools import library_fingerprint
from coa.tools.settings import ToolsParams
from tests.docs_support import ROOT, read_blocks
from tests.sample_records import make_graded
from train.rewards import check_weights, reward_functions

PAGE = ROOT / "docs/pipeline.md"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the module of the page."""
    (block,) = [block for block in read_blocks(PAGE) if block.mark == "run: own parts"]
    (tmp_path / "my_parts.py").write_text(block.text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "my_parts", raising=False)
    return tmp_path


@pytest.fixture
def params(folder: Path) -> Params:
    """The settings of the profile that the page shows."""
    after_module = PAGE.read_text(encoding="utf-8").partition("as `module:name`")[2]
    profile = folder / "mine.yaml"
    profile.write_text(after_module.partition("```yaml\n")[2].partition("```")[0])
    write_profile(profile, folder / "params.yaml", ROOT / "conf/microworld.yaml")
    return Params.load("sample", path=folder / "params.yaml")


def test_the_parts_of_the_page_are_loaded_and_used(params: Params) -> None:
    teacher = params.section(TeacherParams, "teacher")
    search = params.section(SearchParams, "search")
    offered = params.section(ToolsParams, "tools")
    policy = open_policy(teacher, MicroworldParams())

    async def run() -> tuple[list[str], str, Trajectory]:
        async with AsyncExitStack() as stack:
            tools = await open_library(search, offered, stack)
            found = await tools["search"].call("France")
            turned = await tools["reverse"].call("abc")
            assert turned.outcome is Outcome.OK
            context = RolloutContext(policy, teacher.sampling, Limits(), library_fingerprint(tools))
            prompt = Prompt("{question}", "{prompt}")
            task = make_task("q", "Where?", Mode.COA, 0, prompt, tuple(tools))
            row = await roll_out(task, context, policy, tools)  # type: ignore[arg-type]
            return [found.text, turned.text], policy.name, row

    texts, name, row = asyncio.run(run())
    assert texts == ["result 1: Its capital is Paris.", "cba"]
    assert name == "always_paris"
    assert "Paris" in row.steps[-1].text
    assert own_tools(offered) == ["reverse"]


def test_a_reward_of_ones_own_is_paid_by_its_weight(params: Params) -> None:
    train = params.section(TrainParams, "train")
    weights = {"my_parts:is_short": train.rl2.rewards["my_parts:is_short"]}
    functions = reward_functions(weights, train.rubric)
    (reward,) = [function for function in functions if function.__name__ in weights]
    assert functions[reward] == 0.1
    row = make_graded(Question("q", "Where?", ("Paris",), "train"), ())
    assert reward([row], logged=[{}], log_metric=lambda *_: None) == [1.0]


def test_a_name_of_ones_own_is_kept_as_it_is_written() -> None:
    kind = PolicyKind("my_parts:policy")
    assert kind == "my_parts:policy"
    assert kind not in list(PolicyKind)
    with pytest.raises(ValueError, match="not a valid"):
        EngineKind("tantivi")


@pytest.mark.parametrize(
    ("path", "what", "told"),
    [
        ("no_such_module:policy", "cannot import the policy", "PYTHONPATH"),
        ("my_parts:polcy", "there is no policy", "did you mean policy?"),
        ("my_parts:Reverse", "is no policy", "no encode"),
        (":policy", "cannot import the policy", "PYTHONPATH"),
    ],
)
def test_a_part_that_cannot_be_loaded_is_named_with_advice(
    folder: Path, path: str, what: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=what) as refused:
        load_part(path, "policy", ("name", "encode"))
    assert told in str(refused.value)
    assert path in str(refused.value)


def test_a_reward_that_is_not_there_is_found_before_training(folder: Path) -> None:
    with pytest.raises(ConfigError, match="there is no reward"):
        check_weights({"my_parts:is_long": 1.0}, where="train.rl2.rewards")
