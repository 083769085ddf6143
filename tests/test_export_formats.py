"""Every format of an export says what the policy wrote, and no more, in its own columns."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from coa.errors import ConfigError, OutputError
from coa.records import protocol
from coa.records.graded import GradedTrajectory
from coa.records.question import Question
from coa.records.trajectory import Outcome, Step, StepKind, Trajectory
from coa.store import tables
from data_cards.catalogue import SetName, local_path
from data_cards.export import main
from data_cards.formats.messages import call_form, chat_messages
from data_cards.formats.registry import FORMATS, ExportFormat

pytest.importorskip("datasets")
WITHOUT_TOKENS = [name for name in ExportFormat if name is not ExportFormat.TRL_TOKENIZED]


def export(root: Path, out: Path, *settings: str) -> str:
    return main([f"out={out}", f"prompt={root / 'train/prompts/question.txt'}", *settings])


@pytest.fixture(scope="module")
def exported(
    small_run: Path, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Export a small run in all formats that need no tokenizer; the run is the current folder."""
    out = tmp_path_factory.mktemp("formats") / "out"
    with pytest.MonkeyPatch.context() as context:
        context.chdir(small_run)
        export(root, out, f"format=[{','.join(WITHOUT_TOKENS)}]")
        yield out


def trajectories(name: SetName = SetName.COA) -> list[Trajectory]:
    rows = tables.read_table(local_path(name, "train"), GradedTrajectory)
    return [row.trajectory for row in rows]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def letters(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("name", WITHOUT_TOKENS)
def test_the_page_of_an_export_names_files_that_are_there(
    exported: Path, name: ExportFormat
) -> None:
    page = (exported / "README.md").read_text(encoding="utf-8")
    section = page.split(f"## {name}\n")[1].split("\n## ")[0]
    assert FORMATS[name].loses in section
    block = section.split("```")[1]
    if block.startswith("yaml"):
        values = yaml.safe_load(block.removeprefix("yaml"))
        if "dataset_dir" in values:
            info = json.loads((exported / values["dataset_dir"] / "dataset_info.json").read_text())
            assert (
                exported / values["dataset_dir"] / info[values["dataset"]]["file_name"]
            ).exists()
            return
        for key, value in values["data"].items():
            paths = value if isinstance(value, list) else [value]
            assert not key.endswith(("files", "data")) or all(
                (exported / it).exists() for it in paths
            )
    else:
        (path,) = re.findall(r'"([\w/]+\.(?:parquet|jsonl))"', block)
        assert (exported / path).exists()


def test_an_export_of_all_formats_is_replaced_and_one_of_others_never(
    exported: Path, root: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for formats in (WITHOUT_TOKENS, [ExportFormat.ATIF]):
        export(root, out, f"format=[{','.join(formats)}]")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "atif"]
    (out / "atif/notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="nothing was deleted"):
        export(root, out)
    assert (out / "atif/notes.txt").read_text() == "mine"


def test_a_split_without_rows_has_no_file_and_is_named_nowhere(
    exported: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree("data/assemble", tmp_path / "data/assemble")
    shutil.copy2("params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    for name, kind in ((SetName.COT, GradedTrajectory), (SetName.RL, Question)):
        tables.write_table(local_path(name, "validation"), kind, [])
    summary = export(root, Path("out"), f"format=[{','.join(WITHOUT_TOKENS)}]")
    assert not re.search(r"\b0 |\bcot(_calls)?[/_]validation", summary)
    files = [path.relative_to("out").as_posix() for path in Path("out").rglob("*.*")]
    assert "llamafactory/coa_validation.jsonl" in files
    assert not [file for file in files if re.search(r"\bcot(_calls)?[/_]validation", file)]
    assert "verl/validation.parquet" not in files
    for info in Path("out").rglob("dataset_info.json"):
        described = json.loads(info.read_text()).values()
        assert all((info.parent / one["file_name"]).exists() for one in described)
    assert "`cot` (train), `rl` (train)" in Path("out/README.md").read_text(encoding="utf-8")


def test_token_ids_without_a_tokenizer_are_refused(
    exported: Path, root: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="token ids need a tokenizer"):
        export(root, tmp_path / "out", "format=[trl_tokenized]")
    assert not (tmp_path / "out").exists()


def test_calls_for_llama_factory_keep_thought_query_result_and_answer(exported: Path) -> None:
    rows = lines(exported / "llamafactory/coa_calls_train.jsonl")
    for row, trajectory in zip(rows, trajectories(), strict=True):
        turns = row["conversations"]
        odd = {turn["from"] for turn in turns[::2]}
        even = {turn["from"] for turn in turns[1::2]}
        assert odd <= {"human", "observation"}
        assert even <= {"function_call", "gpt"}
        assert turns[-1]["from"] == "gpt"
        calls = [turn["value"] for turn in turns if turn["from"] == "function_call"]
        queries = [
            json.loads(call.partition("</think>")[2])["arguments"]["query"] for call in calls
        ]
        made = [it.argument for it in trajectory.steps if it.kind is StepKind.ACTION]
        assert queries == made
        said = letters("".join(turn["value"].partition("</think>")[0] for turn in turns[1::2]))
        for step in trajectory.steps:
            if step.kind is StepKind.THOUGHT:
                assert letters(step.text) in said
        assert [tool["name"] for tool in json.loads(row["tools"])] == ["search"]


def test_verls_trajectories_have_tools_as_a_list(exported: Path) -> None:
    rows = pq.read_table(exported / "verl/sft/coa_train.parquet").to_pylist()
    for row in rows:
        (tool,) = row["tools"]
        assert tool["function"]["parameters"]["required"] == ["query"]
        roles = [message["role"] for message in row["messages"]]
        assert roles[0] == "user"
        assert roles[-1] == "assistant"
    plain = pq.read_table(exported / "verl/sft/cot_train.parquet")
    assert plain.schema == pq.read_schema(exported / "verl/sft/coa_train.parquet")
    assert plain.column("tools").to_pylist() == [[]] * len(plain)


CALL = protocol.parse_policy("Who? <begin_search> a </end_search>")


def calculation() -> tuple[Step, ...]:
    call = protocol.parse_policy("Sum. <begin_calculate> 1+1 </end_calculate>")
    answer = protocol.parse_policy("Two.\n</think>\n\n\\boxed{2}")
    return (*call, protocol.observation("calculate", "2", Outcome.OK), *answer)


def test_calls_of_tools_that_differ_are_json_text_and_of_one_tool_an_object() -> None:
    found = protocol.observation("search", "A passage.", Outcome.OK)
    search = (*CALL, found, *protocol.parse_policy("So.\n</think>\n\n\\boxed{Ada}"))
    both = call_form([search, calculation()])
    (_, said, shown, last) = chat_messages("q", calculation(), both)
    assert said["tool_calls"][0]["function"]["arguments"] == '{"expression": "1+1"}'
    assert said["content"] == "<think>\nSum.\n</think>"
    assert shown == {"role": "tool", "name": "calculate", "content": "2"}
    assert last == {"role": "assistant", "content": "<think>\nTwo.\n</think>\n\n\\boxed{2}"}
    assert [tool["function"]["name"] for tool in json.loads(both.tools_json)] == [
        "calculate",
        "search",
    ]
    (_, said, *_) = chat_messages("q", search, call_form([search]))
    assert said["tool_calls"][0]["function"]["arguments"] == {"query": "a"}
