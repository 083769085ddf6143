"""Publish through the real clients to the local Hub: once, again, changed, broken off, refused.

What was published is loaded back.
"""

import json
import re
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_cards.catalogue import SetName, local_path
from tests.export_support import save_chat_model
from tests.publish_support import (
    ROOT,
    Hub,
    ask,
    change_a_row,
    commit,
    environment_of,
    history,
    publish,
    rows_come_back_equal,
    swap,
    uploads,
)

pytest.importorskip("datasets")
pytest.importorskip("linkify_it")
pytestmark = pytest.mark.slow
WAIVED = "allow=scripted_teacher"
PIPELINE = """
stages:
  render:
    cmd: python -m data_cards.render
    deps: [data/assemble, data/questions.parquet]
    outs: [data/render]
"""


@pytest.fixture(scope="module")
def only_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    made = Hub(tmp_path_factory.mktemp("hub"))
    yield made
    made.close()


@pytest.fixture
def hub(only_hub: Hub) -> Hub:
    """The Hub, with a network that is whole."""
    only_hub.network.breaks = lambda request: False
    only_hub.network.requests.clear()
    return only_hub


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    """A repository of the test's own."""
    plain = re.sub(r"\W+", "_", request.node.name)
    return f"me/{plain.removeprefix('test_')[-50:].strip('_')}"


@pytest.fixture(scope="module")
def committed(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run in a git repository whose lock is up to date."""
    folder = tmp_path_factory.mktemp("committed") / "project"
    shutil.copytree(small_run, folder)
    (folder / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    (folder / ".gitignore").write_text(".journal\n", encoding="utf-8")
    environment = environment_of()
    remote = [
        "dvc",
        "remote",
        "add",
        "--quiet",
        "--default",
        "sets",
        "https://me:secret@host/coa sets",
    ]
    for command in (
        ["git", "init", "--quiet"],
        ["dvc", "init", "--quiet"],
        remote,
        ["dvc", "repro", "--quiet"],
    ):
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    commit(folder, environment)
    return folder


@pytest.fixture
def project(committed: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(committed, folder)
    return folder


def test_a_version_is_published_once_changed_once_and_loads_row_by_row(
    project: Path, hub: Hub, name: str
) -> None:
    first = publish(project, hub, name, WAIVED)
    assert first.returncode == 0, first.stderr
    assert "v1" in first.stdout
    assert history(hub, name) == ["v1: 50 rows", "initial commit"]
    assert ask(hub, f"api.repo_info({name!r}, repo_type='dataset').private") is True
    assert ask(hub, f"api.repo_exists({name!r}, repo_type='dataset', token=False)") is False
    sent = uploads(hub)

    again = publish(project, hub, name, WAIVED)
    assert "nothing has changed" in again.stdout
    assert history(hub, name) == ["v1: 50 rows", "initial commit"]

    changed = change_a_row(project)
    plan = publish(project, hub, name, WAIVED, "dry_run=true")
    assert "~ data/coa/train.parquet" in plan.stdout
    assert "data/cot/" not in plan.stdout
    assert "nothing was sent" in plan.stdout
    assert publish(project, hub, name, WAIVED).returncode == 0
    assert history(hub, name) == ["v2: 50 rows", "v1: 50 rows", "initial commit"]
    assert uploads(hub) == sent + 1
    assert (
        "the version v1 is there already, with other files"
        in publish(project, hub, name, WAIVED, "tag=v1").stderr
    )
    row = "datasets.load_dataset({!r}, 'coa', split='train', revision={!r})['trajectory'][0]"
    before, after = (ask(hub, row.format(name, tag)) for tag in ("v1", "v2"))
    assert (before["error"], after["error"], after["trajectory_id"]) == ("", "changed", changed)
    rows_come_back_equal(project, hub, name)
    records = [
        json.loads(line) for line in (project / "publications.jsonl").read_text().splitlines()
    ]
    assert [line["tag"] for line in records] == ["v1", "v2"]
    assert {line["dvc_remote"] for line in records} == {"https://host/coa sets"}
    assert all(len(line[key]) == 40 for line in records for key in ("hub_revision", "code_commit"))


def test_the_card_says_what_was_waived_and_its_metadata_are_valid(
    project: Path, hub: Hub, name: str
) -> None:
    assert publish(project, hub, name, WAIVED, "private=false").returncode == 0
    assert ask(hub, f"api.repo_exists({name!r}, repo_type='dataset', token=False)") is True
    card = f"huggingface_hub.DatasetCard.load({name!r})"
    text, data, _ = ask(hub, f"(lambda it: [it.text, it.data.to_dict(), it.validate()])({card})")
    assert "Published although these apply, waived by name: `scripted_teacher`." in text
    assert f'load_dataset("{name}", "coa", split="train")' in text
    assert [config["config_name"] for config in data["configs"]] == ["cot_a", "coa", "cot", "rl"]
    read = f"open(api.hf_hub_download({name!r}, {{!r}}, repo_type='dataset')).read()"
    record = json.loads(ask(hub, read.format("lineage.json")))
    assert record["waived"] == ["scripted_teacher"]
    assert record["outs_md5"]["render"]["data/render"].endswith(".dir")
    header, *messages = map(json.loads, ask(hub, read.format("traces/coa/0000.jsonl")).splitlines())
    assert header["type"] == "session"
    assert [it["message"]["role"] for it in messages][:1] == ["user"]
    assert messages[-1]["message"]["content"].startswith("\\boxed{")


@pytest.mark.long
@pytest.mark.parametrize("step", ["/commit/", "/tag/"])
def test_an_upload_that_breaks_off_is_taken_up_by_the_next_run(
    project: Path, hub: Hub, name: str, step: str
) -> None:
    hub.forget_contents()
    hub.network.breaks = lambda request: step in request
    broken = publish(project, hub, name, WAIVED)
    assert broken.returncode == 1
    assert "run the same command again" in broken.stderr
    is_committed = "is there with all files, without a tag" in broken.stderr
    assert is_committed is (step == "/tag/")
    assert not (is_committed and "nothing on the Hub has changed" in broken.stderr)
    assert len(history(hub, name)) == 1 + is_committed
    assert not (project / "publications.jsonl").exists()
    hub.network.breaks = lambda request: False
    sent = uploads(hub)
    assert publish(project, hub, name, WAIVED).returncode == 0
    assert uploads(hub) == sent > 0
    assert history(hub, name) == ["v1: 50 rows", "initial commit"]
    tags = ask(hub, f"[t.name for t in api.list_repo_refs({name!r}, repo_type='dataset').tags]")
    assert tags == ["v1"]


@pytest.mark.long
def test_a_wrong_token_a_name_of_others_and_a_taken_name_are_refused_clearly(
    project: Path, hub: Hub, name: str
) -> None:
    wrong = publish(project, hub, name, WAIVED, token="hf_somebody_elses_secret")
    assert (wrong.returncode, "the Hub refuses the token" in wrong.stderr) == (1, True)
    assert "somebody_elses" not in wrong.stderr
    others = publish(project, hub, "them/coa", WAIVED)
    assert "no right to write to them/coa" in others.stderr
    ask(hub, "str(api.create_repo('me/taken', repo_type='dataset'))")
    ask(
        hub,
        (
            "str(api.upload_file(path_or_fileobj=b'x', path_in_repo='x.csv', "
            "repo_id='me/taken', repo_type='dataset'))"
        ),
    )
    taken = publish(project, hub, "me/taken", WAIVED)
    assert "the name is taken" in taken.stderr
    assert not any(it.startswith("PUT") and "lineage" in it for it in hub.network.requests)


@pytest.mark.long
def test_a_dry_run_says_whether_the_token_may_write_under_the_name(
    project: Path, hub: Hub, name: str
) -> None:
    others = publish(project, hub, "them/coa", WAIVED, "dry_run=true").stdout
    assert "would be refused: no right to write to them/coa: the token is for me/..." in others
    own = publish(project, hub, name, WAIVED, "dry_run=true").stdout
    assert f"{name}: a new private repository" in own
    assert "would be refused" not in own
    nobodys = publish(project, hub, name, WAIVED, "dry_run=true", token="").stdout
    assert "was not looked up, for there is no token" in nobodys
    assert "a new private" not in nobodys


def test_a_dry_run_without_the_hub_names_the_reasons_against(project: Path, hub: Hub) -> None:
    code = (
        "from unittest.mock import patch; from coa.cli import run\n"
        "from data_cards.publish import main\n"
        "with patch('huggingface_hub.constants.ENDPOINT', 'http://127.0.0.1:9'):\n"
        "    run(main, arguments)"
    )
    shown = hub.run(code, "repository=me/coa", "dry_run=true", folder=project)
    assert "would be refused: scripted_teacher" in shown.stdout
    assert "not compared, for the Hub cannot be reached" in shown.stdout


def test_the_gate_refuses_before_anything_is_sent(project: Path, hub: Hub, name: str) -> None:
    (project / "data/render/README.md").write_text("edited by hand", encoding="utf-8")
    (project / "coa").mkdir()
    (project / "coa/new.py").write_text("", encoding="utf-8")
    refused = publish(project, hub, name)
    assert refused.returncode == 1
    for reason in (
        "scripted_teacher",
        "uncommitted_code: coa/new.py",
        "stale_lock: render",
        "card_out_of_date: README.md",
    ):
        assert reason in refused.stderr
    assert hub.network.requests == []


def test_files_that_are_swapped_after_the_check_are_not_published(
    project: Path, hub: Hub, name: str
) -> None:
    path = project / local_path(SetName.COA, "train")
    checked = path.read_bytes()

    def swap_at_the_first_request(request: str) -> bool:
        if path.read_bytes() == checked:
            swap(path)
        return False

    hub.network.breaks = swap_at_the_first_request
    assert publish(project, hub, name, WAIVED).returncode == 0
    assert path.read_bytes() != checked
    row = f"datasets.load_dataset({name!r}, 'coa', split='train')['trajectory'][0]['error']"
    assert ask(hub, row) == ""
    assert list((project / ".cache").iterdir()) == []


@pytest.mark.long
def test_a_copy_that_is_swapped_while_it_is_sent_gets_no_tag(
    project: Path, hub: Hub, name: str
) -> None:
    touched: list[Path] = []

    def swap_the_copy(request: str) -> bool:
        if "/preupload/" in request and not touched:
            touched.extend(project.glob(".cache/.publication.*/published/coa/train.parquet"))
            for path in touched:
                swap(path)
        return False

    hub.network.breaks = swap_the_copy
    refused = publish(project, hub, name, WAIVED)
    assert len(touched) == 1
    assert refused.returncode == 1
    assert "the Hub has other files than those that were checked" in refused.stderr
    tags = f"[t.name for t in api.list_repo_refs({name!r}, repo_type='dataset').tags]"
    assert ask(hub, tags) == []
    assert not (project / "publications.jsonl").exists()
    hub.network.breaks = lambda request: False
    assert publish(project, hub, name, WAIVED).returncode == 0
    assert ask(hub, tags) == ["v1"]


@pytest.mark.long
def test_a_commit_with_other_bytes_than_those_that_were_checked_is_told(
    project: Path, hub: Hub, name: str
) -> None:
    assert publish(project, hub, name, WAIVED).returncode == 0
    program = f"""
        from data_cards.publish import check_arrived
        from data_cards.publishing.hub import HubRepository
        from data_cards.publishing.checked_copy import hashes_of
        remote = HubRepository({name!r})
        other = {{"data/coa/train.parquet": hashes_of(b"other bytes")}}
        check_arrived(remote, other, remote.look().head)
    """
    done = hub.run(textwrap.dedent(program))
    assert "the Hub has other files than those that were checked" in done.stderr
    assert "data/coa/train.parquet" in done.stderr


def test_without_a_name_nothing_is_published(project: Path, hub: Hub) -> None:
    refused = publish(project, hub, "")
    assert "publish.repository" in refused.stderr
    assert hub.network.requests == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny chat model with its tokenizer."""
    folder = tmp_path_factory.mktemp("model")
    save_chat_model(folder, "qwen2_5")
    return folder


@pytest.mark.long
def test_the_examples_train_one_step_on_what_is_published(
    project: Path, hub: Hub, name: str, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("trl")
    assert publish(project, hub, name, WAIVED).returncode == 0
    run = (
        "import runpy, sys; sys.argv = arguments; runpy.run_path(arguments[0], run_name='__main__')"
    )
    losses = []
    for example in ("sft_one_step", "preferences_one_step", "sft_chat_one_step"):
        done = hub.run(run, str(ROOT / f"examples/{example}.py"), name, str(model), folder=tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        losses += [
            float(line.split()[1]) for line in done.stdout.splitlines() if line.startswith("loss ")
        ]
    assert losses[0] > 0
    assert losses[1] == pytest.approx(0.6931)  # DPO begins at log 2
    assert losses[2] > 0
