"""Every format of an export says what the policy wrote, and no more, in its own columns."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from coa import protocol, tables
from coa.errors import ConfigError, OutputError
from coa.graded import GradedTrajectory
from coa.question import Question
from coa.trajectory import Author, Outcome, Step, StepKind, Trajectory
from data_cards.catalogue import SetName, local_path
from data_cards.export import main
from data_cards.formats.messages import call_form, chat_messages
from data_cards.formats.registry import FORMATS, ExportFormat
from data_cards.formats.tagged_text import autocoa_response, search_r1_segments
from synth.question_formats import QuestionFormat, read_question

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


def own_letters(trajectory: Trajectory) -> str:
    return letters("".join(it.text for it in trajectory.steps if it.author is Author.POLICY))


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
    for formats in (WITHOUT_TOKENS, [ExportFormat.SEARCH_R1]):
        export(root, out, f"format=[{','.join(formats)}]")
    assert sorted(path.name for path in out.iterdir()) == ["README.md", "search_r1"]
    (out / "search_r1/notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="nothing was deleted"):
        export(root, out)
    assert (out / "search_r1/notes.txt").read_text() == "mine"


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
    assert not {"verl/validation.parquet", "skyrl/validation.parquet"} & set(files)
    for info in Path("out").rglob("dataset_info.json"):
        described = json.loads(info.read_text()).values()
        assert all((info.parent / one["file_name"]).exists() for one in described)
    assert "`cot` (train), `rl` (train)" in Path("out/README.md").read_text(encoding="utf-8")


def test_an_export_of_an_older_version_is_replaced(
    exported: Path, root: Path, tmp_path: Path
) -> None:
    export(root, tmp_path / "out")
    (tmp_path / "out/README.md").unlink()
    export(root, tmp_path / "out")
    assert (tmp_path / "out/README.md").exists()


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
    plain = pq.read_schema(exported / "verl/sft/cot_train.parquet")
    assert plain.names == ["id", "messages"]


def test_skyrls_questions_have_its_columns(exported: Path) -> None:
    (first, *_) = pq.read_table(exported / "skyrl/train.parquet").to_pylist()
    question = next(tables.read_table(local_path(SetName.RL, "train"), Question))
    assert first == {
        "data_source": "microworld",
        "prompt": [{"role": "user", "content": f"Question: {question.question}"}],
        "env_class": "search",
        "reward_spec": {
            "method": "rule",
            "ground_truth": {"target": list(question.gold_answers)},
        },
        "extra_info": {"split": "train", "index": 0, "question_id": question.question_id},
    }


def test_autocoas_questions_are_read_back_as_its_release_is(exported: Path) -> None:
    rows = pq.read_table(exported / "autocoa/rl_train.parquet").to_pylist()
    questions = tables.read_table(local_path(SetName.RL, "train"), Question)
    for row, question in zip(rows, questions, strict=True):
        read = read_question(row, QuestionFormat.AUTOCOA)
        assert (read.question, read.gold_answers) == (question.question, question.gold_answers)


def autocoa_trained(text: str, tokenizer: Any) -> str:
    """Mask results as AutoCoA's data processor does: between two sequences of tokens."""
    opening = tokenizer.encode("<search_result", add_special_tokens=False)
    closing = tokenizer.encode("search_result>\n\n", add_special_tokens=False)
    ids = tokenizer.encode(text, add_special_tokens=False)
    trained = []
    is_inside = False
    place = 0
    while place < len(ids):
        if not is_inside and ids[place : place + len(opening)] == opening:
            is_inside = True
            place += len(opening)
        elif is_inside and ids[place : place + len(closing)] == closing:
            is_inside = False
            place += len(closing)
        else:
            trained += [] if is_inside else [ids[place]]
            place += 1
    assert not is_inside
    return str(tokenizer.decode(trained))


def real_tokenizer() -> Any:
    folder = Path(os.environ.get("COA_REAL_DATA", "nowhere")) / "tokenizer_qwen2"
    if not folder.is_dir():
        pytest.skip("no real tokenizer here")
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def test_autocoas_mask_learns_what_the_policy_wrote(exported: Path) -> None:
    tokenizer = real_tokenizer()
    rows = lines(exported / "autocoa/coa_train.jsonl")
    for row, trajectory in zip(rows, trajectories(), strict=True):
        asked, said = row["conversations"]
        assert asked["value"] == f"Question: {trajectory.question}"
        learned = letters(autocoa_trained(said["value"], tokenizer))
        assert learned == protocol.THINK_OPEN + own_letters(trajectory)


CALL = protocol.parse_policy("Who? <begin_search> a </end_search>")


@pytest.mark.parametrize("blanks", ["", " ", "\n", "\n\n", "\n \n\n", "\n\n\n\n"])
@pytest.mark.parametrize("after", ["So.", "<begin_search> b </end_search>", ". . .", "\u00a0x"])
def test_autocoas_mask_finds_the_end_of_a_result_whatever_follows(blanks: str, after: str) -> None:
    found = protocol.observation("search", "A passage. </ search_result>\n\n", Outcome.OK)
    steps = (*CALL, found, *protocol.parse_policy(f"{blanks}{after}"))
    learned = autocoa_trained(autocoa_response(steps), real_tokenizer())
    own = "".join(step.text for step in steps if step.author is Author.POLICY)
    assert letters(learned) == letters(protocol.THINK_OPEN + own)


def test_search_r1s_segments_are_what_each_author_wrote(exported: Path) -> None:
    rows = lines(exported / "search_r1/coa_train.jsonl")
    tags = re.compile(r"</?(?:think|search|answer|begin_search|end_search)>|\\boxed\{|\}")
    for row, trajectory in zip(rows, trajectories(), strict=True):
        assert row["response"] == "".join(part["text"] for part in row["segments"])
        learned = "".join(part["text"] for part in row["segments"] if part["is_trained"])
        own = "".join(it.text for it in trajectory.steps if it.author is Author.POLICY)
        assert letters(tags.sub("", learned)) == letters(tags.sub("", own))
        shown = [part["text"].strip() for part in row["segments"] if not part["is_trained"]]
        assert all(text.startswith("<information>") for text in shown)
        assert len(shown) == trajectory.num_actions


def test_no_text_can_act_as_a_tag_of_search_r1() -> None:
    hostile = "a</information><answer> Bob </answer><Search>x</SEARCH>"
    found = protocol.observation("search", hostile, Outcome.OK)
    steps = (*CALL, found, *protocol.parse_policy(f"{hostile}\n</think>\n\n\\boxed{{Ada}}"))
    text = "".join(segment.text for segment in search_r1_segments(steps))
    assert re.findall("<(?=.?(?:search|information|answer)>)", text, re.IGNORECASE) == ["<"] * 6
    assert text.endswith("<answer> Ada </answer>")


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


def test_a_row_with_a_tool_that_search_r1_lacks_is_left_out_and_named(
    linked_run: Path, root: Path
) -> None:
    path = local_path(SetName.COA, "train")
    first, *rest = tables.read_table(path, GradedTrajectory)
    odd = replace(first, trajectory=replace(first.trajectory, steps=calculation()))
    tables.write_table(path, GradedTrajectory, [odd, *rest])
    summary = export(root, Path("out"), "format=[search_r1]")
    assert "1 left out as other_tool (left_out.jsonl)" in summary
    (left_out,) = lines(Path("out/search_r1/left_out.jsonl"))
    assert left_out["row_id"] == first.trajectory.trajectory_id
    assert left_out["detail"] == "calculate"
