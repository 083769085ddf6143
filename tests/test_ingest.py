"""Read foreign files into the record: a row is kept whole with what its file says of it."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from coa.errors import InputError
from coa.foreign.files import find_files
from coa.foreign.record import Format, question_hash
from coa.records import protocol
from coa.records.question import Question
from coa.records.unreadable import UnreadableReason
from synth.ingest import DroppedLine, Ingested, Recorded, ingest
from synth.ingest import main as ingest_main
from tests.ingest_support import (
    ALL,
    CHAT,
    R1,
    TEXT,
    TRAINING,
    ingest_params,
    make_folder,
    read,
    without,
    write,
)


def one(tmp_path: Path, row: Any, **params: Any) -> Ingested:
    (found,) = read(tmp_path, row, **params)
    assert isinstance(found, Ingested)
    return found


def test_mixed_formats_are_told_apart_row_by_row(tmp_path: Path) -> None:
    found = read(tmp_path, *ALL)
    assert [row.format for row in found if isinstance(row, Ingested)] == [
        Format.R1_SEARCHER,
        Format.REACT,
        Format.REACT,
        Format.REACT,
    ]


def documents() -> list[tuple[str, Any, list[Format]]]:
    """The files of FireAct's repository: each with the formats of its rows."""
    runs = {"6238": without(CHAT, "idx"), "5388": without(CHAT, "idx")}
    texts = {"6238": without(TEXT, "idx") | {"traj_by_line": ["Below."]}}
    return [
        ("trajs/gpt.json", runs, [Format.REACT] * 2),
        ("trajs/llama.json", texts, [Format.REACT]),
        ("alpaca_format/hotpotqa.json", [TRAINING, TRAINING], [Format.REACT] * 2),
        ("one_row.json", R1, [Format.R1_SEARCHER]),
    ]


@pytest.mark.parametrize("indent", [None, 2])
def test_released_json_documents_are_read_like_json_lines(
    tmp_path: Path, indent: int | None
) -> None:
    for name, document, formats in documents():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(document, indent=indent))
        found = list(ingest(ingest_params(str(path), max_row_bytes=10_000)))
        assert [row.format for row in found if isinstance(row, Ingested)] == formats, name
        if isinstance(document, dict) and "6238" in document:
            ids = [row.trajectory.question_id for row in found if isinstance(row, Ingested)]
            assert ids == list(document)


def test_a_bad_row_of_a_document_is_dropped_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([R1, 5, {**R1, "question": "\ud800"}, R1]))
    found = list(ingest(ingest_params(str(path))))
    dropped = [(row.line, row.reason) for row in found if isinstance(row, DroppedLine)]
    assert dropped == [(2, UnreadableReason.NOT_JSON), (3, UnreadableReason.NOT_UTF8)]
    path.write_text(json.dumps([R1, R1])[:-40])
    (cut,) = ingest(ingest_params(str(path)))
    assert isinstance(cut, DroppedLine) and cut.reason is UnreadableReason.NOT_JSON


def test_a_row_keeps_its_text_and_what_the_file_says_of_it(tmp_path: Path) -> None:
    trajectory, recorded, question, _ = one(tmp_path, TEXT, source="hotpotqa", split="validation")
    place: dict[str, Any] = {
        "question_id": "8",
        "gold_answers": ("paris",),
        "answer": "Paris",
        "file": str(tmp_path / "model-x.jsonl"),
        "line": 1,
    }
    assert trajectory.prompt + protocol.render(trajectory.steps) == TEXT["traj"]
    assert (trajectory.trajectory_id, trajectory.model, trajectory.num_actions) == (
        "8/coa/0",
        "model-x",
        1,
    )
    assert recorded == Recorded("8/coa/0", "model-x", "paris", True, 1.0, None, **place)
    assert question == Question("8", "What?", ("paris",), "validation", source="hotpotqa")


def test_columns_that_say_nothing_of_the_answer_may_be_missing_or_odd(tmp_path: Path) -> None:
    bare = {"traj": CHAT["traj"], "em": "yes", "f1": None, "pred": 3, "gt": ["a", "b"]}
    trajectory, recorded, question, _ = one(tmp_path, bare)
    assert {recorded.prediction, recorded.exact_match, recorded.f1, recorded.judge} == {None}
    assert question is not None and question.gold_answers == ("a", "b")
    assert trajectory.question_id == question_hash("Where is it?")  # there is no id either


def test_several_files_share_one_run_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", R1)
    write(tmp_path / "b.jsonl", b"", b"\r", R1)
    rows = list(ingest(ingest_params(str(tmp_path / "*.jsonl"))))
    assert [row.trajectory.trajectory_id[-1] for row in rows if isinstance(row, Ingested)] == [
        "0",
        "1",
    ]
    with pytest.raises(InputError, match="missing"):
        list(ingest(ingest_params(str(tmp_path / "c.jsonl"))))
    with pytest.raises(InputError, match="is a folder") as caught:
        list(ingest(ingest_params(str(tmp_path))))
    advice = caught.value.details["what to do"]
    pattern = advice.partition('"')[2].removesuffix('"')
    assert list(ingest(ingest_params(pattern))) == rows
    with pytest.raises(InputError, match="split"):
        list(ingest(ingest_params(str(tmp_path / "a.jsonl"), split="dev")))


def test_a_folder_of_parquet_files_is_refused_with_a_pattern_that_finds_them(
    tmp_path: Path,
) -> None:
    (tmp_path / "rows.parquet").touch()
    with pytest.raises(InputError, match="is a folder") as caught:
        find_files(str(tmp_path))
    pattern = caught.value.details["what to do"].partition('"')[2].removesuffix('"')
    assert find_files(pattern) == [tmp_path / "rows.parquet"]


def test_files_without_a_readable_row_are_an_error_that_names_the_formats(
    tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path, root)
    write(tmp_path / "good.jsonl", R1)
    ingest_main(["ingest.files=[{path: good.jsonl}]"])
    before = (tmp_path / "data/ingest/coa.parquet").read_bytes()
    write(tmp_path / "bad.jsonl", {"prompt": "q", "halted": False}, b"{")
    with pytest.raises(InputError, match=r"no row of bad\.jsonl can be used") as caught:
        ingest_main(["ingest.files=[{path: bad.jsonl}]"])
    message = str(caught.value)
    assert "1 wrong_format, 1 not_json" in message and "bad.jsonl, line 1" in message
    assert all(form.value in message for form in Format if form is not Format.AUTO)
    assert (tmp_path / "data/ingest/coa.parquet").read_bytes() == before


def test_git_adds_neither_what_others_made_nor_what_was_read_from_it(tmp_path: Path) -> None:
    ignored = ["raw/a.jsonl", "data/ingest/trajectories.parquet", "data/raw/wiki/a.parquet"]
    committed = ["data/raw.dvc", "data/raw/a.parquet.dvc", "docs/raw/a.md", "coa/ingest.py"]
    for name in [*ignored, *committed]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    rules = Path(__file__).parent.parent / ".gitignore"
    (tmp_path / ".gitignore").write_bytes(rules.read_bytes())
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    listing = ["git", "ls-files", "--others", "--exclude-standard"]
    found = subprocess.run(listing, cwd=tmp_path, check=True, capture_output=True, text=True)
    assert sorted(found.stdout.split()) == sorted([*committed, ".gitignore"])
