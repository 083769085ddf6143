"""Stages in shards: the bytes of one process, and refusals of shards that do not fit together."""

import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from coa.costs import read_stages, render
from coa.errors import CapError, CoaError, ConfigError, InputError
from coa.rollout.factory import PolicyKind, TeacherParams
from coa.rollout.runtime import share_caps
from coa.settings.params import Params
from coa.shards.files import SHARDS, Shard, shards_in, split
from coa.shards.stage import ShardRun, open_stage, take_shard
from coa.spending.prices import CostParams
from coa.store.journal import Journal, JournalReader
from coa.store.journal_file import JOURNALS
from curate.branch import main as branch
from evaluation.evaluate import main as evaluate
from synth.sample import main as sample
from tests.shard_support import (
    CONCURRENCY,
    ROOT,
    Main,
    clear,
    copy_run,
    finish,
    kill,
    made,
    num_done,
    paid_teacher,
    process_of,
    run_shards,
    start,
    wait_until,
)

SAMPLE = (sys.executable, "-m", "synth.sample", "mode=coa")
MERGE = (sys.executable, "-m", "coa.merge", "stage=sample", "mode=coa")
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
        ],
    ),
}


@pytest.fixture
def run(small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the small run as the current folder, without journals."""
    monkeypatch.chdir(copy_run(small_run, tmp_path / "run"))
    return Path()


OTHER_SHAPES = ("sample, cot", "branch, both arms")
"""Shapes of stages that are there in another shape, too."""


@pytest.mark.parametrize(
    "stage",
    [
        pytest.param(name, marks=pytest.mark.long) if name in OTHER_SHAPES else name
        for name in STAGES
    ],
)
def test_shards_give_the_bytes_of_one_process(stage: str, run: Path) -> None:
    main, arguments = STAGES[stage]
    main(arguments)
    expected = made()
    clear()
    summary = run_shards(main, arguments, 2 if "both" in stage else 3)
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
        work = ShardRun(Shard(number, 3), "sample", params)
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
    assert "shard 2 of 2 is not of this run" in str(raised.value)
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


def test_one_process_goes_on_from_shards_that_were_given_up(run: Path) -> None:
    sample(["mode=coa"])
    expected = made()
    clear()
    sample(["mode=coa", "shard=1/2"])
    with JournalReader(SHARDS / "sample-coa/1-of-2/journal.sqlite") as journal:
        num_calls = len(list(journal.calls()))
    taken = re.search(r"([\d,]+) taken from the journal", sample(["mode=coa"]))
    assert taken is not None
    assert int(taken[1].replace(",", "")) >= num_calls
    assert made() == expected
    with JournalReader(".journal/sample-coa.sqlite") as journal:
        assert journal.runs().made >= num_calls


def test_other_shards_take_what_earlier_runs_paid(run: Path) -> None:
    for number in (1, 2):
        sample(["mode=coa", f"shard={number}/2"])
    for number in (1, 2, 3):
        assert ": 0 calls made" in sample(["mode=coa", f"shard={number}/3"]).replace("; ", ": ")
    settings = Path("params.yaml").read_text()
    Path("params.yaml").write_text(f"{settings}shards: {{num_shards: 3}}\n")
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


@pytest.mark.parametrize("cap", [4, 41, 43, 1000])
def test_limits_are_divided_without_a_rest_and_none_stays_none(cap: int, run: Path) -> None:
    params = Params.load("sample")
    limits = CostParams(max_tokens=cap, max_dollars=2.0)
    parts: list[int] = []
    for shard in split(4):
        work = ShardRun(shard, "sample", params, journal_name="sample-coa")
        with work.open_journal() as journal:
            shared = share_caps(limits, journal, work)
        assert (shared.max_calls, shared.max_dollars) == (0, 0.5)
        parts.append(shared.max_tokens)
    assert sum(parts) == cap and max(parts) - min(parts) <= 1


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
    work = open_stage("synth.sample", ["mode=coa", "shards.num_shards=2", "shards.launcher=ray"])
    work.launch("sample-coa", TeacherParams(policy=PolicyKind.LOCAL))
    assert work.shard == Shard()
    assert not SHARDS.exists()


def test_shards_without_a_launcher_are_an_error_that_says_how_to_start_them(run: Path) -> None:
    with pytest.raises(ConfigError, match="4 shards and nobody starts them") as raised:
        sample(["mode=coa", "shards.num_shards=4"])
    assert "coa sample ... shard=1/4" in str(raised.value)


def copy_shard(name: str, to: str) -> None:
    """Put a shard's folder in the place of another one's."""
    folder = SHARDS / "sample-coa"
    shutil.rmtree(folder / to)
    shutil.copytree(folder / name, folder / to)


def remove(name: str) -> None:
    (SHARDS / "sample-coa" / name).unlink()


def put(name: str, other: str) -> None:
    shutil.copy(SHARDS / "sample-coa" / other, SHARDS / "sample-coa" / name)


def write(name: str, content: bytes) -> None:
    (SHARDS / "sample-coa" / name).write_bytes(content)


def change_count(name: str) -> None:
    path = SHARDS / "sample-coa" / name
    path.write_text(re.sub(r'"num_items":\d+', '"num_items":7', path.read_text()))


def make_folder(name: str) -> None:
    path = SHARDS / "sample-coa" / name
    path.unlink(missing_ok=True)
    path.mkdir()


DAMAGES: dict[str, tuple[Callable[[], None], str]] = {
    "a shard under another's name": (
        lambda: copy_shard("1-of-2", "2-of-2"),
        "the folder holds shard 1 of 2 of sample",
    ),
    "a journal that is gone": (lambda: remove("1-of-2/journal.sqlite"), "is missing"),
    "a table of another shard": (
        lambda: put("1-of-2/coa.parquet", "2-of-2/coa.parquet"),
        "is not the one that the shard left",
    ),
    "a stray folder": (lambda: make_folder("copy-of-1"), "copy-of-1 is no folder of a shard"),
    "a shard beyond the last": (lambda: make_folder("3-of-2"), "3-of-2 is no folder of a shard"),
    "finished.json is a folder": (
        lambda: make_folder("2-of-2/finished.json"),
        "finished.json cannot be read",
    ),
    "finished.json tells other counts": (
        lambda: change_count("2-of-2/finished.json"),
        "finished.json is not as the shard wrote it",
    ),
    "finished.json does not end": (
        lambda: write("2-of-2/finished.json", b'{"counts": ' + b"[" * 200_000),
        "finished.json cannot be read",
    ),
}


@pytest.fixture(scope="module")
def sampled_in_two_shards(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the small run after both shards of two, which are not merged."""
    folder = copy_run(small_run, tmp_path_factory.mktemp("sampled") / "run")
    with pytest.MonkeyPatch.context() as context:
        context.chdir(folder)
        for number in (1, 2):
            sample(["mode=coa", f"shard={number}/2"])
    return folder


@pytest.mark.parametrize("damage", DAMAGES)
def test_the_merge_refuses_what_is_not_as_the_shards_left_it(
    damage: str, sampled_in_two_shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shutil.copytree(sampled_in_two_shards, tmp_path / "run"))
    do_damage, expected = DAMAGES[damage]
    do_damage()
    before = made()
    with pytest.raises(CoaError, match=re.escape(expected)):
        sample(["mode=coa", "shard=merged"])
    assert made() == before


def test_the_merge_wants_the_journal_that_answered_a_shard(run: Path) -> None:
    sample(["mode=coa"])
    for number in (1, 2):
        assert "0 calls made" in sample(["mode=coa", f"shard={number}/2"])
    Path(".journal/sample-coa.sqlite").unlink()
    with pytest.raises(InputError, match=r"\.journal/sample-coa\.sqlite"):
        sample(["mode=coa", "shard=merged"])


@pytest.mark.long
def test_a_job_of_an_array_that_is_killed_goes_on_when_it_is_submitted_again(
    run: Path, tmp_path: Path
) -> None:
    requeued = tmp_path / "requeued"
    (tmp_path / "scontrol").write_text(f'#!/bin/sh\necho "$@" >> {requeued}\n')
    (tmp_path / "scontrol").chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"

    with paid_teacher(run) as (teacher, at_server):
        finish(start(run, *SAMPLE, *at_server))
        expected = made(run)
        clear(run)
        teacher.answered.clear()

        def submit(number: int):  # type: ignore[no-untyped-def]
            script = (str(ROOT / "examples/slurm_array.sh"), "mode=coa", *at_server)
            return start(
                run,
                *script,
                PATH=path,
                SLURM_ARRAY_JOB_ID="7",
                SLURM_ARRAY_TASK_ID=str(number),
                SLURM_ARRAY_TASK_COUNT="4",
            )

        jobs = [submit(number) for number in (1, 2, 3, 4)]
        victim = process_of(run, "sample-coa", Shard(3, 4))
        wait_until(lambda: num_done(run, "sample-coa", Shard(3, 4)) > 0)
        kill(victim)
        output, _ = jobs[2].communicate(timeout=200)
        assert jobs[2].returncode == 137, output
        assert requeued.read_text() == "requeue 7_3\n"
        for job in (jobs[0], jobs[1], jobs[3]):
            finish(job)
        merge = start(run, *MERGE, *at_server)
        output, _ = merge.communicate(timeout=200)
        assert merge.returncode == 1 and "shard 3 (not over)" in output
        finish(submit(3))
        assert "0 calls made" in finish(start(run, *MERGE, *at_server))
        assert made(run) == expected
        assert teacher.num_repeated <= CONCURRENCY
        clear(run)


def test_a_journal_names_the_machine_that_has_it_open(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with Journal(path):
        Path(f"{path}.pid").write_text("17 node5")
        with (
            pytest.raises(OSError, match="open in process 17 on node5"),
            Journal(path, wait_seconds=0.1),
        ):
            pass


def test_a_cap_of_less_than_one_call_for_each_shard_is_refused(run: Path) -> None:
    with pytest.raises(ConfigError, match=r"costs\.max_calls cannot be divided among 4 shards"):
        sample(["mode=coa", "shard=3/4", "costs.max_calls=2"])


def test_a_folder_that_names_too_many_shards_is_no_shard(tmp_path: Path) -> None:
    for name in ("1-of-99999999999999999999", "1-of-10000000"):
        (tmp_path / name).mkdir()
    (tmp_path / "1-of-2").mkdir()
    assert [(shard.number, shard.count) for shard in shards_in(tmp_path)] == [(1, 2)]
