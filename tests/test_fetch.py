"""Question sets from Hub-like folders and from no Hub at all, through the real `datasets`."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from coa.errors import ConfigError
from synth.fetch import FetchParams, fetch, source_of
from synth.question_file import QuestionFile
from synth.question_formats import QuestionFormat
from synth.questions import QuestionParams, read_questions

needs_datasets = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="needs the extra `train`"
)
PARAMS = (
    "fetch: {dataset: hotpotqa, split: train, out: raw/q.parquet, "
    'repository: "", config: "", revision: "", num_questions: 0, suite: ""}\n'
)
ROW = {
    "id": "5a7a",
    "question": "Who?",
    "answer": "Ann",
    "type": "bridge",
    "level": "easy",
    "supporting_facts": {"title": ["B", "A"], "sent_id": [0, 1]},
    "context": {"title": ["A"], "sentences": [["x"]]},
}
RUN = "from coa.cli import run; from synth.fetch import main; import sys; run(main, sys.argv[1:])"


def run(
    tmp_path: Path, *arguments: str, code: str = RUN, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run the command with a Hub cache of its own."""
    (tmp_path / "params.yaml").write_text(PARAMS)
    root = str(Path(__file__).parent.parent)
    variables = {
        **os.environ,
        "PYTHONPATH": root,
        "HF_HOME": str(tmp_path / "hub_cache"),
        **environment,
    }
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three rows of HotpotQA as the Hub has them."""
    (tmp_path / "hub").mkdir()
    pl.DataFrame([{**ROW, "id": f"5a7{i}"} for i in range(3)]).write_parquet(
        tmp_path / "hub" / "train.parquet"
    )
    return tmp_path / "hub"


@needs_datasets
def test_what_is_fetched_is_read_as_questions_and_names_its_origin(
    tmp_path: Path, folder: Path
) -> None:
    done = run(tmp_path, f"repository={folder}", "num_questions=2")

    assert done.returncode == 0, done.stderr
    assert "raw/q.parquet: 2 rows of" in done.stdout
    out = tmp_path / "raw/q.parquet"
    assert pl.read_parquet(out)["context"].to_list() == [ROW["context"]] * 2
    metadata = pq.read_schema(out).metadata
    assert metadata[b"coa.dataset"] == b"hotpotqa"
    assert metadata[b"coa.split"] == b"train"
    assert metadata[b"coa.revision"]
    params = QuestionParams((QuestionFile(str(out), QuestionFormat.HOTPOTQA, split="train"),))
    assert [
        (question.question_id, question.gold_titles) for question in read_questions(params)
    ] == [
        ("5a70", ("B", "A")),
        ("5a71", ("B", "A")),
    ]
    assert [path.name for path in out.parent.iterdir()] == ["q.parquet"]


@needs_datasets
def test_json_lines_in_flashrags_form_are_fetched_too(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    row = {"id": "test_0", "question": "Who?", "golden_answers": ["Ann"], "metadata": {}}
    (tmp_path / "hub/test.jsonl").write_text(json.dumps(row) + "\n")
    done = run(tmp_path, "dataset=nq", "split=test", f"repository={tmp_path / 'hub'}")
    assert done.returncode == 0, done.stderr
    file = QuestionFile(str(tmp_path / "raw/q.parquet"), QuestionFormat.NQ, split="test")
    params = QuestionParams((file,))
    assert [question.question_id for question in read_questions(params)] == ["nq-test_0"]


FAULTS = {
    "split=dev": "there is no split 'dev'",
    "config=other": "the data set cannot be loaded",
    "repository=nowhere/at_all": "the download failed",
    "repository=broken": "the data set cannot be loaded",
    "repository=missing/folder/here": "there is no such data set",
    f"revision={'a' * 40}": "only another revision is there",
    "out=hub/train.parquet/q.parquet": "cannot write",
}
RUN_EACH = """
import json, sys
from coa.errors import CoaError
from synth.fetch import main
shown = {}
for argument in sys.argv[1:]:
    try:
        shown[argument] = main(["repository=hub", argument])
    except CoaError as error:
        shown[argument] = str(error)
print(json.dumps(shown))
"""


@needs_datasets
def test_what_cannot_be_fetched_is_an_error_that_says_what_to_do(
    tmp_path: Path, folder: Path
) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/train.parquet").write_bytes(b"PAR1 not really")
    done = run(
        tmp_path, *FAULTS, code=RUN_EACH, HF_HUB_OFFLINE="1"
    )  # one process: `datasets` takes seconds to start
    assert done.returncode == 0, done.stderr
    shown = json.loads(done.stdout)
    assert {argument: text.splitlines()[0] for argument, text in shown.items()} == {
        **FAULTS,
        "out=hub/train.parquet/q.parquet": "cannot write hub/train.parquet/q.parquet",
    }
    assert all("what to do:" in text for text in shown.values())
    assert not (tmp_path / "raw").exists()


def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
    done = run(tmp_path, code=f"import sys; sys.modules['datasets'] = None; {RUN}")
    assert done.returncode == 1
    assert "pip install -e '.[train]'" in done.stderr


def test_a_data_set_that_is_not_on_the_hub_needs_a_repository() -> None:
    with pytest.raises(ConfigError, match="unknown data set 'autocoa'"):
        source_of(FetchParams(QuestionFormat.AUTOCOA, "train", "q.parquet"))
    assert (
        source_of(FetchParams(QuestionFormat.AUTOCOA, "train", "q.parquet", repository="a/b")).repo
        == "a/b"
    )
    with pytest.raises(ConfigError, match=r"must end in \.parquet"):
        fetch(FetchParams(QuestionFormat.NQ, "train", "q.json"))
