"""Parts that a user wrote are named in a profile as `module:name`, and loaded when used."""

import asyncio
import shutil
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import polars as pl
import pytest

from coa.api import ask
from coa.code_hashes import describe_named
from coa.errors import ConfigError
from coa.microworld.factory import MicroworldParams
from coa.own_parts import load_function, load_part
from coa.policy.prompts import Prompt
from coa.records.drops import DropReason
from coa.records.graded import GradedTrajectory, RightBy, is_right
from coa.records.protocol import parse_policy
from coa.records.question import Question
from coa.records.trajectory import Mode, Outcome, StopReason, Trajectory
from coa.rollout.drivers import roll_out
from coa.rollout.factory import TeacherParams, open_policy
from coa.rollout.loop import Limits, RolloutContext
from coa.rollout.tasks import make_task
from coa.rollout.toolbox import open_library, open_tools, own_tools
from coa.search.corpus import corpus_files, read_passages
from coa.search.index import IndexParams
from coa.search.settings import SearchParams
from coa.settings.params import Params, write_profile
from coa.store.tables import write_table
from coa.student.settings import TrainParams
from coa.tools import library_fingerprint
from coa.tools.settings import ToolsParams
from curate.filter import FilterParams, judge
from curate.forks.choice import right_column
from synth.ingest import Ingested, Ingestion, IngestParams
from tests.docs_support import ROOT, read_blocks
from tests.sample_records import make_graded
from train.rewards import reward_functions

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
    functions = reward_functions(weights)
    (reward,) = [function for function in functions if function.__name__ in weights]
    assert functions[reward] == 0.1
    row = make_graded(Question("q", "Where?", ("Paris",), "train"), ())
    assert reward([row], logged=[{}], log_metric=lambda *_: None) == [1.0]


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


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The settings of the example's profile, in a folder with its module and files."""
    for name in ("own_parts.py", "own_parts.yaml"):
        shutil.copy2(ROOT / "examples" / name, tmp_path)
    (tmp_path / "notes.txt").write_text("France\nIts capital is Paris.\n\nItaly\nA country.\n")
    log = "asked,thought,said,gold\nWhich city?,I recall the capital.,Paris,Paris\n"
    (tmp_path / "log.csv").write_text(log)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "own_parts", raising=False)
    load_function.cache_clear()
    write_profile(Path("own_parts.yaml"), base=ROOT / "conf/microworld.yaml")
    return Params.load("filter")


def answered(text: str, thought: str = "So the answer must be this one.") -> GradedTrajectory:
    steps = parse_policy(f"{thought} </think> \\boxed{{{text}}}")
    return make_graded(Question("q", "Where?", ("New York",), "train"), steps)


def test_a_rule_of_ones_own_drops_rows_and_says_what_it_saw(example: Params) -> None:
    params = example.section(FilterParams)
    assert judge(answered("New York"), params) is None
    dropped = judge(answered("New York", "Yes."), params)
    assert dropped is not None
    assert dropped.reason is DropReason.OWN_RULE
    assert dropped.detail == "own_parts:is_hasty: 1 words of thought"


def test_a_grader_of_ones_own_decides_what_is_right_in_rows_and_in_tables(example: Params) -> None:
    by = example.section(FilterParams).right_by
    rows = [answered("newyork"), answered("Boston"), answered("")]
    assert [is_right(row, by) for row in rows] == [True, False, False]
    assert not is_right(rows[0])
    write_table(Path("grade.parquet"), GradedTrajectory, rows)
    told = pl.scan_parquet("grade.parquet").select(right_column(Path("grade.parquet"), by))
    assert told.collect().to_series().to_list() == [True, False, False]


def test_readers_of_ones_own_read_passages_and_trajectories(example: Params) -> None:
    index = example.section(IndexParams, "index")
    files = corpus_files(index.corpus, index.reader)
    passages = list(read_passages(files, index.columns, index.reader))
    assert [passage.title for passage in passages] == ["France", "Italy"]
    (entry,) = example.section(IngestParams, "ingest").files
    (read,) = Ingestion(1000).rows(entry)
    assert isinstance(read, Ingested)
    assert "I recall the capital." in "".join(step.text for step in read.trajectory.steps)
    assert read.recorded.gold_answers == ("Paris",)


def test_a_function_is_enough_for_a_tool_and_for_a_policy(example: Params) -> None:
    policy = open_policy(example.section(TeacherParams, "teacher"), MicroworldParams())
    assert policy.name.startswith("always_paris-")

    async def run() -> str:
        async with AsyncExitStack() as stack:
            (tool,) = await open_tools(example.section(ToolsParams, "tools"), stack)
            reply = await tool.call("Paris")
            return f"{tool.name}: {reply.text}"

    assert asyncio.run(run()) == "count_letters: 5"


def test_what_is_no_rule_grader_or_reader_is_named(example: Params) -> None:
    Path("wrong.py").write_text("def says(*_):\n    return [1]\n\nlimit = 3\n")
    params = FilterParams(rules=("wrong:says",))
    with pytest.raises(ConfigError, match="'wrong:says' returns no text"):
        judge(answered("New York"), params)
    with pytest.raises(ConfigError, match="'wrong:says' says neither true nor false"):
        is_right(answered("New York"), RightBy("wrong:says"))
    with pytest.raises(ConfigError, match="'wrong:says' yields what is no row"):
        list(read_passages((Path("notes.txt"),), own_reader="wrong:says"))
    with pytest.raises(ConfigError, match="'wrong:limit' is no filter rule"):
        judge(answered("New York"), FilterParams(rules=("wrong:limit",)))


def test_a_changed_module_of_ones_own_makes_its_stages_stale(
    example: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = example.values(["filter", "render"])
    (line,) = describe_named(["filter"], values).splitlines()
    assert line.endswith("  own_parts.py")
    assert describe_named(["render"], values) == ""
    changed = tmp_path / "changed"
    changed.mkdir()
    (changed / "own_parts.py").write_text("import more\n")
    (changed / "more.py").write_text("")
    monkeypatch.chdir(changed)
    lines = describe_named(["filter"], values).splitlines()
    assert [text.partition("  ")[2] for text in lines] == ["more.py", "own_parts.py"]
    assert line not in lines


def test_a_question_is_asked_with_functions_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def multiply(sum_: str) -> str:
        """Multiply two numbers, as in 3 * 4."""
        left, _, right = sum_.partition("*")
        return str(int(left) * int(right))

    def compute(context: str) -> str:
        if "</multiply_result>" in context:
            return " So 391.\n</think>\n\n\\boxed{391}"
        return "I compute it. <begin_multiply> 17 * 23 </end_multiply>"

    row = ask("What is 17 * 23?", policy=compute, tools=[multiply])
    assert row.stop_reason is StopReason.ANSWERED
    assert "<multiply_result> 391 </multiply_result>" in "".join(step.text for step in row.steps)
    assert "Multiply two numbers, as in 3 * 4." in row.prompt
    with pytest.raises(ConfigError, match=r"params\.yaml is missing"):
        ask("What is 17 * 23?", policy=compute)
    with pytest.raises(ConfigError, match="a tool has a name that tags cannot carry"):
        ask("What is 17 * 23?", policy=compute, tools=[lambda text: text])
