"""Stages in shards: the bytes of one process, and refusals of shards that do not fit together."""

import re
from pathlib import Path

import pytest

from coa.costs import read_stages, render
from coa.errors import CapError, ConfigError, InputError
from coa.factory import PolicyKind, TeacherParams
from coa.journal import Journal, JournalReader
from coa.journal_file import JOURNALS
from coa.launching import launch_shards
from coa.merge import main as merge
from coa.params import Params
from coa.prices import CostParams
from coa.runtime import share_caps
from coa.shard_files import SHARDS, Shard
from coa.shards import ShardRun, take_shard
from curate.branch import main as branch
from evaluation.evaluate import main as evaluate
from synth.sample import main as sample
from tests.shard_support import Main, clear, copy_run, made, run_shards

STAGES: dict[str, tuple[Main, list[str]]] = {
    "sample, coa": (sample, ["mode=coa"]),
    "sample, cot": (sample, ["mode=cot"]),
    "branch": (branch, []),
    "branch, both arms": (branch, ["arms=both", "num_continuations=4", "out=data/branch/both"]),
    "evaluate": (
        evaluate,
        [
            "name=taught",
            "evaluate.policy.policy=microworld",
            "evaluate.prompts.coa=synth/prompts/coa.txt",
            "num_questions=0",
            "num_resamples=20",
        ],
    ),
}


@pytest.fixture
def run(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small run as the current folder, without journals."""
    monkeypatch.chdir(copy_run(small_run, tmp_path / "run"))
    return Path()


@pytest.mark.parametrize("stage", STAGES)
def test_shards_give_the_bytes_of_one_process(stage: str, run: Path) -> None:
    main, arguments = STAGES[stage]
    main(arguments)
    expected = made()
    for count in (2,) if "both" in stage else (2, 4):
        clear()
        summary = run_shards(main, arguments, count)
        assert made() == expected
        assert "0 calls made" in summary or main is evaluate
        assert not list(SHARDS.rglob("*.sqlite"))


def test_the_merge_makes_no_call_and_keeps_every_call_of_the_shards(run: Path) -> None:
    for number in (1, 2):
        sample(["mode=coa", f"shard={number}/2"])
    keys: set[bytes] = set()
    for path in SHARDS.rglob("*.sqlite"):
        with JournalReader(path) as journal:
            keys |= {call.reply for call in journal.calls()}
    assert "0 calls made" in sample(["mode=coa", "shard=merged"])
    with JournalReader(".journal/sample-coa.sqlite") as journal:
        assert {call.reply for call in journal.calls()} == keys
        assert journal.runs().made > 0


def test_every_item_has_one_shard(run: Path) -> None:
    params = Params.load("sample")
    chosen: list[int] = []
    for number in (1, 2, 3):
        work = ShardRun(Shard(number, 3), "sample", "sample-coa", params)
        part = list(work.choose(range(10)))
        assert len(part) in (3, 4) and work.num_items == 10
        chosen += part
    assert sorted(chosen) == list(range(10))


@pytest.mark.parametrize("argument", ["shard=0/4", "shard=5/4", "shard=2", "shard=2/0", "shard="])
def test_a_shard_that_is_none_is_refused(argument: str) -> None:
    with pytest.raises(ConfigError, match="there is no such shard"):
        take_shard([argument])


def test_the_merge_names_the_shards_that_are_missing_and_those_that_are_not_over(run: Path) -> None:
    sample(["mode=coa", "shard=1/4"])
    (SHARDS / "sample-coa/3-of-4").mkdir()
    before = made()
    with pytest.raises(InputError) as raised:
        sample(["mode=coa", "shard=merged"])
    assert "3 of 4 shards cannot be merged yet" in str(raised.value)
    assert "shard 2 (not there), 3 (not over), 4 (not there)" in str(raised.value)
    assert made() == before


def test_the_merge_names_the_settings_in_which_a_shard_differs(run: Path) -> None:
    sample(["mode=coa", "shard=1/2"])
    sample(["mode=coa", "shard=2/2", "rollout.max_actions=1", "teacher.concurrency=3"])
    with pytest.raises(InputError) as raised:
        sample(["mode=coa", "shard=merged"])
    assert "shard 2 of 2 ran with other settings" in str(raised.value)
    assert "rollout.max_actions is 1 there and 10 here" in str(raised.value)
    assert "concurrency" not in str(raised.value)


def test_the_merge_refuses_shards_of_other_questions_and_other_prompts(run: Path) -> None:
    for number in (1, 2):
        sample(["mode=coa", f"shard={number}/2"])
    with pytest.raises(InputError, match=r"sample.num_questions is \d+ there and 40 here"):
        sample(["mode=coa", "num_questions=40", "shard=merged"])
    prompt = Path("synth/prompts/coa.txt")
    prompt.write_text(prompt.read_text() + "Think well.\n")
    with pytest.raises(InputError, match=re.escape("prompts.coa is 'synth/prompts/coa.txt (")):
        sample(["mode=coa", "shard=merged"])


def test_a_merge_without_shards_says_so(run: Path) -> None:
    with pytest.raises(InputError, match="there are no shards"):
        sample(["mode=coa", "shard=merged"])
    for count in (2, 3):
        sample(["mode=coa", f"shard=1/{count}"])
    with pytest.raises(InputError, match="not clear which shards"):
        sample(["mode=coa", "shard=merged"])


def test_the_merge_command_wants_a_stage_that_has_shards() -> None:
    with pytest.raises(ConfigError, match="name the stage"):
        merge(["mode=coa"])
    with pytest.raises(ConfigError, match="stage with shards"):
        merge(["stage=assemble"])


def test_one_process_goes_on_from_shards_that_were_given_up(run: Path) -> None:
    sample(["mode=coa"])
    expected = made()
    clear()
    sample(["mode=coa", "shard=1/2"])
    with JournalReader(SHARDS / "sample-coa/1-of-2/journal.sqlite") as journal:
        num_calls = len(list(journal.calls()))
    assert f", {num_calls:,} taken" not in sample(["mode=coa"])
    assert made() == expected
    with JournalReader(".journal/sample-coa.sqlite") as journal:
        assert journal.runs().made >= num_calls


def test_other_shards_take_what_earlier_runs_paid(run: Path) -> None:
    for number in (1, 2):
        sample(["mode=coa", f"shard={number}/2"])
    for number in (1, 2, 3):
        assert ": 0 calls made" in sample(["mode=coa", f"shard={number}/3"]).replace("; ", ": ")
    Path("params.yaml").write_text(
        Path("params.yaml").read_text().replace("num_shards: 1", "num_shards: 3")
    )
    assert "0 calls made" in sample(["mode=coa", "shard=merged"])


def test_a_cap_holds_over_all_shards(run: Path) -> None:
    cap = 41
    for number in (1, 2, 3, 4):
        with pytest.raises(CapError, match=r"costs\.max_calls"):
            sample(["mode=coa", f"shard={number}/4", f"costs.max_calls={cap}"])
    num_calls = 0
    for path in SHARDS.rglob("*.sqlite"):
        with JournalReader(path) as journal:
            num_calls += sum(call.kind == "policy" for call in journal.calls())
    assert cap - 4 < num_calls <= cap


def test_limits_are_divided_and_none_stays_none(run: Path) -> None:
    params = Params.load("sample")
    work = ShardRun(Shard(1, 4), "sample", "sample-coa", params)
    with work.open_journal() as journal:
        shared = share_caps(CostParams(max_tokens=1000, max_dollars=2.0), journal, work)
    assert (shared.max_calls, shared.max_tokens, shared.max_dollars) == (0, 250, 0.5)


def test_a_limit_smaller_than_the_number_of_shards_is_not_made_larger(run: Path) -> None:
    params = Params.load("sample")
    allowed = []
    for number in (1, 2, 3, 4):
        work = ShardRun(Shard(number, 4), "sample", "sample-coa", params)
        with work.open_journal() as journal:
            try:
                allowed.append(share_caps(CostParams(max_calls=2), journal, work).max_calls)
            except CapError as error:
                assert f"shard {number} of 4" in str(error)
    assert allowed == [1, 1]


def test_costs_count_the_shards_of_a_stage_together(run: Path) -> None:
    sample(["mode=coa"])
    (expected,) = read_stages(JOURNALS, CostParams())
    clear()
    for number in (1, 2):
        sample(["mode=coa", f"shard={number}/2"])
    (found,) = read_stages(JOURNALS, CostParams())
    assert found.name == "sample-coa"
    assert found.spending.total.tokens == expected.spending.total.tokens
    with Journal(SHARDS / "sample-coa/2-of-2/journal.sqlite", is_alone=True):
        (running,) = read_stages(JOURNALS, CostParams())
        assert running.num_running == 1
        assert 0 < running.spending.total.calls < found.spending.total.calls
        assert "1 shards of sample-coa run now" in render([running])
    sample(["mode=coa", "shard=merged"])
    (merged,) = read_stages(JOURNALS, CostParams())
    assert merged.spending.total.calls == expected.spending.total.calls
    assert merged.runs.made == found.runs.made


def test_a_launcher_leaves_a_model_in_this_process_to_one_process(run: Path) -> None:
    params = Params.load("sample", ["shards.num_shards=2", "shards.launcher=processes"])
    work = ShardRun(Shard(), "sample", "sample-coa", params)
    local = TeacherParams(policy=PolicyKind.LOCAL)
    assert launch_shards(work, "synth.sample", ["mode=coa"], local) is work
    assert not SHARDS.exists()
