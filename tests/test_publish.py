"""Publishing through the real clients to the local Hub: once, again, changed, broken off, refused; loaded back."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from coa import tables
from coa.graded import GradedTrajectory
from coa.pairs import PreferencePair
from coa.question import Question
from data_cards.catalogue import SetName, local_path
from data_cards.local_hub import LocalHubParams, create_app

pytest.importorskip("datasets")
pytest.importorskip("linkify_it")
pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
TOKEN = "hf_for_this_test_alone"
WAIVED = "allow=scripted_teacher"
PIPELINE = """
stages:
  render:
    cmd: python -m data_cards.render
    deps: [data/assemble, data/questions.parquet]
    outs: [data/render]
"""


def environment_of(**extra: str) -> dict[str, str]:
    """What a command of the project needs."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "PATH": path, "PYTHONPATH": str(ROOT), **extra}


class Breaking:
    """The network between client and server: counts requests, and breaks them off where it is told to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.breaks: Callable[[str], bool] = lambda request: False
        self.requests: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = f"{scope['method']} {scope['path']}"
            self.requests.append(request)
            if self.breaks(request):
                await send({"type": "http.response.start", "status": 500, "headers": []})
                await send({"type": "http.response.body", "body": b"broken off"})
                return
        await self._app(scope, receive, send)


class Hub:
    """A local Hub in a thread of this process."""

    def __init__(self, folder: Path) -> None:
        self._home = folder / "home"
        self.network = Breaking(create_app(LocalHubParams(str(folder), owner="me", token=TOKEN)))
        self._server = uvicorn.Server(uvicorn.Config(self.network, log_level="error", access_log=False))
        listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listener]})
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def environment(self, token: str = TOKEN) -> dict[str, str]:
        # A cache of its own: two Hubs of the tests have repositories of the same names.
        hub = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(self._home),
            "HF_TOKEN": token,
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
        }
        return environment_of(**hub)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    made = Hub(tmp_path / "hub")
    yield made
    made.close()


@pytest.fixture(scope="module")
def committed(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small run in a git repository whose lock is up to date."""
    folder = tmp_path_factory.mktemp("committed") / "project"
    shutil.copytree(small_run, folder)
    (folder / "dvc.yaml").write_text(PIPELINE, encoding="utf-8")
    (folder / ".gitignore").write_text(".journal\n", encoding="utf-8")
    environment = environment_of()
    for command in (["git", "init", "--quiet"], ["dvc", "init", "--quiet"], ["dvc", "repro", "--quiet"]):
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
    commit(folder, environment)
    return folder


def commit(folder: Path, environment: dict[str, str]) -> None:
    who = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    for command in (["git", "add", "--all"], ["git", *who, "commit", "--quiet", "-m", "all"]):
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)


@pytest.fixture
def project(committed: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(committed, folder)
    return folder


def publish(
    project: Path, hub: Hub, *arguments: str, token: str = TOKEN, repository: str = "me/coa"
) -> subprocess.CompletedProcess[str]:
    name = [f"repository={repository}"] if repository else []
    command = [sys.executable, "-m", "data_cards.publish", *name, *arguments]
    done = subprocess.run(command, cwd=project, env=hub.environment(token), capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    return done


def ask(hub: Hub, code: str) -> Any:
    """What a program that uses the real clients prints, as JSON."""
    code = f"import json, huggingface_hub, datasets\napi = huggingface_hub.HfApi()\nprint(json.dumps({code}))"
    done = subprocess.run(
        [sys.executable, "-c", code], env=hub.environment(), capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def history(hub: Hub) -> list[str]:
    return list(ask(hub, "[c.title for c in api.list_repo_commits('me/coa', repo_type='dataset')]"))


def change_a_row(project: Path) -> str:
    """Change one row of a set, and bring cards, lock and git up to date."""
    path = project / local_path(SetName.COA, "train")
    first, *rest = tables.read_table(path, GradedTrajectory)
    rows = [replace(first, trajectory=replace(first.trajectory, error="changed")), *rest]
    tables.write_table(path, GradedTrajectory, rows)
    environment = environment_of()
    subprocess.run(["dvc", "repro", "--quiet"], cwd=project, env=environment, check=True, capture_output=True)
    commit(project, environment)
    return first.trajectory.trajectory_id


def test_a_version_is_published_once_changed_once_and_loads_row_by_row(project: Path, hub: Hub, tmp_path: Path) -> None:
    first = publish(project, hub, WAIVED)
    assert first.returncode == 0, first.stderr
    assert "v1" in first.stdout
    assert history(hub) == ["v1: 50 rows", "initial commit"]
    assert ask(hub, "api.repo_info('me/coa', repo_type='dataset').private") is True
    assert ask(hub, "api.repo_exists('me/coa', repo_type='dataset', token=False)") is False
    uploads = [it for it in hub.network.requests if it.startswith("PUT")]

    again = publish(project, hub, WAIVED)
    assert "nothing has changed" in again.stdout
    assert history(hub) == ["v1: 50 rows", "initial commit"]

    changed = change_a_row(project)
    plan = publish(project, hub, WAIVED, "dry_run=true")
    assert "~ data/coa/train.parquet" in plan.stdout
    assert "data/cot/" not in plan.stdout
    assert "nothing was sent" in plan.stdout
    assert publish(project, hub, WAIVED).returncode == 0
    assert history(hub) == ["v2: 50 rows", "v1: 50 rows", "initial commit"]
    assert len([it for it in hub.network.requests if it.startswith("PUT")]) == len(uploads) + 1
    assert "the version v1 is there already, with other files" in publish(project, hub, WAIVED, "tag=v1").stderr
    error = "datasets.load_dataset('me/coa', 'coa', split='train', revision={!r})['trajectory'][0]"
    assert [ask(hub, error.format(tag))["error"] for tag in ("v1", "v2")] == ["", "changed"]
    assert ask(hub, error.format("v2"))["trajectory_id"] == changed
    rows_come_back_equal(project, hub)
    records = [json.loads(line) for line in (project / "publications.jsonl").read_text().splitlines()]
    assert [line["tag"] for line in records] == ["v1", "v2"]
    assert all(len(line[key]) == 40 for line in records for key in ("hub_revision", "code_commit"))


def rows_come_back_equal(project: Path, hub: Hub) -> None:
    loaded = "{n: {s: list(rows) for s, rows in datasets.load_dataset('me/coa', n).items()} for n in %s}"
    found = ask(hub, loaded % [str(name) for name in SetName])
    kinds = {SetName.COT_A: PreferencePair, SetName.RL: Question}
    for name in SetName:
        for split in ("train", "validation"):
            rows = tables.read_table(project / local_path(name, split), kinds.get(name, GradedTrajectory))
            assert found[name][split] == [json.loads(msgspec.json.encode(row)) for row in rows]


def test_the_card_says_what_was_waived_and_its_metadata_are_valid(project: Path, hub: Hub) -> None:
    assert publish(project, hub, WAIVED, "private=false").returncode == 0
    assert ask(hub, "api.repo_exists('me/coa', repo_type='dataset', token=False)") is True
    card = "huggingface_hub.DatasetCard.load('me/coa')"
    text, data, _ = ask(hub, f"(lambda it: [it.text, it.data.to_dict(), it.validate()])({card})")
    assert "Published although these apply, waived by name: `scripted_teacher`." in text
    assert 'load_dataset("me/coa", "coa", split="train")' in text
    assert [config["config_name"] for config in data["configs"]] == ["cot_a", "coa", "cot", "rl"]
    record = ask(hub, "json.load(open(api.hf_hub_download('me/coa', 'lineage.json', repo_type='dataset')))")
    assert record["waived"] == ["scripted_teacher"]
    assert record["outs_md5"]["render"]["data/render"].endswith(".dir")
    trace = ask(hub, "open(api.hf_hub_download('me/coa', 'traces/coa/0000.jsonl', repo_type='dataset')).read()")
    header, *messages = map(json.loads, trace.splitlines())
    assert header["type"] == "session"
    assert [it["message"]["role"] for it in messages][:1] == ["user"]
    assert messages[-1]["message"]["content"].startswith("\\boxed{")


def test_an_upload_that_breaks_off_changes_nothing_and_is_taken_up(project: Path, hub: Hub) -> None:
    hub.network.breaks = lambda request: "/commit/" in request
    broken = publish(project, hub, WAIVED)
    assert broken.returncode == 1
    assert "run the same command again" in broken.stderr
    assert history(hub) == ["initial commit"]
    assert not (project / "publications.jsonl").exists()
    hub.network.breaks = lambda request: False
    sent = len([it for it in hub.network.requests if it.startswith("PUT")])
    assert publish(project, hub, WAIVED).returncode == 0
    assert len([it for it in hub.network.requests if it.startswith("PUT")]) == sent > 0
    assert history(hub) == ["v1: 50 rows", "initial commit"]


def test_a_version_whose_tag_broke_off_is_tagged_by_the_next_run(project: Path, hub: Hub) -> None:
    hub.network.breaks = lambda request: "/tag/" in request
    assert publish(project, hub, WAIVED).returncode == 1
    hub.network.breaks = lambda request: False
    assert publish(project, hub, WAIVED).returncode == 0
    assert history(hub) == ["v1: 50 rows", "initial commit"]
    tags = ask(hub, "[t.name for t in api.list_repo_refs('me/coa', repo_type='dataset').tags]")
    assert tags == ["v1"]


def test_a_wrong_token_a_name_of_others_and_a_taken_name_are_refused_clearly(project: Path, hub: Hub) -> None:
    wrong = publish(project, hub, WAIVED, token="hf_somebody_elses_secret")
    assert (wrong.returncode, "the Hub refuses the token" in wrong.stderr) == (1, True)
    assert "somebody_elses" not in wrong.stderr
    others = publish(project, hub, WAIVED, repository="them/coa")
    assert "no right to write to them/coa" in others.stderr
    ask(hub, "str(api.create_repo('me/taken', repo_type='dataset'))")
    ask(
        hub, "str(api.upload_file(path_or_fileobj=b'x', path_in_repo='x.csv', repo_id='me/taken', repo_type='dataset'))"
    )
    taken = publish(project, hub, WAIVED, repository="me/taken")
    assert "the name is taken" in taken.stderr
    assert not any(it.startswith("PUT") and "lineage" in it for it in hub.network.requests)


def test_the_gate_refuses_before_anything_is_sent(project: Path, hub: Hub) -> None:
    (project / "data/render/README.md").write_text("edited by hand", encoding="utf-8")
    (project / "coa").mkdir()
    (project / "coa/new.py").write_text("", encoding="utf-8")
    refused = publish(project, hub)
    assert refused.returncode == 1
    for reason in (
        "scripted_teacher",
        "uncommitted_code: coa/new.py",
        "stale_lock: render",
        "card_out_of_date: README.md",
    ):
        assert reason in refused.stderr
    assert hub.network.requests == []


def test_without_a_name_nothing_is_published(project: Path, hub: Hub) -> None:
    refused = publish(project, hub, repository="")
    assert "publish.repository" in refused.stderr
    assert hub.network.requests == []


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with a byte tokenizer, as `train.run` leaves one."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    folder = tmp_path_factory.mktemp("model")
    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<end>"]
    backend = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>", pad_token="<end>").save_pretrained(folder)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "head_dim": 8, "max_position_embeddings": 4096}
    layers = {"num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2}
    Qwen3ForCausalLM(Qwen3Config(vocab_size=len(tokens), **sizes, **layers)).save_pretrained(folder)
    settings = {"prompt": "question.txt", "chat_template": "{prompt}", "stage": "sft2"}
    sft2 = {"init": "", "trajectories": ["data/assemble/coa"], "server": {"base_url": "http://secret"}}
    (folder / "params.yaml").write_text(json.dumps({"train": {**settings, "sft2": {**sft2, "arguments": {}}}}))
    (folder / "log.jsonl").write_text(json.dumps({"eval_loss": 1.0, "step": 3}) + "\n")
    return folder


def test_a_model_is_published_with_its_card_and_loads(project: Path, hub: Hub, model: Path) -> None:
    folder = project / "data/train/sft2"
    shutil.copytree(model, folder)
    (project / "question.txt").write_text("Question: {question}", encoding="utf-8")
    refused = publish(project, hub, "model=data/train/sft2", repository="me/sft2")
    for reason in ("scripted_teacher", "stale_lock: data/train/sft2 was made by no stage", "results_missing"):
        assert reason in refused.stderr
    render = [sys.executable, "-m", "data_cards.models", "model=data/train/sft2"]
    subprocess.run(render, cwd=project, env=hub.environment(), check=True, capture_output=True)
    waived = "allow=scripted_teacher,stale_lock,results_missing"
    done = publish(project, hub, "model=data/train/sft2", waived, repository="me/sft2")
    assert done.returncode == 0, done.stderr
    files = set(ask(hub, "api.list_repo_files('me/sft2')"))
    assert files >= {"README.md", "model.safetensors", "tokenizer.json", "config.json", "log.jsonl", "lineage.json"}
    assert "params.yaml" not in files
    loaded = "str(__import__('transformers').AutoModelForCausalLM.from_pretrained('me/sft2').config.hidden_size)"
    assert ask(hub, loaded) == "16"
    text = ask(hub, "huggingface_hub.ModelCard.load('me/sft2').text")
    assert "waived by name: `results_missing`, `scripted_teacher`, `stale_lock`" in text
    assert "secret" not in text


def test_the_examples_train_one_step_on_what_is_published(project: Path, hub: Hub, model: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    assert publish(project, hub, WAIVED).returncode == 0
    code = f"import runpy, sys; sys.argv = ['', 'me/coa', {str(model)!r}]\n"
    for name in ("sft_one_step", "preferences_one_step"):  # in one process: TRL takes its time to be imported
        code += f"runpy.run_path({str(ROOT / 'examples' / name)!r} + '.py', run_name='__main__')\n"
    command = [sys.executable, "-c", code]
    environment = {**hub.environment(), "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert [line.partition(" ")[0] for line in done.stdout.splitlines() if line.startswith("loss ")] == ["loss", "loss"]
    assert "loss 0.6931" in done.stdout  # DPO begins at log 2
